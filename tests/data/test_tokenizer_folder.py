"""Tokenizer folders as transformers 5 saves them, against the tokenizers library alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from detour.data.tokenizer import ROLES, encoder_of, load_tokenizer, tokenizer_sha256, train_bpe, vocab_of
from detour.errors import DataError

TEXT = "The heart\tpumps <|doc|> blood [MASK]."
OF_5 = {  # written by transformers 5.24 beside tokenizer.json; the five roles follow
    "backend": "tokenizers", "clean_up_tokenization_spaces": False, "extra_special_tokens": ["<|doc|>"],
    "is_local": True, "local_files_only": False, "model_max_length": 1000000000000000019884624838656,
    "tokenizer_class": "TokenizersBackend", **ROLES,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = train_bpe(["The heart pumps blood.\nThe lungs take in air."] * 9, vocab_size=320)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|doc|>"]})
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def write(folder: Path, **changes) -> Path:
    config = {key: value for key, value in (OF_5 | changes).items() if value is not ...}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"extra_special_tokens": ...},
        {"tokenizer_class": "PreTrainedTokenizerFast"},
        {"extra_special_tokens": {"doc_token": "<|doc|>"}},
        {"extra_special_tokens": ..., "model_specific_special_tokens": {"doc_token": "<|doc|>"}},
        {"mask_token": {"__type": "AddedToken", "content": "[MASK]", "lstrip": False, "special": True}},
        {"add_prefix_space": True},  # tokenizer.json is what counts
    ],
    ids=str,
)
def test_ids_are_those_of_tokenizer_json(folder, changes):
    tokenizer = load_tokenizer(write(folder, **changes))
    alone = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer(TEXT).input_ids == alone.encode(TEXT).ids
    assert tokenizer.get_vocab() == alone.get_vocab(with_added_tokens=True)
    assert {role: getattr(tokenizer, role) for role in ROLES} == ROLES
    assert vocab_of(tokenizer).special_ids == tuple(sorted(alone.token_to_id(t) for t in [*ROLES.values(), "<|doc|>"]))


def test_such_folders_are_refused_by_transformers_4_itself(folder):
    with pytest.raises((ValueError, AttributeError)):
        AutoTokenizer.from_pretrained(write(folder))


def test_the_form_of_transformers_4_and_that_of_5_have_one_fingerprint(folder, tmp_path):
    of_5 = load_tokenizer(write(folder))
    of_5.save_pretrained(tmp_path / "4")
    of_4 = load_tokenizer(tmp_path / "4")
    assert tokenizer_sha256(of_4) == tokenizer_sha256(of_5)
    assert of_4.additional_special_tokens == ["<|doc|>"]


def test_a_leading_space_that_tokenizer_json_asks_for_is_kept(folder):
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    spec["pre_tokenizer"]["add_prefix_space"] = True
    path.write_text(json.dumps(spec))
    (ids,) = encoder_of(load_tokenizer(write(folder)), dtype="uint16")(["heart"])
    assert ids.tolist() == Tokenizer.from_file(str(path)).encode("heart").ids


@pytest.mark.parametrize("value", [5, {"lstrip": True}, [1]])
@pytest.mark.parametrize("key", ["mask_token", "extra_special_tokens"])
def test_a_token_that_is_none_is_refused_by_key(folder, key, value):
    given = [value] if key == "extra_special_tokens" else value
    with pytest.raises(DataError, match=f"tokenizer_config.json: {key} is"):
        load_tokenizer(write(folder, **{key: given}))


def test_a_folder_without_tokenizer_json_is_refused(folder):
    write(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        load_tokenizer(folder)
