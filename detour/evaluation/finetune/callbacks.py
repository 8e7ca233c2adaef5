"""Trainer callbacks of a fine-tuning: weights of the best epoch, and progress."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from transformers import TrainerCallback

Progress = Callable[[int, int], None]  # called with the steps done and the total


class KeepBest(TrainerCallback):
    """Keeps the weights of the epoch with the highest validation score in main memory; on ties, the first.

    Args:
        metric: Key of the score in the evaluation metrics.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.curve: list[float] = []
        self.epoch = 0
        self.weights: dict[str, Tensor] = {}

    def on_evaluate(self, args, state, control, metrics, model, **kwargs):  # type: ignore[override]
        self.curve.append(float(metrics[self.metric]))
        if len(self.curve) == 1 or self.curve[-1] > max(self.curve[:-1]):
            self.epoch = len(self.curve)
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


class Report(TrainerCallback):
    """Calls ``progress`` after each step, and with the same numbers after each batch of a prediction: a sign of life."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def on_step_end(self, args, state, control, **kwargs):
        self.progress(state.global_step, state.max_steps)

    on_prediction_step = on_step_end
