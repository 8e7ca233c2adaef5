"""Tasks and suites: YAML files that declare data, metric and hyperparameters. A task needs no code of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.config.load import read_into
from detour.errors import ConfigError
from detour.evaluation.data import readers
from detour.evaluation.metrics import MEASURES
from detour.names import fault_of_label, fault_of_name
from detour.redact import redacted
from detour.registry import suggestion

HERE = Path(__file__).parents[1]
HEADS = ("linear", "bilstm_crf", "bilstm_crf_biaffine")


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """The reader of a task's examples.

    Attributes:
        kind: A reader's name in `detour.evaluation.data.readers`: "local", "hub", "brat", "conll", "bioc", "pubtator".
        options: The reader's options.
    """

    kind: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How to split examples if the data has no dev or test split. Examples of one group stay in the same split.

    Attributes:
        fractions: Empty keeps the existing train, dev and test. Two fractions split train into train and dev. Three split
            train into train, dev and test; the data must then have no dev or test.
        seed: Seed of the split, independent of model and training seed.
    """

    fractions: list[float] = field(default_factory=list)
    seed: int = 42


@dataclass(frozen=True, kw_only=True)
class LimitConfig:
    """Maximum number of examples per split, for quick trials; selected by the hash of their ids. 0 means all.

    Attributes:
        train: Training examples.
        dev: Examples used to select the epoch.
        test: Examples used for the reported score.
    """

    train: int = 0
    dev: int = 0
    test: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Hyperparameters. AdamW, linear decay of the learning rate to zero.

    Attributes:
        learning_rate: Peak.
        head_learning_rate: Learning rate of the parameters outside the encoder; null means the same rate.
        weight_decay: Decoupled.
        warmup_fraction: Fraction of the steps with linear warmup from zero.
        batch_size: Examples (windows for NER) per optimizer step.
        micro_batch_size: Examples held in memory at once; 0 means the entire batch. The gradient is the same.
        epochs: Passes over the training examples; each ends with an evaluation on dev, and the best one is kept.
        steps: Optimizer steps; overrides epochs unless 0.
        threshold: Multilabel: minimum probability to predict a label.
        class_weights: Multilabel: weigh positives by (examples without) / (examples with the label).
        head: NER: "linear", "bilstm_crf" (BiLSTM and CRF over the words), or "bilstm_crf_biaffine" (adds a biaffine span scorer).
    """

    learning_rate: float = 5e-5
    head_learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup_fraction: float = 0.0
    batch_size: int = 16
    micro_batch_size: int = 0
    epochs: int = 10
    steps: int = 0
    threshold: float = 0.5
    class_weights: bool = False
    head: str = "linear"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: Name in tables, and of the folder of its results.
        language: "en", "fr".
        kind: "classification" (one label; a text or a pair), "multilabel", "similarity" (a score for a pair), "ner".
        source: Reader of the examples.
        metric: Metric that selects the epoch and is reported; its name includes the averaging (`metrics.MEASURES`).
        labels: All labels (for NER entity types); empty means those declared by the data, or else those found in train.
        negative_label: Classification: the class excluded from F1, for example "no relation"; one of `labels`, or of those
            that the data declares.
        max_length: Tokens of an input. Longer documents are windowed (NER) or truncated and counted (other kinds).
        license: License of the data as stated by its distributor.
        credentials: How to obtain the data if it is not freely downloadable.
        note: Differences from published protocols.
        split: How to split examples if the data does not.
        limit: Maximum number of examples per split.
        training: Hyperparameters.
    """

    name: str
    language: str
    kind: str
    source: ReaderConfig
    metric: str
    labels: list[str] = field(default_factory=list)
    negative_label: str | None = None
    max_length: int = 512
    license: str
    credentials: str | None = None
    note: str | None = None
    split: SplitConfig = field(default_factory=SplitConfig)
    limit: LimitConfig = field(default_factory=LimitConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A list of tasks.

    Attributes:
        tasks: Names of packaged tasks, or YAML files relative to the suite's file.
        include: Names of other suites, whose tasks come first.
    """

    tasks: list[str] = field(default_factory=list)
    include: list[str] = field(default_factory=list)


def task_names() -> list[str]:
    """Sorted names of the packaged tasks."""
    return sorted(path.stem for path in (HERE / "tasks").glob("*.yaml"))


def suite_names() -> list[str]:
    """Of the suites that come with the library, sorted."""
    return sorted(path.stem for path in (HERE / "suites").glob("*.yaml"))


def load_task(name_or_file: str | Path, overrides: Sequence[str] = ()) -> Task:
    """A task of the library by its name, or one's own by its file; overrides are ``key=value`` with dots.

    Raises:
        ConfigError: No such task, or listing every problem, each with its full key.
    """
    path = Path(name_or_file)
    if path.suffix != ".yaml":
        path = _packaged("task", str(name_or_file), task_names())
    task = read_into(Task, path, overrides)
    if problems := list(_problems(task)):
        raise ConfigError(f"{path}: " + "\n  - ".join([f"{len(problems)} problem(s)", *problems]))
    return task


def load_suite(name_or_file: str | Path, overrides: Sequence[str] = ()) -> list[Task]:
    """The tasks of a suite of the library by its name, or of one's own file, in its order.

    Raises:
        ConfigError: As `load_task`; a suite without tasks; two tasks of one name.
    """
    tasks: dict[str, Task] = {}
    for entry in dict.fromkeys(_entries(name_or_file)):
        task = load_task(entry, overrides)
        if task.name in tasks:
            raise ConfigError(f"suite {name_or_file}: two tasks are called '{task.name}'")
        tasks[task.name] = task
    if not tasks:
        raise ConfigError(f"suite {name_or_file}: no tasks")
    return list(tasks.values())


def _entries(name_or_file: str | Path, *, depth: int = 0) -> Iterator[str | Path]:
    path = Path(name_or_file)
    if path.suffix != ".yaml":
        path = _packaged("suite", str(name_or_file), suite_names())
    if depth > 4:
        raise ConfigError(f"{path}: suites include one another more than four deep")
    suite = read_into(Suite, path)
    for name in suite.include:
        yield from _entries(path.parent / name if name.endswith(".yaml") else name, depth=depth + 1)
    for entry in suite.tasks:
        yield path.parent / entry if entry.endswith(".yaml") else entry


def _packaged(kind: str, name: str, known: list[str]) -> Path:
    if name not in known:
        raise ConfigError(
            f"{kind} '{name}': not one of the library's{suggestion(name, known)} "
            f"(an own one is a file that ends in .yaml); known: {', '.join(known)}"
        )
    return HERE / f"{kind}s" / f"{name}.yaml"


def _problems(task: Task) -> Iterator[str]:
    if fault := fault_of_name(task.name):
        yield f"name: {task.name[:80]!r} {fault}"
    if redacted(task.name) != task.name:
        yield "name: holds a secret or a value of the environment, which every result would show; write it out"
    if fault := fault_of_label(task.language):
        yield f"language: {task.language[:80]!r} {fault}"
    if task.kind not in MEASURES:
        yield f"kind: '{task.kind}'{suggestion(task.kind, MEASURES)}; expected one of {', '.join(MEASURES)}"
    elif task.metric not in (known := MEASURES[task.kind]):
        yield f"metric: '{task.metric}'{suggestion(task.metric, known)}; a {task.kind} task has {', '.join(known)}"
    try:
        readers.build(task.source.kind, task.source.options)
    except ConfigError as error:
        yield f"source: {error}"
    if len(set(task.labels)) != len(task.labels):
        yield "labels: one stands twice"
    if task.negative_label is not None and (
        task.kind != "classification" or (task.labels and task.negative_label not in task.labels)
    ):
        yield f"negative_label: '{task.negative_label}', expected one of the labels of a classification task"
    fractions = task.split.fractions
    if fractions and (len(fractions) not in (2, 3) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9):
        yield f"split.fractions: {fractions}, expected two or three fractions above 0 that sum to 1"
    training = task.training
    lows = {"max_length": 8, "limit.train": 0, "limit.dev": 0, "limit.test": 0, "training.batch_size": 1}
    lows |= {"training.epochs": 1, "training.steps": 0, "training.micro_batch_size": 0}
    for key, low in lows.items():
        section, _, name = key.rpartition(".")
        value = getattr(getattr(task, section) if section else task, name)
        if value < low:
            yield f"{key}: {value}, expected at least {low}"
    if training.micro_batch_size and training.batch_size % training.micro_batch_size:
        yield f"training.micro_batch_size: {training.micro_batch_size} does not divide batch_size {training.batch_size}"
    for key in ("learning_rate", "head_learning_rate"):
        if (rate := getattr(training, key)) is not None and not 0 < rate < 1:
            yield f"training.{key}: {rate}, expected a rate above 0 and below 1"
    for key in ("weight_decay", "warmup_fraction"):
        if not 0 <= getattr(training, key) < 1:
            yield f"training.{key}: {getattr(training, key)}, expected at least 0 and below 1"
    if not 0 < training.threshold < 1:
        yield f"training.threshold: {training.threshold}, expected a probability above 0 and below 1"
    if training.head not in HEADS or (training.head != "linear" and task.kind != "ner"):
        yield f"training.head: '{training.head}', expected linear, or for NER one of {', '.join(HEADS)}"
    if training.class_weights and task.kind != "multilabel":
        yield f"training.class_weights: for multilabel tasks, this one is {task.kind}"
