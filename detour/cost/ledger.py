"""The cost of a phase: counted by the ledger, stored in checkpoints, read by reports, model cards and budget matching."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from detour.errors import ConfigError
from detour.options import parse


@dataclass(frozen=True, kw_only=True)
class PhaseCost:
    """What one phase has cost so far.

    Attributes:
        phase: Name of the phase.
        objective: Name of its objective.
        tokens: Tokens seen, without padding.
        supervised: Tokens that carried loss.
        flops: Training FLOPs, counted from the document lengths (`detour.cost.flops`).
        device_seconds: Wall-clock seconds of training steps x number of devices, without evaluation and checkpointing.
        matmul_flops: FLOPs that the devices could have done in those seconds at their measured matmul throughput
            (`detour.cost.matmul`).
        steps: Optimizer steps.
        skipped: Steps without an update (`detour.training.callbacks.step_guard`); their tokens, FLOPs and seconds count.
    """

    phase: str
    objective: str
    tokens: int
    supervised: int
    flops: float
    device_seconds: float
    matmul_flops: float
    steps: int
    skipped: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) and not 0 <= value < math.inf:
                raise ValueError(f"{field.name} is {value!r}, expected a finite number of at least 0")

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization: counted FLOPs / (measured matmul throughput x device-seconds); NaN if not measured."""
        return self.flops / self.matmul_flops if self.matmul_flops else math.nan

    @classmethod
    def zero(cls, phase: str, objective: str) -> PhaseCost:
        """The cost of a phase that has not begun."""
        return cls(
            phase=phase, objective=objective, tokens=0, supervised=0, flops=0.0, device_seconds=0.0, matmul_flops=0.0,
            steps=0, skipped=0,
        )  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, prefix: str = "") -> PhaseCost:
        """The inverse of `dataclasses.asdict`.

        Args:
            values: Exactly the attributes; integers are accepted for floats.
            prefix: Key of these values, for error messages.

        Raises:
            ConfigError: A key is missing or unknown, or a value has the wrong type, is negative or is not finite.
        """
        try:
            return parse(cls, values, prefix=prefix)
        except OverflowError as error:
            raise ConfigError(f"{prefix}: {error}") from error

    def plus(self, **counts: float) -> PhaseCost:
        """A copy with these counts added."""
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})  # type: ignore[arg-type]


def read_costs(state: Mapping[str, Any]) -> list[PhaseCost]:
    """The cost of each phase, from the plain values of a checkpoint (`Checkpoint.state`).

    Raises:
        ConfigError: They hold no ledger, or an entry of it is invalid.
    """
    key = "callbacks.Ledger.entries"
    try:
        entries = state["callbacks"]["Ledger"]["entries"]
    except (LookupError, TypeError) as error:
        raise ConfigError(f"{key}: missing") from error
    return parse_costs(entries, key=key)


def parse_costs(entries: Any, *, key: str = "entries") -> list[PhaseCost]:
    """The cost of each phase, from a list of mappings. Raises ConfigError."""
    if not isinstance(entries, list):
        raise ConfigError(f"{key}: {entries!r}, expected a list")
    return [PhaseCost.from_dict(entry, prefix=f"{key}[{index}]") for index, entry in enumerate(entries)]
