"""Losses of the heads of transformers; heads over sequences or spans have their own.

Shapes: C labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detour.batch import IGNORE
from detour.evaluation.data.task import Task
from detour.evaluation.finetune.heads import BiLstmCrf
from detour.evaluation.finetune.span_head import SpanHead


def loss_of(task: Task, weights_C: Tensor | None = None) -> Callable[..., Tensor]:
    """Loss function for the Trainer: a mean over all labels of the batch, which does not depend on micro-batches.

    Classification and NER: cross-entropy. Multilabel: binary cross-entropy. Similarity: squared error.

    Args:
        task: The task.
        weights_C: float [C], weight of the positive examples of each label (multilabel only).
    """

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        logits = outputs["logits"].float()
        if task.kind == "similarity":
            each = F.mse_loss(logits.squeeze(-1), labels, reduction="none")
        elif task.kind == "multilabel":
            weights = None if weights_C is None else weights_C.to(logits.device)
            each = F.binary_cross_entropy_with_logits(logits, labels, reduction="none", pos_weight=weights)
        else:
            each = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE, reduction="none")
        count = num_items_in_batch if num_items_in_batch is not None else (labels != IGNORE).sum()
        return each.sum() / max(int(count), 1)

    return loss


def loss_for(model: nn.Module, task: Task, features: Sequence[dict[str, Any]]) -> Callable[..., Tensor] | None:
    """The loss for the Trainer; None if the model has its own, over sequences of tags or over spans."""
    return None if isinstance(model, (BiLstmCrf, SpanHead)) else loss_of(task, _positive_weights(task, features))


def _positive_weights(task: Task, features: Sequence[dict[str, Any]]) -> Tensor | None:
    """float [C]: negative over positive examples per label; 1 for labels absent from train. None if not configured."""
    if not task.training.class_weights:
        return None
    with_C = torch.tensor([feature["labels"] for feature in features]).sum(0)
    return torch.where(with_C > 0, (len(features) - with_C) / with_C.clamp(min=1), 1.0)
