"""What the evaluation of a run must satisfy: its objectives, and the held-out folders that they read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType

from detour import objectives, scheduled
from detour.config.check_data import held_out
from detour.config.schema import RunConfig
from detour.errors import ConfigError
from detour.objectives import ModuleObjective, Objective


def evaluation(run: RunConfig) -> Iterator[str]:
    """Every contradiction in `evaluation` and in the folders of held-out rows, one line each."""
    read = set()
    for name, options in run.evaluation.objectives.items():
        where = f"evaluation.objectives.{name}"
        if not isinstance(options, (Mapping, NoneType)):
            yield f"{where}: {options!r}, expected a mapping of its options"
            continue
        try:
            objective = objectives.build(name, options)
        except ConfigError as error:
            yield f"{where}: {error}"
            continue
        read.add(objective.stream_at(0))
        yield from (f"{where}: {problem}" for problem in _problems(run, objective))
        if any(scheduled.scheduled(dict(options or {}))):
            yield f"{where}: an option is a schedule; held-out losses need constant ones"
    for stream, folders in {"": run.data.validation, **run.evaluation.streams}.items():
        key = f"evaluation.streams.{stream}" if stream else "data.validation"
        yield from held_out(key, folders)
        if stream and stream not in read:
            yield f"{key}: no objective of evaluation.objectives reads it"
        if stream and not folders:
            yield f"{key}: empty, expected at least one folder of rows"
        if 0 < run.evaluation.rows < len(folders):
            yield (
                f"evaluation.rows: {run.evaluation.rows}, expected at least one for each of the {len(folders)} folders of {key}"
            )


def _problems(run: RunConfig, objective: Objective) -> Iterator[str]:
    """Why an objective has no held-out loss in a run."""
    if objective.by_step:
        yield "it differs from step to step; name the objectives that it consists of"
        return
    if (stream := objective.stream_at(0)) and stream not in run.evaluation.streams:
        yield f"it reads the stream '{stream}'; give its held-out folders as evaluation.streams.{stream}"
    if isinstance(objective, ModuleObjective) and not _is_trained(run, objective):
        yield "no phase trains its module"


def _is_trained(run: RunConfig, wanted: ModuleObjective) -> bool:
    for phase in run.phases:
        try:
            parts = objectives.build(phase.objective, phase.options).parts
        except ConfigError:
            continue  # already reported
        modules = [part for part, _ in parts if isinstance(part, ModuleObjective)]
        if any((part.name, part.module_key) == (wanted.name, wanted.module_key) for part in modules):
            return True
    return False
