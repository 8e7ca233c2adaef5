"""The ComposerModel around an encoder. It knows no objective: the batch says what to predict and what to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from composer.models import ComposerModel
from torch import Tensor
from torchmetrics import Metric

from detour.batch import Batch, count_tokens
from detour.errors import DataError
from detour.models.modernbert.encoder import Encoder, Layer, LossSum


def tokens_for_trainer(batch: Batch) -> dict[str, Any]:
    """`count_tokens`, for a trainer that divides by the supervised tokens of a batch over all processes.

    Where there are none that would be a division by zero. Too small to change any sum, 1e-30 makes their loss 0; the guard
    then leaves the update out. The type is the same whatever the count, since it is summed over the processes.
    """
    counts = count_tokens(batch)
    return {**counts, "loss_generating": np.float64(counts["loss_generating"] or 1e-30)}


class TokenLoss(Metric):
    """Mean loss a supervised token over a whole evaluation and all processes, in nats; by folder and mask draw too.

    Args:
        draws: Mask draws.
        folders: Validation folders.
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
        """The loss over all of them. Afterwards ``sums`` holds losses and tokens of all processes, [draws, folders] each."""
        if not self.count.sum():
            raise DataError(
                "held-out loss: none of the held-out tokens is supervised; data.validation seems to hold special tokens only"
            )
        self.sums = (self.total.clone(), self.count.clone())
        return self.total.sum() / self.count.sum()


class DetourModel(ComposerModel):
    """An encoder as Composer trains it.

    Args:
        encoder: The model.
        bf16: Run the forward pass under bf16 autocast, on any device (Composer's own setting refuses the CPU).
        mask_draws: Of an evaluation.
        folders: Of the validation data.
    """

    def __init__(self, encoder: Encoder, *, bf16: bool = False, mask_draws: int = 1, folders: int = 1) -> None:
        super().__init__()
        self.encoder = encoder
        self.bf16 = bf16
        self.eval_metrics = TokenLoss(mask_draws, folders)
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

    def update_metric(self, batch: Mapping[str, Any], outputs: LossSum, metric: Metric) -> None:
        metric.update(outputs, batch["draw"], batch["stream"])
