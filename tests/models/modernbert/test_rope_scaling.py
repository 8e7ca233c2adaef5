"""ModernBERT with scaled rotary positions in its global layers, which transformers 5 has and transformers 4 has not."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, ModernBertConfig, ModernBertForMaskedLM
from transformers.models.modernbert.modeling_modernbert import ModernBertRotaryEmbedding

from detour.data.tokenizer import train_bpe
from detour.errors import ModelError
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.models.hf import read_architecture, read_weights, write_folder
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.models.modernbert.hf import FORMAT
from detour.models.reload import check_uses, reload_difference
from tests.stack import TRANSFORMERS_5

SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 32},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
}  # fmt: skip
SHAPE = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
    "local_attention": 16, "global_rope_theta": 5000.0, "local_rope_theta": 300.0, "max_position_embeddings": 128,
}  # fmt: skip
LENGTH = 70


def arch_of(kind: str | None) -> ModernBertArchitecture:
    made = architecture("tiny", SHAPE | {"global_rope_scaling": SCALINGS.get(kind or "")})
    assert isinstance(made, ModernBertArchitecture)
    return made


def config_of_5(scaling: dict[str, Any]) -> dict[str, Any]:
    """As transformers 5 writes it."""
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    rope = {
        "full_attention": {**scaling, "rope_theta": 5000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
    }
    shape = {key: value for key, value in SHAPE.items() if "theta" not in key}
    return {**shape, "model_type": "modernbert", "pad_token_id": 0, "layer_types": kinds, "rope_parameters": rope}


def shaken(encoder: Encoder) -> Encoder:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))
    return encoder.eval()


def reference_of(encoder: Encoder, scaling: dict[str, Any]) -> ModernBertForMaskedLM:
    """Transformers' class with the encoder's weights; in version 4 its global layers are given its own scaled positions."""
    if TRANSFORMERS_5:
        config = ModernBertConfig(**{key: v for key, v in config_of_5(scaling).items() if key != "model_type"})
        theirs = ModernBertForMaskedLM(config)
    else:
        config = ModernBertConfig(**SHAPE, pad_token_id=0, reference_compile=False)
        config._attn_implementation = "sdpa"
        theirs = ModernBertForMaskedLM(config)
        scaled = copy.deepcopy(config)
        scaled.rope_theta, scaled.rope_scaling = config.global_rope_theta, scaling
        for layer in theirs.model.layers[::3]:
            layer.attn.rotary_emb = ModernBertRotaryEmbedding(config=scaled)
    theirs.load_state_dict(encoder.state_dict(), strict=True)
    return theirs.eval()


def ids() -> torch.Tensor:
    return torch.randint(1, 300, (2, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", SCALINGS)
@torch.no_grad()
def test_global_layers_are_scaled_as_by_transformers_and_local_ones_are_not(kind):
    encoder = shaken(Encoder(arch_of(kind)))
    found = encoder.logits(ids(), torch.full((2, 1), LENGTH), "bidirectional")
    torch.testing.assert_close(found, reference_of(encoder, SCALINGS[kind])(input_ids=ids()).logits, rtol=0, atol=1e-5)
    encoder.use_rope(scaling={"rope_type": "default"})
    assert encoder.arch == arch_of(None)
    plain = encoder.logits(ids(), torch.full((2, 1), LENGTH), "bidirectional")
    assert (found - plain).abs().max() > 1e-2


@pytest.mark.parametrize("kind", SCALINGS)
def test_a_config_of_transformers_5_is_read(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps(config_of_5(SCALINGS[kind])))
    assert read_architecture(tmp_path) == arch_of(kind)


def test_what_the_config_leaves_to_transformers_is_read_as_transformers_reads_it(tmp_path):
    short = {"rope_type": "yarn", "factor": 4.0, "beta_fast": None, "truncate": True}
    (tmp_path / "config.json").write_text(json.dumps(config_of_5(short)))
    expected = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    arch = read_architecture(tmp_path)
    assert arch == replace(arch_of("yarn"), global_rope_scaling=expected)


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe(["the patient was given aspirin for a mild fever and a cough"] * 3, vocab_size=280)


@pytest.mark.skipif(not TRANSFORMERS_5, reason="transformers 4 scales all layers or none")
@pytest.mark.parametrize("decoder", [False, True], ids=["encoder", "decoder"])
def test_an_export_has_the_same_logits_in_transformers_5_and_is_read_back(tmp_path, tokenizer, decoder):
    arch = replace(arch_of("yarn"), causal_left_window=7 if decoder else None)
    weights = shaken(Encoder(arch)).weights()
    form = FORMAT.as_decoder(arch) if decoder else FORMAT
    written: dict[str, Any] = {"arch": arch, "weights": weights, "form": form}
    write_folder(tmp_path / "out", **written, tokenizer=tokenizer, card="")
    assert reload_difference(tmp_path / "out", **written) < 1e-5
    check_uses(tmp_path / "out", **written, tokenizer=tokenizer, tolerance=1e-5)
    assert "Needs transformers 5" in form.uses_of(arch).note
    assert read_architecture(tmp_path / "out") == arch
    assert read_weights(tmp_path / "out", arch).keys() == weights.keys()
    written_config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written_config["global_rope_theta"] is None  # stops transformers 4: see below
    assert written_config["rope_parameters"]["full_attention"] == {**SCALINGS["yarn"], "rope_theta": 5000.0}


@pytest.mark.parametrize("decoder", [False, True], ids=["encoder", "decoder"])
def test_an_export_has_the_keys_that_transformers_4_reads_whichever_version_wrote_it(tmp_path, tokenizer, decoder):
    """Without them it would take its own defaults: bases of 160,000 and 10,000, and each third layer global."""
    form, arch = FORMAT, ModernBertArchitecture(**SHAPE)
    if decoder:
        arch = replace(arch, causal_left_window=7, local_rope_theta=5000.0)
        form = FORMAT.as_decoder(arch)
    form.config(arch, tokenizer, None).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    for key in ("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers"):
        assert written[key] == getattr(arch, key)
    assert read_architecture(tmp_path) == arch


@pytest.mark.skipif(TRANSFORMERS_5, reason="what transformers 4 does")
@pytest.mark.parametrize("decoder", [False, True], ids=["encoder", "decoder"])
def test_transformers_4_is_not_exported_to(tmp_path, tokenizer, decoder):
    arch = replace(arch_of("yarn"), causal_left_window=7, local_rope_theta=5000.0)
    form = FORMAT.as_decoder(arch) if decoder else FORMAT
    with pytest.raises(ModelError, match=r"global_rope_scaling is yarn; transformers 4\.\S+ scales all layers of a"):
        form.config(arch, tokenizer, None)


@pytest.mark.skipif(TRANSFORMERS_5, reason="what transformers 4 does")
def test_transformers_4_stops_at_an_export_of_transformers_5_instead_of_leaving_out_its_scaling(tmp_path):
    folder = tmp_path / "of-5"
    ModernBertForMaskedLM(ModernBertConfig(**SHAPE, pad_token_id=0)).save_pretrained(folder)

    def load(config: dict[str, Any]) -> Any:
        (folder / "config.json").write_text(json.dumps(config))
        return AutoModelForMaskedLM.from_pretrained(folder)

    config = {**config_of_5(SCALINGS["yarn"]), "architectures": ["ModernBertForMaskedLM"]}
    assert load(config).config.global_rope_theta == 160_000.0  # without the key: neither base nor scaling is read
    with pytest.raises(TypeError, match="NoneType"):
        load({**config, "global_rope_theta": None})
    assert read_architecture(folder) == arch_of("yarn")
