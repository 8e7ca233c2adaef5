from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from detour.cli.main import main
from detour.data.tokenizer import (
    ROLES,
    encoder_of,
    load_tokenizer,
    tokenizer_info,
    tokenizer_sha256,
    train_bpe,
    vocab_of,
)
from detour.errors import DataError

TEXTS = ["The heart pumps blood.\nThe lungs take in air.", "Blood carries\toxygen to the heart."] * 20


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerFast:
    return train_bpe(TEXTS, vocab_size=320)


def saved(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    return folder


def bare(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """A folder with nothing but tokenizer.json."""
    folder.mkdir()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def wordlike(model, **parts) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **ROLES)


def word_starts(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    starts_V = vocab_of(tokenizer).starts_word_V
    return {token for token, id in tokenizer.get_vocab().items() if starts_V[id] and token not in ROLES.values()}


def test_training_is_deterministic(bpe):
    again = train_bpe(iter(TEXTS), vocab_size=320)
    assert again.get_vocab() == bpe.get_vocab()
    assert tokenizer_sha256(again) == tokenizer_sha256(bpe)


def test_a_trained_tokenizer_is_read_back_by_auto_tokenizer(bpe, tmp_path):
    read = AutoTokenizer.from_pretrained(saved(bpe, tmp_path / "t"))
    assert read.special_tokens_map == ROLES
    assert read("The heart")["input_ids"] == bpe("The heart")["input_ids"]
    assert tokenizer_sha256(read) == tokenizer_sha256(bpe)


def test_a_trained_tokenizer_wraps_text_in_cls_and_sep_and_loses_nothing(bpe):
    text = "naïve 🫀\tline\n end"
    ids = bpe(text)["input_ids"]
    assert [ids[0], ids[-1]] == [bpe.cls_token_id, bpe.sep_token_id]
    assert bpe.decode(ids[1:-1]) == text


def test_a_vocabulary_below_the_byte_symbols_is_refused():
    with pytest.raises(DataError, match="vocab_size is 100, expected at least 261"):
        train_bpe(TEXTS, vocab_size=100)


def test_tokenizer_json_alone_is_enough(bpe, tmp_path):
    whole, alone = load_tokenizer(saved(bpe, tmp_path / "a")), load_tokenizer(bare(bpe, tmp_path / "b"))
    assert alone.mask_token_id == whole.mask_token_id
    assert tokenizer_sha256(alone) == tokenizer_sha256(whole)
    assert tokenizer_info(alone).sha256 == tokenizer_sha256(bpe)


def test_a_manifest_names_a_local_tokenizer_without_its_path(bpe, tmp_path):
    assert tokenizer_info(load_tokenizer(saved(bpe, tmp_path / "mine"))).name == "mine"


def test_a_missing_mask_token_is_named(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "a": 2}, unk_token="[UNK]"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"no mask_token, expected \[MASK\]"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_or_absent_tokenizer_is_one_clear_error(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_says_so(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"cannot be loaded as a tokenizer: no file of a tokenizer in this folder"):
        load_tokenizer(tmp_path)


@pytest.mark.faults(12, "code beside a tokenizer, named by auto_map: not run")
def test_code_in_a_tokenizer_folder_is_not_run(bpe, tmp_path):
    folder = saved(bpe, tmp_path / "t")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": [None, "evil.Evil"]}
    config["tokenizer_class"] = "Evil"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass")
    with pytest.raises(DataError, match="cannot be loaded"):
        load_tokenizer(folder)
    assert not (tmp_path / "ran").exists()


def swap_two_ids(spec):
    vocab = spec["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]


@pytest.mark.parametrize(
    "change",
    [
        swap_two_ids,
        lambda spec: spec["model"]["merges"].pop(),
        lambda spec: spec.update(normalizer={"type": "Lowercase"}),
        lambda spec: spec.update(post_processor=None),
        lambda spec: spec["pre_tokenizer"].update(add_prefix_space=True),
    ],
)
def test_a_tokenizer_that_gives_other_ids_has_another_fingerprint(bpe, tmp_path, change):
    path = bare(bpe, tmp_path / "t") / "tokenizer.json"
    spec = json.loads(path.read_text())
    change(spec)
    path.write_text(json.dumps(spec))
    assert tokenizer_sha256(load_tokenizer(path.parent)) != tokenizer_sha256(bpe)


def test_truncation_and_padding_settings_do_not_change_the_fingerprint(bpe):
    other = train_bpe(TEXTS, vocab_size=320)
    other.backend_tokenizer.enable_truncation(8)
    other.backend_tokenizer.enable_padding(length=16)
    assert tokenizer_sha256(other) == tokenizer_sha256(bpe)


def test_an_encoder_never_truncates_or_pads(bpe):
    plain = encoder_of(bpe, dtype="uint16")(["The heart " * 50, "air"])
    other = train_bpe(TEXTS, vocab_size=320)
    other.backend_tokenizer.enable_truncation(8)
    other.backend_tokenizer.enable_padding(length=16)
    set_up = encoder_of(other, dtype="uint16")(["The heart " * 50, "air"])
    assert all(np.array_equal(a, b) for a, b in zip(plain, set_up, strict=True))
    assert plain[0].dtype == np.uint16
    assert len(plain[0]) > 50


def test_ordinary_ids_leave_out_special_and_reserved_tokens(bpe):
    tokenizer = train_bpe(TEXTS, vocab_size=320)
    tokenizer.add_tokens(["[unused0]", "[unused17]", "<unused3>", "covid"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|doc|>"]})
    vocab = vocab_of(tokenizer)
    left_out = {id for token, id in tokenizer.get_vocab().items() if id not in set(vocab.ordinary_ids.tolist())}
    assert {tokenizer.convert_ids_to_tokens(id) for id in left_out} == {
        *ROLES.values(), "[unused0]", "[unused17]", "<unused3>", "<|doc|>"
    }  # fmt: skip
    specials = {*ROLES.values(), "<|doc|>"}
    assert vocab.special_ids == tuple(sorted(tokenizer.convert_tokens_to_ids(list(specials))))
    assert (vocab.mask_id, vocab.pad_id) == (tokenizer.mask_token_id, tokenizer.pad_token_id)


def test_a_padded_embedding_is_allowed_a_smaller_one_is_not(bpe):
    n = vocab_of(bpe).size
    padded = vocab_of(bpe, size=n + 64)
    assert padded.size == len(padded.starts_word_V) == n + 64
    assert padded.ordinary_ids.max() < n
    with pytest.raises(DataError, match=f"has {n} ids, expected at most {n - 1}"):
        vocab_of(bpe, size=n - 1)


def test_size_counts_from_the_largest_id_where_ids_have_gaps():
    vocab = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 90}
    assert vocab_of(wordlike(models.WordLevel(vocab, unk_token="[UNK]"))).size == 91


def test_words_begin_at_spaces_tabs_and_newlines_in_byte_level_bpe():
    tokenizer = train_bpe(["a heart\n\tlung\n\tlung heart"] * 9, vocab_size=300)
    starts = word_starts(tokenizer)
    assert "Ġheart" in starts
    assert {"Ċ", "ĉ"} <= starts
    assert not {"heart", "a", "t"} & starts
    ids = tokenizer("a heart\n\tlung", add_special_tokens=False)["input_ids"]
    begins = vocab_of(tokenizer).starts_word_V[ids]
    text = [tokenizer.decode([id]) for id in ids]
    assert all(token[0].isspace() == bool(begin) for token, begin in zip(text, begins, strict=True))


def test_words_begin_where_wordpiece_has_no_prefix():
    vocab = {token: i for i, token in enumerate([*ROLES.values(), "heart", "##s", "a"])}
    tokenizer = wordlike(models.WordPiece(vocab, unk_token="[UNK]"), pre_tokenizer=pre_tokenizers.BertPreTokenizer())
    assert word_starts(tokenizer) == {"heart", "a"}


@pytest.mark.parametrize(
    "parts",
    [
        {"pre_tokenizer": pre_tokenizers.Metaspace(), "decoder": decoders.Metaspace()},
        {"normalizer": normalizers.Replace(" ", "▁"), "decoder": decoders.Replace("▁", " ")},
    ],
)
def test_words_begin_at_the_sentencepiece_mark(parts):
    vocab = [(token, 0.0) for token in [*ROLES.values(), "▁heart", "s", "▁"]]
    assert word_starts(wordlike(models.Unigram(vocab, unk_id=1), **parts)) == {"▁heart", "▁"}


def test_a_tokenizer_that_does_not_tell_words_says_so():
    vocab = {token: i for i, token in enumerate([*ROLES.values(), "a"])}
    assert vocab_of(wordlike(models.WordLevel(vocab, unk_token="[UNK]"))).starts_word_V is None


@pytest.mark.corpora
@pytest.mark.skipif("DETOUR_CORPORA" not in os.environ, reason="DETOUR_CORPORA is not set")
class TestRealTokenizers:
    @pytest.fixture
    def folder(self) -> Path:
        return Path(os.environ["DETOUR_CORPORA"]) / "tokenizers"

    def test_modernbert_ids_are_those_published(self, folder):
        tokenizer = load_tokenizer(folder / "modernbert")
        vocab = vocab_of(tokenizer)
        assert (vocab.size, vocab.pad_id, vocab.mask_id) == (50368, 50283, 50284)
        assert {50280, 50281, 50282, 50283, 50284} <= set(vocab.special_ids)
        assert vocab.ordinary_ids.max() < 50280  # so no [unused] token among them
        assert vocab.starts_word_V is not None

    def test_camembert_has_one_fingerprint_in_both_forms(self, folder, tmp_path):
        (tmp_path / "bare").mkdir()
        shutil.copy(folder / "camembertv2" / "tokenizer.json", tmp_path / "bare")
        whole, alone = load_tokenizer(folder / "camembertv2"), load_tokenizer(tmp_path / "bare")
        assert type(whole) is not type(alone)
        assert tokenizer_sha256(whole) == tokenizer_sha256(alone)
        assert tokenizer_sha256(whole) != tokenizer_sha256(load_tokenizer(folder / "modernbert"))


@given(
    text=st.text(st.sampled_from("ab é\n\t .,1'[]"), max_size=200) | st.just("x" * 90),
    longest=st.integers(2, 40),
)
@settings(max_examples=300, deadline=None)
def test_a_long_text_in_slices_has_the_ids_of_the_whole(bpe, text, longest):
    (whole,) = encoder_of(bpe, dtype="uint16")([text])
    (sliced,) = encoder_of(bpe, dtype="uint16", slice_characters=longest)([text])
    assert bpe.decode(sliced) == bpe.decode(whole)
    if all(len(part) < longest for part in re.findall(r"\S+|\s+", text)):
        assert sliced.tolist() == whole.tolist()


def test_slices_keep_the_order_of_short_and_long_texts(bpe):
    texts = ["The heart " * 30, "air", "", "blood\n" * 40, "lungs"]
    whole = encoder_of(bpe, dtype="uint16")(texts)
    sliced = encoder_of(bpe, dtype="uint16", slice_characters=16)(texts)
    assert [ids.tolist() for ids in sliced] == [ids.tolist() for ids in whole]


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$"])
def test_a_pattern_that_needs_too_many_steps_is_one_clear_error(bpe, tmp_path, pattern, capfd, monkeypatch):
    """Its steps double with each letter; Oniguruma gives up, and the library panics with an error that is no Exception."""
    file = saved(bpe, tmp_path) / "tokenizer.json"
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    file.write_text(json.dumps({**json.loads(file.read_text()), "pre_tokenizer": split}))
    tokenizer = load_tokenizer(tmp_path)
    for slice_characters in (1000, 100):  # entire, and in slices
        encode = encoder_of(tokenizer, dtype="uint16", slice_characters=slice_characters)
        assert encode(["blood"])
        with pytest.raises(DataError, match=rf"tokenizer '{tmp_path}': fails on a text: .*retry-limit"):
            encode(["blood", ("a" * 80 + "! ") * 2])
    monkeypatch.setattr("detour.cli.main.app", lambda **_: tokenizer("a" * 60 + "!"))
    with pytest.raises(SystemExit, match="1"):
        main([])
    assert "error: a tokenizer failed: Onig: Regex search error: retry-limit" in capfd.readouterr().err
