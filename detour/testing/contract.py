"""The contract of an objective, checked on clean batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from detour.attention_rule import Rule
from detour.batch import IGNORE, Batch, check_batch, doc_ids_of
from detour.errors import ConfigError, DataError
from detour.objectives.base import Objective
from detour.objectives.module_objective import ModuleObjective
from detour.objectives.random import RowRandom
from detour.testing.batches import ROW_TOKENS, ROWS, make_batch, make_vocab
from detour.testing.module_contract import check_module
from detour.vocab import Vocab

ENOUGH_TOKENS = 4  # a document with this many ordinary tokens allows a supervised position under every objective


def check_objective(
    objective: Objective,
    *,
    vocab: Vocab | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    tolerance: float = 0.03,
    classes: int = 0,
) -> None:
    """Asserts the contract of `detour.objectives.Objective`, and of a `ModuleObjective`; takes less than a second per seed.

    Args:
        objective: The objective, with the options to be tested.
        vocab: What it is tested on; by default `make_vocab()`, 64 ids that mark where words begin.
        seeds: Seeds to test with.
        tolerance: Relative error allowed in `target_fraction` (plus three standard errors, at least 0.002, for chance).
        classes: Number of classes in the rows, for an objective that reads rows with labeled spans.

    Raises:
        AssertionError: The contract is broken; the message says where, by row and position.
    """
    vocab = vocab or make_vocab()
    for seed in seeds:
        batch = make_batch(ROWS, T=ROW_TOKENS, vocab=vocab, seed=seed, first_sample=7 + 10**9 * seed, classes=classes)
        trial = _Trial(objective=objective, vocab=vocab, batch=batch, seed=seed)
        for check in _CHECKS:
            check(trial)
        bare = {**trial.batch, "input_ids": torch.full_like(trial.batch["input_ids"], vocab.special_ids[0])}
        check_module(objective, vocab, cast(Batch, trial.run()), cast(Batch, trial.run(_rows(bare, [0, 1]))), seed)
    _check_target_fraction(objective, vocab, tolerance, classes)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """One objective on one clean batch."""

    objective: Objective
    vocab: Vocab
    batch: Batch
    seed: int

    def run(
        self, batch: Mapping[str, object] | None = None, *, seed: int | None = None, step: int = 0
    ) -> dict[str, Any]:
        """The objective's result for a private copy of the batch."""
        own = _copy(self.batch if batch is None else batch)
        rng = RowRandom(seed=self.seed if seed is None else seed, step=step, sample_id_B=own["sample_id"])
        return {**self.objective(own, self.vocab, rng)}

    def require(self, condition: object, message: str) -> None:
        """Raises AssertionError with the objective's name unless the condition holds."""
        if not condition:
            raise AssertionError(f"objective {self.objective!r}: {message}")

    def require_none(self, wrong_BT: Tensor, message: str) -> None:
        """Raises AssertionError with the first position where ``wrong_BT`` is true."""
        if wrong_BT.any():
            row, position = wrong_BT.nonzero()[0].tolist()
            self.require(False, f"{message} (first at row {row}, position {position})")

    def require_same(
        self, result: dict[str, Any], expected: dict[str, Any], message: str, where_BT: Tensor | None = None
    ) -> None:
        """Raises AssertionError unless inputs, labels, weights and attention are equal where ``where_BT`` is true."""
        mine, theirs = _told(result), _told(expected)
        for name in mine:
            differ_BT = mine[name] != theirs[name]
            self.require_none(differ_BT if where_BT is None else differ_BT & where_BT, f"{message}: '{name}' differs")


def _told(out: dict[str, Any]) -> dict[str, Tensor]:
    """What a batch tells the model about each position, [B, T] each, in a form that does not depend on how it is told."""
    ids_BT, labels_BT, doc_BT = out["input_ids"], out["labels"], doc_ids_of(cast(Batch, out))
    T = ids_BT.shape[1]
    rule = Rule.of(out["attention"])
    reach_BT = out["reach"] if rule.reach else torch.full_like(ids_BT, rule.farthest(T))
    behind_BT = out["doc_lengths"].cumsum(1).gather(1, doc_BT.clamp(min=0)) - 1 - torch.arange(T)
    weights_BT = out.get("weights", torch.ones_like(ids_BT))
    return {
        "input_ids": ids_BT,
        "labels": labels_BT,
        "weights": weights_BT.where(labels_BT != IGNORE, 0),
        "reach": torch.minimum(reach_BT, behind_BT).where(doc_BT >= 0, 0),
    }


