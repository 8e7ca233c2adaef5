"""Hugging Face folders, in and out: equal logits in transformers, and nothing that does not fit is let through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    ModernBertConfig,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    ModernBertForMaskedLM,
    pipeline,
)

from detour.data.tokenizer import tokenizer_sha256, train_bpe
from detour.errors import ModelError
from detour.models.encoder import EMBEDDING, PROJECTION, Encoder
from detour.models.hf import (
    expected_shapes,
    read_architecture,
    read_weights,
    write_folder,
)
from detour.models.modernbert.architecture import ModernBertArchitecture
from detour.models.reload import reload_difference
from tests.stack import TRANSFORMERS_5, as_4, edit_as_4

TINY = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2,
    "local_attention": 16, "global_rope_theta": 5000.0, "local_rope_theta": 300.0, "max_position_embeddings": 128,
    "pad_token_id": 0, "reference_compile": False,
}  # fmt: skip
BIASES = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
SHAPES = {
    "plain": {},
    "every bias": BIASES,
    "no bias, 4 heads": {"decoder_bias": False, "num_attention_heads": 4},
    "one layer": {"num_hidden_layers": 1},
    "every 2nd global, eps": {"global_attn_every_n_layers": 2, "local_attention": 6, "norm_eps": 1e-3},
    "all local but the first": {"global_attn_every_n_layers": 9},
}
if not TRANSFORMERS_5:  # whose classes need both
    SHAPES["one theta"] = {"local_rope_theta": None}
LENGTH = 70


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices: a second thread costs more than it gives."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Weights for which attention is sharp and no bias is zero: a wrong window, theta or bias shows in the logits."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1
            centre = 1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0.0
            parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def masked_lm(**changes) -> ModernBertForMaskedLM:
    return shaken(ModernBertForMaskedLM(ModernBertConfig(**(TINY | changes))))  # type: ignore[return-value]


def causal_lm(**changes) -> ModernBertDecoderForCausalLM:
    return shaken(ModernBertDecoderForCausalLM(ModernBertDecoderConfig(**(TINY | changes))))  # type: ignore[return-value]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder of a random `ModernBertForMaskedLM`."""
    masked_lm().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def encoder_from(folder: Path) -> Encoder:
    arch = read_architecture(folder)
    weights = read_weights(folder, arch)
    encoder = Encoder(arch).eval()
    encoder.load_weights(weights)
    return encoder


@torch.no_grad()
def assert_same_logits(encoder: Encoder, theirs: torch.nn.Module, attention: str) -> None:
    ids_BT = torch.randint(0, encoder.arch.vocab_size, (2, LENGTH), generator=torch.Generator().manual_seed(1))
    expected_BTV = theirs(input_ids=ids_BT).logits
    assert expected_BTV.std() > 0.3  # logits worth comparing
    found_BTV = encoder.logits(ids_BT, torch.full((2, 1), LENGTH), attention)
    torch.testing.assert_close(found_BTV, expected_BTV, rtol=0, atol=1e-5)


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def edit_weights(folder: Path, **changes) -> None:
    """Replaces weights by name; `...` removes one."""
    path = folder / "model.safetensors"
    weights = load_file(path) | changes
    save_file({key: value for key, value in weights.items() if value is not ...}, path, metadata={"format": "pt"})


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_an_encoder_that_transformers_saved_has_the_same_logits(tmp_path, shape):
    theirs = masked_lm(**SHAPES[shape])
    theirs.save_pretrained(tmp_path / "saved")
    assert_same_logits(encoder_from(tmp_path / "saved"), theirs, "bidirectional")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_decoder_that_transformers_saved_has_the_same_causal_logits(tmp_path, shape):
    theirs = causal_lm(**SHAPES[shape])
    theirs.save_pretrained(tmp_path / "saved")
    assert_same_logits(encoder_from(tmp_path / "saved"), theirs, "causal")


def test_a_decoder_s_unused_local_theta_is_said_to_be_unused(tmp_path, caplog):
    causal_lm().save_pretrained(tmp_path / "two")
    causal_lm(local_rope_theta=5000.0).save_pretrained(tmp_path / "one")
    for folder in tmp_path.iterdir():
        edit_as_4(folder)
    assert read_architecture(tmp_path / "two").local_rope_theta == 5000.0
    assert "local_rope_theta is not used" in caplog.text
    caplog.clear()
    read_architecture(tmp_path / "one")
    assert caplog.text == ""


def test_the_architecture_is_the_saved_config_s(tmp_path):
    changes = {**BIASES, "attention_dropout": 0.1, "mlp_dropout": 0.2, "embedding_dropout": 0.3, "norm_eps": 1e-4}
    changes |= {"initializer_range": 0.03, "initializer_cutoff_factor": 3.0, "global_attn_every_n_layers": 2}
    ModernBertConfig(**(TINY | changes)).save_pretrained(tmp_path)
    kept = {key: value for key, value in (TINY | changes).items() if key not in ("pad_token_id", "reference_compile")}
    assert read_architecture(tmp_path) == ModernBertArchitecture(**kept)


