"""Tasks and suites: YAML files that declare data, metric and hyperparameters. A task needs no code of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.config.load import read_into, read_values
from detour.errors import ConfigError
from detour.evaluation.data.task_problems import problems_of
from detour.options import check, listing, parse, sound
from detour.registry import suggestion

HERE = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """The reader of a task's examples.

    Attributes:
        kind: A reader's name in `detour.evaluation.data.readers`, such as "local", "hub" or "brat"; listed below.
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
        rule: How groups are drawn. "permutation": a permutation by NumPy, cumulated fractions rounded. The others reproduce
            splits of published code. "largest_remainder" and "floor": names sorted, then shuffled by Python's generator,
            and each count rounded by largest remainder or, but for the last, down. "datasets" and "sklearn": the
            function ``train_test_split`` of that library on the groups in the order of the files, dev and test cut off
            together and then divided; "datasets_test_first": test cut off first, then dev.
    """

    fractions: list[float] = field(default_factory=list)
    seed: int = 42
    rule: str = "permutation"


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
        max_grad_norm: Gradients are clipped to this norm.
        batch_size: Examples (windows for NER) per optimizer step.
        micro_batch_size: Examples held in memory at once; 0 means the entire batch. The gradient is the same.
        epochs: Passes over the training examples; each ends with an evaluation on dev, and the best one is kept.
        steps: Optimizer steps; overrides epochs unless 0.
        eval_steps: Steps between evaluations on dev, in place of epochs; at most `steps`. 0: after each epoch.
        group_by_length: Batches of examples of similar length, drawn at random: less padding, other batches.
        threshold: Multilabel and span head: minimum probability to predict a label or an entity.
        best_label: Multilabel: an example in which no label reaches the threshold gets its most probable one.
        class_weights: Multilabel: weigh positives by (examples without) / (examples with the label).
        head: NER: "linear", "bilstm_crf" (BiLSTM and CRF over the words), or "bilstm_crf_biaffine" (adds a biaffine span
            scorer); nested NER also "span" (spans of sub-tokens, scored by CRF marginals and a biaffine), the only one that
            finds nested entities.
        negatives: Span head: the loss is over "all" spans without an entity, or over the "first" 500 of a window, as
            the authors' published code has it.
    """

    learning_rate: float = 5e-5
    head_learning_rate: float | None = None
    weight_decay: float = 0.01
    warmup_fraction: float = 0.0
    max_grad_norm: float = 1.0
    batch_size: int = 16
    micro_batch_size: int = 0
    epochs: int = 10
    steps: int = 0
    eval_steps: int = 0
    group_by_length: bool = False
    threshold: float = 0.5
    best_label: bool = False
    class_weights: bool = False
    head: str = "linear"
    negatives: str = "all"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: Name in tables, and of the folder of its results.
        language: "en", "fr".
        kind: "classification" (one label; a text or a pair), "multilabel", "similarity" (a score for a pair), "ner"
            (words with tags), "nested_ner" (a text; entities may lie in each other).
        source: Reader of the examples.
        metric: Metric that is reported; its name includes the averaging (`metrics.MEASURES`).
        selection_metric: Metric on dev that selects the epoch; null means `metric`.
        labels: All labels (for NER entity types); empty means those declared by the data, or else those found in train.
        top_labels: Multilabel: keep this many labels, those of the most examples over all splits, on ties the first by name.
            Examples without one of them leave before any split is cut. 0 keeps all.
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
    selection_metric: str | None = None
    labels: list[str] = field(default_factory=list)
    top_labels: int = 0
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
    values, lines = read_values(path, overrides)
    faulty = check(Task, values)
    if problems := faulty + list(problems_of(sound(Task, values), faulty)):
        raise ConfigError(listing(str(path), problems, lines))
    return parse(Task, values)


def load_tasks(names_or_files: Iterable[str | Path], overrides: Sequence[str] = ()) -> list[Task]:
    """Several tasks, as `load_task` each.

    Raises:
        ConfigError: With the problems of every one that is refused.
    """
    tasks, problems = [], []
    for name in names_or_files:
        try:
            tasks.append(load_task(name, overrides))
        except ConfigError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return tasks


def load_suite(name_or_file: str | Path, overrides: Sequence[str] = ()) -> list[Task]:
    """The tasks of a suite of the library by its name, or of one's own file, in its order.

    Raises:
        ConfigError: As `load_tasks`; a suite without tasks; two tasks of one name.
    """
    tasks: dict[str, Task] = {}
    for task in load_tasks(dict.fromkeys(_entries(name_or_file)), overrides):
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
