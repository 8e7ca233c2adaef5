"""What the phases train on: their rows, their micro-batches, and whether the attention of their objectives can be computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from composer.utils import dist
from streaming import StreamingDataLoader

from detour import objectives
from detour.config.schema import DataConfig, RunConfig
from detour.data.loader import PREFETCH_BATCHES, loader_of, open_rows
from detour.data.manifest import ShardManifest
from detour.data.phased_loader import PhasedLoader, PhaseRows
from detour.data.stream import RowDataset
from detour.data.stream_spec import is_scheduled_mixture, proportions_at
from detour.errors import ConfigError, DataError
from detour.models.attention import check_attention
from detour.objectives import Objective
from detour.phases import Phase
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


def streams_of(phase: Phase) -> list[str]:
    """Names of the streams that a phase reads, in the order of its objectives; "" is its own data."""
    parts = objectives.build(phase.objective, phase.options).parts
    return list(dict.fromkeys(part.stream_at(0) for part, _ in parts))


def micro_batch_rows(run: RunConfig) -> list[dict[str, int]]:
    """Rows per micro-batch of a device in each phase, by stream."""
    found: list[dict[str, int]] = []
    for index, phase in enumerate(run.phases):
        found.append({})
        for name in streams_of(phase):
            own, key = (phase.streams[name], f"streams.{name}") if name else (phase.data, "data")
            where = "data" if own.global_batch_size is None else f"phases[{index}].{key}"
            data = run.data_of(phase, name)
            found[-1][name] = min(data.micro_batch_size, device_rows_of(data, where=where))
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
        ConfigError: A batch cannot be divided among the processes, or an objective cannot be trained on its rows.
        DataError: A folder is missing, damaged or does not fit the run.
    """
    sections = [{name: run.data_of(phase, name) for name in streams_of(phase)} for phase in run.phases]
    _check_rows(run)
    first = next(iter(sections[0].values()))
    if not run.reads_by_phase:
        return loader_of(
            _open_rows(run, first, tokenizer, verified),
            device_rows_of(first),
            workers=run.data.workers,
            timeout_s=run.data.timeout_seconds,
        )
    read: list[DataConfig] = []  # one for each dataset
    phases: list[dict[str, PhaseRows]] = []
    for phase, reads in zip(run.phases, sections, strict=True):
        phases.append({})
        for name, data in reads.items():
            changes = is_scheduled_mixture(data.train)
            phases[-1][name] = PhaseRows(
                datasets=tuple(_index_of(read, part) for part in (_folders_of(data) if changes else [data])),
                device_rows=device_rows_of(data),
                restart=(phase.streams[name] if name else phase.data).restart,
                proportions=partial(proportions_at, data.train) if changes else None,
            )
    return PhasedLoader(
        [_open_rows(run, data, tokenizer, verified) for data in read],
        phases,
        now=lambda: (0, next(iter(phases[0])), 0.0),  # until there is a trainer to ask
        processes=dist.get_world_size(),
        make_loader=lambda dataset, rows: loader_of(
            dataset,
            rows,
            workers=run.data.workers,
            # single rows of a mixture are read ahead as far as whole batches of the run
            prefetch_batches=PREFETCH_BATCHES * (device_rows_of(first) if rows == 1 else 1),
            timeout_s=run.data.timeout_seconds,
            keep_workers=False,
        ),
    )


def _index_of(read: list[DataConfig], data: DataConfig) -> int:
    """Index of the dataset with the rows of a section; adds it if it is new."""
    for index, other in enumerate(read):
        if (other.train, other.seq_len) == (data.train, data.seq_len):
            return index
    read.append(data)
    return len(read) - 1


def _folders_of(data: DataConfig) -> list[DataConfig]:
    """The section once for each of its folders, which are read by themselves where their proportions change."""
    return [replace(data, train=[replace(stream, proportion=None)]) for stream in data.train]


def _check_rows(run: RunConfig) -> None:
    """Raises ConfigError if an objective cannot be trained on its rows."""
    for index, phase in enumerate(run.phases):
        for objective, _ in objectives.build(phase.objective, phase.options).parts:
            folders = run.data_of(phase, objective.stream_at(0)).train
            manifests = [ShardManifest.load(Path(folder.path)) for folder in folders]
            if problem := objective.row_problem(manifests):
                raise ConfigError(f"phases[{index}]: {objective.name}: {problem}")
            for folder, manifest in zip(folders, manifests, strict=True):  # those of a mixture may be opened one by one
                if manifest.classes != manifests[0].classes:
                    raise DataError(
                        f"{folder.path}: rows with the classes {list(manifest.classes)}, expected {list(manifests[0].classes)} "
                        f"as in {folders[0].path}"
                    )


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