def test_a_config_without_thetas_or_window_means_the_class_s_defaults(tmp_path):
    ModernBertConfig(**TINY).save_pretrained(tmp_path)
    edit_as_4(tmp_path, local_rope_theta=..., global_rope_theta=..., local_attention=..., norm_eps=...)
    arch, defaults = read_architecture(tmp_path), as_4(ModernBertConfig().to_dict())
    for key in ("local_rope_theta", "global_rope_theta", "local_attention", "norm_eps"):
        assert getattr(arch, key) == defaults[key]


KINDS = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]


def as_transformers_5_writes(folder: Path, **changes) -> None:
    rope = {"rope_type": "default"}
    parameters = {
        "full_attention": {**rope, "rope_theta": 5000.0},
        "sliding_attention": {**rope, "rope_theta": 300.0},
    }
    old = {"global_rope_theta": ..., "local_rope_theta": ..., "global_attn_every_n_layers": ...}
    edit_config(folder, **(old | {"rope_parameters": parameters, "layer_types": KINDS} | changes))


@pytest.mark.parametrize("config", [ModernBertConfig, ModernBertDecoderConfig])
def test_transformers_5_s_rope_parameters_and_layer_types_are_read(tmp_path, config):
    config(**TINY).save_pretrained(tmp_path)
    as_transformers_5_writes(tmp_path)
    arch = read_architecture(tmp_path)
    assert (arch.global_rope_theta, arch.local_rope_theta, arch.global_attn_every_n_layers) == (5000.0, 300.0, 2)


def test_a_layer_pattern_that_is_not_every_nth_is_refused(tmp_path):
    ModernBertConfig(**TINY).save_pretrained(tmp_path)
    as_transformers_5_writes(tmp_path, layer_types=["full_attention", *KINDS[:3]])
    with pytest.raises(ModelError, match="layer_types"):
        read_architecture(tmp_path)


def test_weights_in_bf16_arrive_in_fp32(saved):
    edit_weights(saved, **{name: tensor.bfloat16() for name, tensor in load_file(saved / "model.safetensors").items()})
    weights = read_weights(saved, read_architecture(saved))
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_sharded_safetensors_are_read(tmp_path):
    theirs = masked_lm()
    theirs.save_pretrained(tmp_path / "saved", max_shard_size="30KB")
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 1
    assert_same_logits(encoder_from(tmp_path / "saved"), theirs, "bidirectional")


def test_a_lost_shard_is_noticed(tmp_path):
    masked_lm().save_pretrained(tmp_path / "saved", max_shard_size="30KB")
    max((tmp_path / "saved").glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match="is missing"):
        encoder_from(tmp_path / "saved")


# --- what is refused ------------------------------------------------------------------------------------------------

NORM = "model.final_norm.weight"


def refuses(folder: Path, *parts: str) -> None:
    """Reading fails with a ModelError that names the folder or file and holds every part."""
    with pytest.raises(ModelError) as caught:
        encoder_from(folder)
    for part in (str(folder), *parts):
        assert part in str(caught.value)


def test_a_missing_weight_is_refused(saved):
    edit_weights(saved, **{NORM: ...})
    refuses(saved, f"{NORM} is missing")


def test_an_unknown_weight_is_refused(saved):
    edit_weights(saved, extra=torch.zeros(1))
    refuses(saved, "extra is unknown")


def test_a_weight_of_another_shape_is_refused(saved):
    edit_weights(saved, **{NORM: torch.zeros(31)})
    refuses(saved, f"{NORM} has shape (31,), expected (32,)")


def test_many_problems_are_counted_and_not_all_shown(saved):
    edit_weights(saved, **{f"extra{i}": torch.zeros(1) for i in range(8)})
    refuses(saved, "extra0 is unknown", "and 3 more")


def test_a_projection_that_is_not_tied_is_refused_and_a_tied_one_accepted(saved):
    embedding = load_file(saved / "model.safetensors")[EMBEDDING]
    edit_weights(saved, **{PROJECTION: embedding.clone()})
    encoder_from(saved)
    other = embedding.clone()
    other[5, 5] += 1e-3
    edit_weights(saved, **{PROJECTION: other})
    refuses(saved, f"{PROJECTION} differs from the embedding")


def test_weights_of_another_architecture_are_refused(saved):
    edit_as_4(saved, num_hidden_layers=3)
    refuses(saved, "model.layers.3", "is unknown")


def test_pickled_weights_are_not_read(saved):
    weights = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    torch.save(weights, saved / "pytorch_model.bin")
    refuses(saved, "no .safetensors file")


@pytest.mark.parametrize("damage", ["truncated", "noise", "empty"])
def test_damaged_safetensors_are_refused_by_name(saved, damage):
    path = saved / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes({"truncated": data[:-100], "noise": b"\xff" * 100, "empty": b""}[damage])
    refuses(saved, str(path), "cannot be read")


