"""A larger model from a smaller one: by hand on numbers that name their place, and as a model that runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from detour.errors import ModelError
from detour.models.encoder import EMBEDDING, Encoder
from detour.models.families import architecture
from detour.models.hf import expected_shapes
from detour.models.tiling import layer_sources, tile, tiled_indices

SMALL = {"vocab_size": 20, "hidden_size": 4, "intermediate_size": 3, "num_hidden_layers": 2, "num_attention_heads": 1}
LARGE = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 5, "num_hidden_layers": 3, "num_attention_heads": 2}


def test_the_small_one_is_at_the_center_and_wraps_around():
    assert tiled_indices(3, 8).tolist() == [1, 2, 0, 1, 2, 0, 1, 2]
    assert tiled_indices(4, 6).tolist() == [3, 0, 1, 2, 3, 0]
    assert tiled_indices(768, 1024)[128].item() == 0  # ModernBERT's base in its large: two heads to either side
    assert tiled_indices(5, 5).tolist() == [0, 1, 2, 3, 4]


def test_layers_are_those_of_modernbert_large():
    # round(i * 22 / 28), from the authors' code, counted by hand for the first and last
    found = layer_sources(22, 28)
    assert found[:8] == [0, 1, 2, 2, 3, 4, 5, 6]  # 0, .79, 1.57, 2.36, 3.14, 3.93, 4.71, 5.5
    assert found[-3:] == [20, 20, 21]  # 19.64, 20.43, 21.21
    assert layer_sources(2, 5) == [0, 0, 1, 1, 1]  # 0, .4, .8, 1.2, 1.6: not beyond the last


def test_every_number_is_where_it_belongs():
    small, large = architecture("tiny", SMALL), architecture("tiny", LARGE)
    weights = {name: torch.zeros(shape) for name, shape in expected_shapes(small).items()}
    row, column = torch.arange(40.0)[:, None], torch.arange(8.0)[None]
    for name in ("attn.Wqkv", "mlp.Wi", "mlp.Wo", "attn.Wo"):
        shape = weights[f"model.layers.1.{name}.weight"].shape
        weights[f"model.layers.1.{name}.weight"] = (10 * row + column)[: shape[0], : shape[1]]
    weights[EMBEDDING] = (10 * row + column)[:20, :4]
    weights["model.layers.1.attn_norm.weight"] = torch.tensor([1.0, 2, 3, 4])
    weights["decoder.bias"] = torch.arange(20.0)
    made = tile(weights, small, large)

    wide = [2, 3, 0, 1, 2, 3, 0, 1]  # 4 in 8
    two_heads = [0, 1, 2, 3, 0, 1, 2, 3]  # one head in two, each whole
    gate = [2, 0, 1, 2, 0]  # 3 in 5
    assert made[EMBEDDING][7].tolist() == [70.0 + c for c in wide]
    assert len(made[EMBEDDING]) == 20
    assert made["decoder.bias"].tolist() == weights["decoder.bias"].tolist()
    qkv = made["model.layers.2.attn.Wqkv.weight"]  # round(2 * 2 / 3) = 1
    assert qkv.shape == (24, 8)
    assert qkv[:, 2].tolist() == [10.0 * (start + r) for start in (0, 4, 8) for r in two_heads]
    assert qkv[0].tolist() == wide
    assert made["model.layers.2.attn.Wo.weight"][2].tolist() == two_heads
    assert made["model.layers.2.attn.Wo.weight"][:, 0].tolist() == [10.0 * r for r in wide]
    gated = made["model.layers.2.mlp.Wi.weight"]
    assert gated[:, 2].tolist() == [10.0 * (start + r) for start in (0, 3) for r in gate]
    assert made["model.layers.2.mlp.Wo.weight"][2].tolist() == gate
    assert made["model.layers.2.attn_norm.weight"].tolist() == [3, 4, 1, 2, 3, 4, 1, 2]
    assert torch.equal(made["model.layers.1.attn.Wqkv.weight"], qkv)  # round(2 / 3) = 1
    assert torch.equal(made["model.layers.0.attn.Wqkv.weight"], torch.zeros(24, 8))


def test_a_copy_of_modernbert_s_first_layer_gets_a_norm_that_does_nothing():
    small, large = architecture("tiny", SMALL), architecture("tiny", {**LARGE, "num_hidden_layers": 5})
    made = tile({name: torch.zeros(shape) for name, shape in expected_shapes(small).items()}, small, large)
    assert made["model.layers.1.attn_norm.weight"].tolist() == [1.0] * 8
    assert made["model.layers.2.attn_norm.weight"].tolist() == [0.0] * 8


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        ("tiny", {"num_hidden_layers": 7, "intermediate_size": 200}),
        (
            "tiny-roberta",
            {"hidden_size": 192, "num_attention_heads": 3, "num_hidden_layers": 6, "intermediate_size": 600},
        ),
        ("tiny-llama", {"hidden_size": 192, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 32}),
    ],
)
def test_a_model_of_each_family_is_filled(size, changes):
    small = architecture(size, {"vocab_size": 60})
    large = architecture(size, {"vocab_size": 60, **changes})
    made = tile(Encoder(small).weights(), small, large)
    encoder = Encoder(large).eval()
    encoder.load_weights(made)  # names and shapes are those of the large one
    ids = torch.randint(60, (1, 9), generator=torch.Generator().manual_seed(0))
    assert encoder.logits(ids, torch.tensor([[9]]), "bidirectional").isfinite().all()


def test_the_same_size_is_the_same_model():
    arch = architecture("tiny-llama", {"vocab_size": 60})
    weights = Encoder(arch).weights()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tile(weights, arch, arch).items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 1}, "num_hidden_layers is 2 there and 1 here, expected at least as many"),
        ({"num_attention_heads": 4}, "heads are 4 wide there and 2 here, expected the same"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    small, large = architecture("tiny", SMALL), architecture("tiny", LARGE)
    with pytest.raises(ModelError, match=message):
        tile({}, small, replace(large, **changes))
