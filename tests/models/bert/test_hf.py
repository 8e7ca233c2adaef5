"""Folders of the BERT family as they are published: read in full or refused; the limits of their positions are held."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForPreTraining
from transformers.models.bert import modeling_bert
from transformers.models.camembert import modeling_camembert
from transformers.models.roberta import modeling_roberta
from transformers.models.xlm_roberta import modeling_xlm_roberta

from detour.errors import DataError, ModelError
from detour.models.bert.hf import FORMAT
from detour.models.encoder import Encoder
from detour.models.families import architecture
from detour.models.hf import carried_keys, of_head, read_architecture, read_config, read_weights
from detour.testing import make_vocab
from detour.training.run_start import check_positions
from tests.models.family_cases import CASES

# the values of the config.json files of these models on the hub; keys that transformers writes by itself are left out
PUBLISHED = {
    "bert-base": {  # google-bert/bert-base-uncased
        "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
        "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute",
        "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
    },
    "roberta-base": {  # FacebookAI/roberta-base
        "architectures": ["RobertaForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
        "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 514,
        "model_type": "roberta", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1,
        "type_vocab_size": 1, "vocab_size": 50265,
    },
    "camembert-base": {  # almanach/camembert-base
        "architectures": ["CamembertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 5,
        "eos_token_id": 6, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
        "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 514,
        "model_type": "camembert", "num_attention_heads": 12, "num_hidden_layers": 12, "output_past": True,
        "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": 32005,
    },
    "camembertv2-base": {  # almanach/camembertv2-base
        "architectures": ["RobertaForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 1,
        "classifier_dropout": None, "embedding_size": 768, "eos_token_id": 2, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
        "layer_norm_eps": 1e-07, "max_position_embeddings": 1025, "model_name": "camembertv2-base",
        "model_type": "roberta", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
        "position_biased_input": True, "position_embedding_type": "absolute", "type_vocab_size": 1, "use_cache": True,
        "vocab_size": 32768,
    },
    "xlm-roberta-large": {  # FacebookAI/xlm-roberta-large
        "architectures": ["XLMRobertaForMaskedLM"], "attention_probs_dropout_prob": 0.1, "bos_token_id": 0,
        "eos_token_id": 2, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 1024,
        "initializer_range": 0.02, "intermediate_size": 4096, "layer_norm_eps": 1e-05, "max_position_embeddings": 514,
        "model_type": "xlm-roberta", "num_attention_heads": 16, "num_hidden_layers": 24, "output_past": True,
        "pad_token_id": 1, "position_embedding_type": "absolute", "type_vocab_size": 1, "use_cache": True,
        "vocab_size": 250002,
    },
}  # fmt: skip


def saved(folder: Path, name: str = "bert") -> Path:
    CASES[name].model("bidirectional").save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changes) -> Path:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))
    return folder


def edit_weights(folder: Path, change) -> Path:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_configs_of_published_models_are_read_as_the_sizes(tmp_path, size):
    (tmp_path / "config.json").write_text(json.dumps(PUBLISHED[size]))
    arch = read_architecture(tmp_path)
    assert arch == architecture(size)
    assert arch.longest_document == (1024 if size == "camembertv2-base" else 512)


@pytest.mark.parametrize("module", [modeling_bert, modeling_roberta, modeling_camembert, modeling_xlm_roberta])
def test_no_key_that_hugging_face_s_model_reads_is_taken_to_have_no_effect(module):
    read = set(re.findall(r"config\.([a-z_0-9]+)", inspect.getsource(module)))
    assert {"layer_norm_eps", "hidden_act", "position_embedding_type"} <= read | FORMAT.keys.only.keys()
    harmless = {"classifier_dropout", "num_labels", "problem_type", "output_attentions", "output_hidden_states",
                "use_cache", "use_return_dict", "return_dict"}  # fmt: skip
    assert read & FORMAT.keys.without_effect <= harmless


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key', expected 'absolute'"),
        ({"hidden_act": "silu"}, "hidden_act is 'silu', expected one of gelu"),
        ({"hidden_act": ["gelu"]}, "hidden_act is"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"chunk_size_feed_forward": 2}, "chunk_size_feed_forward is 2"),
        ({"use_task_id": True}, "use_task_id: True: not known to leave"),
        ({"hidden_size": ...}, "hidden_size missing"),
        ({"hidden_size": 33}, "must be an integer"),
    ],
    ids=str,
)
def test_what_would_change_the_function_is_refused_by_file_and_key(tmp_path, changes, message):
    folder = edit_config(saved(tmp_path), **changes)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        read_architecture(folder)
    assert str(folder / "config.json") in str(caught.value)


@pytest.mark.parametrize("pad", [None, -1, True, "1"])
def test_a_roberta_without_a_usable_padding_id_is_refused(tmp_path, pad):
    folder = edit_config(saved(tmp_path, "roberta"), pad_token_id=pad)
    with pytest.raises(ModelError, match=r"pad_token_id is .*positions of roberta depend on it"):
        read_architecture(folder)


def test_names_of_2018_and_what_is_no_part_of_the_language_model_are_read(tmp_path):
    """google-bert/bert-base-uncased has LayerNorm.gamma, a pooler, and the head of next-sentence prediction."""
    config = CASES["bert"].config()
    BertForPreTraining(config).save_pretrained(tmp_path)
    before = read_weights(tmp_path, read_architecture(tmp_path))

    def of_2018(weights):
        weights = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in weights.items()
        }
        assert any("pooler" in name for name in weights)
        return {**weights, "bert.embeddings.position_ids": torch.arange(40)[None]}

    after = read_weights(edit_weights(tmp_path, of_2018), read_architecture(tmp_path))
    assert before.keys() == after.keys() == Encoder(read_architecture(tmp_path)).weights().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_second_copy_of_the_projection_is_checked(tmp_path, name):
    folder, head = saved(tmp_path, name), "cls.predictions" if name == "bert" else "lm_head"
    words = f"{name}.embeddings.word_embeddings.weight"
    arch = read_architecture(folder)

    def copies(weights, shift=0.0, bias=0.0):
        both = {
            f"{head}.decoder.weight": weights[words] + shift,
            f"{head}.decoder.bias": weights[f"{head}.bias"] + bias,
        }
        return weights | both

    read_weights(edit_weights(folder, copies), arch)
    edit_weights(folder, lambda weights: copies(weights, shift=1.0))
    with pytest.raises(ModelError, match=r"decoder\.weight differs from the embedding"):
        read_weights(folder, arch)
    edit_weights(folder, lambda weights: copies(weights, bias=1.0))
    with pytest.raises(ModelError, match="two copies of the vocabulary projection's bias differ"):
        read_weights(folder, arch)


def test_half_an_attention_and_a_lost_layer_are_refused(tmp_path):
    folder = saved(tmp_path)
    key = "bert.encoder.layer.1.attention.self.key.weight"
    edit_weights(folder, lambda weights: {name: t for name, t in weights.items() if name != key})
    with pytest.raises(ModelError, match=r"model\.layers\.1\.: only some of attn\.query, attn\.key, attn\.value"):
        read_weights(folder, read_architecture(folder))
    edit_config(folder, num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"only some of|is unknown"):
        read_weights(folder, read_architecture(folder))


def test_a_causal_start_is_read_and_exported_as_an_encoder(tmp_path):
    folder = edit_config(saved(tmp_path, "roberta"), is_decoder=True, classifier_dropout=0.3)
    assert read_architecture(folder) == read_architecture(edit_config(folder, is_decoder=False))
    assert carried_keys(read_config(edit_config(folder, is_decoder=True)))["classifier_dropout"] == 0.3
    assert "is_decoder" not in carried_keys(read_config(folder))


@torch.no_grad()
def test_a_document_beyond_the_limit_is_no_silent_error(tmp_path):
    arch = read_architecture(saved(tmp_path, "roberta"))
    encoder = Encoder(arch).eval()
    ids = torch.full((1, 60), 5)
    with pytest.raises(IndexError):
        encoder.hidden(ids, torch.tensor([[arch.longest_document + 1]]), "bidirectional")
    encoder.hidden(ids, torch.tensor([[arch.longest_document]]), "bidirectional")  # the padding may be longer


def test_rows_with_longer_documents_than_the_model_has_positions_are_refused_at_the_start(tiny_run):
    def run(limit, **more):
        small = {"vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
        values = {**small, "max_position_embeddings": limit, "first_position": 1, **more}
        model = {"size": "tiny-roberta", "architecture": values}
        return tiny_run(model=model)

    check_positions(run(65), make_vocab(600))  # 64 tokens, as many as a row
    with pytest.raises(DataError, match=r"data\.train: .* up to 64 tokens, expected at most the model's limit, 63"):
        check_positions(run(64), make_vocab(600))
    with pytest.raises(ModelError, match="its padding id is 0, expected 4, on which the positions"):
        check_positions(run(100, first_position=5), make_vocab(600))


def test_the_head_s_weights_are_told_from_the_trunk_s():
    names = Encoder(architecture("bert-base", {"num_hidden_layers": 1, "vocab_size": 50})).weights()
    assert {name for name in names if of_head(name)} == {
        "head.dense.weight", "head.dense.bias", "head.norm.weight", "head.norm.bias", "decoder.bias",
    }  # fmt: skip
