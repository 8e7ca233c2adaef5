"""Weights & Biases: online where it answers, else offline, in segments that cannot overwrite each other."""

from __future__ import annotations

import logging
import os
import ssl
import threading
import urllib.error
import urllib.request
import warnings
from dataclasses import asdict
from secrets import token_hex
from typing import Any

from composer.core import State
from composer.loggers import Logger, LoggerDestination, WandBLogger
from composer.utils import dist

from detour.config.schema import RunConfig
from detour.errors import ConfigError, TrainingError
from detour.redact import redacted
from detour.training.run_folder import RunFolder

log = logging.getLogger(__name__)
REACH_SECONDS = 10.0
INIT_SECONDS = 60.0
OFFLINE_SECONDS = 300.0  # for wandb's own process to start on a busy machine; nothing else is waited for


def wandb_loggers(run: RunConfig, folder: RunFolder, *, batches_trained: int) -> list[LoggerDestination]:
    """The logger that `logging.wandb_project` asks for, on every process; process 0 writes.

    Args:
        run: The configuration.
        folder: Keeps the run's id.
        batches_trained: Behind the checkpoint that this process continues from; part of an offline segment's id.
    """
    if not run.logging.wandb_project:
        return []
    options: dict[str, Any] = {
        "project": run.logging.wandb_project,
        "entity": run.logging.wandb_entity,
        "name": run.name,
    }
    if dist.get_global_rank() == 0:
        drawn = folder.wandb_id()
        options |= {"group": f"{run.name[:100]} {drawn}", "init_kwargs": _init_options(run, folder, drawn)}
        return [_SegmentedLogger(offline_id=f"{drawn}-{batches_trained}-{token_hex(3)}", **options)]
    return [WandBLogger(**options)]


def _init_options(run: RunConfig, folder: RunFolder, drawn: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wandb

    # else it sends the command line, which may hold what the configuration hides
    settings = wandb.Settings(
        x_disable_meta=True,
        init_timeout=OFFLINE_SECONDS,
        x_graphql_timeout_seconds=20,  # its own process waits for what it has begun, at the end of the run too
        x_graphql_retry_max=5,
    )
    has_key = bool(os.environ.get("WANDB_API_KEY")) or wandb.api.api_key is not None
    mode = os.environ.get("WANDB_MODE") or ("online" if has_key else "offline")
    if mode == "online":
        url = str(wandb.api.settings("base_url"))
        if problem := unreachable(url, seconds=REACH_SECONDS):
            log.warning("Weights & Biases: %s gave no answer (%s); logging offline into %s", url, problem, folder.path)
            mode = "offline"
    if mode == "online":
        settings.init_timeout = INIT_SECONDS
    return {
        "id": drawn,
        "resume": "allow",
        "dir": str(folder.path),
        "mode": mode,
        "config": redacted(asdict(run)),
        "settings": settings,
    }


class _SegmentedLogger(WandBLogger):
    """Composer's logger, which goes offline where Weights & Biases does not answer in time.

    What is logged offline has a W&B run of its own for each start: `wandb sync` uploads a segment from its first line
    on and, without --append, over what the server has under the same id. The segments and the online run are of one
    group, in which their curves continue each other.
    """

    def __init__(self, *, offline_id: str, **options: Any) -> None:
        super().__init__(**options)
        self._offline_id = offline_id

    def init(self, state: State, logger: Logger) -> None:
        import wandb

        if self._init_kwargs["mode"] == "online":
            try:
                return super().init(state, logger)
            except wandb.errors.AuthenticationError as error:  # type: ignore[attr-defined]
                raise ConfigError(f"logging.wandb_project: Weights & Biases refused the key: {error}") from error
            except (wandb.errors.CommError, TimeoutError) as error:  # type: ignore[attr-defined]
                first = next(iter(str(error).splitlines()), type(error).__name__)
                log.warning("Weights & Biases: %s; logging offline into %s", first, self._init_kwargs["dir"])
            self._init_kwargs["mode"] = "offline"
            self._init_kwargs["settings"].init_timeout = OFFLINE_SECONDS
        # nothing is resumed offline: the server is not asked what it has
        self._init_kwargs |= {"id": self._offline_id, "resume": None}
        try:
            return super().init(state, logger)
        except wandb.errors.Error as error:  # type: ignore[attr-defined]
            raise TrainingError(f"logging.wandb_project: Weights & Biases cannot start: {error}") from error


def unreachable(url: str, *, seconds: float) -> str | None:
    """Why Weights & Biases gave no answer within so many seconds, name look-up included; None if it did, whatever it said.

    Args:
        url: Of the server. Asked is its interface, since a proxy may let only other pages through.
        seconds: For all of it.
    """
    outcome: list[str | None] = []
    request = urllib.request.Request(
        f"{url.rstrip('/')}/graphql", data=b'{"query": "{ __typename }"}', headers={"Content-Type": "application/json"}
    )

    def ask() -> None:
        try:
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError as error:
            error.close()
        except Exception as error:
            cause = getattr(error, "reason", error)
            if not isinstance(cause, ssl.SSLError):  # it answered; wandb has its own certificates
                outcome.append(str(cause) or type(cause).__name__)
                return
        outcome.append(None)

    thread = threading.Thread(target=ask, daemon=True)  # a look-up of a name cannot be interrupted
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"none within {seconds:g} seconds"
