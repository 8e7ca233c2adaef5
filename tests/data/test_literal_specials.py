"""Special tokens spelled out in a text: text by default, as `split_special_tokens` of transformers has it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from detour.data.literal_specials import literal_counter, special_tokens
from detour.data.tokenizer import ROLES, encoder_of, train_bpe

TEXT = "a [MASK] in the heart [SEP] and [CLS][PAD] [mask] [UNK] blood"


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerFast:
    return train_bpe(["The heart pumps blood in the lungs. [MASK] [SEP]"] * 9, vocab_size=320)


def ids_of(tokenizer, text: str, **options) -> list[int]:
    return encoder_of(tokenizer, dtype="uint16", **options)([text])[0].tolist()


@given(text=st.lists(st.sampled_from([*ROLES.values(), "the", " ", "heart", "[", "]", "MASK", "é"])).map("".join))
@settings(max_examples=200, deadline=None)
def test_ids_are_those_of_transformers_with_split_special_tokens(bpe, text):
    ids = ids_of(bpe, text)
    assert ids == bpe(text, split_special_tokens=True).input_ids
    assert not {*ids[1:-1]} & {*bpe.all_special_ids}
    assert ids_of(bpe, text, literal_specials=True) == bpe(text).input_ids
    assert bpe.decode(ids[1:-1]) == text


def test_the_template_still_sets_special_ids(bpe):
    ids = ids_of(bpe, TEXT)
    assert [ids[0], ids[-1]] == [bpe.cls_token_id, bpe.sep_token_id]


@given(words=st.lists(st.sampled_from(["[MASK]", "[SEP]", "word", "x"]), max_size=30), longest=st.integers(12, 30))
@settings(max_examples=100, deadline=None)
def test_a_long_text_in_slices_keeps_them_as_text(bpe, words, longest):
    text = " ".join(words)
    whole = ids_of(bpe, text)
    assert ids_of(bpe, text, slice_characters=longest) == whole
    assert not {*whole[1:-1]} & {*bpe.all_special_ids}


def test_they_are_counted_by_their_exact_spelling(bpe):
    assert literal_counter(bpe)(TEXT) == 5  # by hand: [MASK], [SEP], [CLS], [PAD], [UNK]; not [mask]
    assert literal_counter(bpe)("[MASK][MASK]]MASK[") == 2
    assert literal_counter(bpe)("") == 0


def test_declared_special_tokens_count_as_the_roles_do():
    tokenizer = train_bpe(["The heart"] * 9, vocab_size=270)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|doc|>"]})
    assert special_tokens(tokenizer)["<|doc|>"] == tokenizer.convert_tokens_to_ids("<|doc|>")
    assert literal_counter(tokenizer)("a <|doc|> b") == 1
    assert ids_of(tokenizer, "a <|doc|> b") == tokenizer("a <|doc|> b", split_special_tokens=True).input_ids


MASK = {"pad_token": "<pad>", "mask_token": "<mask>", "unk_token": "<unk>"}
PIECES = ["<unk>", "<pad>", "<mask>", "▁heart", "▁", "h", "<", ">", "m", "a", "s", "k"]


def unigram() -> PreTrainedTokenizerFast:
    scores = {"<unk>": 0.0, "<pad>": 0.0, "<mask>": 0.0}  # as XLM-R's and CamemBERT's files have them
    tokenizer = Tokenizer(models.Unigram([(piece, scores.get(piece, -3.0)) for piece in PIECES], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **MASK)


def word_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(PIECES)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **MASK)


@pytest.mark.parametrize("build", [unigram, word_level])
@pytest.mark.parametrize("text", ["<mask>", "h <mask> h", "h<mask>h", "<mask><mask>", "<pad> <mask>"])
def test_a_special_token_that_is_a_piece_of_the_model_is_text_too(build, text):
    tokenizer = build()
    special = {tokenizer.mask_token_id, tokenizer.pad_token_id}
    assert not special & {*ids_of(tokenizer, text)}
    assert ids_of(tokenizer, "h heart") == tokenizer("h heart").input_ids
    assert literal_counter(tokenizer)(text) == text.count("<mask>") + text.count("<pad>")


def test_unigram_spells_it_in_pieces():
    tokenizer = unigram()
    # where `split_special_tokens` of transformers does not help
    assert tokenizer.mask_token_id in tokenizer("heart <mask>", split_special_tokens=True).input_ids
    pieces = tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "heart <mask>"))
    assert pieces == ["▁heart", "▁", "<", "m", "a", "s", "k", ">"]
