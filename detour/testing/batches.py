"""Vocabularies and clean batches for tests of objectives and models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from detour.batch import IGNORE, Batch, doc_ids_of
from detour.vocab import Vocab

if TYPE_CHECKING:
    from detour.models.encoder import Encoder

ROW_TOKENS = 48
# A full row of one document, one-token documents only, cuts of every kind, padding long and short.
ROWS = (
    (ROW_TOKENS,),
    (1,) * ROW_TOKENS,
    (1, 2, 3, 41, 1),
    (20, 20),
    (12, 12, 12, 12),
    (5,),
    (2,),
    (1,),
    (10, 1, 30, 6),
    (7, 40),
)


def make_vocab(size: int = 64, *, words: bool = True) -> Vocab:
    """A vocabulary with ids pad 0, cls 1, sep 2, unk 3, mask 4 and ordinary ones above.

    Args:
        size: Number of ids, at least 8.
        words: Whether the vocabulary marks where words begin; every third ordinary token then continues a word.
    """
    ids_V = torch.arange(size)
    return Vocab(
        size=size,
        mask_id=4,
        pad_id=0,
        special_ids=(0, 1, 2, 3, 4),
        ordinary_ids=ids_V[5:],
        starts_word_V=(ids_V % 3 != 0) | (ids_V < 5) if words else None,
    )


def make_batch(
    rows: Sequence[Sequence[int]],
    *,
    T: int | None = None,
    vocab: Vocab | None = None,
    seed: int = 0,
    first_sample: int = 0,
    specials: bool = True,
    classes: int = 0,
) -> Batch:
    """A clean batch of random tokens with documents of the given lengths.

    Args:
        rows: For each row the lengths of its documents.
        T: Tokens in a row; by default those of the longest row. The rest of a row is padding.
        vocab: Source of the ids, `make_vocab()` by default.
        seed: Of the tokens.
        first_sample: `sample_id` of the first row; the others count up from there.
        specials: Begin and end each document of at least three tokens with a special token.
        classes: Number of classes of which each document has one, with its two halves as spans; 0 for rows of plain text.
    """
    vocab = vocab or make_vocab()
    T = T or max(sum(row) for row in rows)
    width = max(len(row) for row in rows)
    generator = torch.Generator().manual_seed(seed)
    drawn_BT = torch.randint(len(vocab.ordinary_ids), (len(rows), T), generator=generator)
    lengths_BD = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    sample_id_B = first_sample + torch.arange(len(rows))
    batch = Batch(input_ids=vocab.ordinary_ids[drawn_BT], doc_lengths=lengths_BD, sample_id=sample_id_B)
    batch["input_ids"][doc_ids_of(batch) < 0] = vocab.pad_id
    if specials:
        _frame_documents(batch, vocab)
    if classes:
        start_BD, drawn_BD = (
            lengths_BD.cumsum(1) - lengths_BD,
            torch.randint(classes, lengths_BD.shape, generator=generator),
        )
        end_BD, middle_BD = start_BD + lengths_BD, start_BD + (lengths_BD + 1) // 2
        second_BD = middle_BD - (lengths_BD == 1).long()  # of a single token, both spans are that one
        batch["doc_classes"] = drawn_BD.where(lengths_BD > 0, IGNORE)
        batch["doc_spans"] = torch.stack([start_BD, middle_BD, second_BD, end_BD], 2)
    return batch


def _frame_documents(batch: Batch, vocab: Vocab) -> None:
    """Sets the first and last token of each document of three or more to a special id that is neither mask nor pad."""
    framing = [i for i in vocab.special_ids if i not in (vocab.mask_id, vocab.pad_id)] or [vocab.mask_id]
    ends_BD = batch["doc_lengths"].cumsum(1)
    for row, document in (batch["doc_lengths"] >= 3).nonzero().tolist():
        end = int(ends_BD[row, document])
        start = end - int(batch["doc_lengths"][row, document])
        batch["input_ids"][row, start] = framing[0]
        batch["input_ids"][row, end - 1] = framing[min(1, len(framing) - 1)]


def tiny_encoder(vocab: Vocab) -> Encoder:
    """A ModernBERT of two layers with random weights."""
    from detour.models.encoder import Encoder
    from detour.models.families import architecture

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return Encoder(architecture("tiny", {"vocab_size": vocab.size, **sizes}))
