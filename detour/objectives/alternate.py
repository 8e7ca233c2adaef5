"""Objectives in turn, some steps each (AntLM, arXiv 2412.03275, alternates by epochs)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from detour.batch import Batch
from detour.objectives.base import Objective, all_options, build, register
from detour.objectives.random import RowRandom
from detour.vocab import Vocab


@dataclass(frozen=True, kw_only=True)
class Turn:
    """An objective, and for how many steps it is trained in each round.

    Attributes:
        objective: Registered name.
        steps: Consecutive optimizer steps.
        options: Options of the objective.
    """

    objective: str
    steps: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, expected at least 1")
        object.__setattr__(self, "options", all_options(self.objective, self.options))


@register("alternate")
@dataclass(frozen=True, kw_only=True)
class Alternate(Objective):
    """Whole batches under several objectives in turn. Rounds are counted from the first step of the run.

    Losses are logged under the name of the objective whose turn it is.

    Attributes:
        turns: The objectives in order, with their numbers of steps.
    """

    by_step: ClassVar[bool] = True
    turns: list[Turn]

    def __post_init__(self) -> None:
        if not self.turns:
            raise ValueError("turns: none given, expected at least one")
        _ = self._built

    @cached_property
    def _built(self) -> list[Objective]:
        return [build(turn.objective, turn.options) for turn in self.turns]

    @property
    def attention(self) -> str:  # type: ignore[override]
        return self._built[0].attention

    @property
    def parts(self) -> list[tuple[Objective, float]]:
        steps = sum(turn.steps for turn in self.turns)
        return [
            (inner, fraction * turn.steps / steps)
            for turn, objective in zip(self.turns, self._built, strict=True)
            for inner, fraction in objective.parts
        ]

    def stream_at(self, step: int) -> str:
        return self._at(step).stream_at(step)

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        return self._at(rng.step)(batch, vocab, rng)

    def _at(self, step: int) -> Objective:
        """The objective whose turn a step is."""
        at = step % sum(turn.steps for turn in self.turns)
        for turn, objective in zip(self.turns, self._built, strict=True):
            if at < turn.steps:
                return objective
            at -= turn.steps
        raise AssertionError("unreachable: a round has as many steps as its turns together")

    def target_fraction(self, mean_document_tokens: float) -> float:
        return sum(fraction * part.target_fraction(mean_document_tokens) for part, fraction in self.parts)
