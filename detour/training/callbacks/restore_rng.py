"""Restores the random number generators when a run resumes."""

from __future__ import annotations

import logging

from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist

from detour.training.checkpoints.files import Checkpoint
from detour.training.checkpoints.rng import set_rng_state

log = logging.getLogger(__name__)


class RestoreRng(Callback):
    """Restores the random number generators on the first batch after a resume, so that dropout continues exactly.

    No earlier moment works: Composer reseeds when it loads, and streaming draws random numbers while it starts. If the
    number of processes changed, nothing is restored, with a warning.

    Args:
        checkpoint: The checkpoint from which the run resumes.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint: Checkpoint | None = checkpoint

    def after_dataloader(self, state: State, logger: Logger) -> None:
        if self._checkpoint is None:
            return
        with self._checkpoint.translate_errors():
            plain, tensors = self._checkpoint.state()["rng"], self._checkpoint.tensors("rng")
            rank, processes = dist.get_global_rank(), dist.get_world_size()
            if len(plain) == processes:
                own = {key.split("/", 1)[1]: t for key, t in tensors.items() if key.startswith(f"{rank}/")}
                set_rng_state({"plain": plain[rank], "tensors": own})
            else:
                log.warning(
                    "%d processes instead of %d: random states are not restored, dropout differs", processes, len(plain)
                )
        self._checkpoint = None
