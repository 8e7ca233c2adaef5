"""New tokens of a domain: ids and old text stay as they are, words are whole, what cannot be extended is refused."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from detour.corpus.text import read_documents
from detour.corpus.vocabulary import extend_tokenizer
from detour.data.token_rate import token_rates
from detour.data.tokenizer import ROLES, encoder_of, load_tokenizer, tokenizer_sha256, train_bpe, vocab_of
from detour.data.tokenizer_extension import count_words, extend, merges
from detour.data.tokenizer_spelling import BYTE_LEVEL, UNIGRAM, WORDPIECE, Spelling, pieces_of, text_of
from detour.errors import DataError

GENERAL = ["The patient had a cold and a fever.", "He had a mild infection of the lung."] * 20
DOMAIN = ["Pembrolizumab was given; pembrolizumab (a pembrolizumab), and pneumonia."] * 5


def byte_level() -> PreTrainedTokenizerFast:
    """As ModernBERT's: special tokens are added tokens that the model does not know, with ids after it."""
    base = train_bpe(GENERAL, vocab_size=300)
    spec = json.loads(base.backend_tokenizer.to_str())
    size = len(spec["model"]["vocab"]) - 5
    vocab = {token: id - 5 for token, id in spec["model"]["vocab"].items() if token not in ROLES.values()}
    for number, token in enumerate(spec["added_tokens"]):
        token["id"] = size + number
        token["lstrip"] = token["content"] == "[MASK]"
    spec["model"]["vocab"], spec["post_processor"] = vocab, None
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)),
        **{
            role: AddedToken(token, lstrip=token == "[MASK]", special=True, normalized=False)
            for role, token in ROLES.items()
        },
    )


def wordpiece() -> PreTrainedTokenizerFast:
    letters = "abcdefghijklmnopqrstuvwxyz.,;()"
    tokens = [*ROLES.values(), *letters, *(f"##{c}" for c in letters), "pneu", "##mon", "##ia", "pem", "##bro", "##mab",
              "patient"]  # fmt: skip
    tokens.remove("##q")  # "q" inside a word is unknown
    tokens.append("##que")
    model = models.WordPiece({token: id for id, token in enumerate(tokens)}, unk_token="[UNK]")
    made = Tokenizer(model)
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=made, **ROLES)


