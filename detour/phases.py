"""Phases: which objective is trained over which tokens. Pure functions, without torch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, Literal

from detour import scheduled
from detour.data.stream_spec import StreamSpec
from detour.errors import ConfigError
from detour.optimizer import PhaseOptimizer


@dataclass(frozen=True, kw_only=True)
class Freeze:
    """Parameters that are frozen during a phase.

    Attributes:
        layers: Layer indices as "0-7", "0,3,8-14", or "" for none; ranges include both ends.
        embeddings: Whether to freeze the token embeddings and their norm, and with them the tied weights of the vocabulary
            projection (but not its bias).
    """

    layers: str = ""
    embeddings: bool = False

    def layer_indices(self, num_layers: int) -> frozenset[int]:
        """Indices of the frozen layers. Raises ConfigError for a malformed range or a layer that the model does not have."""
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
class PhaseData:
    """Training data of a phase, where it differs from the run's `data`.

    A stream of rows continues where an earlier phase with the same folders left it, whatever the batch size.

    Attributes:
        train: Folders of training rows; empty takes those of the run.
        seq_len: Tokens per row; null takes that of the run.
        global_batch_size: Rows per optimizer step, over all devices; null takes that of the run.
        micro_batch_size: Rows per forward and backward pass of a device; null takes that of the run.
        restart: Read the phase's rows from the beginning instead of continuing.
    """

    train: list[StreamSpec] = field(default_factory=list)
    seq_len: int | None = None
    global_batch_size: int | None = None
    micro_batch_size: int | None = None
    restart: bool = False


@dataclass(frozen=True, kw_only=True)
class PhaseRope:
    """Rotary positions during a phase, where they differ from `model.architecture`.

    Attributes:
        theta: Base in layers that attend to the whole document; null takes that of the model.
        local_theta: Base in layers with a window, in families that have one of its own; null takes that of the model.
        scaling: Scaling in layers that attend to the whole document, as of `model.architecture`: rope_type "linear",
            "llama3", or "yarn" with its numbers, or "default" for none; null takes that of the model.
    """

    theta: float | None = None
    local_theta: float | None = None
    scaling: dict[str, Any] | None = None

    @property
    def words(self) -> list[str]:
        """What it changes, one entry per setting: ``["theta 160,000", "scaling linear (factor 8)"]``."""
        bases = {"theta": self.theta, "local_theta": self.local_theta}
        words = [f"{key} {value:,g}" for key, value in bases.items() if value is not None]
        if self.scaling is not None:
            numbers = {key: value for key, value in self.scaling.items() if key != "rope_type"}
            spelled = ", ".join(f"{key} {value:,g}" for key, value in numbers.items())
            words.append(f"scaling {self.scaling.get('rope_type')}" + (f" ({spelled})" if spelled else ""))
        return words


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A number of tokens trained under one objective.

    Attributes:
        name: Unique name; `schedule.decay_phase` refers to it.
        objective: Name of a registered objective.
        tokens: Length in tokens, excluding padding.
        options: Options of the objective. A number may be a schedule over the phase (`detour.scheduled`).
        data: Training data, where they differ from the run's.
        streams: Further training data by name, for objectives that read a stream of their own, such as pair_classification.
        freeze: Parameters frozen during the phase.
        lr_factor: Factor on the scheduled learning rate during the phase: a number, or a schedule over the phase.
        optimizer: Settings of the optimizer, where they differ from the run's.
        rope: Bases and scaling of the rotary positions, where they differ from the model's.
        evaluate: Held-out losses measured during the phase and at its end, names among `evaluation.objectives`; null for all.
        rewarm_tokens: Length of a linear warmup from 0 at the start of the phase; 0 for none.
        optimizer_state: "keep" the optimizer state, as the paper does, or "reset" it when the phase begins.
    """

    name: str
    objective: str
    tokens: int
    options: dict[str, Any] = field(default_factory=dict)
    data: PhaseData = field(default_factory=PhaseData)
    streams: dict[str, PhaseData] = field(default_factory=dict)
    freeze: Freeze = field(default_factory=Freeze)
    lr_factor: float | dict[str, Any] = 1.0
    optimizer: PhaseOptimizer = field(default_factory=PhaseOptimizer)
    rope: PhaseRope = field(default_factory=PhaseRope)
    evaluate: list[str] | None = None
    rewarm_tokens: int = 0
    optimizer_state: Literal["keep", "reset"] = "keep"