def test_half_a_decoder_s_attention_is_refused(tmp_path):
    causal_lm().save_pretrained(tmp_path / "saved")
    edit_weights(tmp_path / "saved", **{"model.layers.1.attn.k_proj.weight": ...})
    with pytest.raises(ModelError, match=r"model\.layers\.1\.: only some of attn\.q_proj, attn\.k_proj, attn\.v_proj"):
        encoder_from(tmp_path / "saved")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"model_type": "t5"}, "model_type is 't5'"),
        ({"model_type": ...}, "model_type is None"),
        ({"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ({"classifier_activation": "relu"}, "classifier_activation is 'relu'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"hidden_size": ...}, "hidden_size missing"),
        ({"num_attention_heads": ...}, "num_attention_heads missing"),
        ({"num_attention_heads": 5}, "num_attention_heads 5"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"hidden_size": "wide"}, "TypeError"),
        ({"rope_parameters": None}, "rope_parameters.full_attention is None"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 5000.0}}}, "sliding_attention"),
    ],
    ids=str,
)
def test_a_config_that_this_model_cannot_follow_is_refused_by_file(saved, changes, part):
    edit_config(saved, **changes)
    refuses(saved, str(saved / "config.json"), part)


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '"modernbert"'])
def test_an_absent_or_damaged_config_is_refused_by_file(saved, text):
    path = saved / "config.json"
    path.unlink() if text is None else path.write_text(text)
    refuses(saved, str(path))


# --- writing --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    text = ["the patient was given aspirin for a mild fever and a persistent cough over two weeks"] * 3
    return train_bpe(text, vocab_size=280)


def exported(out: Path, tokenizer, **changes) -> Encoder:
    arch = ModernBertArchitecture(
        **{k: v for k, v in (TINY | changes).items() if k not in ("pad_token_id", "reference_compile")}
    )
    encoder = shaken(Encoder(arch))
    weights = encoder.weights()
    write_folder(out, arch=arch, weights=weights, tokenizer=tokenizer, card="# A card\n")
    return encoder  # type: ignore[return-value]


@pytest.mark.faults(20, "the same for many shapes of the model")
@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "one theta"])
def test_an_exported_folder_has_the_same_logits_in_transformers(tmp_path, tokenizer, shape):
    encoder = exported(tmp_path / "out", tokenizer, **SHAPES[shape])
    theirs, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert_same_logits(encoder, theirs.eval(), "bidirectional")
    weights = read_weights(tmp_path / "out", encoder.arch)
    assert reload_difference(tmp_path / "out", arch=encoder.arch, weights=weights) < 1e-5


def test_an_exported_folder_is_read_back_as_it_was(tmp_path, tokenizer):
    encoder = exported(tmp_path / "out", tokenizer, **BIASES)
    again = encoder_from(tmp_path / "out")
    assert again.arch == encoder.arch
    state = encoder.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


def test_reload_difference_shows_a_changed_weight(tmp_path, tokenizer):
    encoder = exported(tmp_path / "out", tokenizer)
    weights = read_weights(tmp_path / "out", encoder.arch)
    weights["model.layers.2.attn.Wqkv.weight"] += 0.1
    assert reload_difference(tmp_path / "out", arch=encoder.arch, weights=weights) > 1e-3


def test_the_exported_tokenizer_is_the_one_given_with_the_model_s_length_and_ids(tmp_path, tokenizer):
    exported(tmp_path / "out", tokenizer)
    loaded, config = AutoTokenizer.from_pretrained(tmp_path / "out"), ModernBertConfig.from_pretrained(tmp_path / "out")
    assert tokenizer_sha256(loaded) == tokenizer_sha256(tokenizer)
    assert loaded.model_max_length == 128
    assert loaded("aspirin for a fever").input_ids == tokenizer("aspirin for a fever").input_ids
    assert (config.pad_token_id, config.cls_token_id) == (tokenizer.pad_token_id, tokenizer.cls_token_id)
    assert config.sep_token_id == tokenizer.sep_token_id


def test_an_exported_folder_fills_masks(tmp_path, tokenizer):
    exported(tmp_path / "out", tokenizer)
    fill = pipeline("fill-mask", model=str(tmp_path / "out"), device="cpu")
    answers = fill(f"the patient was given {tokenizer.mask_token} for a fever", top_k=3)
    assert len(answers) == 3
    assert answers[0]["score"] >= answers[1]["score"] > 0


def test_an_exported_folder_holds_the_card_and_no_pickle(tmp_path, tokenizer):
    exported(tmp_path / "out", tokenizer)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
    assert (tmp_path / "out" / "README.md").read_text() == "# A card\n"


def test_a_folder_with_something_in_it_is_not_written_to(tmp_path, tokenizer):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="exists and is not empty"):
        exported(tmp_path / "out", tokenizer)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_written_to(tmp_path, tokenizer):
    (tmp_path / "out").mkdir()
    exported(tmp_path / "out", tokenizer)
    assert (tmp_path / "out" / "config.json").is_file()


def test_expected_shapes_are_those_that_transformers_saves(saved):
    stored = {name: tuple(tensor.shape) for name, tensor in load_file(saved / "model.safetensors").items()}
    assert expected_shapes(read_architecture(saved)) == stored


def test_a_configuration_nested_without_end_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"config\.json: cannot be read"):
        read_architecture(tmp_path)
