"""Folders of Llama-like models as they are published: read in full or refused."""

from __future__ import annotations

import inspect
import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.smollm3 import modeling_smollm3

from detour.data.tokenizer import train_bpe
from detour.errors import ModelError
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.models.hf import read_architecture, read_weights, write_folder
from detour.models.llama.hf import FORMAT
from detour.testing import make_batch, make_vocab
from tests.models.family_cases import CASES
from tests.stack import TRANSFORMERS_5, edit_as_4

# the values of the config.json files of these models on the hub
PUBLISHED = {
    "eurobert-210m": {  # EuroBERT/EuroBERT-210m
        "architectures": ["EuroBertForMaskedLM"], "auto_map": {"AutoModel": "modeling_eurobert.EuroBertModel"},
        "attention_bias": False, "attention_dropout": 0.0, "bos_token": "<|begin_of_text|>", "bos_token_id": 128000,
        "eos_token": "<|end_of_text|>", "eos_token_id": 128001, "pad_token": "<|end_of_text|>", "pad_token_id": 128001,
        "mask_token": "<|mask|>", "mask_token_id": 128002, "hidden_act": "silu", "hidden_dropout": 0.0,
        "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 8192,
        "model_type": "eurobert", "num_attention_heads": 12, "num_hidden_layers": 12, "num_key_value_heads": 12,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 250000,
        "tie_word_embeddings": False, "vocab_size": 128256, "is_decoder": False,
    },
    "smollm2-135m": {  # HuggingFaceTB/SmolLM2-135M
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0,
        "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
        "intermediate_size": 1536, "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False,
        "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None,
        "rope_theta": 100000, "tie_word_embeddings": True, "use_cache": True, "vocab_size": 49152,
    },
}  # fmt: skip


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10}


def saved(folder, name="llama", **changes):
    CASES[name].model("causal").save_pretrained(folder)
    return edit_as_4(folder, **changes)


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_configs_of_published_models_are_read_as_the_sizes(tmp_path, size):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[size]))
    found, named = read_architecture(tmp_path), architecture(size)
    assert {key: value for key, value in vars(found).items() if key not in named.free} == {
        key: value for key, value in vars(named).items() if key not in named.free
    }


@pytest.mark.parametrize("module", [modeling_llama, modeling_qwen2, modeling_qwen3, modeling_smollm3])
def test_no_key_that_hugging_face_s_model_reads_is_taken_to_have_no_effect(module):
    read = set(re.findall(r"config\.([a-z_0-9]+)", inspect.getsource(module)))
    assert {"rms_norm_eps", "hidden_act", "num_key_value_heads"} <= read
    harmless = {"output_attentions", "output_hidden_states", "use_cache", "num_labels", "problem_type"}
    assert read & FORMAT.keys.without_effect <= harmless


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', expected 'silu'"),
        (
            {"rope_scaling": {"rope_type": "yarn"}},
            "yarn takes rope_type, factor, original_max_position_embeddings, and opt",
        ),
        ({"rope_scaling": {**YARN, "truncate": False}}, "rope_scaling: truncate is False, expected True"),
        ({"rope_scaling": {**YARN, "beta_slow": 64}}, "beta_slow is 64 and beta_fast 32.0, expected beta_slow below"),
        (
            {"rope_scaling": {**YARN, "original_max_position_embeddings": 8.5}},
            "is 8.5, expected a whole number above 0",
        ),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "rope_type is 'dynamic', expected one of linear, llama3, yarn",
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta": 1}}, "linear takes rope_type, factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -2.0}}, "rope_scaling.factor is -2.0"),
        ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "the default rope_type does not have factor"),
        ({"sliding_window": 8}, "sliding_window is 8"),
        ({"layer_types": ["sliding_attention"] * 3}, "layer_types has 'sliding_attention'"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "auto_map"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3, expected a divisor of 4"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"num_experts": 4}, "num_experts: 4: not known to leave"),
    ],
    ids=str,
)
def test_what_would_change_the_function_is_refused_by_file_and_key(tmp_path, changes, message):
    folder = saved(tmp_path, **changes)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        read_architecture(folder)
    assert str(folder / "config.json") in str(caught.value)


def test_smollm3_layers_without_positions_must_be_every_nth(tmp_path):
    assert read_architecture(saved(tmp_path, "smollm3")).no_rope_layer_interval == 4
    with pytest.raises(ModelError, match="no_rope_layers is"):
        read_architecture(saved(tmp_path, "smollm3", no_rope_layers=[0, 1, 1, 0]))


def test_rope_parameters_of_transformers_5_are_read(tmp_path):
    old = read_architecture(saved(tmp_path))
    scaling = json.loads((tmp_path / "config.json").read_text())["rope_scaling"]
    new = read_architecture(
        saved(tmp_path, rope_scaling=None, rope_theta=None, rope_parameters={**scaling, "rope_theta": 500.0})
    )
    assert new == old


@torch.no_grad()
def test_eurobert_is_read_as_a_bidirectional_llama_and_its_export_waits_for_its_class(tmp_path):
    """Its weights have Llama's names; the reference is Llama's class with a mask that shows everything."""
    reference = CASES["llama, linear"].model("bidirectional")
    folder = saved(tmp_path / "start", "llama, linear", model_type="eurobert", auto_map={"AutoModel": "x.Y"})
    arch = read_architecture(folder)
    encoder = Encoder(arch).eval()
    encoder.load_weights(read_weights(folder, arch))
    batch = make_batch([[33]], vocab=make_vocab(300))
    found = encoder.logits(batch["input_ids"], batch["doc_lengths"], "bidirectional")
    torch.testing.assert_close(found, reference(input_ids=batch["input_ids"]).logits, rtol=0, atol=1e-5)
    if TRANSFORMERS_5:
        return  # which has its class: tests/models/test_families.py
    tokenizer = train_bpe(["a b c"], vocab_size=280)
    with pytest.raises(ModelError, match="an export of model_type 'eurobert' needs its class, which transformers 4"):
        write_folder(tmp_path / "out", arch=arch, weights=encoder.weights(), tokenizer=tokenizer, card="")


def test_a_tied_head_is_stored_once_and_an_untied_one_beside_the_embedding(tmp_path):
    for name, tied in (("qwen2", True), ("qwen3", False)):
        folder = saved(tmp_path / name, name)
        arch = read_architecture(folder)
        assert arch.tied is tied
        assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not tied
        assert ("decoder.weight" in Encoder(arch).weights()) is not tied
