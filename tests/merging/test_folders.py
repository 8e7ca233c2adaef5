"""Merged folders: what transformers loads from them, what they record, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from detour.data.tokenizer import load_tokenizer
from detour.errors import ConfigError, ModelError
from detour.evaluation.models import Model, folder_hash, resolve
from detour.merging.folders import merge_models
from detour.merging.recipe import Recipe, group_of, merged


def weights_of(folder):
    """As transformers loads them, without any code of ours."""
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.float32)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_the_ends_are_the_parents_bitwise(models, tmp_path, method):
    a, b = models["a"], models["b"]
    assert not same(weights_of(a.folder), weights_of(b.folder))
    for name, weights, parent in (("0", (1.0, 0.0), a), ("1", (0.0, 1.0), b)):
        merge_models([a, b], tmp_path / name, Recipe(method=method, weights=weights))
        assert same(weights_of(tmp_path / name), weights_of(parent.folder))


@pytest.mark.parametrize("family", ["modernbert", "bert", "roberta"])
def test_a_merge_of_any_family_loads_in_plain_transformers(make_folder, tmp_path, family):
    found = resolve([str(make_folder(f"{family}-{seed}", seed, family)) for seed in range(2)])
    merge_models(found, tmp_path / "merged", Recipe(weights=(0.25, 0.75)))
    a, b, got = (weights_of(folder) for folder in (found[0].folder, found[1].folder, tmp_path / "merged"))
    assert a.keys() == got.keys()
    for name in got:
        torch.testing.assert_close(got[name], 0.25 * a[name] + 0.75 * b[name], rtol=1e-6, atol=1e-7)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "merged")
    ids = tokenizer("fever and pain", return_tensors="pt", return_token_type_ids=False)
    assert torch.isfinite(model(**ids).logits).all()


def test_weights_in_half_precision_are_merged_and_stored_in_float32(make_folder, tmp_path):
    found = []
    for seed in range(2):
        folder = make_folder(f"half-{seed}", seed)
        AutoModelForMaskedLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
        assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
        found += resolve([str(folder)])
    merge_models(found, tmp_path / "merged", Recipe(weights=(0.5, 0.5)))
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "float32"
    got = AutoModelForMaskedLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert got.dtype == torch.float32


def test_groups_have_weights_of_their_own(models, tmp_path):
    recipe = Recipe(weights=(0.5, 0.5), groups={"0-1": (1.0, 0.0), "embeddings": (0.0, 1.0)})
    merge_models([models["a"], models["b"]], tmp_path / "merged", recipe)
    a, b, got = (weights_of(folder) for folder in (models["a"].folder, models["b"].folder, tmp_path / "merged"))
    for name in got:
        if name.startswith(("model.layers.0.", "model.layers.1.")):
            assert torch.equal(got[name], a[name])
        elif name.startswith("model.embeddings."):
            assert torch.equal(got[name], b[name])
        else:
            torch.testing.assert_close(got[name], (a[name] + b[name]) / 2)


def test_parameters_are_grouped_by_their_names_in_every_family(make_folder):
    for family in ("modernbert", "bert", "roberta"):
        groups = {group_of(name) for name in weights_of(make_folder(f"names-{family}", 0, family))}
        assert groups == {0, 1, 2, "embeddings", "head"}


def test_ties_of_two_tensors_by_hand():
    """Task vectors (1, -4, .1 | 3) and (-2, -2, .2 | 0); half of each is kept: (-4 | 3) and (-2, -2)."""
    base = {"x": torch.tensor([10.0, 10.0, 10.0]), "y": torch.tensor([10.0])}
    a = {"x": torch.tensor([11.0, 6.0, 10.1]), "y": torch.tensor([13.0])}
    b = {"x": torch.tensor([8.0, 8.0, 10.2]), "y": torch.tensor([10.0])}
    recipe = Recipe(method="ties", weights=(0.5, 0.5), density=0.5)
    found = dict(merged([a, b], recipe, base=base))
    assert found["x"].tolist() == pytest.approx([8.0, 7.0, 10.0])  # b alone; the mean of -4 and -2; none
    assert found["y"].tolist() == pytest.approx([13.0])
    half = dict(merged([a, b], Recipe(method="ties", weights=(0.5, 0.5), density=0.5, scale=0.5), base=base))
    assert half["x"].tolist() == pytest.approx([9.0, 8.5, 10.0])


def test_dare_ties_of_density_one_is_ties_of_density_one_and_draws_differ_between_parents(models, tmp_path):
    a, b, c = models.values()
    folders = {}
    for name, method, options in (("ties", "ties", {"density": 1.0}), ("dare", "dare_ties", {"density": 1.0}),
                                  ("half", "dare_ties", {"density": 0.5}), ("again", "dare_ties", {"density": 0.5}),
                                  ("seed", "dare_ties", {"density": 0.5, "seed": 1})):  # fmt: skip
        folders[name] = merge_models(
            [a, b], tmp_path / name, Recipe(method=method, weights=(0.5, 0.5), **options), base=c
        )
    weights = {name: weights_of(folder) for name, folder in folders.items()}
    assert same(weights["ties"], weights["dare"])
    assert same(weights["half"], weights["again"])
    assert not same(weights["half"], weights["seed"])
    base = weights_of(c.folder)
    name = "model.layers.0.mlp.Wi.weight"
    both_dropped = (weights["half"][name] == base[name]).double().mean()
    assert 0.15 < both_dropped < 0.45  # a quarter if the draws of the two parents are independent, half if they are one


def test_the_folder_names_its_parents_and_recipe(models, tmp_path):
    recipe = Recipe(method="ties", weights=(0.5, 0.5), density=0.3, groups={"low": (1.0, 0.0)})
    for place in ("one", "two"):
        merge_models([models["a"], models["b"]], tmp_path / place / "m", recipe, base=models["c"])
    assert json.loads((tmp_path / "one" / "m" / "merge.json").read_text()) == {
        "parents": [{"name": name, "sha256": models[name].sha256} for name in "ab"],
        "base": {"name": "c", "sha256": models["c"].sha256},
        "recipe": {
            "method": "ties",
            "weights": [0.5, 0.5],
            "groups": {"low": [1.0, 0.0]},
            "density": 0.3,
            "scale": 1.0,
        },
    }
    card = (tmp_path / "one" / "m" / "README.md").read_text()
    assert all(models[name].sha256 in card for name in "abc")
    assert "density 0.3" in card
    one, two = (resolve([str(tmp_path / place / "m")])[0] for place in ("one", "two"))
    assert one.sha256 == two.sha256
    merge_models(
        [one, models["a"]], tmp_path / "again", Recipe(weights=(0.5, 0.5))
    )  # of a merge: with a record of its own
    assert json.loads((tmp_path / "again" / "merge.json").read_text())["parents"][0]["sha256"] == one.sha256


def test_models_that_differ_are_one_error_that_names_what(make_folder, models, tmp_path):
    (other,) = resolve([str(make_folder("other", 5, intermediate_size=64, local_attention=32))])
    with pytest.raises(ModelError, match="a and other cannot be merged: ") as caught:
        merge_models([models["a"], other], tmp_path / "out", Recipe(weights=(0.5, 0.5)))
    for difference in ("intermediate_size is 48 and 64", "local_attention is 16 and 32"):
        assert difference in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_another_tokenizer_is_refused(make_folder, models, tmp_path):
    folder = make_folder("retokenized", 0)
    tokenizer = load_tokenizer(folder)
    first, second = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)[100:102]
    text = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = text["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (folder / "tokenizer.json").write_text(json.dumps(text))
    other = Model(name="x", folder=folder, sha256=folder_hash(folder))
    with pytest.raises(ModelError, match="tokenizers: 2 of 600 ids mean a different token"):
        merge_models([models["a"], other], tmp_path / "out", Recipe(weights=(0.5, 0.5)))


@pytest.mark.parametrize(
    ("count", "options", "error"),
    [
        (1, {"weights": (1.0,)}, "1 model, expected two or more"),
        (3, {"weights": (1.0, 0.0, 0.0), "method": "slerp"}, "'slerp': 3 models, expected two"),
        (2, {"weights": (0.5, 0.5), "method": "ties"}, "'ties': needs a base"),
        (2, {"weights": (0.5, 0.6)}, r"weights: the sum is 1\.1, expected 1"),
        (2, {"weights": (1.5, -0.5)}, "expected weights of at least 0"),
        (2, {"weights": (1.0,)}, "weights: 1 weights for 2 models"),
        (2, {"weights": (0.5, 0.5), "groups": {"low": (1.0,)}}, "group low: 1 weights for 2 models"),
        (2, {"weights": (0.5, 0.5), "density": 0.0}, "density: 0.0, expected more than 0"),
        (2, {"weights": (0.5, 0.5), "method": "mean"}, "method: 'mean', expected one of linear"),
        (2, {"weights": (0.5, 0.5), "groups": {"0-1": (1.0, 0.0), "low": (1.0, 0.0)}}, "group low: layer 0 is in the group 0-1"),
        (2, {"weights": (0.5, 0.5), "groups": {"7": (1.0, 0.0)}}, "layers '7'"),
    ],
)  # fmt: skip
def test_recipes_are_checked(models, tmp_path, count, options, error):
    with pytest.raises(ConfigError, match=error):
        merge_models(list(models.values())[:count], tmp_path / "out", Recipe(**options))
    assert not list(tmp_path.iterdir())