def _copy(batch: Mapping[str, object]) -> Batch:
    return cast(Batch, {key: value.clone() if isinstance(value, Tensor) else value for key, value in batch.items()})


def _rows(batch: Mapping[str, object], index: Sequence[int] | Tensor) -> dict[str, Any]:
    index = torch.as_tensor(index)
    return {key: value[index] if isinstance(value, Tensor) else value for key, value in batch.items()}


def _check_form(trial: _Trial) -> None:
    out = trial.run()
    trial.require("labels" in out, "the result has no 'labels'")
    for name in ("input_ids", "labels"):
        shape, expected = tuple(out[name].shape), tuple(trial.batch["input_ids"].shape)
        trial.require(shape == expected, f"'{name}' has shape {shape}, expected {expected}")
    for name in ("doc_lengths", "sample_id"):
        trial.require(
            name in out and torch.equal(out[name], trial.batch[name]), f"'{name}' must be handed on unchanged"
        )
    try:
        check_batch(cast(Batch, out))
    except DataError as error:
        trial.require(False, str(error))
    try:
        rule = Rule.of(str(out.get("attention")))
    except ConfigError as error:
        trial.require(False, str(error))
        return
    trial.require("reach" in out or not rule.reach, "attention is 'reach', and the batch has no 'reach'")


def _check_input_untouched(trial: _Trial) -> None:
    batch = _copy(trial.batch)
    trial.objective(batch, trial.vocab, RowRandom(seed=trial.seed, step=0, sample_id_B=batch["sample_id"]))
    trial.require(set(batch) == set(trial.batch), "the input batch gained or lost keys")
    for name in ("input_ids", "doc_lengths", "sample_id"):
        trial.require(torch.equal(batch[name], trial.batch[name]), f"the input batch's '{name}' was changed in place")


def _check_deterministic(trial: _Trial) -> None:
    first = trial.run()
    trial.require_same(trial.run(), first, "not deterministic: a second call with the same seed, step and samples")


def _check_rows_independent(trial: _Trial) -> None:
    """A row's result must not depend on the batch it comes in."""
    whole, B = trial.run(), len(ROWS)
    for row in range(B):
        trial.require_same(trial.run(_rows(trial.batch, [row])), _rows(whole, [row]), f"row {row} run alone")
    backwards = list(reversed(range(B)))
    trial.require_same(trial.run(_rows(trial.batch, backwards)), _rows(whole, backwards), "rows in another order")
    zeros_BD = torch.zeros(B, 3, dtype=torch.int64)
    wider = {**trial.batch, "doc_lengths": torch.cat([trial.batch["doc_lengths"], zeros_BD], 1)}
    trial.require_same(trial.run(wider), whole, "zero-length documents appended")


def _check_randomness(trial: _Trial) -> None:
    """What depends on one of seed, step and sample must depend on each."""
    base = trial.run()
    other_samples = {**trial.batch, "sample_id": trial.batch["sample_id"] + 1000}
    variants = {
        "seed": trial.run(seed=trial.seed + 1),
        "step": trial.run(step=1),
        "sample_id": trial.run(other_samples),
    }
    moved = {
        name: any(not torch.equal(out[key], base[key]) for key in ("input_ids", "labels"))
        for name, out in variants.items()
    }
    fixed = [name for name, differs in moved.items() if not differs]
    trial.require(len(fixed) in (0, 3), f"random, but another {' or '.join(fixed)} gives the same result")


def _check_labels_at_real_tokens(trial: _Trial) -> None:
    out, real_BT = trial.run(), doc_ids_of(trial.batch) >= 0
    trial.require_none((out["labels"] != IGNORE) & ~real_BT, "label at padding")
    trial.require_none((out["input_ids"] != trial.batch["input_ids"]) & ~real_BT, "padding changed in 'input_ids'")


def _check_labels_from_own_document(trial: _Trial) -> None:
    if isinstance(trial.objective, ModuleObjective):
        return  # its labels need not be tokens
    labels_BT, doc_BT, ids_BT = trial.run()["labels"], doc_ids_of(trial.batch), trial.batch["input_ids"]
    own_BTT = (doc_BT[:, :, None] == doc_BT[:, None, :]) & (labels_BT[:, :, None] == ids_BT[:, None, :])
    trial.require_none(
        (labels_BT != IGNORE) & ~own_BTT.any(2),
        "label that is no clean token of its own document (a target across documents?)",
    )


