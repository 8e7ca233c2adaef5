"""What the phases train on: their rows, their micro-batches, and whether the attention of their objectives can be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from composer.utils import dist
from streaming import StreamingDataLoader

from detour import objectives
from detour.config.schema import DataConfig, RunConfig
from detour.data.loader import PREFETCH_BATCHES, loader_of, open_rows
from detour.data.phased_loader import PhasedLoader, PhaseRows
from detour.data.stream import RowDataset
from detour.data.stream_spec import StreamSpec
from detour.models.attention import check_attention
from detour.objectives import Objective
from detour.training.launch import device_rows_of


def check_objectives(run: RunConfig, backend: str) -> None:
    """Raises ConfigError if an attention backend cannot compute the attention of an objective of the run."""
    for where, objective in _objectives(run):
        for attention in {objective.attention, *(part.attention for part, _ in objective.parts)}:
            check_attention(backend, attention, where=where)


def _objectives(run: RunConfig) -> Iterable[tuple[str, Objective]]:
    """The objectives of the phases and of the evaluation, each with the key that asks for it."""
    for index, phase in enumerate(run.phases):
        yield f"phases[{index}]", objectives.build(phase.objective, phase.options)
    for name, options in run.evaluation.objectives.items():
        yield f"evaluation.objectives.{name}", objectives.build(name, options)


def micro_batch_rows(run: RunConfig) -> list[int]:
    """Rows per micro-batch of a device in each phase."""
    found = []
    for index, phase in enumerate(run.phases):
        data, where = run.data_of(phase), "data" if phase.data.global_batch_size is None else f"phases[{index}].data"
        found.append(min(data.micro_batch_size, device_rows_of(data, where=where)))
    return found


def training_rows(
    run: RunConfig, tokenizer: str, *, verified: Callable[[Path], None]
) -> StreamingDataLoader | PhasedLoader:
    """The loader of the training rows: one stream, or one that the phases change.

    Args:
        run: The configuration.
        tokenizer: `tokenizer_sha256` of the tokenizer.
        verified: Called with the path of each shard whose hash was compared.

    Raises:
        ConfigError: A batch cannot be divided among the processes.
        DataError: A folder is missing, damaged or does not fit the run.
    """
    sections = [run.data_of(phase) for phase in run.phases]
    if not any(
        phase.data.restart or _rows_of(data) != _rows_of(sections[0])
        for phase, data in zip(run.phases, sections, strict=True)
    ):
        return loader_of(
            _open_rows(run, sections[0], tokenizer, verified),
            device_rows_of(sections[0]),
            workers=run.data.workers,
            timeout_s=run.data.timeout_seconds,
        )
    read: list[DataConfig] = []  # one for each dataset
    phases = []
    for phase, data in zip(run.phases, sections, strict=True):
        known = [i for i, other in enumerate(read) if (other.train, other.seq_len) == (data.train, data.seq_len)]
        if not known:
            read.append(data)
        phases.append(
            PhaseRows(
                dataset=known[0] if known else len(read) - 1,
                device_rows=device_rows_of(data),
                restart=phase.data.restart,
            )
        )
    return PhasedLoader(
        [_open_rows(run, data, tokenizer, verified) for data in read],
        phases,
        phase_now=lambda: 0,  # until there is a trainer to ask
        processes=dist.get_world_size(),
        make_loader=lambda dataset, rows: loader_of(
            dataset, rows, workers=run.data.workers, timeout_s=run.data.timeout_seconds, keep_workers=False
        ),
    )


def _rows_of(data: DataConfig) -> tuple[list[StreamSpec], int, int]:
    return data.train, data.seq_len, data.global_batch_size


def _open_rows(run: RunConfig, data: DataConfig, tokenizer: str, verified: Callable[[Path], None]) -> RowDataset:
    return open_rows(
        streams=data.train,
        device_batch_size=device_rows_of(data),
        shuffle=data.shuffle,
        shuffle_seed=data.shuffle_seed,
        canonical_nodes=data.canonical_nodes,
        ahead=data.workers * PREFETCH_BATCHES,
        timeout_s=data.timeout_seconds,
        verify_hashes=data.verify_hashes,
        tokenizer_sha256=tokenizer,
        seq_len=data.seq_len,
        cache_bytes=round(limit * 1e9) if (limit := data.cache_gigabytes) else None,
        verified=verified,
    )