@dataclass(frozen=True)
class PhaseSpan:
    """A phase with its index, its first token in the run, and the first token after it."""

    index: int
    phase: Phase
    start: int
    end: int

    def fraction_at(self, tokens: int) -> float:
        """Fraction of the phase that lies before the batch which begins after ``tokens`` tokens of the run, in [0, 1]."""
        return min(max((tokens - self.start) / (self.end - self.start), 0.0), 1.0)


@dataclass(frozen=True)
class PhaseSchedule:
    """A sequence of phases. A batch belongs to the phase that contains its first token."""

    phases: tuple[Phase, ...]

    def __init__(self, phases: Sequence[Phase]) -> None:
        object.__setattr__(self, "phases", tuple(phases))

    @property
    def boundaries(self) -> list[int]:
        """First token of each phase, followed by the total number of tokens."""
        return [0, *accumulate(phase.tokens for phase in self.phases)]

    @property
    def total_tokens(self) -> int:
        """Length of the run in tokens."""
        return self.boundaries[-1]

    def at(self, tokens: int) -> PhaseSpan:
        """The phase of a batch that begins after ``tokens`` tokens; past the end of the run, the last phase."""
        if tokens < 0:
            raise ValueError(f"tokens is {tokens}, expected >= 0")
        bounds = self.boundaries
        last = len(self.phases) - 1
        index = next((i for i in range(last) if tokens < bounds[i + 1]), last)
        return PhaseSpan(index, self.phases[index], bounds[index], bounds[index + 1])

    def span_of(self, name: str) -> PhaseSpan:
        """The span of the phase with this name. Raises ValueError if there is none."""
        index = [phase.name for phase in self.phases].index(name)
        return PhaseSpan(index, self.phases[index], self.boundaries[index], self.boundaries[index + 1])

    def describe(self) -> list[dict[str, Any]]:
        """The phases as plain values, as stored in checkpoints and model cards."""
        return [json.loads(json.dumps(asdict(phase))) for phase in self.phases]

    def diff_past(self, other: list[dict[str, Any]], tokens: int) -> list[str]:
        """Differences from another schedule in what was trained before ``tokens``, one line per difference.

        A resumed run may change its future (a longer decay, another phase), not its past. Of the current phase only the
        length may change, and not below the tokens already trained.

        Args:
            other: The other schedule, as returned by `describe`, also of a version that had fewer keys.
            tokens: Tokens already trained.
        """
        mine, lines = self.describe(), []
        for index, (start, theirs) in enumerate(zip(self.boundaries, other, strict=False)):
            begun = sum(phase["tokens"] for phase in other[:index]) < tokens
            if not begun:
                break
            if index >= len(mine):
                lines.append(f"phases[{index}]: '{theirs['name']}' was trained and is now missing")
                continue
            finished = sum(phase["tokens"] for phase in other[: index + 1]) < tokens
            for key, value in _completed(theirs).items():
                if mine[index][key] == value or key == "evaluate":  # measures, and changes nothing
                    continue
                schedules = [
                    scheduled.scheduled(phase.get(part)) for phase in (mine[index], theirs) for part in _BY_TOKENS
                ]
                free = not finished and not any(map(any, schedules))  # a schedule stretches with its phase
                if key == "tokens" and free and start + mine[index][key] >= tokens:
                    continue
                lines.append(f"phases[{index}].{key}: was {value!r}, now {mine[index][key]!r}")
        return lines


_BY_TOKENS = (
    "options",
    "data",
    "streams",
)  # what may hold schedules, besides the rate, which is compared by its values


def _completed(phase: dict[str, Any]) -> dict[str, Any]:
    """A record of any version with every key of this one, in its own order first."""
    found = {**phase, **_UNSET, **phase}
    nested = {key: default for key, default in _UNSET.items() if isinstance(default, dict) and default}
    return found | {key: default | found[key] for key, default in nested.items()}


# what a record of an earlier version means where it lacks a key
_UNSET = {
    key: value
    for key, value in PhaseSchedule([Phase(name="", objective="", tokens=0)]).describe()[0].items()
    if key not in ("name", "objective", "tokens")
}
