"""Exports in the hands of users: text through the exported tokenizer into every class that the model card names."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from detour.data.tokenizer import train_bpe
from detour.errors import ModelError
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.models.hf import write_folder
from detour.models.modernbert.hf import FORMAT
from detour.models.reload import check_uses

TEXT = "the patient was given aspirin for a mild fever"
ARCH = architecture(
    "tiny",
    {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "local_attention": 8},
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([TEXT] * 3, vocab_size=280)


@pytest.fixture
def out(tmp_path, tokenizer):
    write_folder(tmp_path / "out", arch=ARCH, weights=weights(), tokenizer=tokenizer, card="# A card\n")
    return tmp_path / "out"


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Encoder(ARCH).weights()


def check(out, tokenizer, **changed) -> None:
    check_uses(out, arch=ARCH, weights=weights() | changed, tokenizer=tokenizer, tolerance=1e-4)


@pytest.mark.parametrize("name", FORMAT.uses.classes)
def test_what_the_tokenizer_returns_goes_into_every_class(out, name):
    model = getattr(transformers, name).from_pretrained(out).eval()
    answer = model(**AutoTokenizer.from_pretrained(out)([TEXT, "a fever"], padding=True, return_tensors="pt"))
    assert answer[0].isfinite().all()


def test_the_feature_extraction_pipeline_runs(out, tokenizer):
    (features,) = pipeline("feature-extraction", model=str(out), device="cpu")(TEXT)
    assert (len(features), len(features[0])) == (len(tokenizer(TEXT).input_ids), 32)


def test_a_trained_tokenizer_names_what_a_modernbert_takes(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path)
    assert [*AutoTokenizer.from_pretrained(tmp_path)(TEXT)] == ["input_ids", "attention_mask"]


def test_a_good_export_passes_its_own_check(out, tokenizer, caplog):
    check(out, tokenizer)
    assert "newly initialized" not in caplog.text


def test_the_check_fails_where_the_tokenizer_names_an_input_that_no_model_takes(out, tokenizer):
    path = out / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": ["input_ids", "token_type_ids"]}))
    with pytest.raises(ModelError, match=r"AutoTokenizer made a .* that is not the exported one"):
        check(out, tokenizer)


def test_the_check_fails_where_another_tokenizer_lies_in_the_folder(out, tokenizer):
    train_bpe(["entirely other words"] * 3, vocab_size=270).save_pretrained(out)
    with pytest.raises(ModelError, match=r"AutoTokenizer made a .* that is not the exported one"):
        check(out, tokenizer)


def test_the_check_fails_where_a_weight_differs(out, tokenizer):
    changed = torch.randn(96, 32, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ModelError, match=r"AutoModel of transformers .*hidden states are not the encoder's"):
        check(out, tokenizer, **{"model.layers.2.attn.Wqkv.weight": changed})


def test_keys_of_the_start_model_are_carried_over_and_obeyed(tmp_path, tokenizer):
    start = {"model_type": "modernbert", "classifier_pooling": "mean", "classifier_dropout": 0.25, "hidden_size": 999,
             "bos_token_id": 7, "num_hidden_layers": 50, "cls_token_id": 99, "my_lab": {"note": 1}}  # fmt: skip
    out = tmp_path / "out"
    write_folder(out, arch=ARCH, weights=weights(), tokenizer=tokenizer, card="", start=start)
    config = json.loads((out / "config.json").read_text())
    assert (config["classifier_pooling"], config["classifier_dropout"]) == ("mean", 0.25)
    assert config["my_lab"] == {"note": 1}
    assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 3), "the architecture is the run's"
    assert (config["bos_token_id"], config["cls_token_id"]) == (7, tokenizer.cls_token_id)
    check(out, tokenizer)
    # a classifier of transformers pools as the start model did: the head sees the mean of the hidden states
    model = AutoModelForSequenceClassification.from_pretrained(out).eval()
    batch = tokenizer([TEXT], return_tensors="pt")
    seen = []
    model.head.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        model(**batch)
        hidden = AutoModel.from_pretrained(out).eval()(**batch).last_hidden_state
    torch.testing.assert_close(seen[0], hidden.mean(1), rtol=0, atol=1e-5)
