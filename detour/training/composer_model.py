"""The ComposerModel around an encoder. It is independent of objectives: labels and attention come with the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from composer.models import ComposerModel
from torch import Tensor
from torchmetrics import Metric

from detour.batch import Batch, count_tokens, loss_denominator
from detour.errors import DataError
from detour.models.encoder import Encoder, LossSum
from detour.models.layers import Layer


def tokens_for_trainer(batch: Batch) -> dict[str, Any]:
    """`count_tokens` for Composer, which divides the loss by `loss_denominator`, summed over all processes.

    If there are none, 1e-30 avoids a division by zero: the loss is then 0, other sums are unchanged, and the step guard skips
    the update. The count is always float64, because processes sum it with an all-reduce.
    """
    return {"total": count_tokens(batch)["total"], "loss_generating": np.float64(loss_denominator(batch) or 1e-30)}


class TokenLoss(Metric):
    """Mean loss of an evaluation over all processes, in nats per supervised token.

    Shapes: D counts mask draws, F validation folders.

    Args:
        draws: Number of mask draws.
        folders: Number of validation folders.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, draws: int = 1, folders: int = 1) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((draws, folders), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((draws, folders), dtype=torch.int64), dist_reduce_fx="sum")
        self.sums: tuple[Tensor, Tensor] = (self.total, self.count)

    def update(self, outputs: LossSum, draw: int = 0, folder: int = 0) -> None:
        self.total[draw, folder] += outputs.total.double()
        self.count[draw, folder] += outputs.supervised

    def compute(self) -> Tensor:
        """The mean over all draws and folders. Sets ``sums`` to the summed losses and token counts, [D, F] each.

        Raises:
            DataError: No held-out token is supervised.
        """
        if not self.count.sum():
            raise DataError(
                "held-out loss: no held-out token is supervised; data.validation seems to hold special tokens only"
            )
        self.sums = (self.total.clone(), self.count.clone())
        return self.total.sum() / self.count.sum()


class DetourModel(ComposerModel):
    """Wraps an encoder for Composer's Trainer.

    Args:
        encoder: The model.
        bf16: Run the forward pass under bf16 autocast on any device (Composer's own setting excludes the CPU).
        mask_draws: Number of mask draws in an evaluation.
        folders: Number of validation folders.
    """

    def __init__(self, encoder: Encoder, *, bf16: bool = False, mask_draws: int = 1, folders: int = 1) -> None:
        super().__init__()
        self.encoder = encoder
        self.bf16 = bf16
        self.eval_metrics = TokenLoss(mask_draws, folders)
        # tells Composer which modules FSDP shards as one unit
        encoder.fsdp_wrap_fn = lambda module: isinstance(module, Layer)  # type: ignore[assignment]

    def forward(self, batch: Batch) -> LossSum:
        """Summed loss of a corrupted batch, and the number by which its mean divides."""
        ids_BT = batch["input_ids"]
        with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.encoder.loss_of(batch)

    def loss(self, outputs: LossSum, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        """Mean loss over the supervised tokens of a micro-batch; Composer weights micro-batches by their token counts."""
        mean = outputs.total / outputs.supervised.clamp(min=1)
        return {"total": mean, batch["objective"]: mean.detach().clone()}  # type: ignore[typeddict-item]

    def eval_forward(self, batch: Batch, outputs: Any = None) -> LossSum:
        return self(batch) if outputs is None else outputs

    def get_metrics(self, is_train: bool) -> dict[str, Metric]:
        return {} if is_train else {"loss": self.eval_metrics}

    def update_metric(self, batch: Mapping[str, Any], outputs: LossSum, metric: Metric) -> None:
        if not batch["idle"]:
            metric.update(outputs, batch["draw"], batch["stream"])
