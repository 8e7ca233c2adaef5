"""Compares the vocabularies of two tokenizers: whether an id means the same token, as embeddings require."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from detour.data.tokenizer import tokenizer_sha256

SHOWN = 3


def vocabulary_differences(start: PreTrainedTokenizerFast, given: PreTrainedTokenizerFast) -> list[str]:
    """Differences in the meaning of ids between two tokenizers, one line each; empty if there are none.

    Compares the token of every id, and the mask id. Merges, normalization and template are not compared (see
    `other_rules`): they change how text is encoded, not what an id means.
    """
    before = {id: token for token, id in start.get_vocab().items()}
    after = {id: token for token, id in given.get_vocab().items()}
    lines = []
    other = sorted(id for id in before.keys() & after.keys() if before[id] != after[id])
    if other:
        shown = ", ".join(f"{id} is {before[id]!r} there and {after[id]!r} here" for id in other[:SHOWN])
        lines.append(f"{len(other):,} of {len(before):,} ids mean a different token ({shown})")
    for what, ids, tokens in (("are missing", before.keys() - after.keys(), before),
                              ("are new", after.keys() - before.keys(), after)):  # fmt: skip
        if ids:
            shown = ", ".join(f"{id} {tokens[id]!r}" for id in sorted(ids)[:SHOWN])
            lines.append(f"{len(ids):,} ids {what} ({shown})")
    if start.mask_token_id != given.mask_token_id:
        lines.append(f"mask_token is id {start.mask_token_id} there and {given.mask_token_id} here")
    return lines


def other_rules(start: PreTrainedTokenizerFast, given: PreTrainedTokenizerFast) -> bool:
    """Whether two tokenizers with the same vocabulary may encode text differently: by merges, normalization or template."""
    return tokenizer_sha256(start) != tokenizer_sha256(given)
