"""Classification of the relation between two spans, such as two terms of an ontology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detour.batch import IGNORE, Batch, target_positions
from detour.data.manifest import ShardManifest
from detour.errors import DataError
from detour.objectives.base import register
from detour.objectives.module_objective import ModuleObjective
from detour.objectives.random import RowRandom
from detour.vocab import Vocab

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detour.models.architecture import Architecture
    from detour.models.encoder import Encoder, LossSum


@register("pair_classification")
@dataclass(frozen=True, kw_only=True)
class PairClassification(ModuleObjective):
    """Predicts the class of each document from its two spans, under bidirectional attention.

    The representation of a span is the mean of its final hidden states; a linear layer classifies [u; v; |u - v|], as
    Sentence-BERT does (arXiv 1908.10084, section 3). The inputs are not corrupted. The label is at the first token of each
    document, so the loss is the mean over documents. The rows are those of `detour data pack-pairs`.

    Attributes:
        classes: Names of the classes, as in the rows.
        stream: The stream of the phase that has the rows; "" for the phase's `data`.
    """

    classes: list[str]
    stream: str = "pairs"

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len({*self.classes}) < len(self.classes):
            raise ValueError(f"classes: {self.classes}, expected at least two different names")

    def stream_at(self, step: int) -> str:
        return self.stream

    def row_problem(self, manifests: Sequence[ShardManifest]) -> str | None:
        for manifest in manifests:
            if list(manifest.classes) != self.classes:
                found = ", ".join(manifest.classes) or "none; make them with detour data pack-pairs"
                return f"classes: {', '.join(self.classes)}, but those of the rows are {found}"
        return None

    def corrupt(self, batch: Batch, vocab: Vocab, rng: RowRandom) -> Batch:
        import torch

        if "doc_classes" not in batch:
            raise DataError("pair_classification: the rows have no classes; make them with detour data pack-pairs")
        lengths_BD, ids_BT = batch["doc_lengths"], batch["input_ids"]
        start_BD = lengths_BD.cumsum(1) - lengths_BD
        labels_BT = torch.full_like(ids_BT, IGNORE)
        row, document = (lengths_BD > 0).nonzero(as_tuple=True)
        labels_BT[row, start_BD[row, document]] = batch["doc_classes"][row, document]
        return {**batch, "labels": labels_BT}

    def target_fraction(self, mean_document_tokens: float) -> float:
        return 1 / mean_document_tokens

    def build_module(self, encoder: Encoder) -> nn.Module:
        from torch import nn

        return nn.Linear(3 * encoder.arch.hidden_size, len(self.classes))

    @property
    def module_key(self) -> object:
        return self.classes

    def loss_sum(self, encoder: Encoder, module: nn.Module, batch: Batch) -> LossSum:
        import torch

        from detour.models.encoder import LossSum

        spans_BD4: Tensor = batch["doc_spans"]  # type: ignore[typeddict-item]
        row, document = (batch["doc_lengths"] > 0).nonzero(as_tuple=True)
        # documents are in the order of their first tokens, where the labels are
        at_M = batch["supervised_at"] if "supervised_at" in batch else target_positions(batch["labels"])  # type: ignore[typeddict-item]
        x_NC = encoder.hidden_of(batch)
        span_M4 = spans_BD4[row, document] + row[:, None] * batch["input_ids"].shape[1]
        u_MC, v_MC = (_span_means(x_NC, span_M4[:, i], span_M4[:, i + 1]) for i in (0, 2))
        logits_MK = module(torch.cat([u_MC, v_MC, (u_MC - v_MC).abs()], 1)).float()
        target_M = batch["labels"].flatten()[at_M]  # type: ignore[typeddict-item]
        total = torch.nn.functional.cross_entropy(logits_MK, target_M, reduction="sum")
        return LossSum(total=total, supervised=torch.full((), len(at_M), dtype=torch.int64, device=total.device))

    def module_flops(self, arch: Architecture, *, tokens: float, supervised: float) -> float:
        return 3 * 2 * 3 * arch.hidden_size * len(self.classes) * supervised


def _span_means(x_NC: Tensor, start_M: Tensor, end_M: Tensor) -> Tensor:
    """Mean of x over each span [start, end), in fp32; a sparse product, so only tokens of spans cost anything."""
    import torch

    width_M = end_M - start_M
    span_K = torch.arange(len(width_M), device=x_NC.device).repeat_interleave(width_M)
    offset_K = torch.arange(len(span_K), device=x_NC.device) - (width_M.cumsum(0) - width_M)[span_K]
    sums_MC = torch.zeros(len(width_M), x_NC.shape[1], dtype=torch.float32, device=x_NC.device)
    sums_MC = sums_MC.index_add(0, span_K, x_NC[start_M[span_K] + offset_K].float())
    return sums_MC / width_M[:, None]
