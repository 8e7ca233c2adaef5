"""Reads a run folder: plan, cost and losses of each phase, environment. No weights are loaded."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detour.data.validation import names_of
from detour.errors import DataError
from detour.optimizer import PhaseOptimizer
from detour.phases import PhaseRope
from detour.report.held_out import EVALUATION, labeled, read_evaluation, with_options
from detour.report.metrics_log import Metrics, read_metrics
from detour.report.phase_summary import PhaseSummary, with_costs
from detour.scheduled import is_scheduled


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """A run as recorded in its folder.

    Attributes:
        config_text: Content of config.yaml.
        phases: All phases in order, including those that have not begun.
        environment: Versions and machine.
        held_out_options: Objective -> the options it is evaluated under, as text.
        held_out: The recorded evaluation settings (`detour.training.run_folder.measurement`), or None.
        metrics: Training and evaluation metrics.
        notes: Sentences on missing, damaged or non-finite values.
    """

    name: str
    config_text: str
    phases: list[PhaseSummary]
    environment: dict[str, Any]
    held_out_options: dict[str, str]
    held_out: dict[str, Any] | None
    metrics: Metrics
    notes: list[str]

    @property
    def planned(self) -> int:
        """Planned tokens of the run."""
        return sum(phase.planned for phase in self.phases)

    @property
    def seen(self) -> int:
        """Tokens trained so far."""
        return sum(phase.tokens for phase in self.phases)

    @property
    def complete(self) -> bool:
        """Whether all planned tokens were trained."""
        return self.seen >= self.planned

    @property
    def objectives(self) -> list[str]:
        """All objectives trained or evaluated: mlm, clm, then the others in order of appearance."""
        turns = self.metrics.trained(np.ones(len(self.metrics), dtype=bool))
        found = dict.fromkeys([*(phase.objective for phase in self.phases), *turns, *self.metrics.evaluations])
        return sorted(found, key=lambda name: {"mlm": 0, "clm": 1}.get(name, 2))

    def held_out_label(self, objective: str) -> str:
        """An objective with the options it is evaluated under."""
        return labeled(objective, self.held_out_options.get(objective, ""))

    def training_label(self, objective: str) -> str:
        """An objective with the options of its phases and turns, in order."""
        texts = [text for phase in self.phases for name, text in phase.uses if name == objective and text]
        return labeled(objective, ", then ".join(dict.fromkeys(texts)))

    def scheduled_label(self, column: str) -> str:
        """What a metric that starts with "phase/" holds: the key of the option, or the folder whose proportion it is."""
        key = column.removeprefix("phase/")
        if not (found := re.fullmatch(r"train\[(\d+)\]\.proportion", key)):
            return key
        names = {phase.mixture[int(found[1])] for phase in self.phases if int(found[1]) < len(phase.mixture)}
        return f"proportion of {names.pop()}" if len(names) == 1 else key

    @property
    def held_out_rows(self) -> str:
        """Evaluated rows of each validation folder, and of those of streams, as text; empty if not recorded."""
        held_out = self.held_out or {}
        streams = held_out.get("streams")
        found = []
        for stream, folders in {"": held_out.get("folders"), **(streams if isinstance(streams, dict) else {})}.items():
            known = [f for f in folders if isinstance(f, dict)] if isinstance(folders, list) else []
            of = f" (stream {stream})" if stream else ""
            found += [f"{f.get('rows')} of {f.get('of')} of {f.get('name')}{of}" for f in known]
        return ", ".join(found)

    def trains(self, objective: str, tokens: int) -> bool:
        """Whether the phase that trained up to a token count did so under an objective, alone or in turn with others."""
        phase = self.phase_before(tokens)
        index_N = self.metrics.column("phase/index")
        return objective == phase.objective or objective in self.metrics.trained(index_N == self.phases.index(phase))

    def phase_before(self, tokens: int) -> PhaseSummary:
        """The phase that trained up to a token count; at a boundary, the phase that ends there."""
        begun = [phase for phase in self.phases if phase.start < tokens and phase.tokens]
        return begun[-1] if begun else self.phases[0]


def read_run(folder: Path) -> RunHistory:
    """Reads the folder of a run, finished or not.

    Raises:
        DataError: The folder, its config.yaml or its metrics.jsonl is missing, or its configuration has no phases.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a run folder")
    for name in ("config.yaml", "metrics.jsonl"):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder}: not a run folder: it has no {name} (detour status lists the runs below a folder)"
            )
    config_text, config, phases = _read_config(folder / "config.yaml")
    metrics = read_metrics(folder / "metrics.jsonl")
    notes = list(metrics.notes)
    measured = read_evaluation(folder / EVALUATION)
    phases, held_out_options = with_options(phases, config, measured)
    phases = with_costs(phases, folder, metrics, notes)
    return RunHistory(
        name=str(config.get("name") or folder.resolve().name),
        config_text=config_text,
        phases=phases,
        environment=_environment(folder / "environment.json", notes),
        held_out_options=held_out_options,
        held_out=measured.get("held_out") if isinstance(measured.get("held_out"), dict) else None,
        metrics=metrics,
        notes=[*notes, *_not_finite(metrics)],
    )


def _read_config(path: Path) -> tuple[str, dict[str, Any], list[PhaseSummary]]:
    # not by detour.config.load, which refuses objectives that are not installed on this machine
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
        optimizer = config.get("optimizer")
        clip_norm = optimizer.get("clip_norm") if isinstance(optimizer, dict) else None
        phases = [_phase(p, clip_norm) for p in config["phases"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not the configuration of a run ({' '.join(str(error).split())})") from error
    if not phases:
        raise DataError(f"{path}: not the configuration of a run: it has no phases")
    return text, config, phases


def _phase(phase: dict[str, Any], clip_norm: Any) -> PhaseSummary:
    own, streams = PhaseOptimizer.of(phase), (phase.get("data") or {}).get("train") or []
    changes = any(is_scheduled(stream.get("proportion")) for stream in streams)
    clip_norm = clip_norm if own.clip_norm is None else own.clip_norm
    return PhaseSummary(
        name=str(phase["name"]),
        objective=str(phase["objective"]),
        planned=int(phase["tokens"]),
        optimizer=", ".join(own.words),
        rope=", ".join(PhaseRope(**(phase.get("rope") or {})).words),
        mixture=tuple(names_of([str(stream["path"]) for stream in streams]) if changes else ()),
        clip_norm=float(clip_norm) if isinstance(clip_norm, int | float) else None,
    )


def _environment(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        values = None
    if isinstance(values, dict):
        return values
    notes.append("environment.json is missing or unreadable.")
    return {}


def _not_finite(metrics: Metrics) -> list[str]:
    notes = []
    for name, label in [("loss/train/total", "training losses"), ("grad_norm", "gradient norms")]:
        if name in metrics.columns:
            bad = np.flatnonzero(~np.isfinite(metrics.column(name)))
            if len(bad):
                first = int(metrics.column("before")[bad[0]])
                notes.append(f"{len(bad):,} {label} are not finite, the first at token {first:,}; drawn as gaps.")
    for name, points in metrics.evaluations.items():
        if bad := [tokens for tokens, loss in points.items() if not math.isfinite(loss)]:
            notes.append(f"{len(bad):,} held-out losses ({name}) are not finite, the first at token {bad[0]:,}.")
    return notes
