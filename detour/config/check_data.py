"""What the data of a run and of its phases must satisfy beyond their types. Each check returns lines."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from detour import objectives
from detour.config.schema import RunConfig
from detour.data.stream_spec import StreamSpec, is_scheduled_mixture, proportions_at
from detour.errors import ConfigError
from detour.names import fault_of_name
from detour.phases import Phase, PhaseData
from detour.registry import suggestion

MOST = {  # far beyond any run, and small enough that a slip of the keyboard reaches neither allocator nor clock
    "data.global_batch_size": 1 << 20,
    "data.micro_batch_size": 1 << 20,
    "data.canonical_nodes": 1 << 16,
    "data.workers": 1 << 10,
    "data.timeout_seconds": 10**7,
    "system.timeout_seconds": 10**7,
    "system.max_minutes": 10**7,
    "guard.spike_window": 10**6,
    "evaluation.rows": 1 << 31,
}


def one_of(key: str, value: object, allowed: object) -> Iterator[str]:
    if value not in allowed:  # type: ignore[operator]
        yield f"{key}: {value!r}{suggestion(str(value), allowed)}; expected one of {', '.join(map(str, allowed))}"  # type: ignore[arg-type]


def at_least(low: float, **values: float | None) -> Iterator[str]:
    for key, value in values.items():
        if value is not None and not low <= value < math.inf:  # refuses nan too
            yield f"{key.replace('__', '.')}: {value}, expected at least {low}"


def run_data(run: RunConfig) -> Iterator[str]:
    data = run.data
    if not data.train:
        yield "data.train: empty, expected at least one folder of rows"
    yield from _training_streams("data.train", data.train, limited=data.cache_gigabytes is not None)
    if data.cache_gigabytes is not None and not 0 < data.cache_gigabytes < math.inf:
        yield f"data.cache_gigabytes: {data.cache_gigabytes}, expected a number above 0, or null for no limit"
    yield from at_least(8, data__seq_len=data.seq_len)
    yield from at_least(
        1,
        data__global_batch_size=data.global_batch_size,
        data__micro_batch_size=data.micro_batch_size,
        data__canonical_nodes=data.canonical_nodes,
        data__timeout_seconds=data.timeout_seconds,
    )
    yield from at_least(0, data__workers=data.workers)


def held_out(key: str, folders: Sequence[StreamSpec]) -> Iterator[str]:
    """Contradictions in the held-out folders of a key."""
    if any(folder.proportion is not None for folder in folders):
        yield f"{key}: rows are drawn in proportion to the folders' sizes; leave proportion out"
    names = [folder.name for folder in folders if folder.name is not None]
    for name, count in Counter(names).items():
        if fault := fault_of_name(name):
            yield f"{key}: the name {name[:40]!r} {fault}"
        elif count > 1:
            yield f"{key}: {count} folders are called '{name}'"
    yield from _each_once(key, folders)


def _training_streams(key: str, streams: Sequence[StreamSpec], *, limited: bool) -> Iterator[str]:
    given = [stream.proportion for stream in streams if stream.proportion is not None]
    if given and len(given) < len(streams):
        yield f"{key}: proportion is given for some streams and not for others"
    elif given:
        yield from _proportions(key, streams)
    if any(stream.name is not None for stream in streams):
        yield f"{key}: name is for folders of held-out rows, as in data.validation"
    yield from _each_once(key, streams)
    if limited and any(stream.remote is None for stream in streams):
        yield f"data.cache_gigabytes: given, and not every folder of {key} has a remote to fetch its shards from again"


def _proportions(key: str, streams: Sequence[StreamSpec]) -> Iterator[str]:
    try:
        for percent in range(101):
            shares = proportions_at(streams, percent / 100)
            when = f" after {percent}% of the phase" if is_scheduled_mixture(streams) else ""
            if not all(0 <= p < math.inf if when else 0 < p < math.inf for p in shares):
                yield f"{key}: every proportion must be above 0" + (", or 0 where it is scheduled" if when else "")
                return
            if abs(sum(shares) - 1) > 1e-6:
                yield f"{key}: proportions sum to {sum(shares):g}{when}, expected 1"
                return
    except ConfigError as error:
        yield f"{key}: proportion: {error}"


def _each_once(key: str, streams: Sequence[StreamSpec]) -> Iterator[str]:
    real = [os.path.realpath(stream.path) for stream in streams if "\0" not in stream.path]
    for path, count in Counter(real).items():
        if count > 1:
            yield f"{key}: the folder {path} is listed {count} times; to draw more rows from it, give proportions"


def caches(run: RunConfig) -> Iterator[str]:
    """A cache of remote rows belongs to one mixture: each opens it by itself."""
    known: list[list[StreamSpec]] = []
    reads = {f"phases[{i}].{key}": train for i, phase in enumerate(run.phases) for key, train in mixtures(run, phase)}
    for where, train in reads.items():
        if train in known:
            continue
        used = {stream.path for mixture in known for stream in mixture if stream.remote}
        for stream in train:
            if stream.path in used:
                yield (
                    f"{where}: {stream.path} caches rows of a remote for another mixture of an earlier phase; "
                    "give it a path of its own"
                )
        known.append(train)


def mixtures(run: RunConfig, phase: Phase) -> Iterator[tuple[str, list[StreamSpec]]]:
    """What a phase reads, by key."""
    yield "data.train", run.data_of(phase).train
    for name in phase.streams:
        yield f"streams.{name}.train", run.data_of(phase, name).train


def streams(run: RunConfig, phase: Phase, where: str) -> Iterator[str]:
    """Every stream that an objective reads is given, and every one given is read."""
    try:
        asked = {part.stream_at(0): part.name for part, _ in objectives.build(phase.objective, phase.options).parts}
    except ConfigError:
        return  # already reported
    for name, objective in asked.items():
        if name and name not in phase.streams:
            yield f"{where}.streams: {objective} reads the stream '{name}'{suggestion(name, phase.streams)}, and it is missing"
    for name, data in phase.streams.items():
        if fault := fault_of_name(name):
            yield f"{where}.streams: the name {name[:40]!r} {fault}"
        if name not in asked:
            yield f"{where}.streams.{name}: no objective of the phase reads it"
        if not data.train:
            yield f"{where}.streams.{name}.train: empty, expected at least one folder of rows"
        yield from phase_data(run, data, f"{where}.streams.{name}")


def phase_data(run: RunConfig, own: PhaseData, where: str) -> Iterator[str]:
    yield from _training_streams(f"{where}.train", own.train, limited=run.data.cache_gigabytes is not None)
    yield from at_least(8, **{f"{where}.seq_len": own.seq_len})
    for key in ("global_batch_size", "micro_batch_size"):
        yield from at_least(1, **{f"{where}.{key}": getattr(own, key)})
        if (getattr(own, key) or 0) > MOST[f"data.{key}"]:
            yield f"{where}.{key}: {getattr(own, key)}, expected at most {MOST[f'data.{key}']}"
    if own.seq_len not in (None, run.data.seq_len) and not own.train:
        yield f"{where}.seq_len: {own.seq_len}, and no {where}.train: rows of that length are in other folders than data.train"
