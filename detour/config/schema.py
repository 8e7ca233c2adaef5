"""Everything that a run's YAML may say. A key that is not here is refused; a derived value is never a field.

Field names carry their units. Lengths of training are in tokens that are not padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

# omegaconf reads these annotations at run time and knows Optional[...], not "... | None", on Python 3.10
from detour.data.stream_spec import StreamSpec
from detour.models.modernbert.architecture import Architecture, architecture
from detour.phases import Phase, PhaseSchedule
from detour.schedule import WSD


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which encoder.

    Attributes:
        init: Hugging Face folder or hub name to start from; null draws random weights.
        size: A name in `detour.models.modernbert.architecture.SIZES`. Checked against `init`, and all that `detour plan` needs.
        architecture: Fields of `Architecture` that differ from the size's.
        tokenizer: Hugging Face folder or hub name; null takes that of `init`, with which any other is compared.
        allow_tokenizer_mismatch: Train although `tokenizer` has another vocabulary than the one of `init`: an extended
            vocabulary, or one whose embeddings are to be learned anew.
        ignore_config_keys: Keys of the config.json of `init` that are unknown here and that you know to leave what the
            model computes unchanged; any other unknown key is refused.
        attention_backend: "auto", "sdpa", "flash", "varlen" or "flex".
        gradient_checkpointing: Recompute layers in the backward pass to save memory.
        compile: torch.compile the regions around attention.
    """

    init: str | None = None
    size: str
    architecture: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    allow_tokenizer_mismatch: bool = False
    ignore_config_keys: list[str] = field(default_factory=list)
    attention_backend: Literal["auto", "sdpa", "flash", "varlen", "flex"] = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Rows in, batches out.

    Attributes:
        train: Folders of training rows.
        validation: Folders of held-out rows; empty for no evaluation.
        seq_len: Length of a row; must be what the folders were prepared with.
        global_batch_size: Rows in an optimizer step, over all devices.
        micro_batch_size: Rows in one forward pass of a device.
        shuffle: Shuffle the training rows anew each epoch.
        shuffle_seed: Seed of that order, shared by the arms of a comparison.
        workers: Loader processes a device; 0 loads in the training process.
        canonical_nodes: streaming's num_canonical_nodes: fixes the order of rows whatever the number of machines.
        verify_hashes: Hash every shard before training, and look for held-out rows among the training rows. Off, only sizes
            and formats are checked, and of held-out rows whole shards.
        timeout_seconds: How long a batch may take to arrive before the loader is declared dead.
        cache_gigabytes: Most that the cached shards of remote training folders may take on a machine; null for no limit.
    """

    train: list[StreamSpec] = field(default_factory=list)
    validation: list[StreamSpec] = field(default_factory=list)
    seq_len: int
    global_batch_size: int
    micro_batch_size: int
    shuffle: bool = True
    shuffle_seed: int = 42
    workers: int = 2
    canonical_nodes: int = 1
    verify_hashes: bool = True
    timeout_seconds: int = 600
    cache_gigabytes: float | None = None


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """See `detour.training.optim`.

    Attributes:
        name: "adamw" or "stableadamw".
        betas: Decay of the two moments.
        eps: Added to the denominator.
        weight_decay: Share of a weight taken off a step at the peak learning rate, in proportion below it (decoupled);
            biases, norms and nothing else are spared.
        clip_norm: Largest norm of the gradient; null does not clip.
    """

    name: Literal["adamw", "stableadamw"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 1e-5
    clip_norm: float | None = None


@dataclass(frozen=True, kw_only=True)
class SystemConfig:
    """Where and how exactly it computes.

    Attributes:
        device: "auto", "cpu" or "gpu".
        precision: "fp32", or "bf16" for mixed precision with fp32 weights.
        parallelism: With several processes: "ddp" (weights on each) or "fsdp" (weights sharded, FSDP2).
        deterministic: Ask torch for deterministic kernels; slower on a GPU.
        timeout_seconds: How long a collective operation may wait for the other processes.
        max_minutes: Wall-clock limit of one start of the run: it saves and ends in time, with exit code 75, and the same
            command continues it; null for none.
    """

    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    parallelism: Literal["ddp", "fsdp"] = "ddp"
    deterministic: bool = False
    timeout_seconds: int = 600
    max_minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What happens to a batch that would spoil the weights. See `detour.training.callbacks.step_guard`.

    Attributes:
        max_skips: Bad batches in a row whose update is left out before the run stops; 0 stops at the first.
        spike_factor: A loss of more than so many times the usual one is bad; null judges only whether it is finite.
        spike_window: Good batches of the phase whose median loss is the usual one; before there are so many, none is
            judged by its size.
    """

    max_skips: int = 0
    spike_factor: float | None = None
    spike_window: int = 32


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to save.

    Attributes:
        interval_tokens: Save each time so many tokens were seen, at the end of each phase, and at the end.
        keep: Newest checkpoints kept; those at the end of a phase are always kept.
        resume: Continue from the newest valid checkpoint of the run folder, if there is one.
    """

    interval_tokens: int
    keep: int = 2
    resume: bool = True


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Held-out loss, always under every objective named here, whatever phase is training.

    Attributes:
        interval_tokens: Evaluate each time so many tokens were seen, at each phase boundary, and at the end.
        rows: Held-out rows used each time, drawn over all folders in proportion to their size, at least one from each.
        objectives: Objective name to its options.
        seed: Seed of the rows drawn and of their masks; `seed` has no part in them, so that runs are comparable.
        mask_draws: How many times the rows are masked anew in each evaluation. The loss is that of all draws together, and
            its standard deviation over them is logged. Objectives without randomness are evaluated once.
        change_on_resume: Let a resume measure otherwise than before (folders, rows, seed, draws, options): said in the log
            and marked in the report. Without it that is refused.
    """

    interval_tokens: int
    rows: int = 256
    seed: int = 17
    mask_draws: int = 1
    change_on_resume: bool = False
    objectives: dict[str, Any] = field(default_factory=lambda: {"mlm": {"rate": 0.15}, "clm": {}})


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where the numbers go, besides metrics.jsonl in the run folder.

    Attributes:
        wandb_project: Weights & Biases project; null for none. Without a key or an answer it logs offline into
            the run folder.
        wandb_entity: Team or user there.
        progress_bar: Draw a progress bar on the terminal.
    """

    wandb_project: str | None = None
    wandb_entity: str | None = None
    progress_bar: bool = True


@dataclass(frozen=True, kw_only=True)
class MatchConfig:
    """Fits one phase's length so that this run costs what another one did. See `detour.training.match`.

    Attributes:
        run: Folder of the other run, finished; or its YAML, then costs are those of `detour plan`. Null fits nothing.
        by: "tokens", "flops" or "device_seconds".
        phase: The phase that grows or shrinks; null for the first.
        document_tokens: With a YAML: mean tokens of a document; null takes a whole row.
    """

    run: str | None = None
    by: Literal["tokens", "flops", "device_seconds"] = "flops"
    phase: str | None = None
    document_tokens: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run.

    Attributes:
        name: Names the run and its folder.
        folder: Parent of the run folder.
        seed: Seed of weights, masks and dropout.
        plugins: Python modules to import before the names below are looked up, such as "my_lab.spans": they register
            objectives, callbacks, loggers or algorithms. Searched among the installed packages, beside this file, and in the
            current folder. A checkpoint or an exported model never imports them.
        callbacks: Registered callback to its options; they run after the library's own.
        loggers: Registered logger to its options, besides metrics.jsonl and Weights & Biases: "tensorboard", "mlflow",
            "comet", "neptune", or your own.
        algorithms: Registered Composer algorithm to its options; they run after the phase switch.
    """

    name: str
    folder: str = "runs"
    seed: int = 17
    model: ModelConfig
    data: DataConfig
    phases: list[Phase] = field(default_factory=list)
    match: MatchConfig = field(default_factory=MatchConfig)
    schedule: WSD
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    system: SystemConfig = field(default_factory=SystemConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    checkpoint: CheckpointConfig
    evaluation: EvaluationConfig
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    plugins: list[str] = field(default_factory=list)
    callbacks: dict[str, Any] = field(default_factory=dict)
    loggers: dict[str, Any] = field(default_factory=dict)
    algorithms: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def architecture(self) -> Architecture:
        """The model's architecture. Raises ConfigError: unknown size or field."""
        return architecture(self.model.size, self.model.architecture)

    @cached_property
    def phase_schedule(self) -> PhaseSchedule:
        """The phases on the token clock."""
        return PhaseSchedule(self.phases)

    def lr_at(self, tokens: int) -> float:
        """Learning rate of the batch before which ``tokens`` tokens were seen."""
        return self.schedule.lr_at(tokens, self.phase_schedule)
