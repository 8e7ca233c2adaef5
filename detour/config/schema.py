"""The schema of a run's YAML. Any other key is refused; derived values are properties, not fields.

Field names carry their units. Training lengths are in tokens, padding not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Optional

# omegaconf reads these annotations at run time and knows Optional[...], not "... | None", on Python 3.10
from detour.config.other_runs import BranchConfig, MatchConfig
from detour.data.stream_spec import StreamSpec, is_scheduled_mixture
from detour.models.architecture import Architecture
from detour.models.families import architecture
from detour.optimizer import OptimizerConfig
from detour.phases import Phase, PhaseSchedule
from detour.schedule import WSD


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which encoder.

    Attributes:
        init: Hugging Face folder or hub name to start from; null draws random weights.
        size: A named size of any family (`detour.models.families.sizes`). Checked against `init`; `detour plan` needs no more.
        architecture: Fields of the family's architecture that differ from the size's.
        tokenizer: Hugging Face folder or hub name; null takes the tokenizer of `init`. Any other is compared with it.
        new_tokens: "mean": `tokenizer` extends that of `init`, or is another one. Shared tokens keep their embeddings, new ones
            start as the mean of their old pieces; `architecture.vocab_size` may differ. Null: the vocabulary is the same.
        allow_tokenizer_mismatch: Train although `tokenizer` has another vocabulary; each embedding stays under its id.
        reset: Parts of `init` that are drawn anew: "head" (with an untied projection) and "embeddings".
        tile: Make a larger model from `init`, by repeating its weights around the center (`detour.models.tiling`).
        ignore_config_keys: Unknown keys in the config.json of `init` that do not change what the model computes; any
            other unknown key is refused.
        attention_backend: "auto", "sdpa", "flash", "varlen" or "flex".
        gradient_checkpointing: Recompute layers in the backward pass to save memory.
        compile: torch.compile the regions around attention.
    """

    init: str | None = None
    size: str
    architecture: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    new_tokens: Optional[Literal["mean"]] = None  # noqa: UP045
    allow_tokenizer_mismatch: bool = False
    reset: list[Literal["head", "embeddings"]] = field(default_factory=list)
    tile: bool = False
    ignore_config_keys: list[str] = field(default_factory=list)
    attention_backend: Literal["auto", "sdpa", "flash", "varlen", "flex"] = "auto"
    gradient_checkpointing: bool = False
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training and validation data. A row is a packed sequence of `seq_len` tokens.

    Attributes:
        train: Folders of training rows.
        validation: Folders of validation rows; empty for no evaluation.
        seq_len: Tokens per row; must equal that of the folders.
        global_batch_size: Rows per optimizer step, over all devices.
        micro_batch_size: Rows per forward pass of one device.
        shuffle: Reshuffle the training rows each epoch.
        shuffle_seed: Seed of that order, shared by the arms of a comparison.
        workers: Loader processes per device; 0 loads in the training process.
        canonical_nodes: streaming's num_canonical_nodes: fixes the order of rows whatever the number of machines.
        verify_hashes: Hash every shard before training, and look for validation rows among the training rows. If off, only
            sizes and formats are checked, and overlap is found for entire shards only.
        timeout_seconds: Longest wait for a batch before the loader counts as dead.
        cache_gigabytes: Disk limit for cached shards of remote training folders, per machine; null for no limit.
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
class SystemConfig:
    """Devices, precision and limits.

    Attributes:
        device: "auto", "cpu" or "gpu".
        precision: "fp32", or "bf16" for mixed precision with fp32 weights.
        parallelism: With several processes: "ddp" (everything on each), "fsdp" (moments sharded; weights gathered and
            gradients reduced once a step) or "fsdp_full_shard" (all sharded, gathered for each micro-batch).
        deterministic: Ask torch for deterministic kernels; slower on a GPU.
        timeout_seconds: Timeout of collective operations.
        max_minutes: Wall-clock limit of one launch: the run saves and exits in time with code 75, and the same
            command resumes it; null for none.
    """

    device: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    parallelism: Literal["ddp", "fsdp", "fsdp_full_shard"] = "ddp"
    deterministic: bool = False
    timeout_seconds: int = 600
    max_minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What happens at a non-finite or spiking step (`detour.training.callbacks.step_guard`).

    Attributes:
        max_skips: Consecutive non-finite or spiking steps whose update is skipped before the run stops; 0 stops at the first.
        spike_factor: A loss above this multiple of the median is a spike; null checks only for non-finite values.
        spike_window: Number of accepted steps of the phase that the median is taken over; spikes are not checked before
            there are that many.
    """

    max_skips: int = 0
    spike_factor: float | None = None
    spike_window: int = 32


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When to save, and what to keep.

    Attributes:
        interval_tokens: Tokens between checkpoints; one is also saved at the end of each phase.
        keep: Number of latest checkpoints to keep; those at the end of a phase are always kept.
        background: Write beside training, which waits only until the state is copied. Takes 12 bytes a parameter of host
            memory more. The next save, a stop, and the end of the run wait for the write.
        min_interval_seconds: Leave out a checkpoint that is due by tokens if the last one was saved less than this long ago;
            those at the ends of phases are always saved.
        resume: Resume from the latest valid checkpoint in the run folder, if there is one.
    """

    interval_tokens: int
    keep: int = 2
    background: bool = False
    min_interval_seconds: float = 0.0
    resume: bool = True


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Held-out loss, under every objective named here, whichever phase is training.

    Attributes:
        interval_tokens: Tokens between evaluations; also evaluates at each phase boundary and at the end.
        rows: Validation rows per evaluation, drawn from all folders in proportion to their size, at least one from each.
        objectives: Objective name to its options; one with a module must be trained in a phase.
        streams: Held-out folders of the streams that objectives read, such as pairs; otherwise as `data.validation`.
        seed: Seed of the rows drawn and of their masks; independent of `seed`, so that runs are comparable.
        mask_draws: Independent maskings of the rows per evaluation, whose mean is the loss and whose standard deviation is
            logged. Objectives without randomness are evaluated once.
        change_on_resume: Allow a resume to change how held-out losses are measured (folders, rows, seed, draws, options);
            logged, and marked in the report. If false, that is refused.
    """

    interval_tokens: int
    rows: int = 256
    seed: int = 17
    mask_draws: int = 1
    change_on_resume: bool = False
    objectives: dict[str, Any] = field(default_factory=lambda: {"mlm": {"rate": 0.15}, "clm": {}})
    streams: dict[str, list[StreamSpec]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where metrics go, besides metrics.jsonl in the run folder.

    Attributes:
        wandb_project: Weights & Biases project; null for none. Logs into the run folder without a key or connection.
        wandb_entity: Team or user there.
        progress_bar: Draw a progress bar on the terminal.
    """

    wandb_project: str | None = None
    wandb_entity: str | None = None
    progress_bar: bool = True


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run.

    Attributes:
        name: Name of the run and of its folder.
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
    branch: BranchConfig = field(default_factory=BranchConfig)
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

    def data_of(self, phase: Phase, stream: str = "") -> DataConfig:
        """The data section with what a phase changes, or one of its streams."""
        own = phase.streams[stream] if stream else phase.data
        changes: dict[str, Any] = {"train": own.train} if own.train else {}
        for key in ("seq_len", "global_batch_size", "micro_batch_size"):
            if getattr(own, key) is not None:
                changes[key] = getattr(own, key)
        return replace(self.data, **changes)

    @cached_property
    def reads_by_phase(self) -> bool:
        """Whether the phases differ in what they read, or read by schedules or streams, so that each has positions of its own."""
        datas = [data for phase in self.phases for data in (phase.data, *phase.streams.values())]
        mixtures = [self.data.train, *(data.train for data in datas)]
        reads = [self.data_of(phase) for phase in self.phases]
        return (
            any(phase.streams for phase in self.phases)
            or any(data.restart for data in datas)
            or any(map(is_scheduled_mixture, mixtures))
            or any(
                (data.train, data.seq_len, data.global_batch_size)
                != (reads[0].train, reads[0].seq_len, reads[0].global_batch_size)
                for data in reads
            )
        )

    @cached_property
    def train_streams(self) -> dict[str, StreamSpec]:
        """Every folder of training rows, of the run and of its phases, by path."""
        further = [data for phase in reversed(self.phases) for data in (*phase.streams.values(), phase.data)]
        return {stream.path: stream for data in further for stream in data.train} | {
            stream.path: stream for stream in self.data.train
        }

    def lr_at(self, tokens: int) -> float:
        """Learning rate of the batch before which ``tokens`` tokens were seen."""
        return self.schedule.lr_at(tokens, self.phase_schedule)
