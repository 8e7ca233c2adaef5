"""The pilot of `detour verdict`: a small experiment on a folder's detour and twin, fixed in a file before it is run."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from detour.config.load import load
from detour.config.other_runs import MatchConfig
from detour.config.schema import RunConfig
from detour.cost.plan import caveats
from detour.cost.plan import plan as plan_run
from detour.data.manifest import ShardManifest
from detour.errors import ConfigError
from detour.experiments.cells import Plan
from detour.experiments.schema import DETOUR, NOTHING
from detour.files import write_text
from detour.init.budget import LEAST_STEPS, WANTED_STEPS, warmup_steps, whole_rows
from detour.jobs.executors import THREADS
from detour.phases import Phase
from detour.training.match import match_budget
from detour.units import duration

NAME = "pilot"  # of the experiment and its folder
FILE, ARM = "pilot.yaml", "pilot_arm.yaml"
SHARE = 0.05  # with two arms and three seeds: 30% of one run, 15% of the detour and its twin
MARGIN = 1.0  # points: what `yamls/experiments` name; the paper's gains are 0.3 to 2.7


@dataclass(frozen=True, kw_only=True)
class PilotOptions:
    """What the pilot is; fixed when it is written.

    Attributes:
        tasks: Labeled tasks: names or YAML files. They decide; without any, the held-out MLM loss does.
        data: Folder that the tasks' local paths are relative to.
        seeds: Number of training seeds.
        finetuning_seeds: Number of fine-tuning seeds per encoder and task.
        share: Length of a pilot run, as a fraction of the planned run; None for `SHARE`, or what `LEAST_STEPS` steps take.
        margin: A gain below so many points is not worth it.
        match: What detour and twin have in common: "flops" or "tokens".
        parallel: Jobs at a time.
    """

    tasks: list[str] = field(default_factory=list)
    data: str = "data/tasks"
    seeds: int = 3
    finetuning_seeds: int = 3
    share: float | None = None
    margin: float = MARGIN
    match: Literal["flops", "tokens"] = "flops"
    parallel: int = 1


def write_pilot(folder: Path, options: PilotOptions) -> Path:
    """Writes the experiment's YAML, and that of its arms, beside detour.yaml and twin.yaml.

    Arms: the detour and its twin on a fraction of their tokens, with equal planned FLOPs, and nothing: the start model as it is,
    which trains one step at a learning rate of 0.

    Args:
        folder: Has detour.yaml, twin.yaml and the rows that they train on, relative to the current folder.
        options: See `PilotOptions`.

    Returns:
        The experiment's YAML.

    Raises:
        ConfigError: A YAML cannot be used, rows are missing, or the pilot would have too few steps.
        DataError: A folder of rows is damaged.
    """
    detour, twin = load(folder / "detour.yaml"), load(folder / "twin.yaml")
    length = document_tokens(detour)
    share = options.share or max(SHARE, _enough(detour) or 0.0, _enough(twin) or 0.0)
    options = replace(options, share=share)
    detour, twin = (_shortened(run, share) for run in (detour, twin))
    if options.match == "flops":
        match = MatchConfig(run="detour.yaml", by="flops", document_tokens=length)
        twin = replace(match_budget(replace(twin, match=match), planned=detour), match=MatchConfig())
    step = twin.data.global_batch_size * twin.data.seq_len
    nothing = {
        "phases": [{"name": NOTHING, "objective": "mlm", "tokens": step, "lr_factor": 0.0}],
        "schedule": {"decay_phase": None, "warmup_tokens": 0},
    }
    values: dict[str, Any] = {
        "options": options, "detour": detour, "twin": twin, "detour_phases": [_plain(p) for p in detour.phases],
        "twin_phases": [_plain(p) for p in twin.phases], "nothing": nothing,
        "total": max(run.phase_schedule.total_tokens for run in (detour, twin)),
        "seeds": list(range(detour.seed, detour.seed + options.seeds)), "folder": folder.resolve().name,
        "model": detour.model.init or detour.model.size, "gpus": int(detour.system.device == "gpu"),
    }  # fmt: skip
    for name in (ARM, FILE):
        write_text(folder / name, _render(name, values))
    return folder / FILE


def pilot_caveats(pilot: Plan) -> list[str]:
    """What is thin about a pilot: a decay or warm-up of few steps, one sentence each, for the detour."""
    arm, run = next((arm, run) for (arm, _), run in pilot.experiment.runs.items() if arm == DETOUR)
    return [f"Pilot, {arm}: {note}" for note in caveats(run, plan_run(run))]


def training_flops(pilot: Plan) -> float:
    """Planned FLOPs of the pilot's training."""
    return sum(line.flops for run in pilot.experiment.runs.values() for line in plan_run(run))


