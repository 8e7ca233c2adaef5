"""Held-out loss under the names that users look for."""

from __future__ import annotations

from composer.core import Callback, State
from composer.loggers import Logger


class EvalLoss(Callback):
    """Logs each evaluation as ``loss/eval/<objective>``, in nats a supervised token."""

    def eval_end(self, state: State, logger: Logger) -> None:
        label = state.dataloader_label
        assert label is not None
        logger.log_metrics({f"loss/eval/{label}": state.eval_metrics[label]["loss"].compute().item()})
