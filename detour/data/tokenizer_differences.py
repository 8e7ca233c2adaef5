"""Whether two tokenizers mean the same by an id: what a model's embeddings depend on."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from detour.data.tokenizer import fingerprint

SHOWN = 3


def vocabulary_differences(start: PreTrainedTokenizerFast, given: PreTrainedTokenizerFast) -> list[str]:
    """What keeps ``given`` from giving the ids of ``start`` the same meaning, a line each; empty if nothing does.

    Compared are the tokens of all ids, and which of them is the mask. Rules that split text and the template around it are
    not (see `other_rules`): under another rule an id still means its token.
    """
    before = {id: token for token, id in start.get_vocab().items()}
    after = {id: token for token, id in given.get_vocab().items()}
    lines = []
    other = sorted(id for id in before.keys() & after.keys() if before[id] != after[id])
    if other:
        shown = ", ".join(f"{id} is {before[id]!r} there and {after[id]!r} here" for id in other[:SHOWN])
        lines.append(f"{len(other):,} of {len(before):,} ids mean another token ({shown})")
    for what, ids, tokens in (("are missing", before.keys() - after.keys(), before),
                              ("are new", after.keys() - before.keys(), after)):  # fmt: skip
        if ids:
            shown = ", ".join(f"{id} {tokens[id]!r}" for id in sorted(ids)[:SHOWN])
            lines.append(f"{len(ids):,} ids {what} ({shown})")
    if start.mask_token_id != given.mask_token_id:
        lines.append(f"mask_token is id {start.mask_token_id} there and {given.mask_token_id} here")
    return lines


def other_rules(start: PreTrainedTokenizerFast, given: PreTrainedTokenizerFast) -> bool:
    """Whether tokenizers of one vocabulary still encode some text differently: by merges, normalization or template."""
    return fingerprint(start) != fingerprint(given)
