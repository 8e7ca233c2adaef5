"""Transplants: every parameter comes bitwise from where it should, and transformers loads the folder."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from detour.analysis.transplant import GROUPS, parse_layers, recovery, select_parameters, transplant
from detour.analysis.weights import read_folder
from detour.data.tokenizer import load_tokenizer
from detour.errors import ConfigError, ModelError
from detour.evaluation.models import resolve


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_everything_is_the_donor_and_nothing_the_receiver(models, tmp_path):
    a, b = (read_folder(models[name].folder) for name in "ab")
    assert not any(torch.equal(a[name], b[name]) for name in a)
    done = transplant(models["a"], models["b"], tmp_path / "everything")
    assert same(read_folder(tmp_path / "everything"), a)
    assert done.numbers == sum(tensor.numel() for tensor in a.values())
    assert sorted(done.parameters) == sorted(a)
    transplant(models["a"], models["b"], tmp_path / "by_module", modules=list(GROUPS))
    assert same(read_folder(tmp_path / "by_module"), a)
    transplant(models["a"], models["b"], tmp_path / "nothing", modules=[])
    assert same(read_folder(tmp_path / "nothing"), b)


def test_the_logits_of_a_whole_transplant_are_the_donors_in_transformers(models, tmp_path):
    transplant(models["a"], models["b"], tmp_path / "all")
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        got, expected = (
            AutoModelForMaskedLM.from_pretrained(folder, reference_compile=False).eval()(input_ids=ids).logits
            for folder in (tmp_path / "all", models["a"].folder)
        )
    assert torch.equal(got, expected)
    assert AutoTokenizer.from_pretrained(tmp_path / "all").get_vocab() == load_tokenizer(models["b"].folder).get_vocab()


@pytest.mark.parametrize(
    ("layers", "modules", "from_donor"),
    [
        ("low", None, lambda name: name.startswith(("model.layers.0.", "model.layers.1."))),
        ("3", ["attention"], lambda name: name.startswith("model.layers.3.attn.")),
        (None, ["attention"], lambda name: ".attn." in name),
        (None, ["mlp"], lambda name: ".mlp." in name),
        (None, ["norms"], lambda name: "norm" in name and name.startswith("model.")),
        (None, ["head", "embeddings"], lambda name: name.startswith(("head.", "decoder.", "model.embeddings.tok"))),
        ("1-2", ["norms", "mlp"], lambda name: name.startswith(("model.layers.1.mlp", "model.layers.1.attn_norm",
                                                              "model.layers.2.mlp", "model.layers.2.attn_norm"))),
    ],
)  # fmt: skip
def test_the_chosen_groups_come_from_the_donor_and_the_rest_from_the_receiver(
    models, tmp_path, layers, modules, from_donor
):
    a, b = (read_folder(models[name].folder) for name in "ab")
    transplant(models["a"], models["b"], tmp_path / "out", layers=layers, modules=modules)
    expected = {name: (a if from_donor(name) else b)[name] for name in a}
    assert same(read_folder(tmp_path / "out"), expected)
    assert not same(expected, a)
    assert not same(expected, b)


def test_thirds_are_the_papers_at_22_layers_and_cover_every_depth():
    assert parse_layers("low", 22) == list(range(8))
    assert parse_layers("mid", 22) == list(range(8, 15))
    assert parse_layers("late", 22) == list(range(15, 22))
    for depth in range(3, 40):
        thirds = [parse_layers(third, depth) for third in ("low", "mid", "late")]
        assert [*thirds[0], *thirds[1], *thirds[2]] == list(range(depth))
        assert max(map(len, thirds)) - min(map(len, thirds)) <= 1
    assert parse_layers("0-2,5, 7-8", 9) == [0, 1, 2, 5, 7, 8]
    assert parse_layers("all", 3) == [0, 1, 2]


@pytest.mark.parametrize("text", ["", "8", "2-1", "3-9", "high", "-1", "1,", "1-", "0x1", "low-mid"])
def test_layers_that_do_not_exist_are_refused(text):
    with pytest.raises(ConfigError, match="layers '"):
        parse_layers(text, 8)


def test_thirds_of_two_layers_are_refused():
    with pytest.raises(ConfigError, match="expected at least 3"):
        parse_layers("low", 2)


def test_modules_are_checked():
    with pytest.raises(ConfigError, match="modules: 'atention'"):
        select_parameters([], modules=["atention"])
    with pytest.raises(ConfigError, match="'head' lies outside the layers"):
        select_parameters([], layers=[0], modules=["head"])


def test_the_folder_names_its_origin_and_gets_the_same_hash_each_time(models, tmp_path):
    transplant(models["a"], models["b"], tmp_path / "one" / "t", layers="0", modules=["mlp"])
    transplant(models["a"], models["b"], tmp_path / "two" / "t", layers="0", modules=["mlp"])
    record = json.loads((tmp_path / "one" / "t" / "transplant.json").read_text())
    assert record == {
        "donor": {"name": "a", "sha256": models["a"].sha256},
        "receiver": {"name": "b", "sha256": models["b"].sha256},
        "layers": [0],
        "modules": ["mlp"],
        "parameters": ["model.layers.0.mlp.Wi.weight", "model.layers.0.mlp.Wo.weight"],
    }
    card = (tmp_path / "one" / "t" / "README.md").read_text()
    assert models["a"].sha256 in card
    assert "library_name: transformers" in card
    (one,), (two,) = resolve([str(tmp_path / "one" / "t")]), resolve([str(tmp_path / "two" / "t")])
    assert one.sha256 == two.sha256


def test_models_that_do_not_agree_are_one_error_that_names_all_differences(make_folder, models, tmp_path):
    (other,) = resolve(
        [str(make_folder("other", 5, intermediate_size=64, local_attention=32, classifier_pooling="mean"))]
    )
    with pytest.raises(ModelError, match="other and a do not agree") as caught:
        transplant(other, models["a"], tmp_path / "out")
    for difference in (
        "intermediate_size is 64 and 48",
        "local_attention is 32 and 16",
        "classifier_pooling is 'mean'",
    ):
        assert difference in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_another_tokenizer_is_refused(make_folder, models, tmp_path):
    folder = make_folder("retokenized", 0)
    tokenizer = load_tokenizer(folder)
    tokenizer.add_tokens(["fever"])
    config = json.loads((folder / "config.json").read_text())
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    from detour.evaluation.models import Model, folder_hash

    with pytest.raises(ModelError, match="the tokenizers differ"):
        transplant(Model(name="x", folder=folder, sha256=folder_hash(folder)), models["a"], tmp_path / "out")


def test_a_folder_that_is_not_empty_is_left_alone(models, tmp_path):
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ModelError, match="exists and is not empty"):
        transplant(models["a"], models["b"], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_recovery_is_the_fraction_of_the_difference():
    assert recovery(32.8, 39.9, 35.3) == pytest.approx(2.5 / 7.1)  # the paper's layers 8-14
    assert recovery(1, 2, 2) == 1
    assert recovery(1, 2, 0.5) == -0.5
    with pytest.raises(ConfigError, match="nothing to recover"):
        recovery(1, 1, 2)
