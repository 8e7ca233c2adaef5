"""The callbacks, loggers and algorithms that a run's YAML adds, and Composer's own loggers under short names.

Composer's classes are imported inside the functions, so that `check_extensions` needs no Composer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from detour import extensions
from detour.config.schema import RunConfig
from detour.errors import ConfigError
from detour.training.run_folder import RunFolder

if TYPE_CHECKING:
    from composer.core import Algorithm, Callback
    from composer.loggers import LoggerDestination


@dataclass(frozen=True, kw_only=True)
class TrainerExtensions:
    """What the trainer runs besides the library's own callbacks, loggers and algorithms."""

    callbacks: tuple[Callback, ...] = ()
    loggers: tuple[LoggerDestination, ...] = ()
    algorithms: tuple[Algorithm, ...] = ()


def check_extensions(run: RunConfig) -> None:
    """Checks the names and options of `callbacks:`, `loggers:` and `algorithms:` without building anything.

    Raises:
        ConfigError: Listing every unknown name, and every unknown, missing or mistyped option.
    """
    problems = []
    for registry in extensions.SECTIONS:
        for name, options in getattr(run, registry.section).items():
            try:
                registry.options(name, options)
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError("\n  ".join(problems))


def build_extensions(
    run: RunConfig,
    *,
    callbacks: Iterable[Callback] = (),
    loggers: Iterable[LoggerDestination] = (),
    algorithms: Iterable[Algorithm] = (),
) -> TrainerExtensions:
    """Those of the YAML, in its order, followed by the arguments.

    Raises:
        ConfigError: As `check_extensions`; or one cannot be built, or is not what its section holds.
    """
    from composer.core import Algorithm, Callback
    from composer.loggers import LoggerDestination

    check_extensions(run)
    kinds = {"callbacks": Callback, "loggers": LoggerDestination, "algorithms": Algorithm}
    built: dict[str, tuple[Any, ...]] = {}
    given = {"callbacks": callbacks, "loggers": loggers, "algorithms": algorithms}
    for registry in extensions.SECTIONS:
        section = registry.section
        named = {name: registry.build(name, options, run) for name, options in getattr(run, section).items()}
        for name, value in named.items():
            if not isinstance(value, kinds[section]):
                raise ConfigError(
                    f"{section}.{name}: makes a {type(value).__name__}, expected a {kinds[section].__name__} of Composer"
                )
        built[section] = (*named.values(), *given[section])
    return TrainerExtensions(**built)


@extensions.register_logger("tensorboard")
def tensorboard(run: RunConfig, log_dir: str | None = None, flush_interval: int = 100) -> LoggerDestination:
    """TensorBoard event files, by default in the run folder under ``tensorboard/``.

    Args:
        run: The configuration.
        log_dir: Folder for the event files of this and other runs; each run gets a folder in it.
        flush_interval: Batches between writes.
    """
    from composer.loggers import TensorboardLogger

    return TensorboardLogger(log_dir or str(RunFolder.of(run).path / "tensorboard"), flush_interval=flush_interval)


@extensions.register_logger("mlflow")
def mlflow(
    run: RunConfig,
    experiment_name: str | None = None,
    tracking_uri: str | None = None,
    tags: dict[str, Any] | None = None,
    log_system_metrics: bool = False,
) -> LoggerDestination:
    """MLflow, under the run's name; credentials from the environment, as MLflow reads them."""
    from composer.loggers import MLFlowLogger

    return MLFlowLogger(
        experiment_name=experiment_name,
        run_name=run.name,
        tracking_uri=tracking_uri,
        tags=tags,
        log_system_metrics=log_system_metrics,
    )


@extensions.register_logger("comet")
def comet(run: RunConfig, project_name: str | None = None, workspace: str | None = None) -> LoggerDestination:
    """Comet, under the run's name; the key from the environment, as Comet reads it."""
    from composer.loggers import CometMLLogger

    return CometMLLogger(workspace=workspace, project_name=project_name, name=run.name)


@extensions.register_logger("neptune")
def neptune(
    project: str | None = None, mode: Literal["async", "sync", "offline", "debug"] | None = None
) -> LoggerDestination:
    """Neptune; the token from the environment, as Neptune reads it."""
    from composer.loggers import NeptuneLogger

    return NeptuneLogger(project=project, mode=mode)
