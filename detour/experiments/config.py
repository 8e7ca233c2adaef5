"""The schema of an experiment's YAML, and the runs that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from detour.config.load import load, read_into
from detour.config.schema import MatchConfig, RunConfig
from detour.errors import ConfigError
from detour.jobs import ExecutorConfig
from detour.names import fault_of_name
from detour.registry import suggestion
from detour.training.match import match_budget


@dataclass(frozen=True, kw_only=True)
class ArmConfig:
    """One arm: a run's YAML and changes to it.

    Attributes:
        description: What distinguishes the arm, in one sentence.
        run: The arm's YAML, relative to the experiment's file; null takes the experiment's `run`.
        changes: Merged over the YAML as a file that extends it: mappings are merged, lists replaced.
    """

    description: str = ""
    run: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig:
    """Fine-tuning of each trained encoder (`detour eval run`).

    Attributes:
        suite: A suite's name or file; null for none.
        tasks: Tasks besides the suite's: names or YAML files.
        data: Folder that the tasks' local paths are relative to.
        seeds: Fine-tuning seeds per encoder and task; those of another training seed are others.
        first_seed: The first of them all; the others count up from it.
        overrides: Of every task: ``training.epochs=3``, ``limit.train=400``.
        tasks_per_job: Tasks that one job fine-tunes, one after the other.
    """

    suite: str | None = None
    tasks: list[str] = field(default_factory=list)
    data: str = "data/tasks"
    seeds: int = 3
    first_seed: int = 42
    overrides: list[str] = field(default_factory=list)
    tasks_per_job: int = 1


@dataclass(frozen=True, kw_only=True)
class ProbesConfig:
    """Probes of each frozen encoder (`detour probe`).

    Attributes:
        linear: Tasks for the linear probe: names or YAML files. Their data lies where that of fine-tuning does.
    """

    linear: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class CkaConfig:
    """Similarity of hidden states (`detour analyze cka`) between arms of one training seed, and between training seeds.

    Attributes:
        texts: Files of held-out texts; empty for no such analysis.
        pairs: Pairs of arms. The noise is that of the second arm between training seeds.
        subset: Number of texts per draw.
        draws: Seeds of the draws.
        max_length: Tokens per text.
    """

    texts: list[str] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    subset: int = 500
    draws: list[int] = field(default_factory=lambda: [42, 43, 44])
    max_length: int = 512


@dataclass(frozen=True, kw_only=True)
class SettingConfig:
    """What is trained on what, for readers.

    Attributes:
        model: "ModernBERT base".
        data: "PubMed abstracts".
    """

    model: str
    data: str


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """An experiment: arms x training seeds, trained, probed, fine-tuned and compared.

    Attributes:
        name: Name of the experiment and of its folder.
        folder: Parent of its folder.
        question: What the experiment is to answer; the head of its page.
        run: YAML that every arm without its own starts from, relative to this file.
        base: YAML of a run that is trained first; every arm then starts from its encoder (`model.init`). Null for none.
        seeds: Training seeds. Arms of one seed are paired: they see the same rows in the same order.
        seed_keys: Keys that a training seed sets.
        arms: Name -> arm.
        baseline: The arm that the others are compared with.
        contrasts: Further pairs of arms to compare, the second as the baseline.
        match: What the arms have in common with the baseline: "tokens" (as configured), or the length of the first phase is
            set so that planned "flops", or measured "device_seconds", are equal.
        document_tokens: Mean document length for planned FLOPs; null takes the row length.
        differ: Keys in which the arms are meant to differ, such as phases. Any other difference is reported.
        margin: Equivalence margin, in points of the score (0.01), named before the experiment is run.
        held_out: Compare held-out losses of this objective at the end of training.
        finetuning: See `FinetuningConfig`.
        probes: See `ProbesConfig`.
        cka: See `CkaConfig`.
        claims: Id of a claim of the paper (`detour.evaluation.results.claims`) -> the pair of arms that tries it, the
            second as the baseline, by the mean over the fine-tuning tasks.
        setting: The model and the data, in a few words each, as the page and the ledger of claims name them.
        executor: See `detour.jobs.ExecutorConfig`.
    """

    name: str
    folder: str = "experiments"
    question: str
    run: str
    base: str | None = None
    seeds: list[int]
    seed_keys: list[str] = field(default_factory=lambda: ["seed", "data.shuffle_seed"])
    arms: dict[str, ArmConfig]
    baseline: str
    contrasts: list[tuple[str, str]] = field(default_factory=list)
    match: Literal["tokens", "flops", "device_seconds"] = "tokens"
    document_tokens: float | None = None
    differ: list[str] = field(default_factory=lambda: ["phases"])
    margin: float
    held_out: str = "mlm"
    finetuning: FinetuningConfig = field(default_factory=FinetuningConfig)
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    cka: CkaConfig = field(default_factory=CkaConfig)
    claims: dict[str, tuple[str, str]] = field(default_factory=dict)
    setting: SettingConfig
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)

    @property
    def path(self) -> Path:
        """The folder of the experiment."""
        return Path(self.folder) / self.name

    def finetuning_seeds(self, training_seed: int) -> range:
        """Fine-tuning seeds of the encoders of one training seed, the same in all arms.

        Each training seed has its own: a fine-tuning seed that favors an arm in all its runs would otherwise pass for an
        effect of the arm (docs/decisions/0016).
        """
        count = self.finetuning.seeds
        first = self.finetuning.first_seed + count * self.seeds.index(training_seed)
        return range(first, first + count)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All comparisons: every arm with the baseline, then the contrasts."""
        return [*((arm, self.baseline) for arm in self.arms if arm != self.baseline), *self.contrasts]


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
        *((f"cka.pairs[{i}]", pair) for i, pair in enumerate(config.cka.pairs)),
    ]:
        lines += [f"{key}: no arm '{n}'{suggestion(n, config.arms)}" for n in names if n not in config.arms]
        if len(names) == 2 and names[0] == names[1]:
            lines.append(f"{key}: '{names[0]}' twice, expected two arms")
    lines += [
        f"claims.{name}: {list(pair)} is not compared; name it under contrasts"
        for name, pair in config.claims.items()
        if pair not in config.pairs
    ]
    if not 0 < config.margin < 100:
        lines.append(f"margin: {config.margin}, expected points above 0 and below 100")
    if config.finetuning.seeds < 1 or config.finetuning.tasks_per_job < 1:
        lines.append("finetuning: seeds and tasks_per_job, expected at least 1")
    return lines
