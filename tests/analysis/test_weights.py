"""Weight change against a hand count, and over folders in order."""

from __future__ import annotations

import math

import pytest
import torch

from detour.analysis.figures import draw_weights
from detour.analysis.weights import phase_changes, place_of, read_folder, weight_changes
from detour.errors import ConfigError, ModelError


def test_the_change_of_each_group_is_that_of_a_hand_count():
    before = {
        "model.embeddings.tok_embeddings.weight": torch.tensor([[3.0, 4.0]]),
        "model.layers.0.attn.Wqkv.weight": torch.tensor([[1.0, 2.0], [2.0, 0.0]]),  # norm 3
        "model.layers.0.attn.Wqkv.bias": torch.tensor([4.0]),  # with it 5
        "model.layers.0.mlp_norm.weight": torch.tensor([2.0]),
        "model.layers.1.mlp.Wo.weight": torch.tensor([[0.0]]),
        "model.final_norm.weight": torch.tensor([1.0]),
    }
    after = {name: tensor.clone() for name, tensor in before.items()}
    after["model.layers.0.attn.Wqkv.weight"][0, 0] += 3
    after["model.layers.0.attn.Wqkv.bias"] += 4
    after["model.final_norm.weight"] += 2
    after["model.layers.1.mlp.Wo.weight"] += 1
    found = {(c.layer, c.module): c for c in weight_changes(("a", "b"), before, after)}
    assert found[0, "attention_qkv"].relative == pytest.approx(5 / 5)
    assert found[0, "attention_qkv"].parameters == 5
    assert found[0, "norms"].relative == 0
    assert found[0, "all"].relative == pytest.approx(5 / math.sqrt(25 + 4))
    assert found[None, "embeddings"].relative == 0
    assert found[None, "norms"].relative == pytest.approx(2 / math.sqrt(4 + 1))
    assert math.isnan(found[1, "mlp_out"].relative)
    assert found[1, "mlp_out"].absolute == 1
    assert found[None, "all"].relative == pytest.approx(math.sqrt(25 + 4 + 1) / math.sqrt(25 + 25 + 4 + 1))
    assert next(iter(found)) == (0, "attention_qkv")
    assert list(found)[-1] == (None, "all")


def test_every_parameter_of_an_encoder_has_a_place(folders):
    weights = read_folder(folders["a"])
    places = [place_of(name) for name in weights]
    assert {module for layer, module in places if layer == 1} == {
        "attention_qkv", "attention_out", "mlp_in", "mlp_out", "norms"
    }  # fmt: skip
    assert {module for layer, module in places if layer is None} == {"embeddings", "norms", "head"}
    (total,) = [c for c in weight_changes(("a", "a"), weights, weights) if (c.layer, c.module) == (None, "all")]
    assert total.parameters == sum(tensor.numel() for tensor in weights.values())
    with pytest.raises(ModelError, match=r"pooler\.weight"):
        place_of("pooler.weight")


def test_changes_of_folders_are_taken_from_one_to_the_next_and_over_all(models):
    changes = phase_changes([models[name] for name in "abc"])
    assert list(dict.fromkeys(c.phase for c in changes)) == [("a", "b"), ("b", "c"), ("a", "c")]
    a, c = (read_folder(models[name].folder)["model.layers.2.mlp.Wi.weight"] for name in "ac")
    (found,) = [x for x in changes if (x.phase, x.layer, x.module) == (("a", "c"), 2, "mlp_in")]
    assert found.relative == pytest.approx(float(torch.linalg.norm(c - a) / torch.linalg.norm(a)), rel=1e-5)
    assert len(phase_changes([models["a"], models["b"]])) * 3 == len(changes)
    with pytest.raises(ConfigError, match="1 folder"):
        phase_changes([models["a"]])


def test_folders_of_other_parameters_are_refused():
    a, b = {"model.final_norm.weight": torch.ones(2)}, {"model.final_norm.weight": torch.ones(3)}
    with pytest.raises(ModelError, match=r"shapes \(2,\) and \(3,\)"):
        weight_changes(("a", "b"), a, b)
    with pytest.raises(ModelError, match=r"head\.dense\.weight"):
        weight_changes(("a", "b"), a, {**a, "head.dense.weight": torch.ones(1)})


def test_the_figure_shows_the_values(models):
    changes = phase_changes([models[name] for name in "abc"])
    panels = draw_weights(changes).axes
    assert [axes.get_title() for axes in panels] == ["a to b", "b to c", "a to c"]
    highest = max(c.relative for c in changes if c.layer is not None)
    assert panels[0].get_ylim()[0] == 0
    assert panels[0].get_ylim()[1] > highest
    (line,) = [line for line in panels[1].lines if line.get_label() == "mlp_in"]
    expected = {
        c.layer: c.relative for c in changes if (c.phase, c.module) == (("b", "c"), "mlp_in") and c.layer is not None
    }
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == expected
