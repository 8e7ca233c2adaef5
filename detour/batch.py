"""The batch, the record passed from the loader to the loss.

Shape suffixes used throughout the project:
    B rows in a batch            T tokens in a row (fixed)       N = B * T, the flattened tokens
    D documents in a row (padded with zero lengths)              M supervised positions
    H attention heads            d head width                    C hidden width
    V vocabulary                 S documents in the flat batch   L layers

A row is a packed sequence of fixed length T: whole documents, or pieces of long ones, followed by padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, cast

from typing_extensions import NotRequired

from detour.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -100  # label of a position that carries no loss, torch's and Hugging Face's convention


class Batch(TypedDict):
    """A batch of rows: clean as the loader yields it, with labels after an objective has corrupted it."""

    input_ids: Tensor  # int64 [B, T]
    doc_lengths: Tensor  # int64 [B, D]: tokens per document in order, then zeros; a row sums to <= T
    sample_id: Tensor  # int64 [B]: the row's global index in the training stream
    # of rows with labeled spans only
    doc_classes: NotRequired[Tensor]  # int64 [B, D]: class of each document; IGNORE where a row has fewer documents
    doc_spans: NotRequired[
        Tensor
    ]  # int64 [B, D, 4]: start and end of a document's two spans, counted from the row's start
    # of corrupted batches
    labels: NotRequired[Tensor]  # int64 [B, T]: what position t must predict, or IGNORE
    attention: NotRequired[str]  # "bidirectional", "causal", "lookahead:K" or "reach"
    reach: NotRequired[Tensor]  # int64 [B, T]: tokens to its right that a token may attend to, if attention is "reach"
    weights: NotRequired[Tensor]  # float32 [B, T]: weight of a position's loss; 1 if left out
    loss_tokens: NotRequired[
        Tensor
    ]  # int64 [B]: what a row adds to the mean's denominator; its supervised tokens if left out
    objective: NotRequired[str]  # registered name, for logs and metrics
    module_objective: NotRequired[Any]  # the `ModuleObjective`, if a module of its own computes the loss
    # set on micro-batches, so that no count has to be read back from the device
    tokens: NotRequired[int]  # excluding padding
    denominator: NotRequired[int]  # sum of loss_tokens
    supervised_at: NotRequired[Tensor]  # int64 [M]: indices of the flattened labels that are not IGNORE
    pieces: NotRequired[
        Tensor
    ]  # int64 [S]: tokens of each document of the flattened rows and of their padding, all > 0
    longest: NotRequired[int]  # the largest of them


def doc_ids_of(batch: Batch) -> Tensor:
    """Index of each token's document within its row, int64 [B, T]; padding is -1."""
    import torch

    lengths_BD = batch["doc_lengths"]
    T = batch["input_ids"].shape[1]
    ends_BD = lengths_BD.cumsum(1)
    position_T = torch.arange(T, device=lengths_BD.device)
    # number of documents that end at or before t; zero-length tail entries repeat the last end
    ids_BT = torch.searchsorted(ends_BD.contiguous(), position_T.expand(len(lengths_BD), T).contiguous(), right=True)
    return ids_BT.masked_fill(position_T[None] >= ends_BD[:, -1:], -1)


def count_tokens(batch: Batch) -> dict[str, int]:
    """Number of tokens without padding (``total``) and of supervised tokens (``loss_generating``)."""
    total = batch["tokens"] if "tokens" in batch else int(batch["doc_lengths"].sum())
    if "supervised_at" in batch:
        return {"total": total, "loss_generating": len(batch["supervised_at"])}
    labels_BT = batch.get("labels")
    return {"total": total, "loss_generating": total if labels_BT is None else int((labels_BT != IGNORE).sum())}


def loss_denominator(batch: Batch) -> int:
    """The number by which the summed loss of a batch is divided: its supervised tokens, or the sum of `loss_tokens`."""
    if "denominator" in batch:
        return batch["denominator"]
    return int(batch["loss_tokens"].sum()) if "loss_tokens" in batch else count_tokens(batch)["loss_generating"]


def target_positions(labels_BT: Tensor) -> Tensor:
    """Indices of the flattened labels that are not IGNORE, int64 [M]. Synchronizes with the labels' device."""
    return (labels_BT.flatten() != IGNORE).nonzero().squeeze(1)


