"""Under which options a run's losses are: those it trains on, and the held-out ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detour.report.metrics_log import Metrics

if TYPE_CHECKING:
    from detour.report.run_history import PhaseAccount

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class HeldOut:
    """A held-out loss, in nats a supervised token, after so many tokens of the run.

    Attributes:
        sd: Its standard deviation over mask draws, or None where there was one draw.
        changes: How many times before it the run began to measure otherwise.
    """

    tokens: int
    loss: float
    sd: float | None = None
    changes: int = 0

    @classmethod
    def of(cls, metrics: Metrics, objective: str, tokens: int) -> HeldOut:
        """The one that was recorded at a token count."""
        changes = sum(at < tokens for at in metrics.changes)  # what is measured where a run goes on is of before
        return cls(
            tokens, metrics.evaluations[objective][tokens], metrics.spread.get(objective, {}).get(tokens), changes
        )


def labeled(objective: str, options: str) -> str:
    """``mlm (rate 0.3)``."""
    return f"{objective} ({options})" if options else objective


def read_evaluation(path: Path) -> dict[str, Any]:
    """The evaluation.json of a run; empty where it has none, as runs of earlier versions do not."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def with_options(
    phases: Sequence[PhaseAccount], config: dict[str, Any], recorded: dict[str, Any]
) -> tuple[list[PhaseAccount], dict[str, str]]:
    """The phases with their objectives' options in words, and those of each held-out objective.

    An option is told where any use of the objective sets it in the configuration. Its value where another use leaves it
    out is that which was recorded, defaults included.

    Args:
        phases: As configured.
        config: The run's config.yaml.
        recorded: Its evaluation.json, or nothing.
    """
    evaluation = _mapping(config.get("evaluation"))
    held_out = {str(name): _mapping(options) for name, options in _mapping(evaluation.get("objectives")).items()}
    training = [_mapping(phase.get("options")) for phase in config["phases"]]
    uses = [*zip((phase.objective for phase in phases), training, strict=True), *held_out.items()]
    told: dict[str, list[str]] = {}
    for objective, options in uses:
        told[objective] = list(dict.fromkeys([*told.get(objective, []), *map(str, options)]))

    def words(objective: str, options: dict[str, Any], known: dict[str, Any]) -> str:
        values = {**known, **options}
        return ", ".join(
            f"{key} {_value(values[key])}" if key in values else f"default {key}" for key in told[objective]
        )

    of_phases, of_held_out = (
        _mapping(recorded.get("training")),
        _mapping(_mapping(recorded.get("held_out")).get("objectives")),
    )
    accounts = [
        replace(phase, options=words(phase.objective, options, _mapping(of_phases.get(phase.name))))
        for phase, options in zip(phases, training, strict=True)
    ]
    return accounts, {name: words(name, options, _mapping(of_held_out.get(name))) for name, options in held_out.items()}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
