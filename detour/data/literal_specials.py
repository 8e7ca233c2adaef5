"""Special tokens spelled out in a text, such as a literal "[MASK]": counted, and encoded as text."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)


def special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    """Token -> id of every special token: those declared special and those with a role (mask, pad, ...)."""
    declared = {token.content: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return declared | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))


def literal_counter(tokenizer: PreTrainedTokenizerFast) -> Callable[[str], int]:
    """Returns a function that counts the special tokens spelled out in a text."""
    longest_first = sorted(filter(None, special_tokens(tokenizer)), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest_first)))
    return lambda text: sum(1 for _ in pattern.finditer(text)) if longest_first else 0


def encode_specials_as_text(backend: Tokenizer, tokenizer: PreTrainedTokenizerFast) -> None:
    """Makes ``backend`` tokenize special tokens in text like any other text; its template is not affected.

    Equivalent to `split_special_tokens` of transformers. Models whose vocabulary contains a special token as a regular
    piece (Unigram, WordLevel) would still produce it, so their input is split after the token's first character.
    """
    backend.encode_special_tokens = True  # despite its name: encode as text
    special = special_tokens(tokenizer)
    split_tokens = {token for token, id in special.items() if len(token) > 1 and _gives(backend, token, id)}
    split_tokens.discard(str(tokenizer.unk_token))  # unknown text is encoded as it legitimately
    if not split_tokens:
        return
    first = "|".join(f"{re.escape(token[0])}(?={re.escape(token[1:])})" for token in sorted(split_tokens))
    splitter = pre_tokenizers.Split(Regex(first), "isolated")
    before = backend.pre_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([before, splitter]) if before else splitter  # type: ignore[assignment]
    if remaining := [token for token in split_tokens if _gives(backend, token, special[token])]:
        log.warning(
            "tokenizer %s: %s in a text becomes the special token", tokenizer.name_or_path, ", ".join(remaining)
        )


def _gives(backend: Tokenizer, token: str, id: int) -> bool:
    """Whether a text that spells out the token is encoded to its id."""
    texts = [token, f"a {token} a", f"a{token}a"]
    return any(id in encoded.ids for encoded in backend.encode_batch(texts, add_special_tokens=False))