def unigram() -> PreTrainedTokenizerFast:
    letters = "abcdefghijklmnopqrstuvwxyz.,;()"
    pieces = [("[PAD]", 0.0), ("[UNK]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("▁", -3.0)]
    pieces += [(letter, -6.0 - number / 10) for number, letter in enumerate(letters)]
    pieces += [
        ("▁pneu", -8.0),
        ("mon", -7.0),
        ("ia", -6.5),
        ("▁pem", -8.5),
        ("bro", -7.5),
        ("▁the", -4.0),
        ("onia", -9.0),
    ]
    made = Tokenizer(models.Unigram(pieces, unk_id=1))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    base = PreTrainedTokenizerFast(tokenizer_object=made, **{k: v for k, v in ROLES.items() if k != "mask_token"})
    mask: Any = AddedToken("[MASK]", lstrip=True, special=True)
    base.add_special_tokens({"mask_token": mask})  # an id after the model's
    return base


def trained_unigram() -> PreTrainedTokenizerFast:
    """As XLM-RoBERTa's: trained, NFKC, words split at white space, [MASK] an id after the model's."""
    made = Tokenizer(models.Unigram())
    made.normalizer, made.decoder = normalizers.NFKC(), decoders.Metaspace()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    special = [token for role, token in ROLES.items() if role != "mask_token"]
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="[UNK]", show_progress=False)
    letters = " ".join("abcdefghijklmnopqrstuvwxyz.,;()P")
    made.train_from_iterator([*GENERAL, letters], trainer)
    base = PreTrainedTokenizerFast(tokenizer_object=made, **{k: v for k, v in ROLES.items() if k != "mask_token"})
    mask: Any = AddedToken("[MASK]", lstrip=True, special=True, normalized=False)
    base.add_special_tokens({"mask_token": mask})
    return base


BASES = {"byte-level": byte_level, "WordPiece": wordpiece, "Unigram": unigram, "Unigram, trained": trained_unigram}
EACH = pytest.mark.parametrize("kind", BASES)


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


@cache
def extended(kind: str, add: int = 30):
    base = BASES[kind]()
    return base, extend(base, count_words(base, DOMAIN), add=add)


@EACH
def test_ids_of_the_base_stay_and_new_ones_follow(kind):
    base, made = extended(kind)
    before, after = base.get_vocab(), made.tokenizer.get_vocab()
    assert before.items() <= after.items()
    first = max(before.values()) + 1
    assert sorted(after.values())[len(before) :] == list(range(first, first + len(made.added)))
    for role in ROLES:
        assert getattr(made.tokenizer, f"{role}_id") == getattr(base, f"{role}_id")
    assert made.tokenizer.get_added_vocab().keys() <= base.get_added_vocab().keys() | set(ROLES.values())


@EACH
@given(words=st.lists(st.text("abdehimnoprtuz q.", max_size=9), max_size=6))
def test_text_without_a_new_token_is_encoded_as_before(kind, words):
    base, made = extended(kind)
    text = " ".join(words)
    ids = ids_of(made.tokenizer, text)
    before = ids_of(base, text)
    if all(id < made.first_id for id in ids):
        assert ids == before
    elif base.unk_token_id not in {*before, *ids}:  # and each new token stands for pieces of the base
        assert made.tokenizer.decode(ids) == base.decode(before)


@EACH
def test_a_frequent_word_becomes_one_token_wherever_it_stands(kind):
    base, made = extended(kind)
    for text in ("see pembrolizumab", "see pembrolizumab, and", "see pembrolizumab; it"):
        for tokenizer, times in ((base, 0), (made.tokenizer, 1)):
            shown = [tokenizer.decode([id]).strip() for id in ids_of(tokenizer, text)]
            assert shown.count("pembrolizumab") == times, shown


@EACH
def test_special_tokens_keep_their_place_and_strip_as_before(kind, tmp_path):
    base, made = extended(kind)
    made.tokenizer.save_pretrained(tmp_path / "new")
    loaded = load_tokenizer(tmp_path / "new")
    assert tokenizer_sha256(loaded) == tokenizer_sha256(made.tokenizer)
    assert not {"vocab.txt", "vocab.json", "merges.txt"} & {path.name for path in (tmp_path / "new").iterdir()}
    text = "a [MASK] b"
    for tokenizer in (loaded, AutoTokenizer.from_pretrained(tmp_path / "new")):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids_of(base, text)
    vocab_of(loaded)


@EACH
def test_a_special_token_spelled_out_in_a_text_is_text_as_before(kind):
    base, made = extended(kind)
    for text in ("a [MASK] b", "[CLS]", "fever[SEP]"):
        before, after = (encoder_of(each, dtype="int64")([text])[0].tolist() for each in (base, made.tokenizer))
        # Unigram merges neighboring unknown characters, but not those between which a special token was cut
        assert before == after or max(after) >= made.first_id or base.unk_token_id in before
        assert made.tokenizer.mask_token_id not in after


def test_a_word_of_unigram_is_learned_with_its_space_and_without_what_surrounds_it():
    base = unigram()
    made = extend(base, count_words(base, ["(monia) zygo zygo, zygo; monia. l'iamon"] * 3), add=20)
    texts = {text_of(UNIGRAM, new.token) for new in made.added}
    assert Spelling(True, "zygo") in texts  # from the pieces of space and letters
    assert Spelling(False, "monia") in texts  # after a parenthesis
    assert all(spelling and spelling.text.isalpha() for spelling in texts)


def test_numbers_and_punctuation_are_never_learned():
    base = byte_level()
    made = extend(base, count_words(base, ["2019 2019 ---- ---- fever2019 zygoma zygoma"] * 9), add=50)
    texts = [text_of(BYTE_LEVEL, new.token) for new in made.added]
    assert all(spelling and spelling.text.isalpha() for spelling in texts)


def test_merges_are_those_of_a_count_by_hand():
    runs = {("a", "b", "c"): 3, ("a", "b"): 2, ("c", "d"): 4, ("x", "y"): 9, ("a", "b", "a", "b"): 1}
    # pairs: xy 9 (known), ab 3 + 2 + 2 = 7, cd 4, bc 3, ba 1. After ab: (ab)c 3, (ab)(ab) 1
    found = merges(runs, {"a", "b", "c", "d", "x", "y", "xy"}, 9)
    assert [(new.token, new.count, new.pieces) for new in found] == [
        ("ab", 7, ("a", "b")),
        ("cd", 4, ("c", "d")),
        ("abc", 3, ("a", "b", "c")),
    ]


def test_a_merge_within_a_run_of_equal_pieces_goes_from_the_left():
    found = merges({("a", "a", "a", "b"): 2}, {"a", "b"}, 9)
    # aa a b, by 2 x 2 pairs; then the two pairs that are left occur twice each, and the first in order is taken
    assert [(new.token, new.count) for new in found] == [("aa", 4), ("ab", 2), ("aaab", 2)]


def test_words_that_save_most_come_first_and_numbers_of_occurrences_are_weighed_by_pieces():
    base = wordpiece()
    made = extend(base, {"pneumonia": 4, "pembromab": 5, "patient": 100, "zz": 7}, add=9)
    # pieces saved: pneumonia pneu ##mon ##ia, 4 x 2 = 8; pembromab pem ##bro ##mab, 5 x 2 = 10; zz 7 x 1; patient none
    assert [new.token for new in made.added] == ["pembromab", "pneumonia", "zz"]


def test_a_word_that_would_leave_the_rest_of_another_unknown_is_not_added():
    base = wordpiece()  # "que" inside a word is known, "q" and "ue" after "cli" + "q" are not
    assert base.unk_token_id not in ids_of(base, "clique")
    made = extend(base, {"cliqu": 2, "cliq": 2, "clique": 9, "cli": 5, "ab": 2}, add=9)
    assert base.unk_token_id not in ids_of(made.tokenizer, "clique")


def test_fewer_tokens_a_word_by_a_count_by_hand():
    base = wordpiece()
    made = extend(base, {"pneumonia": 4}, add=1)
    before, after = token_rates([base, made.tokenizer], ["Patient pneumonia.", "pneumonia q3"])
    # patient / pneu ##mon ##ia / . ; pneu ##mon ##ia / q3: unknown
    assert (before.documents, before.words, before.tokens, before.unknown) == (2, 4, 5 + 4, 1)
    assert (after.words, after.tokens, after.tokens_per_word) == (4, 3 + 2, 1.25)
    assert made.first_id in after.used


def test_pieces_of_a_text_are_found_inside_words_too():
    assert text_of(WORDPIECE, "##mon") == Spelling(False, "mon")
    assert text_of(UNIGRAM, "▁pem") == Spelling(True, "pem")
    for kind, (start, inside) in {
        "WordPiece": (["pneu", "##mon"], ["##mon", "##ia"]),
        "Unigram": (["▁pneu", "mon"], ["mon", "ia"]),
    }.items():
        base = BASES[kind]()
        for spelling, pieces in ((Spelling(True, "Pneumon"), start), (Spelling(False, "monia"), inside)):
            assert base.convert_ids_to_tokens(pieces_of(base, kind, spelling)) == pieces
    base = byte_level()
    for spelling in (Spelling(True, "fever"), Spelling(False, "é")):
        expected = ids_of(base, " fever" if spelling.starts_word else "é")
        assert pieces_of(base, BYTE_LEVEL, spelling) == expected
    assert text_of(BYTE_LEVEL, "Ã") is None  # half of a character


@pytest.mark.parametrize(
    ("model", "splitter", "message"),
    [
        (models.WordLevel({token: id for id, token in enumerate(ROLES.values())}, unk_token="[UNK]"),
         pre_tokenizers.Whitespace(), "its model is WordLevel; byte-level BPE, WordPiece and Unigram can be extended"),
        (models.BPE({token: id for id, token in enumerate([*ROLES.values(), "▁", "a"])}, []), None, "its model is BPE"),
        (models.Unigram([(token, 0.0) for token in ROLES.values()], unk_id=1), None, "does not split text into words"),
        (models.BPE({token: id for id, token in enumerate([*ROLES.values(), "Ġ", "a"])}, [], dropout=0.1),
         pre_tokenizers.ByteLevel(), "a BPE with dropout cannot be extended"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended_is_refused_in_a_sentence(model, splitter, message):
    made = Tokenizer(model)
    made.pre_tokenizer = splitter
    base = PreTrainedTokenizerFast(tokenizer_object=made, **ROLES)
    with pytest.raises(DataError, match=message):
        extend(base, {"a": 5}, add=1)


def test_a_corpus_without_new_words_is_refused():
    base = wordpiece()
    with pytest.raises(DataError, match="no word of the corpus can be added"):
        extend(base, count_words(base, ["patient patient 33"]), add=5)


@pytest.mark.corpora
@pytest.mark.skipif("DETOUR_CORPORA" not in os.environ, reason="DETOUR_CORPORA is not set")
@pytest.mark.parametrize(
    ("name", "file"), [("modernbert", "en_bio/en_e3c_cases"), ("camembertv2", "fr_bio/fr_e3c_cases")]
)
def test_real_case_reports_need_fewer_tokens_a_word(name, file, tmp_path):
    corpora = Path(os.environ["DETOUR_CORPORA"])
    path = corpora / "pretrain" / f"{file}.train.jsonl.zst"
    held_out = path.with_name(path.name.replace("train", "val"))
    base = load_tokenizer(corpora / "tokenizers" / name)
    report = extend_tokenizer(
        str(corpora / "tokenizers" / name), [path], add=1000, out=tmp_path / "new", held_out=[held_out]
    )
    before, after = report["held_out"]["before"], report["held_out"]["after"]
    assert len(report["new_tokens"]) == 1000
    assert report["base_vocab_size"] == max(base.get_vocab().values()) + 1
    assert after["tokens"] < 0.97 * before["tokens"]
    assert after["unknown"] <= before["unknown"]
    new = load_tokenizer(tmp_path / "new")
    for document in read_documents([held_out]):  # word by word, so that most are without a new token
        for word in document.text.split():
            ids = ids_of(new, f" {word}")
            if max(ids, default=0) < report["base_vocab_size"]:
                assert ids == ids_of(base, f" {word}")
