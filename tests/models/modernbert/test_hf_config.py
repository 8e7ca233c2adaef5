"""config.json of start models: read in full or refused. What decides the function is told by Hugging Face's own code."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ModernBertConfig, ModernBertDecoderConfig, ModernBertForMaskedLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.modernbert import modeling_modernbert
from transformers.models.modernbert_decoder import modeling_modernbert_decoder

from detour.errors import ModelError
from detour.models.hf import carried_keys, read_architecture, read_config
from detour.models.modernbert.hf import FORMAT
from tests.stack import as_4

TINY = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
    "local_attention": 16, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
# written by transformers 5.24 for ModernBertConfig(**TINY)
OF_5 = {
    "architectures": ["ModernBertForMaskedLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 50281,
    "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0, "classifier_pooling": "cls",
    "cls_token_id": 50281, "decoder_bias": True, "deterministic_flash_attn": False, "dtype": "float32",
    "embedding_dropout": 0.0, "eos_token_id": 50282, "hidden_activation": "gelu", "hidden_size": 32,
    "initializer_cutoff_factor": 2.0, "initializer_range": 0.02, "intermediate_size": 48,
    "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
    "local_attention": 16, "max_position_embeddings": 128, "mlp_bias": False, "mlp_dropout": 0.0,
    "model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 2, "num_hidden_layers": 4,
    "pad_token_id": 0, "rope_parameters": {"full_attention": {"rope_theta": 160000.0, "rope_type": "default"},
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}}, "sep_token_id": 50282,
    "sparse_pred_ignore_index": -100, "sparse_prediction": False, "tie_word_embeddings": True,
    "transformers_version": "5.24.0", "vocab_size": 300,
}  # fmt: skip
SCALED = {
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 32},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "longrope": {"factor": 4.0, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
                 "original_max_position_embeddings": 32},
    "llama3": {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    "proportional": {"factor": 4.0},
}  # fmt: skip


def write(folder: Path, config: dict, **changes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def of_4(config: type = ModernBertConfig, **changes) -> dict:
    return as_4(config(**(TINY | changes)).to_dict())


@pytest.mark.parametrize("config", [of_4(), of_4(ModernBertDecoderConfig), OF_5], ids=["4", "4's decoder", "5"])
def test_all_keys_that_transformers_writes_are_known(tmp_path, config):
    arch = read_architecture(write(tmp_path, config))
    assert (arch.hidden_size, arch.local_attention, arch.global_rope_theta) == (32, 16, 160_000.0)


def test_the_keys_of_published_models_are_known(tmp_path):
    # ModernBERT-base's and mmBERT's files hold these beside what transformers writes today
    published = {"gradient_checkpointing": False, "layer_norm_eps": 1e-05, "position_embedding_type": "sans_pos",
                 "reference_compile": True, "repad_logits_with_grad": False, "torch_dtype": "bfloat16",
                 "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "rope_scaling": None}  # fmt: skip
    read_architecture(write(tmp_path, of_4(), **published))


@pytest.mark.parametrize("module", [modeling_modernbert, modeling_modernbert_decoder], ids=["encoder", "decoder"])
def test_no_key_that_hugging_face_s_model_reads_is_taken_to_have_no_effect(module):
    read = set(re.findall(r"config\.([a-z_0-9]+)", inspect.getsource(module)))
    assert {"norm_eps", "rope_scaling", "classifier_pooling"} & read
    of_classifiers = {"classifier_pooling", "classifier_dropout", "num_labels", "problem_type"}
    of_computing = {"deterministic_flash_attn", "reference_compile", "repad_logits_with_grad", "output_attentions",
                    "output_hidden_states", "use_cache", "sparse_prediction", "sparse_pred_ignore_index"}  # fmt: skip
    assert read & FORMAT.keys.without_effect <= of_classifiers | of_computing


@torch.no_grad()
def logits(config: ModernBertConfig) -> torch.Tensor:
    torch.manual_seed(0)
    model = ModernBertForMaskedLM(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model(input_ids=torch.arange(100)[None]).logits


def test_every_kind_of_scaling_that_transformers_knows_is_tried():
    of_5 = {"proportional"}  # which 4 does not know
    assert set(SCALED) - of_5 <= set(ROPE_INIT_FUNCTIONS) - {"default"} <= set(SCALED)


@pytest.mark.parametrize("kind", ["yarn", "linear", "llama3"])
def test_scaling_changes_what_the_model_computes(kind):
    scaled = ModernBertConfig(**TINY, rope_scaling={"rope_type": kind, **SCALED[kind]}, reference_compile=False)
    plain = ModernBertConfig(**TINY, reference_compile=False)
    assert (logits(scaled) - logits(plain)).abs().max() > 1e-2


@pytest.mark.parametrize("kind", SCALED)
@pytest.mark.parametrize("spelling", ["rope_type", "type"])
def test_scaled_rotary_embeddings_of_transformers_4_are_refused(tmp_path, kind, spelling):
    folder = write(tmp_path, of_4(), rope_scaling={spelling: kind, **SCALED[kind]})
    with pytest.raises(ModelError, match=f"config.json: .*rope_scaling: {spelling} is '{kind}'; only 'default'"):
        read_architecture(folder)


@pytest.mark.parametrize("kind", SCALED)
@pytest.mark.parametrize("layers", ["full_attention", "sliding_attention"])
def test_scaled_rotary_embeddings_of_transformers_5_are_read_in_global_layers_or_refused(tmp_path, kind, layers):
    parameters = json.loads(json.dumps(OF_5["rope_parameters"]))
    parameters[layers] |= {"rope_type": kind, **SCALED[kind]}
    folder = write(tmp_path, OF_5, rope_parameters=parameters)
    if layers == "full_attention" and kind in ("linear", "llama3", "yarn"):
        assert read_architecture(folder).global_rope_scaling == {"rope_type": kind, **SCALED[kind]}
        return
    of = "architecture: global_rope_scaling." if layers == "full_attention" else f"rope_parameters.{layers}: "
    with pytest.raises(ModelError, match=f"{of}rope_type is '{kind}'"):
        read_architecture(folder)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "factor is 2.0"),
        ({"rope_scaling": {"rope_type": "default", "rope_theta": 5.0}}, "rope_theta is 5.0"),
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn', expected a mapping"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ({"head_dim": 64}, "head_dim: 64: not known to leave"),
        ({"rope_theta": 5.0}, "rope_theta: 5.0: not known to leave"),
        ({"is_decoder": True}, "is_decoder is True, expected False"),
        ({"is_causal": True}, "is_causal is True, expected False"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is"),
        ({"chunk_size_feed_forward": 8}, "chunk_size_feed_forward is 8"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "auto_map"),
        ({"sliding_window": 64}, "sliding_window is 64, expected half of local_attention, 16"),
        ({"global_rope_theta": -1.0}, "global_rope_theta is -1.0, expected a number above 0"),
        ({"local_rope_theta": "far"}, "local_rope_theta is 'far', expected a number above 0"),
        (
            {"rope_parameters": OF_5["rope_parameters"], "local_rope_theta": 7.0},
            "local_rope_theta is 7.0, and rope_parameters.sliding_attention.rope_theta is 10000.0",
        ),
        (
            {"layer_types": ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]},
            "every 3 layers (global_attn_every_n_layers)",
        ),
    ],
    ids=str,
)
def test_what_would_change_the_function_is_refused_by_file_and_key(tmp_path, changes, part):
    with pytest.raises(ModelError, match=re.escape(part)) as caught:
        read_architecture(write(tmp_path, of_4(), **changes))
    assert str(tmp_path / "config.json") in str(caught.value)


@given(
    key=st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz_"), min_size=1, max_size=12),
    value=st.booleans() | st.integers() | st.text(max_size=4) | st.lists(st.integers(), max_size=2),
)
@settings(max_examples=100, deadline=None)
def test_an_unknown_key_is_refused_unless_it_is_named_or_null(tmp_path_factory, key, value):
    key = f"x_{key}"
    folder = write(tmp_path_factory.mktemp("model"), OF_5, **{key: value})
    with pytest.raises(ModelError, match=f"{key}: .*model.ignore_config_keys"):
        read_architecture(folder)
    expected = read_architecture(write(folder, OF_5))
    assert read_architecture(write(folder, OF_5, **{key: value}), ignore=[key]) == expected
    assert read_architecture(write(folder, OF_5, **{key: None})) == expected


def test_what_is_carried_over_is_neither_the_architecture_s_nor_the_file_s(tmp_path):
    config = read_config(write(tmp_path, OF_5, classifier_pooling="mean", my_lab={"note": 1}, sparse_prediction=True))
    assert carried_keys(config) == {
        "classifier_dropout": 0.0, "classifier_pooling": "mean", "deterministic_flash_attn": False,
        "my_lab": {"note": 1}, "sparse_pred_ignore_index": -100, "sparse_prediction": True,
    }  # fmt: skip


def test_a_missing_config_is_one_sentence_with_its_path_once(tmp_path):
    with pytest.raises(ModelError) as error:
        read_config(tmp_path)
    assert str(error.value) == f"{tmp_path / 'config.json'}: cannot be read (No such file or directory)"
