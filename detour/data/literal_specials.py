"""Special tokens spelled out in a text, such as a "[MASK]" that an author wrote: counted, and encoded as text."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Token to id of every special token: those declared as such and those with a role."""
    declared = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return declared | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))


def literal_counter(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], int]:
    """A function that counts the special tokens spelled out in a text."""
    longest_first = sorted(filter(None, special_tokens(tokenizer)), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return lambda text: sum(1 for _ in pattern.finditer(text)) if longest_first else 0


def encode_specials_as_text(backend: Tokenizer, tokenizer: PreTrainedTokenizerFast) -> None:
    """Makes ``backend`` split special tokens in text as it splits any other text; its template is not affected.

    That is `split_special_tokens` of transformers. Models whose own vocabulary holds a special token as a piece
    (Unigram, WordLevel) would still produce it: their input is parted behind the token's first character.
    """
    backend.encode_special_tokens = True  # the library's name: encode as text
    special = special_tokens(tokenizer)
    parted = {token for token, id in special.items() if len(token) > 1 and _gives(backend, token, id)}
    parted.discard(str(tokenizer.unk_token))  # what is unknown becomes it by right
    if not parted:
        return
    first = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in sorted(parted))
    split = pre_tokenizers.Split(Regex(first), "isolated")
    before = backend.pre_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([before, split]) if before else split  # type: ignore[assignment]
    if left := [token for token in parted if _gives(backend, token, special[token])]:
        log.warning("tokenizer %s: %s in a text becomes the special token", tokenizer.name_or_path, ", ".join(left))


def _gives(backend: Tokenizer, token: str, id: int) -> bool:
    """Whether a text that spells the token out comes to its id."""
    texts = [token, f"a {token} a", f"a{token}a"]
    return any(id in encoded.ids for encoded in backend.encode_batch(texts, add_special_tokens=False))