def pieces_of(doc_lengths_BD: Tensor, T: int, *, limit: int | None = None) -> Tensor:
    """Tokens of each document of the flattened rows and of the padding after them, int64 [S]; zeros may be among them.

    Args:
        doc_lengths_BD: Tokens per document of each row.
        T: Tokens per row.
        limit: Most tokens of a document; padding is divided accordingly, so that its positions exist. None for no limit.
    """
    import torch

    tail_B1 = T - doc_lengths_BD.sum(1, keepdim=True)
    if limit is not None and limit < T:
        starts = torch.arange(0, T, limit, device=tail_B1.device)
        tail_B1 = (tail_B1 - starts).clamp(0, limit)
    return torch.cat([doc_lengths_BD, tail_B1], 1).flatten()


def micro_batches(batch: Batch, rows: float, *, limit: int | None = None) -> list[Batch]:
    """Splits a supervised batch on the CPU into micro-batches of ``rows`` rows.

    Token counts, supervised positions and the lengths that attention kernels need are computed here, and tensors are pinned
    if there is a GPU, so that neither the copy nor the step synchronizes with the device.

    Args:
        batch: The batch.
        rows: Rows per micro-batch.
        limit: Most tokens of a document, as in `pieces_of`.
    """
    import torch

    size, pieces = int(rows), []
    for start in range(0, len(batch["input_ids"]), size):
        piece: dict[str, Any] = {
            key: value[start : start + size] if isinstance(value, torch.Tensor) else value
            for key, value in batch.items()
        }
        piece["supervised_at"] = target_positions(piece["labels"])
        piece["tokens"] = int(piece["doc_lengths"].sum())
        lengths_S = pieces_of(piece["doc_lengths"], piece["input_ids"].shape[1], limit=limit)
        piece["pieces"] = lengths_S[lengths_S > 0]
        piece["longest"] = int(lengths_S.max())
        if "loss_tokens" in piece:
            piece["denominator"] = int(piece["loss_tokens"].sum())
        if torch.cuda.is_available():
            piece = {
                key: value.pin_memory() if isinstance(value, torch.Tensor) else value for key, value in piece.items()
            }
        pieces.append(cast(Batch, piece))
    return pieces


def check_batch(batch: Batch) -> None:
    """Checks shapes, types and document lengths of a batch; for tests and new loaders.

    Raises:
        DataError: The batch is malformed.
    """
    import torch

    ids_BT, lengths_BD = batch["input_ids"], batch["doc_lengths"]
    for name in ("input_ids", "doc_lengths", "sample_id", "labels", "doc_classes", "doc_spans"):
        tensor = batch.get(name)
        if tensor is not None and tensor.dtype != torch.int64:
            raise DataError(f"batch['{name}'] has dtype {tensor.dtype}, expected int64")
    if (
        ids_BT.ndim != 2
        or lengths_BD.ndim != 2
        or len(lengths_BD) != len(ids_BT)
        or len(batch["sample_id"]) != len(ids_BT)
    ):
        raise DataError(
            f"batch: input_ids {tuple(ids_BT.shape)}, doc_lengths {tuple(lengths_BD.shape)}, sample_id "
            f"{tuple(batch['sample_id'].shape)}; expected [B, T], [B, D], [B]"
        )
    for name, shape, dtype in (
        ("reach", ids_BT.shape, torch.int64),
        ("weights", ids_BT.shape, torch.float32),
        ("loss_tokens", ids_BT.shape[:1], torch.int64),
    ):
        tensor = batch.get(name)
        if tensor is not None and not (tensor.shape == shape and tensor.dtype == dtype and bool((tensor >= 0).all())):
            raise DataError(
                f"batch['{name}'] is {tensor.dtype} {tuple(tensor.shape)} with values from {tensor.min()}, expected {dtype} "
                f"{tuple(shape)} with values of at least 0"
            )
    if (lengths_BD < 0).any() or (lengths_BD.sum(1) > ids_BT.shape[1]).any() or (lengths_BD[:, 0] == 0).any():
        raise DataError(
            "batch['doc_lengths']: in every row lengths must be >= 0, the first > 0, and their sum at most T"
        )
    if (lengths_BD[:, :-1].eq(0) & lengths_BD[:, 1:].gt(0)).any():
        raise DataError("batch['doc_lengths']: zeros are allowed only after the last document of a row")
