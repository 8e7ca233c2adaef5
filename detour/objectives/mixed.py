"""Rows of one batch under several objectives (GPT-BERT, arXiv 2410.24159)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from detour.attention_rule import Rule
from detour.batch import IGNORE, Batch
from detour.objectives.base import Objective, all_options, build, register
from detour.objectives.module_objective import ModuleObjective
from detour.objectives.random import RowRandom
from detour.vocab import Vocab

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MixedPart:
    """An objective, and how many rows are trained under it.

    Attributes:
        objective: Registered name.
        proportion: Share of the rows, relative to the other parts.
        options: Options of the objective.
    """

    objective: str
    proportion: float
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.proportion < math.inf:
            raise ValueError(f"proportion is {self.proportion}, expected a number of at least 0")
        object.__setattr__(self, "options", all_options(self.objective, self.options))


@register("mixed")
@dataclass(frozen=True, kw_only=True)
class Mixed(Objective):
    """Each row is trained under one of several objectives, drawn in the given proportions.

    The mean of the loss is over the supervised tokens of all rows. Each row is corrupted as its objective alone would do.

    Attributes:
        objectives: The objectives and their proportions.
    """

    attention: ClassVar[str] = "reach"
    objectives: list[MixedPart]

    def __post_init__(self) -> None:
        if not sum(part.proportion for part in self.objectives) > 0:
            raise ValueError("objectives: no proportion above 0, expected at least one")
        for part, objective in zip(self.objectives, self._built, strict=True):
            if any(isinstance(inner, ModuleObjective) or inner.stream_at(0) for inner, _ in objective.parts):
                raise ValueError(
                    f"objectives: {part.objective} computes its loss by a module or reads a stream of its own, so it needs whole "
                    "batches; train it in turn with the others (objective: alternate)"
                )

    @cached_property
    def _built(self) -> list[Objective]:
        return [build(part.objective, part.options) for part in self.objectives]

    @property
    def parts(self) -> list[tuple[Objective, float]]:
        total = sum(part.proportion for part in self.objectives)
        return [
            (inner, fraction * part.proportion / total)
            for part, objective in zip(self.objectives, self._built, strict=True)
            for inner, fraction in objective.parts
        ]

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        import torch

        proportions = torch.tensor([part.proportion for part in self.objectives], dtype=torch.float64)
        ends = proportions.cumsum(0) / proportions.sum()
        part_B = torch.searchsorted(ends, rng.choices().double(), right=True).clamp(max=len(ends) - 1)
        pieces: list[tuple[Tensor, Batch]] = []
        for index, objective in enumerate(self._built):
            at = (part_B == index).nonzero().squeeze(1)
            if len(at):
                rows: Any = {
                    key: value[at] if isinstance(value, torch.Tensor) else value for key, value in batch.items()
                }
                pieces.append((at, objective(rows, vocab, rng.rows(at.tolist()))))
        return _joined(batch, pieces)

    def target_fraction(self, mean_document_tokens: float) -> float:
        return sum(fraction * part.target_fraction(mean_document_tokens) for part, fraction in self.parts)


def _joined(batch: Batch, pieces: list[tuple[Tensor, Batch]]) -> Batch:
    """One batch with the rows of the pieces at their places.

    If all pieces have one attention rule, so has the batch; otherwise each token's reach says it.
    """
    import torch

    B, T = batch["input_ids"].shape
    out: Any = {**batch, "labels": torch.full((B, T), IGNORE)}
    rules = {piece["attention"] for _, piece in pieces}  # type: ignore[typeddict-item]
    out["attention"] = rules.pop() if len(rules) == 1 else "reach"
    if out["attention"] == "reach":
        out["reach"] = torch.zeros(B, T, dtype=torch.int64)
    if any("weights" in piece for _, piece in pieces):
        out["weights"] = torch.ones(B, T)
    if any("loss_tokens" in piece for _, piece in pieces):
        out["loss_tokens"] = torch.zeros(B, dtype=torch.int64)
    out["input_ids"] = batch["input_ids"].clone()
    for at, piece in pieces:
        values: dict[str, Any] = {"reach": Rule.of(piece["attention"]).farthest(T), "weights": 1.0, **piece}  # type: ignore[typeddict-item]
        values.setdefault("loss_tokens", (piece["labels"] != IGNORE).sum(1))  # type: ignore[typeddict-item]
        for key in ("input_ids", "labels", "reach", "weights", "loss_tokens"):
            if key in out:
                out[key][at] = values[key]
    return out
