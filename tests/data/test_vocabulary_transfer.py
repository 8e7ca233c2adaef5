"""Where the rows of another tokenizer's embedding come from, on vocabularies that can be checked by eye."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from detour.data.tokenizer import ROLES
from detour.data.vocabulary_transfer import row_sources
from detour.errors import DataError

ROLE_TOKENS = [*ROLES.values()]  # [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4
MERGES = [("Ġ", "a"), ("Ġa", "b"), ("c", "d"), ("Ġ", "e")]


def wordpiece(*tokens: str, lower: bool = False) -> PreTrainedTokenizerFast:
    vocab = {token: id for id, token in enumerate([*ROLE_TOKENS, *tokens])}
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(lowercase=lower), pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=made, **ROLES)


def byte_level(*more: str) -> PreTrainedTokenizerFast:
    """Roles 0 to 4 under other names, a b c d e Ġ 5 to 10, Ġa Ġab cd Ġe 11 to 14, then more tokens."""
    roles = {role: f"<{role}>" for role in ROLES}
    tokens = [*roles.values(), *"abcde", "Ġ", *("".join(pair) for pair in MERGES), *more]
    made = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, MERGES))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=made, **roles)


def unigram(*pieces: str) -> PreTrainedTokenizerFast:
    vocab = [*((token, 0.0) for token in ROLE_TOKENS), *((piece, -float(len(piece))) for piece in pieces)]
    made = Tokenizer(models.Unigram(vocab, unk_id=1))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=made, **ROLES)


def test_an_extended_vocabulary_keeps_its_rows_and_new_words_are_their_pieces():
    start = wordpiece("fe", "##ver", "##s", "cold")
    given = wordpiece("fe", "##ver", "##s", "cold", "fevers", "fever")
    found = row_sources(start, given, start_rows=10, rows=16)
    assert found.rows[:9] == [(id,) for id in range(9)]
    assert found.rows[9:11] == [(5, 6, 7), (5, 6)]
    assert found.rows[11:] == [()] * 5  # padding that the start model has no row for
    assert (found.copied, found.averaged, found.without_pieces) == (9, 2, 0)


def test_rows_that_pad_both_vocabularies_stay():
    start, given = wordpiece("fe", "##ver"), wordpiece("fe", "##ver", "fever")
    assert row_sources(start, given, start_rows=12, rows=12).rows[7:] == [(5, 6), (8,), (9,), (10,), (11,)]


def test_tokens_of_the_same_text_are_shared_however_they_are_spelled():
    start = byte_level()
    found = row_sources(start, wordpiece("ab", "##cd", "e", "abcd", "##e", "z"), start_rows=15, rows=11)
    assert found.rows[:5] == [(0,), (1,), (2,), (3,), (4,)]  # by role, though the names differ
    assert found.rows[5:] == [(12,), (13,), (14,), (12, 13), (9,), ()]
    assert found.without_pieces == 1
    found = row_sources(start, unigram("▁ab", "cd", "▁", "▁ea", "ba"), start_rows=15, rows=10)
    assert found.rows[5:] == [(12,), (13,), (10,), (14, 5), (6, 5)]


def test_the_start_model_s_normalization_is_applied_to_tokens_of_another_kind():
    start = wordpiece("fe", "##ver", "cold", lower=True)
    found = row_sources(start, unigram("▁Fever", "▁COLD", "ver", "▁", "é"), start_rows=8, rows=10)
    assert found.rows[5:] == [(5, 6), (7,), (6,), (), ()]


def test_a_part_of_a_character_has_no_pieces_in_a_tokenizer_of_another_kind():
    found = row_sources(wordpiece("a"), byte_level("Ã"), start_rows=6, rows=16)
    assert found.rows[5] == ()  # "a" inside a word
    assert found.rows[11] == (5,)  # "a" at its beginning
    assert found.rows[15] == ()


@pytest.mark.parametrize(("start_rows", "rows"), [(7, 9), (8, 8)])
def test_more_ids_than_rows_are_refused(start_rows, rows):
    start, given = wordpiece("a", "b", "c"), wordpiece("a", "b", "c", "d")
    with pytest.raises(DataError, match=r"has the id [78], expected at most [78] ids"):
        row_sources(start, given, start_rows=start_rows, rows=rows)
