"""What a configuration must satisfy beyond its types. Each check returns lines; none stops at the first."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType

from detour import objectives, optimizer, scheduled
from detour.config.schema import RunConfig
from detour.data.stream_spec import StreamSpec
from detour.errors import ConfigError
from detour.names import fault_of_label, fault_of_name
from detour.phases import Phase
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
MOST_TOKENS = 10**18  # of a run: counters are 64 bits wide


def check(run: RunConfig) -> list[str]:
    """Every contradiction in a well-typed configuration, one line each."""
    return [
        *_model(run),
        *_data(run),
        *_phases(run),
        *_caches(run),
        *_match(run),
        *_schedule(run),
        *_rest(run),
        *_extensions(run),
        *_paths(run),
        *_sizes(run),
    ]


def _one_of(key: str, value: object, allowed: object) -> Iterator[str]:
    if value not in allowed:  # type: ignore[operator]
        yield f"{key}: {value!r}{suggestion(str(value), allowed)}; expected one of {', '.join(map(str, allowed))}"  # type: ignore[arg-type]


def _at_least(low: float, **values: float | None) -> Iterator[str]:
    for key, value in values.items():
        if value is not None and not low <= value < math.inf:  # refuses nan too
            yield f"{key.replace('__', '.')}: {value}, expected at least {low}"


def _model(run: RunConfig) -> Iterator[str]:
    try:
        _ = run.architecture  # parsed at its first use
    except ConfigError as error:
        yield str(error)
    if run.model.init is None and run.model.tokenizer is None:
        yield "model.tokenizer: missing; a model with random weights (model.init: null) needs one"
    for key, given in {"new_tokens": run.model.new_tokens, "reset": run.model.reset, "tile": run.model.tile}.items():
        if given and run.model.init is None:
            yield f"model.{key}: {given}, but model.init names no model to start from"
    if run.model.new_tokens and run.model.tokenizer is None:
        yield f"model.new_tokens: '{run.model.new_tokens}', but model.tokenizer names no other tokenizer"
    if run.model.new_tokens and run.model.allow_tokenizer_mismatch:
        yield "model.allow_tokenizer_mismatch: embeddings stay under their ids, but model.new_tokens moves them; choose one"


def _data(run: RunConfig) -> Iterator[str]:
    data = run.data
    if not data.train:
        yield "data.train: empty, expected at least one folder of rows"
    yield from _training_streams("data.train", data.train, limited=data.cache_gigabytes is not None)
    if any(stream.proportion is not None for stream in data.validation):
        yield "data.validation: rows are drawn in proportion to the folders' sizes; leave proportion out"
    names = [stream.name for stream in data.validation if stream.name is not None]
    for name, count in Counter(names).items():
        if fault := fault_of_name(name):
            yield f"data.validation: the name {name[:40]!r} {fault}"
        elif count > 1:
            yield f"data.validation: {count} folders are called '{name}'"
    yield from _each_once("data.validation", data.validation)
    if data.cache_gigabytes is not None and not 0 < data.cache_gigabytes < math.inf:
        yield f"data.cache_gigabytes: {data.cache_gigabytes}, expected a number above 0, or null for no limit"
    yield from _at_least(8, data__seq_len=data.seq_len)
    yield from _at_least(
        1,
        data__global_batch_size=data.global_batch_size,
        data__micro_batch_size=data.micro_batch_size,
        data__canonical_nodes=data.canonical_nodes,
        data__timeout_seconds=data.timeout_seconds,
    )
    yield from _at_least(0, data__workers=data.workers)


def _training_streams(key: str, streams: Sequence[StreamSpec], *, limited: bool) -> Iterator[str]:
    given = [stream.proportion for stream in streams]
    shares = [p for p in given if p is not None]
    if shares and len(shares) < len(given):
        yield f"{key}: proportion is given for some streams and not for others"
    elif not all(p > 0 for p in shares):
        yield f"{key}: every proportion must be above 0"
    elif shares and abs(sum(shares) - 1) > 1e-6:
        yield f"{key}: proportions sum to {sum(shares):g}, expected 1"
    if any(stream.name is not None for stream in streams):
        yield f"{key}: name is for folders of data.validation"
    yield from _each_once(key, streams)
    if limited and any(stream.remote is None for stream in streams):
        yield f"data.cache_gigabytes: given, and not every folder of {key} has a remote to fetch its shards from again"


def _each_once(key: str, streams: Sequence[StreamSpec]) -> Iterator[str]:
    real = [os.path.realpath(stream.path) for stream in streams if "\0" not in stream.path]
    for path, count in Counter(real).items():
        if count > 1:
            yield f"{key}: the folder {path} is listed {count} times; to draw more rows from it, give proportions"


def _caches(run: RunConfig) -> Iterator[str]:
    """A cache of remote rows belongs to one mixture: each opens it by itself."""
    mixtures: list[list[StreamSpec]] = []
    for index, phase in enumerate(run.phases):
        train = run.data_of(phase).train
        if train in mixtures:
            continue
        used = {stream.path for mixture in mixtures for stream in mixture if stream.remote}
        for stream in train:
            if stream.path in used:
                yield (
                    f"phases[{index}].data.train: {stream.path} caches rows of a remote for another mixture of an earlier phase; "
                    "give it a path of its own"
                )
        mixtures.append(train)


def _phase_data(run: RunConfig, phase: Phase, where: str) -> Iterator[str]:
    own = phase.data
    yield from _training_streams(f"{where}.train", own.train, limited=run.data.cache_gigabytes is not None)
    yield from _at_least(8, **{f"{where}.seq_len": own.seq_len})
    for key in ("global_batch_size", "micro_batch_size"):
        yield from _at_least(1, **{f"{where}.{key}": getattr(own, key)})
        if (getattr(own, key) or 0) > MOST[f"data.{key}"]:
            yield f"{where}.{key}: {getattr(own, key)}, expected at most {MOST[f'data.{key}']}"
    if own.seq_len not in (None, run.data.seq_len) and not own.train:
        yield f"{where}.seq_len: {own.seq_len}, and no {where}.train: rows of that length are in other folders than data.train"


def _phases(run: RunConfig) -> Iterator[str]:
    if not run.phases:
        yield "phases: empty, expected at least one phase"
    for name, count in Counter(phase.name for phase in run.phases).items():
        if count > 1:
            yield f"phases: the name '{name}' is used {count} times"
    try:
        arch = run.architecture
    except ConfigError:
        arch = None  # already reported
    for index, phase in enumerate(run.phases):
        where = f"phases[{index}]"
        if fault := fault_of_label(phase.name):
            yield f"{where}.name: {phase.name[:80]!r} {fault}"
        try:
            objectives.check(phase.objective, phase.options)
        except ConfigError as error:
            yield f"{where}: {error}"
        if arch is not None:
            try:
                phase.freeze.layer_indices(arch.num_hidden_layers)
            except ConfigError as error:
                yield f"{where}.{error}"
            try:
                arch.with_rope(theta=phase.rope.theta, local_theta=phase.rope.local_theta)
            except ConfigError as error:
                yield f"{where}.rope: {error}"
        yield from _phase_data(run, phase, f"{where}.data")
        yield from optimizer.problems(f"{where}.optimizer", phase.optimizer)
        data = run.data_of(phase)
        step = data.global_batch_size * data.seq_len
        if phase.tokens < step:  # a shorter one could fall between two steps and never train
            yield f"{where}.tokens: {phase.tokens:,}, expected at least one step of {step:,} tokens"
        if not 0 <= phase.rewarm_tokens <= max(phase.tokens, 0):
            yield f"{where}.rewarm_tokens: {phase.rewarm_tokens}, expected 0 to the phase's {phase.tokens} tokens"
        try:
            factors = [scheduled.at(phase.lr_factor, fraction) for fraction in (0.0, 1.0)]
            numbers = [value for value in factors if not isinstance(value, dict)]
            if len(numbers) < len(factors):
                yield f"{where}.lr_factor: {phase.lr_factor}, expected a number, or a schedule with the keys from and to"
            yield from _at_least(0, **{f"{where}.lr_factor": value for value in sorted(numbers)[:1]})
        except ConfigError as error:
            yield f"{where}.lr_factor: {error}"


def _match(run: RunConfig) -> Iterator[str]:
    if run.match.phase is not None:
        yield from _one_of("match.phase", run.match.phase, [phase.name for phase in run.phases])
    yield from _at_least(1, match__document_tokens=run.match.document_tokens, branch__tokens=run.branch.tokens)
    if run.branch.tokens is not None and run.branch.run is None:
        yield f"branch.tokens: {run.branch.tokens}, but branch.run names no run"
    if run.branch.run is not None and run.match.run is not None:
        yield "branch.run: cannot be combined with match.run, which would change the phases that the runs share"


def _schedule(run: RunConfig) -> Iterator[str]:
    schedule = run.schedule
    if schedule.decay_phase is not None:
        yield from _one_of("schedule.decay_phase", schedule.decay_phase, [phase.name for phase in run.phases])
    if not (0 <= schedule.final_lr <= schedule.peak_lr < math.inf and schedule.peak_lr > 0):
        yield f"schedule: final_lr {schedule.final_lr} and peak_lr {schedule.peak_lr}, expected 0 <= final_lr <= peak_lr"
    total = sum(phase.tokens for phase in run.phases)
    if not 0 <= schedule.warmup_tokens <= total:
        yield f"schedule.warmup_tokens: {schedule.warmup_tokens}, expected 0 to the run's {total} tokens"


def _rest(run: RunConfig) -> Iterator[str]:
    system = run.system
    yield from optimizer.problems("optimizer", run.optimizer)
    yield from _at_least(0, optimizer__eps=run.optimizer.eps)
    yield from _at_least(
        1,
        checkpoint__interval_tokens=run.checkpoint.interval_tokens,
        checkpoint__keep=run.checkpoint.keep,
        evaluation__interval_tokens=run.evaluation.interval_tokens,
        evaluation__rows=run.evaluation.rows,
        evaluation__mask_draws=run.evaluation.mask_draws,
        system__timeout_seconds=system.timeout_seconds,
        guard__spike_window=run.guard.spike_window,
    )
    yield from _at_least(0, system__max_minutes=system.max_minutes, guard__max_skips=run.guard.max_skips)
    if run.guard.spike_factor is not None and not run.guard.spike_factor > 1:
        yield f"guard.spike_factor: {run.guard.spike_factor}, expected a number above 1, or null"
    for name, options in run.evaluation.objectives.items():
        if not isinstance(options, (Mapping, NoneType)):
            yield f"evaluation.objectives.{name}: {options!r}, expected a mapping of its options"
            continue
        try:
            if objectives.build(name, options).by_step:
                yield f"evaluation.objectives.{name}: it differs from step to step; name the objectives that it consists of"
            if any(scheduled.scheduled(dict(options or {}))):
                yield f"evaluation.objectives.{name}: an option is a schedule; held-out losses need constant ones"
        except ConfigError as error:
            yield f"evaluation.objectives.{name}: {error}"
    if 0 < run.evaluation.rows < len(run.data.validation):
        yield (
            f"evaluation.rows: {run.evaluation.rows}, expected at least one for each of the {len(run.data.validation)} "
            "folders of data.validation"
        )
    seeds = {"seed": run.seed, "data.shuffle_seed": run.data.shuffle_seed, "evaluation.seed": run.evaluation.seed}
    for key, seed in seeds.items():
        if not 0 <= seed < 2**32:  # what numpy takes
            yield f"{key}: {seed}, expected 0 to {2**32 - 1}"
    if fault := fault_of_name(run.name):
        yield f"name: {run.name[:80]!r} {fault}"


def _extensions(run: RunConfig) -> Iterator[str]:
    """Shape only: names and options are checked where the trainer is built, since built-in loggers are registered there."""
    for index, name in enumerate(run.plugins):
        if not all(part.isidentifier() for part in name.split(".")):
            yield f"plugins[{index}]: {name!r}, expected the dotted name of a Python module, such as my_lab.spans"
    for section in ("callbacks", "loggers", "algorithms"):
        for name, options in getattr(run, section).items():
            if not isinstance(options, (Mapping, NoneType)):
                yield f"{section}.{name}: {options!r}, expected a mapping of its options"


def _paths(run: RunConfig) -> Iterator[str]:
    paths = {"folder": run.folder, "model.init": run.model.init, "model.tokenizer": run.model.tokenizer}
    paths["match.run"] = run.match.run
    paths["branch.run"] = run.branch.run
    folders = {"data.train": run.data.train, "data.validation": run.data.validation}
    folders |= {f"phases[{index}].data.train": phase.data.train for index, phase in enumerate(run.phases)}
    for key, streams in folders.items():
        for index, stream in enumerate(streams):
            paths |= {f"{key}[{index}].path": stream.path, f"{key}[{index}].remote": stream.remote}
    for key, path in paths.items():
        if path is not None and "\0" in path:
            yield f"{key}: {path!r} cannot be a path"


def _sizes(run: RunConfig) -> Iterator[str]:
    for key, most in MOST.items():
        section, name = key.split(".")
        value = getattr(getattr(run, section), name)
        if value is not None and value > most:
            yield f"{key}: {value}, expected at most {most}"
    if (total := sum(phase.tokens for phase in run.phases)) > MOST_TOKENS:
        yield f"phases: {total} tokens, expected at most {MOST_TOKENS}"
