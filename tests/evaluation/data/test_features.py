"""Inputs: what is cut is counted, and every word of a long document is read once, at its first sub-word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detour.batch import IGNORE
from detour.data.tokenizer import load_tokenizer
from detour.errors import ConfigError
from detour.evaluation.data.examples import Example
from detour.evaluation.data.features import encode_texts, encode_words

LABELS = {"O": 0, "B-X": 1, "I-X": 2}
WORDS = st.lists(
    st.text(alphabet="abé 1-µ中", min_size=1, max_size=14).map(str.strip).filter(bool), min_size=1, max_size=60
)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return load_tokenizer(corpus.tokenizer)


def tagged(words):
    return Example(id="1", parts=tuple(words), target=tuple("O" if i % 3 else "B-X" for i in range(len(words))))


@given(words=WORDS, max_length=st.integers(6, 40))
@settings(max_examples=60, deadline=None)
def test_each_word_is_labeled_once_where_it_is_read(tokenizer, words, max_length):
    example = tagged(words)
    encoded = encode_words(tokenizer, [example], LABELS, max_length=max_length)
    assert all(len(feature["input_ids"]) <= max_length for feature in encoded.features)
    places = encoded.positions_W2[0]
    assert len(places) == len(example.parts)
    labeled = [
        (f, t)
        for f, feature in enumerate(encoded.features)
        for t, label in enumerate(feature["labels"])
        if label != IGNORE
    ]
    assert sorted(labeled) == sorted(map(tuple, places[places[:, 0] >= 0]))
    for word, tag, (feature, position) in zip(example.parts, example.target, places, strict=True):
        if feature < 0:
            assert not tokenizer.tokenize(word)
            continue
        assert encoded.features[feature]["labels"][position] == LABELS[tag]
        token = tokenizer.decode(encoded.features[feature]["input_ids"][position]).strip()
        assert word.startswith(token) or "\N{REPLACEMENT CHARACTER}" in token  # a character of several tokens


@given(words=WORDS)
@settings(max_examples=30, deadline=None)
def test_windows_hold_every_token_in_order_and_the_special_ones_around(tokenizer, words):
    (whole,) = encode_words(tokenizer, [tagged(words)], LABELS, max_length=10_000).features
    assert whole["input_ids"] == tokenizer(" ".join(words))["input_ids"]
    inner = whole["input_ids"][1:-1]
    features = encode_words(tokenizer, [tagged(words)], LABELS, max_length=12).features
    covered = 0
    for feature in features:
        assert (feature["input_ids"][0], feature["input_ids"][-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        window = feature["input_ids"][1:-1]
        begin = next(i for i in range(covered, -1, -1) if inner[i : i + len(window)] == window)
        covered = max(covered, begin + len(window))
    assert covered == len(inner)


def test_a_word_is_read_where_it_has_context_on_both_sides(tokenizer):
    encoded = encode_words(tokenizer, [tagged(["pain"] * 80)], LABELS, max_length=34)
    places = encoded.positions_W2[0]
    last = len(encoded.features) - 1
    margins = [
        min(position - 1 if feature else 99, 32 - position if feature < last else 99) for feature, position in places
    ]
    assert len(encoded.features) > 2
    assert min(margins) >= 3  # a quarter of 32 is shared by two windows


def test_no_room_beside_the_special_tokens_is_an_error(tokenizer):
    with pytest.raises(ConfigError, match="max_length 3"):
        encode_words(tokenizer, [tagged(["a"])], LABELS, max_length=3)


def test_texts_within_the_length_are_what_the_tokenizer_gives(tokenizer):
    examples = [Example(id=str(i), parts=("pain " * n, "fever"), target="") for i, n in enumerate((1, 5, 40))]
    encoded = encode_texts(tokenizer, examples, [0, 1, 0], max_length=20, types=True)
    for example, feature, label in zip(examples, encoded.features, [0, 1, 0], strict=True):
        whole = tokenizer(*example.parts)
        assert feature["labels"] == label
        assert len(feature["token_type_ids"]) == len(feature["input_ids"]) == len(feature["attention_mask"])
        if len(whole["input_ids"]) <= 20:
            assert feature["input_ids"] == whole["input_ids"]
        else:  # the longer text gives way, the other one is whole
            assert len(feature["input_ids"]) == 20
            end = tokenizer("fever")["input_ids"][1:]
            assert feature["input_ids"][-len(end) :] == end
    assert encoded.truncated == 1
    assert "token_type_ids" not in encode_texts(tokenizer, examples, [0, 1, 0], max_length=20).features[0]


def test_a_word_that_leaves_no_token_is_counted(tokenizer, monkeypatch):
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    monkeypatch.setattr(backend, "normalizer", normalizers.Replace("zz", ""))
    encoded = encode_words(tokenizer, [tagged(["zz", "pain", "zz"])], LABELS, max_length=20)
    assert encoded.unreadable == 2
    assert np.flatnonzero(encoded.positions_W2[0][:, 0] >= 0).tolist() == [1]