def cost_fraction(pilot: Plan, folder: Path) -> float:
    """Planned FLOPs of the pilot's training over those of the detour and the twin."""
    both = [line.flops for name in ("detour.yaml", "twin.yaml") for line in plan_run(load(folder / name))]
    return training_flops(pilot) / sum(both)


def start_seconds(code: str = "import detour.train") -> float:
    """CPU seconds of a process that runs a piece of Python; by default, the imports with which a training job begins.

    Cost: those seconds, about 7 by default.
    """

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **dict.fromkeys(THREADS, "1")}, check=True)
    return spent() - before


def time_estimate(pilot: Plan, *, flops_per_second: float, basis: str, start: float) -> str:
    """What a pilot takes, in words: its training, and the start of a process for each of its jobs.

    Args:
        pilot: The pilot.
        flops_per_second: What a job is assumed to reach in training.
        basis: What that rests on.
        start: From `start_seconds`.
    """
    jobs = len(pilot.jobs)
    training, starts = training_flops(pilot) / flops_per_second, jobs * start
    return (
        f"About {duration(training + starts)} if one job runs at a time: {duration(training)} of training ({basis}) and "
        f"{duration(starts)} for the start of {jobs} processes ({start:.1f} s of CPU time each, measured here). "
        "Evaluation, checkpoints and fine-tuning are not counted."
    )


def document_tokens(run: RunConfig) -> float:
    """Mean document length of the training rows. Raises ConfigError if a folder was not prepared."""
    tokens = documents = 0
    for stream in run.data.train:
        if not Path(stream.path, "manifest.json").is_file():
            raise ConfigError(f"data.train: {stream.path}: no rows; run first: detour data prepare recipe.yaml")
        counts = ShardManifest.load(Path(stream.path)).counts
        tokens, documents = tokens + counts.tokens, documents + counts.documents
    return min(run.data.seq_len, max(1.0, tokens / max(1, documents)))


def _shortened(run: RunConfig, share: float) -> RunConfig:
    """A run with a fraction of the tokens of every phase, in whole steps, which are smaller if there would be few."""
    rows, steps = _steps(run, share)
    step = rows * run.data.seq_len
    if sum(steps) < LEAST_STEPS:
        enough = _enough(run)
        raise ConfigError(
            f"{run.name}: the pilot would have {sum(steps)} steps of {step:,} tokens, expected at least {LEAST_STEPS}; "
            + (f"--share {enough:g} is enough" if enough else "the planned run itself has fewer")
        )
    phases = [replace(phase, tokens=count * step) for phase, count in zip(run.phases, steps, strict=True)]
    warmup = warmup_steps(steps[0]) * step if run.schedule.warmup_tokens else 0
    return replace(
        run,
        phases=phases,
        data=replace(run.data, global_batch_size=rows, micro_batch_size=min(rows, run.data.micro_batch_size)),
        schedule=replace(run.schedule, warmup_tokens=warmup),
    )


def _enough(run: RunConfig) -> float | None:
    """The least share, in thousandths, with which a pilot has `LEAST_STEPS` steps; None if the run itself has fewer."""
    return next((each / 1000 for each in range(1, 1001) if sum(_steps(run, each / 1000)[1]) >= LEAST_STEPS), None)


def _steps(run: RunConfig, share: float) -> tuple[int, list[int]]:
    """Rows per step of a shortened run, and the steps of each phase."""
    seq_len = run.data.seq_len
    total = run.phase_schedule.total_tokens * share
    rows = min(run.data.global_batch_size, whole_rows(total / WANTED_STEPS / seq_len, 1))
    return rows, [max(1, round(phase.tokens * share / (rows * seq_len))) for phase in run.phases]


def _plain(phase: Phase) -> dict[str, Any]:
    """A phase as YAML values, without what is at its default."""
    default = asdict(Phase(name="", objective="", tokens=0))
    return {key: value for key, value in asdict(phase).items() if value != default[key]}


def _render(name: str, values: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("detour.experiments"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["yaml"] = lambda value: json.dumps(value, ensure_ascii=False)  # every JSON value is YAML
    return environment.get_template(f"{name}.j2").render(values)
