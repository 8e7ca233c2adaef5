"""The contract of an objective with a module: its loss."""

from __future__ import annotations

import torch

from detour.batch import Batch, loss_denominator, micro_batches
from detour.objectives.base import Objective
from detour.objectives.module_objective import ModuleObjective
from detour.testing.batches import tiny_encoder
from detour.vocab import Vocab


def check_module(objective: Objective, vocab: Vocab, batch: Batch, bare: Batch, seed: int) -> None:
    """The loss is a sum over rows, and its gradient reaches the module and the encoder.

    ``bare`` are rows of special tokens alone, in which most objectives find nothing to predict.
    """
    if not isinstance(objective, ModuleObjective):
        return
    torch.manual_seed(seed)
    encoder = tiny_encoder(vocab)
    encoder.objectives[objective.name] = objective.build_module(encoder)

    def require(condition: bool, message: str) -> None:
        if not condition:
            raise AssertionError(f"objective {objective!r}: {message}")

    total, supervised = encoder.loss_of(batch)
    expected = loss_denominator(batch)
    require(supervised.item() == expected, f"loss_sum counts {supervised.item()} positions, expected {expected}")
    require(
        bool(torch.isfinite(total)) and total.requires_grad, f"loss_sum is {total}, expected a number with a gradient"
    )
    (part,) = micro_batches(bare, 2)
    empty = encoder.loss_of(part).total
    what = f"loss_sum of a micro-batch with {len(part['supervised_at'])} labels"  # type: ignore[typeddict-item]
    require(
        bool(torch.isfinite(empty)) and empty.requires_grad, f"{what} is {empty}, expected a number with a gradient"
    )
    empty.backward()
    grads = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    require(all(bool(grad.isfinite().all()) for grad in grads), f"{what} has a gradient that is not finite")
    encoder.zero_grad()
    for size in (1, 3):
        parts = [encoder.loss_of(part) for part in micro_batches(batch, size)]
        split = sum(part.total.item() for part in parts)
        require(
            abs(split - total.item()) <= 1e-4 * abs(total.item()),
            f"loss_sum is {total.item():.6g} for the batch and {split:.6g} for its micro-batches of {size} rows",
        )
    total.backward()
    for name, parameter in encoder.objectives.named_parameters():
        require(parameter.grad is not None, f"the loss has no gradient for the module's parameter {name}")
    require(
        any(parameter.grad is not None for parameter in encoder.model.parameters()),
        "the loss has no gradient for the encoder",
    )
