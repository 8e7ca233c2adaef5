"""What a configuration must satisfy beyond its types. Each check returns lines; none stops at the first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from types import NoneType

from detour import objectives, optimizer, scheduled
from detour.config.check_data import MOST, at_least, caches, one_of, phase_data, run_data, streams
from detour.config.check_evaluation import evaluation
from detour.config.schema import RunConfig
from detour.errors import ConfigError
from detour.names import fault_of_label, fault_of_name

MOST_TOKENS = 10**18  # of a run: counters are 64 bits wide


def check(run: RunConfig) -> list[str]:
    """Every contradiction in a well-typed configuration, one line each."""
    return [
        *_model(run),
        *run_data(run),
        *_phases(run),
        *caches(run),
        *_match(run),
        *_schedule(run),
        *_rest(run),
        *_extensions(run),
        *_paths(run),
        *_sizes(run),
    ]


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
                arch.with_rope(**asdict(phase.rope))
            except ConfigError as error:
                yield f"{where}.rope: {error}"
        yield from phase_data(run, phase.data, f"{where}.data")
        yield from streams(run, phase, where)
        for name in phase.evaluate or []:
            yield from one_of(f"{where}.evaluate", name, run.evaluation.objectives)
        yield from optimizer.problems(f"{where}.optimizer", phase.optimizer)
        reads = [run.data_of(phase, stream) for stream in ("", *phase.streams)]
        step = max(data.global_batch_size * data.seq_len for data in reads)
        if phase.tokens < step:  # a shorter one could fall between two steps and never train
            yield f"{where}.tokens: {phase.tokens:,}, expected at least one step of {step:,} tokens"
        if not 0 <= phase.rewarm_tokens <= max(phase.tokens, 0):
            yield f"{where}.rewarm_tokens: {phase.rewarm_tokens}, expected 0 to the phase's {phase.tokens} tokens"
        try:
            factors = [scheduled.at(phase.lr_factor, fraction) for fraction in (0.0, 1.0)]
            numbers = [value for value in factors if not isinstance(value, dict)]
            if len(numbers) < len(factors):
                yield f"{where}.lr_factor: {phase.lr_factor}, expected a number, or a schedule with the keys from and to"
            yield from at_least(0, **{f"{where}.lr_factor": value for value in sorted(numbers)[:1]})
        except ConfigError as error:
            yield f"{where}.lr_factor: {error}"


def _match(run: RunConfig) -> Iterator[str]:
    if run.match.phase is not None:
        yield from one_of("match.phase", run.match.phase, [phase.name for phase in run.phases])
    yield from at_least(1, match__document_tokens=run.match.document_tokens, branch__tokens=run.branch.tokens)
    if run.branch.tokens is not None and run.branch.run is None:
        yield f"branch.tokens: {run.branch.tokens}, but branch.run names no run"
    if run.branch.run is not None and run.match.run is not None:
        yield "branch.run: cannot be combined with match.run, which would change the phases that the runs share"


def _schedule(run: RunConfig) -> Iterator[str]:
    schedule = run.schedule
    if schedule.decay_phase is not None:
        yield from one_of("schedule.decay_phase", schedule.decay_phase, [phase.name for phase in run.phases])
    if not (0 <= schedule.final_lr <= schedule.peak_lr < math.inf and schedule.peak_lr > 0):
        yield f"schedule: final_lr {schedule.final_lr} and peak_lr {schedule.peak_lr}, expected 0 <= final_lr <= peak_lr"
    total = sum(phase.tokens for phase in run.phases)
    if not 0 <= schedule.warmup_tokens <= total:
        yield f"schedule.warmup_tokens: {schedule.warmup_tokens}, expected 0 to the run's {total} tokens"


def _rest(run: RunConfig) -> Iterator[str]:
    system = run.system
    yield from optimizer.problems("optimizer", run.optimizer)
    if (
        not run.optimizer.eps > 0
    ):  # at 0, a parameter without a gradient so far, such as an unused position, becomes NaN
        yield f"optimizer.eps: {run.optimizer.eps}, expected a number above 0"
    yield from at_least(
        1,
        checkpoint__interval_tokens=run.checkpoint.interval_tokens,
        checkpoint__keep=run.checkpoint.keep,
        evaluation__interval_tokens=run.evaluation.interval_tokens,
        evaluation__rows=run.evaluation.rows,
        evaluation__mask_draws=run.evaluation.mask_draws,
        system__timeout_seconds=system.timeout_seconds,
        guard__spike_window=run.guard.spike_window,
    )
    yield from at_least(
        0,
        system__max_minutes=system.max_minutes,
        guard__max_skips=run.guard.max_skips,
        checkpoint__min_interval_seconds=run.checkpoint.min_interval_seconds,
    )
    if run.guard.spike_factor is not None and not run.guard.spike_factor > 1:
        yield f"guard.spike_factor: {run.guard.spike_factor}, expected a number above 1, or null"
    yield from evaluation(run)
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
    folders |= {f"evaluation.streams.{name}": listed for name, listed in run.evaluation.streams.items()}
    for index, phase in enumerate(run.phases):
        folders[f"phases[{index}].data.train"] = phase.data.train
        folders |= {f"phases[{index}].streams.{name}.train": data.train for name, data in phase.streams.items()}
    for key, listed in folders.items():
        for index, stream in enumerate(listed):
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
