"""Phases: which objective trains, from which token to which. Pure: no torch, no clock of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, Literal

from detour.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """What keeps its weights during a phase.

    Attributes:
        layers: Layer indices as "0-7", "0,3,8-14", or "" for none; both ends belong to a range.
        embeddings: Token embeddings and their norm; the weights of the vocabulary projection are tied to them and stay too
            (its bias trains on).
    """

    layers: str = ""
    embeddings: bool = False

    def layer_indices(self, num_layers: int) -> frozenset[int]:
        """The frozen layers. Raises ConfigError on a bad range or a layer the model does not have."""
        if not self.layers.strip():
            return frozenset()
        chosen: set[int] = set()
        for part in self.layers.split(","):
            match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
            if not match:
                raise ConfigError(f"freeze.layers: '{self.layers}' is not a list of layers such as '0-7' or '0,3,8-14'")
            first, last = int(match[1]), int(match[2] or match[1])
            if first > last or last >= num_layers:
                raise ConfigError(f"freeze.layers: '{part.strip()}' is not a range of layers 0 to {num_layers - 1}")
            chosen.update(range(first, last + 1))
        return frozenset(chosen)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training under one objective.

    Attributes:
        name: Unique among the phases; `schedule.decay_phase` refers to it.
        objective: A registered objective.
        tokens: Length, in tokens that are not padding.
        options: The objective's options.
        freeze: What keeps its weights.
        lr_factor: Multiplies the schedule's learning rate during this phase.
        rewarm_tokens: Linear climb from 0 at the start of the phase; 0 for none.
        optimizer_state: "keep" (the detour's way) or "reset" the moments when the phase begins.
    """

    name: str
    objective: str
    tokens: int
    options: dict[str, Any] = field(default_factory=dict)
    freeze: Freeze = field(default_factory=Freeze)
    lr_factor: float = 1.0
    rewarm_tokens: int = 0
    optimizer_state: Literal["keep", "reset"] = "keep"


@dataclass(frozen=True)
class PhaseSpan:
    """Where a token falls: the phase, its index, its first token on the run's clock and the first one after it."""

    index: int
    phase: Phase
    start: int
    end: int


@dataclass(frozen=True)
class PhaseSchedule:
    """Phases one after another. A batch belongs to the phase that its first token falls into."""

    phases: tuple[Phase, ...]

    def __init__(self, phases: Sequence[Phase]) -> None:
        object.__setattr__(self, "phases", tuple(phases))

    @property
    def boundaries(self) -> list[int]:
        """First token of each phase, and at the end the run's total."""
        return [0, *accumulate(phase.tokens for phase in self.phases)]

    @property
    def total_tokens(self) -> int:
        """Length of the run."""
        return self.boundaries[-1]

    def at(self, tokens: int) -> PhaseSpan:
        """The phase of a batch before which ``tokens`` tokens were seen; past the end, the last one."""
        if tokens < 0:
            raise ValueError(f"tokens is {tokens}, expected >= 0")
        bounds = self.boundaries
        last = len(self.phases) - 1
        index = next((i for i in range(last) if tokens < bounds[i + 1]), last)
        return PhaseSpan(index, self.phases[index], bounds[index], bounds[index + 1])

    def named(self, name: str) -> PhaseSpan:
        """A phase by its name."""
        index = [phase.name for phase in self.phases].index(name)
        return PhaseSpan(index, self.phases[index], self.boundaries[index], self.boundaries[index + 1])

    def describe(self) -> list[dict[str, Any]]:
        """The phases as plain values, for checkpoints, logs and the model card."""
        return [asdict(phase) for phase in self.phases]

    def past_differs(self, other: list[dict[str, Any]], tokens: int) -> list[str]:
        """What separates this schedule from another's `describe()` before ``tokens``: one line a difference.

        The future may change between runs (a longer decay, one more phase); what was already trained may not. A phase
        that has begun may change its length only, and not below what was trained.
        """
        mine, lines = self.describe(), []
        for index, (place, theirs) in enumerate(zip(self.boundaries, other, strict=False)):
            begun = sum(phase["tokens"] for phase in other[:index]) < tokens
            if not begun:
                break
            if index >= len(mine):
                lines.append(f"phases[{index}]: '{theirs['name']}' was trained and is now absent")
                continue
            finished = sum(phase["tokens"] for phase in other[: index + 1]) < tokens
            for key, value in theirs.items():
                if mine[index][key] == value or (
                    key == "tokens" and not finished and place + mine[index][key] >= tokens
                ):
                    continue
                lines.append(f"phases[{index}].{key}: was {value!r}, now {mine[index][key]!r}")
        return lines
