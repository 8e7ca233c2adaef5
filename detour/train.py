"""A run from its start, or its latest checkpoint, to its last token."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from types import ModuleType
from typing import Any

from composer import Trainer
from composer.core import Algorithm, Callback
from composer.loggers import LoggerDestination
from composer.utils import dist

from detour.build import assemble, close
from detour.config.schema import RunConfig
from detour.errors import DataError, StoppedError, TrainingError
from detour.training.callbacks.checkpointer import Checkpointer
from detour.training.callbacks.failure_watch import FailureWatch
from detour.training.extensions import build_extensions
from detour.training.launch import check_launch
from detour.training.match import match_budget
from detour.training.run_folder import RunFolder, write_run_files
from detour.training.run_start import find_start
from detour.training.stop import StopRequest

log = logging.getLogger(__name__)


def train(
    run: RunConfig,
    *,
    callbacks: Iterable[Callback] = (),
    algorithms: Iterable[Algorithm] = (),
    loggers: Iterable[LoggerDestination] = (),
) -> None:
    """Trains. Resumes from the latest checkpoint in the run folder; a complete run is left as it is.

    Args:
        run: The configuration, from `load_config`.
        callbacks: As in `build_trainer`.
        algorithms: As in `build_trainer`.
        loggers: As in `build_trainer`.

    Raises:
        StoppedError: It was asked to end early, by a signal or `system.max_minutes`, and has saved.
        TrainingError: A step was non-finite or spiked too often (`guard`), or memory ran out.
        DataError: The loader failed or timed out.
        ConfigError, ModelError, CheckpointError: As in `build_trainer`; or a checkpoint could not be written.
    """
    run = match_budget(run)
    check_launch()
    stop = StopRequest(run.system.max_minutes)
    folder, total = RunFolder.of(run), run.phase_schedule.total_tokens
    with ExitStack() as held:
        unwritable = None
        if dist.get_global_rank() == 0:
            try:
                held.enter_context(folder.lock())
            except TrainingError as error:
                unwritable = error  # raised below unless the run is complete
        start = find_start(run)
        if start.resumed is not None and start.resumed.tokens >= total:
            log.warning("%s is complete (%s tokens); nothing to do", folder.path, f"{start.resumed.tokens:,}")
            return
        if unwritable:
            raise unwritable
        extensions = build_extensions(run, callbacks=callbacks, algorithms=algorithms, loggers=loggers)
        _fit(run, assemble(run, start, stop, extensions), stop)


def _fit(run: RunConfig, trainer: Trainer, stop: StopRequest) -> None:
    watch = FailureWatch(run.data)
    trainer.state.callbacks.append(watch)
    total = run.phase_schedule.total_tokens
    if dist.get_global_rank() == 0:
        (checkpointer,) = (each for each in trainer.state.callbacks if isinstance(each, Checkpointer))
        write_run_files(run, checkpointer.record)
    with stop.listening(), watch.watching():
        if not trainer.state.timestamp.token.value and trainer.state.evaluators:
            trainer.eval()
        try:
            trainer.fit()
        except EOFError as error:  # a thread of a loader process died, which happens when it may open no more files
            raise DataError(
                "data.workers: a loader process broke off its connection; if too many files are open (ulimit -n), raise it "
                "or set data.workers to 0"
            ) from error
        close(trainer)
    done = trainer.state.timestamp.token.value
    if stop.agreed and done < total:
        raise StoppedError(
            f"{RunFolder.of(run).path}: saved at token {done:,} of {total:,} and stopped early "
            f"({stop.reason or 'another process was asked to'}); the same command continues"
        )


class _CallableModule(ModuleType):
    """Makes `detour.train` the module and the function: Python binds the name to this module once it is imported."""

    def __call__(self, run: RunConfig, **options: Any) -> None:
        train(run, **options)


sys.modules[__name__].__class__ = _CallableModule
