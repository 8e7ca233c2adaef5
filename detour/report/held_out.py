"""Held-out losses of a run, and the objective options behind its training and held-out losses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detour.report.metrics_log import Metrics
from detour.scheduled import spelled

if TYPE_CHECKING:
    from detour.report.phase_summary import PhaseSummary

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class HeldOut:
    """A held-out loss.

    Attributes:
        tokens: Tokens the run had seen.
        loss: Nats per supervised token.
        sd: Standard deviation of the loss over mask draws; None for one draw.
        changes: How many times the evaluation settings had changed before this loss.
    """

    tokens: int
    loss: float
    sd: float | None = None
    changes: int = 0

    @classmethod
    def of(cls, metrics: Metrics, objective: str, tokens: int) -> HeldOut:
        """The loss of an objective that was recorded at a token count. Raises KeyError if there is none."""
        # a loss at the very token of a change was measured before it: the run resumed there
        changes = sum(at < tokens for at in metrics.changes)
        return cls(
            tokens, metrics.evaluations[objective][tokens], metrics.spread.get(objective, {}).get(tokens), changes
        )


def labeled(objective: str, options: str) -> str:
    """An objective's name with its options: ``mlm (rate 0.3)``."""
    return f"{objective} ({options})" if options else objective


def read_evaluation(path: Path) -> dict[str, Any]:
    """The evaluation.json of a run, or an empty mapping if it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def with_options(
    phases: Sequence[PhaseSummary], config: dict[str, Any], recorded: dict[str, Any]
) -> tuple[list[PhaseSummary], dict[str, str]]:
    """Adds the options that distinguish the uses of an objective within a run, as text.

    An option is shown for every use of an objective if any phase or the evaluation sets it. Where a use does not set it,
    its recorded default is shown.

    Args:
        phases: Phases as configured.
        config: Content of the run's config.yaml.
        recorded: Content of its evaluation.json; may be empty.

    Returns:
        The phases with their `options`, and the options of each objective under which the run is evaluated.
    """
    evaluation = _mapping(config.get("evaluation"))
    held_out = {str(name): _mapping(options) for name, options in _mapping(evaluation.get("objectives")).items()}
    training = [_mapping(phase.get("options")) for phase in config["phases"]]
    turns = [use for options in training for use in _turns(options)]
    uses = [*zip((phase.objective for phase in phases), training, strict=True), *turns, *held_out.items()]
    shown: dict[str, list[str]] = {}
    for objective, options in uses:
        shown[objective] = list(dict.fromkeys([*shown.get(objective, []), *map(str, options)]))

    def words(objective: str, options: dict[str, Any], known: dict[str, Any]) -> str:
        values = {**known, **options}
        return ", ".join(
            f"{key} {spelled(values[key])}" if key in values else f"default {key}" for key in shown[objective]
        )

    of_phases, of_held_out = (
        _mapping(recorded.get("training")),
        _mapping(_mapping(recorded.get("held_out")).get("objectives")),
    )
    accounts = [
        replace(
            phase,
            options=words(phase.objective, options, _mapping(of_phases.get(phase.name))),
            turns={name: words(name, own, {}) for name, own in _turns(options)},
        )
        for phase, options in zip(phases, training, strict=True)
    ]
    return accounts, {name: words(name, options, _mapping(of_held_out.get(name))) for name, options in held_out.items()}


def _turns(options: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The objectives that a phase trains in turn, with their options."""
    turns = options.get("turns")
    return [
        (str(turn["objective"]), _mapping(turn.get("options")))
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, dict) and "objective" in turn
    ]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
