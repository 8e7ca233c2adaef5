"""Weights & Biases: online if the server answers, otherwise offline, without runs overwriting each other."""

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
from detour.errors import ConfigError, TrainingError, first_line
from detour.redact import redacted
from detour.training.run_folder import RunFolder

log = logging.getLogger(__name__)
REACH_SECONDS = 10.0
INIT_SECONDS = 60.0
OFFLINE_SECONDS = 300.0  # for wandb's service process to start on a busy machine


def wandb_loggers(run: RunConfig, folder: RunFolder, *, batches_trained: int) -> list[LoggerDestination]:
    """The logger of `logging.wandb_project`, or none if it is null. Created on every process; only process 0 writes.

    Args:
        run: The configuration.
        folder: Stores the id of the W&B run.
        batches_trained: Number of batches trained at the checkpoint from which the run resumes; part of offline ids.
    """
    if not run.logging.wandb_project:
        return []
    options: dict[str, Any] = {
        "project": run.logging.wandb_project,
        "entity": run.logging.wandb_entity,
        "name": run.name,
    }
    if dist.get_global_rank() == 0:
        run_id = folder.wandb_id()
        options |= {"group": f"{run.name[:100]} {run_id}", "init_kwargs": _init_options(run, folder, run_id)}
        return [_SegmentedLogger(offline_id=f"{run_id}-{batches_trained}-{token_hex(3)}", **options)]
    return [WandBLogger(**options)]


def _init_options(run: RunConfig, folder: RunFolder, run_id: str) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import wandb

    # metadata would include the command line, which may contain secrets
    settings = wandb.Settings(
        x_disable_meta=True,
        init_timeout=OFFLINE_SECONDS,
        x_graphql_timeout_seconds=20,  # the service process waits for requests under way, also at the end of the run
        x_graphql_retry_max=5,
    )
    has_key = bool(os.environ.get("WANDB_API_KEY")) or wandb.api.api_key is not None
    mode = os.environ.get("WANDB_MODE") or ("online" if has_key else "offline")
    if mode == "online":
        url = str(wandb.api.settings("base_url"))
        if problem := unreachable(url, seconds=REACH_SECONDS):
            log.warning("Weights & Biases: %s did not answer (%s); logging offline into %s", url, problem, folder.path)
            mode = "offline"
    if mode == "online":
        settings.init_timeout = INIT_SECONDS
    return {
        "id": run_id,
        "resume": "allow",
        "dir": str(folder.path),
        "mode": mode,
        "config": redacted(asdict(run)),
        "settings": settings,
    }


class _SegmentedLogger(WandBLogger):
    """Composer's W&B logger with a fallback to offline mode when the server does not answer in time.

    Each offline start is a W&B run of its own, because `wandb sync` without --append overwrites a run with the same id on the
    server. Offline and online runs share a group, in which their curves join up.

    Args:
        offline_id: Id of the W&B run in offline mode.
        **options: Arguments of `WandBLogger`.
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
                log.warning(
                    "Weights & Biases: %s; logging offline into %s", first_line(error), self._init_kwargs["dir"]
                )
            self._init_kwargs["mode"] = "offline"
            self._init_kwargs["settings"].init_timeout = OFFLINE_SECONDS
        # offline, nothing can be resumed from the server
        self._init_kwargs |= {"id": self._offline_id, "resume": None}
        try:
            return super().init(state, logger)
        except wandb.errors.Error as error:  # type: ignore[attr-defined]
            raise TrainingError(f"logging.wandb_project: Weights & Biases cannot start: {error}") from error


def unreachable(url: str, *, seconds: float) -> str | None:
    """Why the W&B server did not answer in time, or None if it answered, even with an error.

    Args:
        url: Base URL of the server. The request goes to its API, since a proxy may block only that.
        seconds: Time limit, including name resolution.
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
            if not isinstance(cause, ssl.SSLError):  # the server answered; wandb has its own certificates
                outcome.append(str(cause) or type(cause).__name__)
                return
        outcome.append(None)

    thread = threading.Thread(target=ask, daemon=True)  # name resolution cannot be interrupted
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:g} seconds"
