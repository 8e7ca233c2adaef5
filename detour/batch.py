"""The batch: the one record that travels from the loader to the loss.

Shape suffixes used throughout the project:
    B rows in a batch            T tokens in a row (fixed)       N = B * T, the flattened tokens
    D documents in a row (padded with zero lengths)              M supervised positions
    H attention heads            d head width                    C hidden width
    V vocabulary                 S documents in the flat batch   L layers

A row is a fixed number of tokens holding whole documents (or pieces of long ones) one after another; whatever the
documents leave free at the end of the row is padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, cast

from typing_extensions import NotRequired

from detour.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

IGNORE = -100  # label of a position that carries no loss, torch's and Hugging Face's convention


class Batch(TypedDict):
    """A clean batch as the loader yields it, and, once an objective has worked on it, a supervised one."""

    input_ids: Tensor  # int64 [B, T]
    doc_lengths: Tensor  # int64 [B, D]: tokens of each document in order, zeros after the last; row sum <= T
    sample_id: Tensor  # int64 [B]: the row's global index in the training stream
    labels: NotRequired[Tensor]  # int64 [B, T]: what position t must predict, or IGNORE
    attention: NotRequired[str]  # "bidirectional" or "causal"
    objective: NotRequired[str]  # the registered name, for logs and metrics
    # of a micro-batch, so that nothing has to be asked of the device that it is on
    tokens: NotRequired[int]  # that are not padding
    supervised_at: NotRequired[Tensor]  # int64 [M]: places in the flattened labels that are not IGNORE


def doc_ids_of(batch: Batch) -> Tensor:
    """int64 [B, T]: index of the document that holds each token, counted per row; padding is -1."""
    import torch

    lengths_BD = batch["doc_lengths"]
    T = batch["input_ids"].shape[1]
    ends_BD = lengths_BD.cumsum(1)
    position_T = torch.arange(T, device=lengths_BD.device)
    # the number of documents that end at or before t; zero-length tail entries share the last end, so no loop is needed
    ids_BT = torch.searchsorted(ends_BD.contiguous(), position_T.expand(len(lengths_BD), T).contiguous(), right=True)
    return ids_BT.masked_fill(position_T[None] >= ends_BD[:, -1:], -1)


def count_tokens(batch: Batch) -> dict[str, int]:
    """Tokens that are not padding (``total``) and tokens that carry loss (``loss_generating``)."""
    total = batch["tokens"] if "tokens" in batch else int(batch["doc_lengths"].sum())
    if "supervised_at" in batch:
        return {"total": total, "loss_generating": len(batch["supervised_at"])}
    labels_BT = batch.get("labels")
    return {"total": total, "loss_generating": total if labels_BT is None else int((labels_BT != IGNORE).sum())}


def target_positions(labels_BT: Tensor) -> Tensor:
    """int64 [M]: places in the flattened labels that are not IGNORE. Waits for the device that they are on."""
    return (labels_BT.flatten() != IGNORE).nonzero().squeeze(1)


def micro_batches(batch: Batch, rows: float) -> list[Batch]:
    """A supervised batch in pieces of so many rows, before it goes to the device: each with its counts taken, and in pinned
    memory where there is a GPU, so that neither the copy nor the step waits for what the device does.
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
        if torch.cuda.is_available():
            piece = {
                key: value.pin_memory() if isinstance(value, torch.Tensor) else value for key, value in piece.items()
            }
        pieces.append(cast(Batch, piece))
    return pieces


def check_batch(batch: Batch) -> None:
    """Raises DataError unless shapes, types and document lengths are those of a `Batch`. Meant for tests and new loaders."""
    import torch

    ids_BT, lengths_BD = batch["input_ids"], batch["doc_lengths"]
    for name in ("input_ids", "doc_lengths", "sample_id", "labels"):
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
    if (lengths_BD < 0).any() or (lengths_BD.sum(1) > ids_BT.shape[1]).any() or (lengths_BD[:, 0] == 0).any():
        raise DataError("batch['doc_lengths']: every row needs lengths >= 0, a first document, and a sum of at most T")
    if (lengths_BD[:, :-1].eq(0) & lengths_BD[:, 1:].gt(0)).any():
        raise DataError("batch['doc_lengths']: zeros may only follow the last document of a row")
