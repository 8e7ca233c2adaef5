"""Logs held-out losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from composer.core import Callback, State
from composer.loggers import Logger

TOGETHER, BY_FOLDER, SPREAD = "loss/eval", "loss/eval_folder", "loss/eval_sd"


class EvalLoss(Callback):
    """Logs the held-out losses of each evaluation, in nats per supervised token.

    - ``loss/eval/<objective>``: over all rows and mask draws.
    - ``loss/eval_folder/<objective>/<folder>``: over the rows of one validation folder, if there are several.
    - ``loss/eval_sd/<objective>``: standard deviation over the mask draws, if there are several.

    Args:
        folders: Names of the validation folders of each objective, in order.
    """

    def __init__(self, folders: Mapping[str, Sequence[str]]) -> None:
        self.folders = folders

    def eval_end(self, state: State, logger: Logger) -> None:
        label = state.dataloader_label
        assert label is not None
        metric = state.eval_metrics[label]["loss"]
        values = {f"{TOGETHER}/{label}": metric.compute().item()}
        names = self.folders[label]
        total_DF, count_DF = (sums_DF[:, : len(names)] for sums_DF in metric.sums)  # type: ignore[misc]
        if len(names) > 1:
            tokens_F = count_DF.sum(0)
            losses_F = total_DF.sum(0) / tokens_F
            for name, loss, tokens in zip(names, losses_F.tolist(), tokens_F.tolist(), strict=True):
                if tokens:  # a folder may have no supervised token
                    values[f"{BY_FOLDER}/{label}/{name}"] = loss
        drawn_D = count_DF.sum(1) > 0
        if drawn_D.sum() > 1:
            losses_D = total_DF.sum(1)[drawn_D] / count_DF.sum(1)[drawn_D]
            values[f"{SPREAD}/{label}"] = losses_D.std().item()
        logger.log_metrics(values)
