"""Every model type of transformers, and every key of the configs that are read: equal hidden states, or a clear refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from detour.errors import ModelError
from detour.models.encoder import Encoder
from detour.models.families import model_types
from detour.models.hf import of_head, read_architecture, read_weights
from tests.models.family_cases import CASES

ORDINARY = [name for name in CASES if "," not in name]
DECODERS = ("modernbert-decoder", "llama", "qwen2", "qwen3", "smollm3")
OTHERS = sorted(set(CONFIG_MAPPING_NAMES) - set(model_types()))
# model type -> every class that transformers has for it
CLASSES = {
    model_type: sorted(
        {
            name
            for mapping, names in vars(modeling_auto).items()
            if mapping.startswith("MODEL_") and mapping.endswith("MAPPING_NAMES") and model_type in names
            for name in ([names[model_type]] if isinstance(names[model_type], str) else names[model_type])
        }
    )
    for model_type in model_types()
}
PAIRS = [
    pytest.param(name, cls, id=f"{name}-{cls}") for name in ORDINARY for cls in CLASSES[CASES[name].config().model_type]
]


def test_the_types_are_those_of_this_transformers():
    assert len(OTHERS) > 200
    assert set(model_types()) - set(CONFIG_MAPPING_NAMES) <= {"eurobert"}  # which transformers 5 has


@pytest.mark.parametrize("model_type", OTHERS)
def test_a_model_type_of_no_family_is_refused_in_one_sentence(tmp_path, model_type):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "hidden_size": 8}))
    with pytest.raises(ModelError) as error:
        read_architecture(tmp_path)
    text = str(error.value)
    assert f"model_type is '{model_type}'" in text
    assert "expected one of" in text
    assert "\n" not in text


def encoder_from(folder: Path) -> Encoder:
    arch = read_architecture(folder)
    weights, encoder = read_weights(folder, arch), Encoder(arch).eval()
    head = {name: tensor for name, tensor in encoder.weights().items() if of_head(name)}
    encoder.load_weights({**head, **weights})
    return encoder


def ids_of(length: int) -> torch.Tensor:
    return torch.randint(5, 290, (2, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def hidden_of(model: PreTrainedModel, ids_BT: torch.Tensor) -> torch.Tensor:
    return model.base_model(input_ids=ids_BT, output_hidden_states=False).last_hidden_state


@torch.no_grad()
def assert_equal_or_refused(
    model: PreTrainedModel, folder: Path, ids_BT: torch.Tensor, expected_BTC: torch.Tensor
) -> bool:
    """Whether the folder of ``model`` is read; if so, its hidden states are these. A refusal names the folder."""
    try:
        encoder, refusal = encoder_from(folder), ""
    except ModelError as error:
        encoder, refusal = None, str(error)
    if encoder is None:
        assert str(folder) in refusal
        assert "\n" not in refusal
        return False
    length = ids_BT.shape[1]
    causal = bool(getattr(model.config, "is_decoder", False)) or model.config.model_type in DECODERS
    found_NC = encoder.hidden(ids_BT, torch.full((2, 1), length), "causal" if causal else "bidirectional")
    torch.testing.assert_close(found_NC.unflatten(0, (2, length)), expected_BTC, rtol=0, atol=2e-5)
    return True


@pytest.mark.parametrize(("name", "cls"), PAIRS)
def test_each_class_of_a_family_is_read_with_equal_hidden_states_or_refused(tmp_path, name, cls):
    config = CASES[name].config()
    if getattr(transformers, cls).__module__.rpartition(".")[0] != type(config).__module__.rpartition(".")[0]:
        pytest.skip(f"{cls} is of another family, which contains this one")
    model = getattr(transformers, cls)(config)
    shaken(model).save_pretrained(tmp_path)
    ids_BT = ids_of(CASES[name].limit)
    read = assert_equal_or_refused(model, tmp_path, ids_BT, hidden_of(model, ids_BT))
    # the pooler and the head of next-sentence prediction are left out; heads of fine-tuned models are refused
    known = ("ForMaskedLM", "ForPreTraining", "Model", "LMHeadModel", "ForCausalLM", "ForNextSentencePrediction")
    assert read == cls.endswith(known)


def shaken(model: PreTrainedModel) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1
            centre = 1.0 if parameter.ndim == 1 and parameter.mean() > 0.5 else 0.0
            parameter.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
    model.tie_weights()
    return model.eval()


def other_values(value: object) -> list[object]:
    """A few values that a key could have in its place."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, 2 * value or 2]
    if isinstance(value, float):
        return [value * 1.5 + 0.25]
    if isinstance(value, str):
        return ["relu", "gelu_new", "silu", "quick_gelu", "relative_key", "relative_key_query"]
    return [1, True, 0.5] if value is None else []


@pytest.mark.parametrize("name", ORDINARY)
def test_a_key_of_the_config_that_changes_the_function_is_computed_or_refused(tmp_path, name):
    """Each key in turn has another value, wherever transformers can run it."""
    case, tried, read = CASES[name], 0, 0
    attention, ids_BT = case.attentions[0], ids_of(min(20, case.limit))
    cls = type(case.model("causal" if case.causal else attention))
    for key, value in case.config().to_dict().items():
        for number, other in enumerate(other_values(value)):
            config = case.config().to_dict() | {key: other, "model_type": case.config().model_type}
            try:
                model = shaken(cls(AutoConfig.for_model(**config)))
                expected_BTC = hidden_of(model, ids_BT)
                model.save_pretrained(tmp_path / f"{key}{number}")
            except Exception:  # transformers itself cannot
                continue
            tried += 1
            read += assert_equal_or_refused(model, tmp_path / f"{key}{number}", ids_BT, expected_BTC)
    assert tried > 30
    assert read > 10
