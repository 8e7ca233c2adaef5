"""A causal ModernBERT as transformers' `ModernBertDecoderForCausalLM`: equal logits, read back as it was, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, ModernBertDecoderForCausalLM

from detour.cli.main import main
from detour.data.tokenizer import train_bpe
from detour.errors import ModelError
from detour.export.run import export_run
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.models.hf import read_architecture, read_weights, write_folder
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.models.modernbert.hf import FORMAT
from detour.models.reload import check_uses, reload_difference
from detour.train import train
from detour.training.run_folder import RunFolder
from tests.stack import TRANSFORMERS_5

BIASES = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
SHAPES = {
    "plain": {},
    "every bias": BIASES,
    "no decoder bias": {"decoder_bias": False, "num_attention_heads": 4},
    "every 2nd global": {"global_attn_every_n_layers": 2, "local_attention": 6, "causal_left_window": 2},
}


def arch_of(**changes) -> ModernBertArchitecture:
    values = {
        "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
        "local_attention": 16, "causal_left_window": 7, "global_rope_theta": 5000.0, "max_position_embeddings": 128,
        "local_rope_theta": 300.0 if TRANSFORMERS_5 else 5000.0,
    }  # fmt: skip
    made = architecture("tiny", values | changes)
    assert isinstance(made, ModernBertArchitecture)
    return made


@pytest.fixture(scope="module")
def tokenizer():
    text = ["the patient was given aspirin for a mild fever and a persistent cough over two weeks"] * 3
    return train_bpe(text, vocab_size=280)


def shaken(encoder: Encoder) -> Encoder:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return encoder.eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_decoder_s_class_has_the_same_logits_and_is_read_back(tmp_path, tokenizer, shape):
    encoder = shaken(Encoder(arch_of(**SHAPES[shape])))
    form, weights = FORMAT.as_decoder(encoder.arch), encoder.weights()
    write_folder(tmp_path / "out", arch=encoder.arch, weights=weights, tokenizer=tokenizer, card="", form=form)
    loaded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    theirs, info = loaded
    assert isinstance(theirs, ModernBertDecoderForCausalLM)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ids_BT = torch.randint(300, (2, 70), generator=torch.Generator().manual_seed(1))  # windows end within it
    with torch.no_grad():
        expected = theirs.eval()(input_ids=ids_BT).logits
        found = encoder.logits(ids_BT, torch.full((2, 1), 70), "causal")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert reload_difference(tmp_path / "out", arch=encoder.arch, weights=weights, form=form) < 1e-5
    check_uses(tmp_path / "out", arch=encoder.arch, weights=weights, tokenizer=tokenizer, tolerance=1e-5, form=form)
    assert read_architecture(tmp_path / "out") == encoder.arch
    again = read_weights(tmp_path / "out", encoder.arch)
    assert weights.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())


def test_a_window_of_another_width_is_refused_with_the_key_to_set():
    with pytest.raises(
        ModelError, match=r"see 8 tokens to the left, those of ModernBertDecoder 7; train with model\.arch"
    ):
        FORMAT.as_decoder(replace(arch_of(), causal_left_window=None))


@pytest.mark.skipif(TRANSFORMERS_5, reason="transformers 5 has a rotary base for local layers")
def test_two_rotary_bases_are_refused_where_the_class_has_one():
    with pytest.raises(
        ModelError, match=r"local_rope_theta is 300 and global_rope_theta 5000; ModernBertDecoder of transf"
    ):
        FORMAT.as_decoder(arch_of(local_rope_theta=300.0))
    FORMAT.as_decoder(arch_of(local_rope_theta=300.0, global_attn_every_n_layers=1))  # none is local


def test_a_run_that_ends_causally_is_exported_and_continues_text(tiny_run, tmp_path, capsys):
    window = {"causal_left_window": 7, "local_rope_theta": 160_000.0}
    run = tiny_run(
        model={"architecture": tiny_run().model.architecture | window},
        phases=[{"name": "only", "objective": "clm", "tokens": 1000}],
        schedule={"decay_phase": None},
    )
    train(run)
    folder = RunFolder.of(run).path
    with pytest.raises(SystemExit) as ended:
        main(["export", str(folder), "--out", str(tmp_path / "out"), "--decoder"])
    assert ended.value.code == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "modernbert-decoder"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "A causal ModernBERT decoder" in card
    assert "text-generation" in card
    model, tokenizer = (cls.from_pretrained(tmp_path / "out") for cls in (AutoModelForCausalLM, AutoTokenizer))
    ids = tokenizer("The patient", return_tensors="pt")["input_ids"]
    made: Any = model.generate(ids, max_new_tokens=3, do_sample=False, attention_mask=torch.ones_like(ids))
    assert made.shape[1] <= ids.shape[1] + 3
    with pytest.raises(ModelError, match="attends causally, so it is no sentence-transformers model"):
        export_run(folder, tmp_path / "both", decoder=True, sentence_transformers=True)


def test_a_family_without_a_decoder_s_layout_says_so():
    from detour.models.families import family_of

    arch = architecture("tiny-roberta")
    with pytest.raises(ModelError, match="a model of the family 'bert' has no other layout as a decoder"):
        family_of(arch).format.as_decoder(arch)
