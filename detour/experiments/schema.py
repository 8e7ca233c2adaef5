"""The schema of an experiment's YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from detour.jobs import ExecutorConfig

DETOUR, TWIN, NOTHING = "detour", "twin", "nothing"  # arms of a pilot


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
    """Probes of each frozen encoder (`detour probe linear`).

    Attributes:
        linear: Tasks for the linear probe: names or YAML files. Their data lies where that of fine-tuning does.
        overrides: Of every task: ``max_length=128``, ``limit.train=2000``.
    """

    linear: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)


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
class TransplantsConfig:
    """Transplants (`detour analyze transplant`) between arms of one training seed, scored by the linear probes.

    Attributes:
        pairs: Donor and receiver.
        groups: What is transplanted: layers (low, mid, late, 0-7) or modules (attention, mlp, norms, embeddings).
    """

    pairs: list[tuple[str, str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=lambda: ["low", "mid", "late", "attention", "mlp"])


@dataclass(frozen=True, kw_only=True)
class NeedleConfig:
    """The needle probe (`detour probe needle`) of every encoder.

    Attributes:
        language: en or fr; null for no such probe.
        tokens: Text lengths.
        distractors: Other facts of the same kind in each text.
    """

    language: str | None = None
    tokens: list[int] = field(default_factory=lambda: [512, 2048, 8192])
    distractors: int = 3


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """The freeze table: which fraction of the detour's gain over its twin arms with frozen layers keep, by fine-tuning.

    Attributes:
        twin: The twin's arm; null for no such table.
        detour: The detour's arm.
        frozen: Arms with frozen layers.
    """

    twin: str | None = None
    detour: str | None = None
    frozen: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """What is analyzed besides scores.

    Attributes:
        cka: See `CkaConfig`.
        transplants: See `TransplantsConfig`.
        needle: See `NeedleConfig`.
        decay: Curve's name -> arms that differ in the length of their last phase: mean fine-tuning score by that length.
        freeze: See `FreezeConfig`.
    """

    cka: CkaConfig = field(default_factory=CkaConfig)
    transplants: TransplantsConfig = field(default_factory=TransplantsConfig)
    needle: NeedleConfig = field(default_factory=NeedleConfig)
    decay: dict[str, list[str]] = field(default_factory=dict)
    freeze: FreezeConfig = field(default_factory=FreezeConfig)

    def arms(self) -> dict[str, list[str]]:
        """Key -> arms that it names."""
        frozen = [arm for arm in (self.freeze.twin, self.freeze.detour, *self.freeze.frozen) if arm is not None]
        return {
            **{f"analysis.cka.pairs[{i}]": list(pair) for i, pair in enumerate(self.cka.pairs)},
            **{f"analysis.transplants.pairs[{i}]": list(pair) for i, pair in enumerate(self.transplants.pairs)},
            **{f"analysis.decay.{curve}": arms for curve, arms in self.decay.items()},
            "analysis.freeze": frozen,
        }


@dataclass(frozen=True, kw_only=True)
class SettingConfig:
    """What is trained on what, for readers.

    Attributes:
        model: "ModernBERT base".
        data: "PubMed abstracts".
        matched: What arms have in common, in a sentence, where `match` does not say it. Default: "Arms are matched by MATCH."
    """

    model: str
    data: str
    matched: str = ""


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
        analysis: See `AnalysisConfig`.
        claims: Id of a claim of the paper (`detour.evaluation.results.claims`) -> the pair of arms that tries it, the
            second as the baseline, by the mean over the fine-tuning tasks.
        setting: The model and the data, in a few words each, as the page and the ledger of claims name them.
        rule: How the question is answered in a sentence at the head of the page, once all work is done: `pilot` is the rule of
            `detour verdict`, for arms named detour, twin and nothing. Null for no sentence.
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
    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    claims: dict[str, tuple[str, str]] = field(default_factory=dict)
    setting: SettingConfig
    rule: Literal["pilot"] | None = None
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