def _check_documents_independent(trial: _Trial) -> None:
    """All ordinary tokens of every other document change, each into another of its kind; this document must not."""
    whole, doc_BT, ids_BT = trial.run(), doc_ids_of(trial.batch), trial.batch["input_ids"]
    swap_V = _swaps(trial.vocab)
    for document in range(trial.batch["doc_lengths"].shape[1]):
        own_BT = doc_BT == document
        swapped = {**trial.batch, "input_ids": ids_BT.where(own_BT, swap_V[ids_BT])}
        trial.require_same(trial.run(swapped), whole, "depends on tokens of another document", own_BT)


def _swaps(vocab: Vocab) -> Tensor:
    """int64 [V]: for an ordinary id another that begins (or continues) a word just so; special ids stay."""
    swap_V = torch.arange(vocab.size)
    starts_V = torch.ones(vocab.size, dtype=torch.bool) if vocab.starts_word_V is None else vocab.starts_word_V
    for kind in (True, False):
        ids = vocab.ordinary_ids[starts_V[vocab.ordinary_ids] == kind]
        swap_V[ids] = ids.roll(1)
    return swap_V


def _check_each_row_supervised(trial: _Trial) -> None:
    ordinary_BT = ~trial.vocab.is_special_V[trial.batch["input_ids"]]
    doc_BT, D = doc_ids_of(trial.batch), trial.batch["doc_lengths"].shape[1]
    counts_BD = torch.stack([(ordinary_BT & (doc_BT == document)).sum(1) for document in range(D)], 1)
    for step in range(5):
        unlabeled_B = (trial.run(step=step)["labels"] == IGNORE).all(1)
        wrong = (unlabeled_B & (counts_BD >= ENOUGH_TOKENS).any(1)).nonzero().flatten().tolist()
        trial.require(
            not wrong, f"no label in rows {wrong}, though they hold a document of {ENOUGH_TOKENS} ordinary tokens"
        )


def _check_replacements(trial: _Trial) -> None:
    clean_BT, ids_BT = trial.batch["input_ids"], trial.run()["input_ids"]
    special_V, V = trial.vocab.is_special_V, trial.vocab.size
    changed_BT = ids_BT != clean_BT
    trial.require_none((ids_BT < 0) | (ids_BT >= V), f"input id outside the vocabulary of {V}")
    trial.require_none(changed_BT & special_V[clean_BT], "special token replaced")
    trial.require_none(
        changed_BT & special_V[ids_BT] & (ids_BT != trial.vocab.mask_id), "token replaced by a special one"
    )


_CHECKS: tuple[Callable[[_Trial], None], ...] = (
    _check_form,
    _check_input_untouched,
    _check_deterministic,
    _check_rows_independent,
    _check_randomness,
    _check_labels_at_real_tokens,
    _check_labels_from_own_document,
    _check_documents_independent,
    _check_each_row_supervised,
    _check_replacements,
)


def _check_target_fraction(objective: Objective, vocab: Vocab, tolerance: float, classes: int) -> None:
    """Measures the fraction on 2^17 tokens without special ones, in documents long and short, over twelve steps."""
    lengths = (64, 200, 8, 100, 140)
    batch = make_batch([lengths * 2] * 11, vocab=vocab, specials=False, classes=classes)
    trial = _Trial(objective=objective, vocab=vocab, batch=batch, seed=0)
    fractions_SB = torch.stack([
        (trial.run(step=step)["labels"] != IGNORE).double().mean(1) for step in range(12)
    ])  # fmt: skip
    measured = fractions_SB.mean().item()
    chance = (
        3 * (fractions_SB.std(1).square().mean() / fractions_SB.numel()).sqrt().item()
    )  # steps may differ by design
    stated = objective.target_fraction(sum(lengths) / len(lengths))
    trial.require(0 <= stated <= 1, f"target_fraction is {stated}, expected a number in [0, 1]")
    trial.require(
        abs(measured - stated) <= tolerance * stated + max(0.002, chance),
        f"target_fraction is {stated:.4f}, measured {measured:.4f}",
    )
