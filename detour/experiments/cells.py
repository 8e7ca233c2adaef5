"""The jobs of an experiment: training, export, probes, fine-tuning and analysis, each one `detour` command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from detour.config.load import to_yaml
from detour.config.schema import RunConfig
from detour.errors import ConfigError
from detour.experiments.analysis_jobs import analysis_jobs, linear_probe
from detour.experiments.config import Experiment, model_name
from detour.experiments.tree import Node, grow, settings_that_differ
from detour.files import write_text
from detour.jobs import Job
from detour.training.checkpoints.files import Checkpoint, listing
from detour.training.run_folder import RunFolder

BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an experiment consists of.

    Attributes:
        experiment: The experiment.
        nodes: Every run, parents first.
        jobs: Every job.
    """

    experiment: Experiment
    nodes: list[Node]
    jobs: list[Job]

    @property
    def folder(self) -> Path:
        """The experiment's folder."""
        return self.experiment.config.path

    def model(self, name: str) -> Path:
        """The Hugging Face folder of an arm's encoder, or of the base."""
        return self.folder / "models" / name

    def write_configurations(self) -> None:
        """Writes each run's YAML into ``configs``, which its job trains."""
        for node in self.nodes:
            write_text(_yaml(self.folder, node.run), to_yaml(node.run))


def plan_experiment(experiment: Experiment) -> Plan:
    """The runs and jobs of an experiment. Raises ConfigError if two arms are the same run, or a task is unknown."""
    config, folder = experiment.config, experiment.config.path
    nodes = [Node(run=experiment.base, parent=None, shared=0, arms=tuple(config.arms))] if experiment.base else []
    for seed in config.seeds:
        nodes += grow({name: experiment.runs[key] for key, name in experiment.names.items() if key[1] == seed})
    jobs: list[Job] = []
    for node in nodes:
        jobs += _training(node, config.baseline, folder, has_base=experiment.base is not None)
    tasks = finetuning_tasks(experiment)
    for (arm, seed), name in experiment.names.items():
        jobs += _evaluation(experiment, tasks, name, model_name(arm, seed), config.finetuning_seeds(seed))
    jobs += analysis_jobs(experiment)
    return Plan(experiment=experiment, nodes=nodes, jobs=jobs)


def trained(run: RunConfig) -> Checkpoint | None:
    """The last checkpoint of a finished run, or None.

    Raises:
        ConfigError: The folder holds a run with other settings.
    """
    folder = RunFolder.of(run).checkpoints
    found = listing(folder)
    if not found:
        return None
    recorded = found[-1].state()["run"]["config"]
    planned, differing = run.phase_schedule.total_tokens, settings_that_differ(run, recorded)
    if run.match.run is not None:  # the length of its first phase is only known once the baseline has been measured
        planned = sum(phase["tokens"] for phase in recorded["phases"])
        differing = [key for key in differing if key != "phases"]
    if differing:
        raise ConfigError(
            f"{folder.parent}: was trained with other settings than the experiment's file now gives: "
            f"{', '.join(differing)}; restore them, rename the experiment, or remove that folder"
        )
    return found[-1] if found[-1].tokens >= planned else None


def _training(node: Node, baseline: str, folder: Path, *, has_base: bool) -> Iterator[Job]:
    name = node.run.name
    needs = [f"train-{node.parent}"] if node.parent else [f"export-{BASE}"] if has_base and name != BASE else []
    if node.run.match.run is not None:
        needs.append(f"train-{Path(node.run.match.run).name}")
    yield Job(
        name=f"train-{name}",
        arguments=("train", str(_yaml(folder, node.run))),
        is_done=lambda: trained(node.run) is not None,
        needs=tuple(needs),
        kind="train",
        work=node.tokens / 1e6,
    )
    if name in node.arms or name == BASE:
        out = folder / "models" / name
        yield Job(
            name=f"export-{name}",
            arguments=("export", str(RunFolder.of(node.run).path), "--out", str(out)),
            is_done=lambda: (out / "config.json").is_file(),
            needs=(f"train-{name}",),
            kind="export",
        )


def _evaluation(
    experiment: Experiment, tasks: Mapping[str, str], name: str, called: str, tuning_seeds: range
) -> Iterator[Job]:
    config, folder = experiment.config, experiment.config.path
    model = f"{called}={folder / 'models' / name}"
    needs = (f"export-{name}",)
    if config.probes.linear:
        yield linear_probe(experiment, name, model, folder / "probes" / f"{name}.csv", needs=needs[0])
    given, size = list(tasks), config.finetuning.tasks_per_job
    overrides = [f"task.{override}" for override in config.finetuning.overrides]
    seeds = ["--seeds", str(len(tuning_seeds)), "--first-seed", str(tuning_seeds[0])]
    out = folder / "evaluation" / name
    for group in (given[start : start + size] for start in range(0, len(given), size)):
        chosen = [part for task in group for part in ("--task", task)]
        suffix = f"-{tasks[group[0]]}" if len(given) > size else ""
        options = ["--data", config.finetuning.data, *seeds, "--out", str(out)]
        yield Job(
            name=f"finetune-{name}{suffix}",
            arguments=("eval", "run", model, *overrides, *chosen, *options),
            is_done=partial(_has_records, out / "cells" / called, [tasks[task] for task in group], tuning_seeds),
            needs=needs,
            kind="finetune",
            work=len(group),
        )


def finetuning_tasks(experiment: Experiment) -> dict[str, str]:
    """The names or files of all fine-tuning tasks, each with its task's name. Raises ConfigError for an unknown suite."""
    from detour.evaluation.data.task import load_suite, load_task

    finetuning = experiment.config.finetuning
    suite = [task.name for task in load_suite(finetuning.suite)] if finetuning.suite else []
    return {name: name for name in suite} | {given: load_task(given).name for given in finetuning.tasks}


def _has_records(cells: Path, tasks: Sequence[str], seeds: range) -> bool:
    return all((cells / task / f"seed{seed}.json").is_file() for task in tasks for seed in seeds)


def _yaml(folder: Path, run: RunConfig) -> Path:
    return folder / "configs" / f"{run.name}.yaml"
