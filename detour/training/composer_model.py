"""The ComposerModel around an encoder. It knows no objective: the batch says what to predict and what to look at."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from composer.models import ComposerModel
from torch import Tensor
from torchmetrics import Metric

from detour.batch import Batch, count_tokens
from detour.errors import DataError
from detour.model.encoder import Encoder, Layer, LossSum


def tokens_for_trainer(batch: Batch) -> dict[str, Any]:
    """`count_tokens`, for a trainer that divides by the supervised tokens of a batch over all processes.

    Where there are none that would be a division by zero. Too small to change any sum, 1e-30 makes their loss 0; the guard
    then leaves the update out. The type is the same whatever the count, since it is summed over the processes.
    """
    counts = count_tokens(batch)
    return {**counts, "loss_generating": np.float64(counts["loss_generating"] or 1e-30)}


class TokenLoss(Metric):
    """Mean loss a supervised token over a whole evaluation and all processes, in nats."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, outputs: LossSum) -> None:
        self.total += outputs.total.double()
        self.count += outputs.supervised

    def compute(self) -> Tensor:
        if not self.count:
            raise DataError(
                "held-out loss: none of the held-out tokens is supervised; data.validation seems to hold special tokens only"
            )
        return self.total / self.count


class DetourModel(ComposerModel):
    """An encoder as Composer trains it.

    Args:
        encoder: The model.
        bf16: Run the forward pass under bf16 autocast, on any device (Composer's own setting refuses the CPU).
    """

    def __init__(self, encoder: Encoder, *, bf16: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.bf16 = bf16
        self.eval_metrics = TokenLoss()
        # Composer asks each child which of its modules FSDP shards as a unit
        encoder.fsdp_wrap_fn = lambda module: isinstance(module, Layer)  # type: ignore[assignment]

    def forward(self, batch: Batch) -> LossSum:
        """Summed loss and count of a corrupted batch."""
        ids_BT = batch["input_ids"]
        with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            return self.encoder(
                ids_BT, batch["doc_lengths"], batch["labels"], batch["attention"], batch.get("supervised_at")  # type: ignore[typeddict-item]
            )  # fmt: skip

    def loss(self, outputs: LossSum, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        """Mean over the micro-batch's supervised tokens; Composer weights micro-batches by their token counts."""
        mean = outputs.total / outputs.supervised.clamp(min=1)
        return {"total": mean, batch["objective"]: mean.detach().clone()}  # type: ignore[typeddict-item]

    def eval_forward(self, batch: Batch, outputs: Any = None) -> LossSum:
        return self(batch) if outputs is None else outputs

    def get_metrics(self, is_train: bool) -> dict[str, Metric]:
        return {} if is_train else {"loss": self.eval_metrics}

    def update_metric(self, batch: Batch, outputs: LossSum, metric: Metric) -> None:
        metric.update(outputs)
