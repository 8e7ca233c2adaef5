"""Reads an experiment's YAML and the runs that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from detour.config.load import load, read_into
from detour.config.other_runs import MatchConfig
from detour.config.schema import RunConfig
from detour.errors import ConfigError
from detour.experiments.schema import DETOUR, NOTHING, TWIN, ExperimentConfig
from detour.names import fault_of_name
from detour.registry import suggestion
from detour.training.match import match_budget


@dataclass(frozen=True)
class Experiment:
    """An experiment's configuration with the runs of its arms.

    Attributes:
        config: The configuration.
        file: Its YAML.
        base: The run of the base, or None.
        runs: (arm, training seed) -> run, without branches.
    """

    config: ExperimentConfig
    file: Path
    base: RunConfig | None
    runs: dict[tuple[str, int], RunConfig]

    @cached_property
    def names(self) -> dict[tuple[str, int], str]:
        """(arm, training seed) -> name of the run and of its encoder's folder."""
        return {(arm, seed): f"{arm}-seed{seed}" for arm, seed in self.runs}


def model_name(arm: str, seed: int) -> str:
    """What records call an encoder, so that its arm and training seed are known: ``detour@17``."""
    return f"{arm}@{seed}"


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads an experiment's YAML and those of its arms.

    Args:
        path: The experiment's YAML; may extend another.
        overrides: ``key=value`` with dots.

    Raises:
        ConfigError: Listing what is wrong, with file and key.
    """
    config = read_into(ExperimentConfig, path, overrides)
    if problems := _problems(config):
        raise ConfigError(f"{path}: " + "\n  - ".join(problems if len(problems) == 1 else ["", *problems]))
    base = None
    if config.base is not None:
        base = load(path.parent / config.base, changes=[{"name": "base", "folder": str(config.path / "runs")}])
    runs = {}
    for seed in config.seeds:
        for arm in config.arms:
            runs[arm, seed] = _run_of(config, path, arm, seed)
        for arm in config.arms:
            runs[arm, seed] = _matched(config, runs, arm, seed)
    return Experiment(config=config, file=path, base=base, runs=runs)


def _run_of(config: ExperimentConfig, path: Path, arm: str, seed: int) -> RunConfig:
    chosen = config.arms[arm]
    fixed: dict[str, Any] = {"name": f"{arm}-seed{seed}", "folder": str(config.path / "runs")}
    if config.base is not None:
        fixed["model"] = {"init": str(config.path / "models" / "base")}
    for key in config.seed_keys:
        inner = fixed
        *above, last = key.split(".")
        for name in above:
            inner = inner.setdefault(name, {})
        inner[last] = seed
    if clash := sorted({"name", "folder", "branch", "match"} & chosen.changes.keys()):
        raise ConfigError(f"{path}: arms.{arm}.changes.{clash[0]}: set by the experiment itself")
    run = load(path.parent / (chosen.run or config.run), changes=[chosen.changes, fixed], source=f"{path}: arm {arm}")
    if run.match.run is not None or run.branch.run is not None:
        raise ConfigError(f"{path}: arm {arm}: its YAML sets match or branch, which the experiment sets itself")
    return run


def _matched(config: ExperimentConfig, runs: dict[tuple[str, int], RunConfig], arm: str, seed: int) -> RunConfig:
    """The run of an arm, its first phase as long as `match` asks for. Measured times are matched when it is started."""
    run, other = runs[arm, seed], runs[config.baseline, seed]
    if config.match == "tokens" or arm == config.baseline:
        return run
    match = MatchConfig(
        run=str(Path(other.folder) / other.name), by=config.match, document_tokens=config.document_tokens
    )
    if config.match == "device_seconds":
        return replace(run, match=match)
    matched = match_budget(replace(run, match=match), planned=other)
    return replace(matched, match=MatchConfig())


def _problems(config: ExperimentConfig) -> list[str]:
    lines = []
    for name in (config.name, *config.arms):
        if fault := fault_of_name(name):
            lines.append(f"the name {name[:80]!r} {fault}")
    if "base" in config.arms:
        lines.append("arms.base: this name belongs to the run that all arms start from")
    if not config.seeds or len(set(config.seeds)) < len(config.seeds):
        lines.append(f"seeds: {config.seeds}, expected at least one, each once")
    if len(config.arms) < 2:
        lines.append(f"arms: {len(config.arms)}, expected at least two")
    for key, names in [
        ("baseline", [config.baseline]),
        *((f"contrasts[{i}]", pair) for i, pair in enumerate(config.contrasts)),
        *((f"claims.{name}", pair) for name, pair in config.claims.items()),
        *config.analysis.arms().items(),
    ]:
        lines += [f"{key}: no arm '{n}'{suggestion(n, config.arms)}" for n in names if n not in config.arms]
        lines += [
            f"{key}: '{n}' twice, expected different arms" for n in dict.fromkeys(names) if list(names).count(n) > 1
        ]
    lines += [
        f"claims.{name}: {list(pair)} is not compared; name it under contrasts"
        for name, pair in config.claims.items()
        if pair not in config.pairs
    ]
    if not 0 < config.margin < 100:
        lines.append(f"margin: {config.margin}, expected points above 0 and below 100")
    if config.rule == "pilot" and ({*config.arms} != {DETOUR, TWIN, NOTHING} or (DETOUR, NOTHING) not in config.pairs):
        lines.append("rule: pilot, expected the arms detour, twin and nothing, and [detour, nothing] under contrasts")
    freeze = config.analysis.freeze
    if len({freeze.twin is None, freeze.detour is None, not freeze.frozen}) > 1:
        lines.append("analysis.freeze: expected twin, detour and frozen, or none of them")
    if config.analysis.transplants.pairs and not config.probes.linear:
        lines.append("analysis.transplants: probes.linear has no task to score them with")
    if config.finetuning.seeds < 1 or config.finetuning.tasks_per_job < 1:
        lines.append("finetuning: seeds and tasks_per_job, expected at least 1")
    return lines
