"""Start models: a head that is missing is drawn and said to be, a foreign tokenizer is refused, nothing is forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, ModernBertConfig, ModernBertForMaskedLM, ModernBertModel

from detour.build import build_encoder
from detour.config.schema import RunConfig
from detour.data.tokenizer import load_tokenizer, train_bpe
from detour.errors import DataError, ModelError
from detour.export.run import export_run
from detour.models.hf import read_architecture, read_weights
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder
from detour.training.start import check_tokenizer, read_start

ARCHITECTURE = {
    "vocab_size": 600, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "local_attention": 16,
}  # fmt: skip


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Weights for which attention is sharp, so that a wrong one shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(parameter.shape[-1] ** -0.5 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def config(**changes) -> ModernBertConfig:
    return ModernBertConfig(
        **ARCHITECTURE, num_attention_heads=2, max_position_embeddings=8192, pad_token_id=0, reference_compile=False,
        **changes,
    )  # fmt: skip


@pytest.fixture
def trunk(tmp_path: Path, corpus) -> Path:
    """A `ModernBertModel`, as sentence-embedding models are, with the corpus's tokenizer."""
    spread(ModernBertModel(config(classifier_pooling="mean"))).save_pretrained(tmp_path / "trunk")
    load_tokenizer(corpus.tokenizer).save_pretrained(tmp_path / "trunk")
    return tmp_path / "trunk"


@pytest.fixture
def run_from(tiny_run) -> Callable[..., RunConfig]:
    """A function that gives a run from a folder, with further values of the model section."""

    def make(init: Path, **model) -> RunConfig:
        return tiny_run(model={"init": str(init), "tokenizer": None, **model})

    return make


def rename(folder: Path, new: Callable[[str], str]) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({new(name): tensor for name, tensor in weights.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_trunk_alone_has_hugging_face_s_hidden_states(trunk, run_from, prefix):
    assert not any(name.startswith("model.") for name in load_file(trunk / "model.safetensors"))
    rename(trunk, lambda name: prefix + name)
    encoder = build_encoder(run_from(trunk), None).eval()
    ids_BT = torch.randint(0, 600, (2, 50), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = AutoModel.from_pretrained(trunk).eval()(input_ids=ids_BT).last_hidden_state
        found = encoder.hidden(ids_BT, torch.full((2, 1), 50), "bidirectional")
    torch.testing.assert_close(found.unflatten(0, (2, 50)), expected, rtol=0, atol=1e-5)


def test_the_head_of_a_trunk_is_drawn_from_the_seed_with_modernbert_s_spread(trunk, run_from, caplog):
    def head(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return build_encoder(run_from(trunk), None).head.dense.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))
    assert (
        "has no language-modeling head (it is a ModernBertModel); the head is randomly initialized from seed 17"
        in caplog.text
    )
    # Hugging Face's _init_weights: 0.02 / sqrt(2 layers), cut at two standard deviations, which leaves 0.88 of it
    drawn = torch.cat([head(seed).flatten() for seed in range(4)])
    assert drawn.std().item() == pytest.approx(0.88 * 0.02 / 6**0.5, rel=0.05)
    assert drawn.abs().max() <= 2 * 0.02 / 6**0.5


def test_a_drawn_head_is_in_the_record_of_every_checkpoint_and_on_the_card(trunk, run_from, tmp_path):
    run = run_from(trunk)
    train(run)
    for path in trunk.iterdir():  # the start folder may go away: the run remembers what it must hand on
        if path.name in ("config.json", "model.safetensors"):
            path.unlink()
    saved = checkpoints.listing(RunFolder.of(run).checkpoints)
    assert {checkpoint.state()["run"]["start"]["head"] for checkpoint in saved} == {"drawn"}
    out = tmp_path / "out"
    export_run(RunFolder.of(run).path, out)
    card = (out / "README.md").read_text()
    assert "The initial model had no language-modeling head: a new one was randomly initialized (seed 17)" in card
    for name in ("AutoModelForSequenceClassification", "feature-extraction"):
        assert f"`{name}`" in card
    assert json.loads((out / "config.json").read_text())["classifier_pooling"] == "mean"


def test_a_resume_remembers_the_start_model(trunk, run_from):
    run = run_from(trunk)
    train(run)
    folder = RunFolder.of(run).checkpoints
    first, *later = checkpoints.listing(folder)
    for checkpoint in later:
        checkpoint.path.rename(folder.parent / checkpoint.path.name)
    (trunk / "model.safetensors").unlink()  # not read again
    train(run)
    assert checkpoints.listing(folder)[-1].state()["run"]["start"] == first.state()["run"]["start"]
    assert first.state()["run"]["start"]["config"]["classifier_pooling"] == "mean"


def test_a_whole_model_is_said_to_have_been_read(tmp_path, corpus, run_from):
    spread(ModernBertForMaskedLM(config())).save_pretrained(tmp_path / "whole")
    start = read_start(run_from(tmp_path / "whole"))
    assert start is not None
    assert start.record()["head"] == "read"


def test_part_of_a_head_is_refused(tmp_path, run_from):
    spread(ModernBertForMaskedLM(config())).save_pretrained(tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    del weights["head.norm.weight"]
    save_file(weights, tmp_path / "part" / "model.safetensors")
    with pytest.raises(ModelError, match=r"head\.norm\.weight is missing"):
        read_start(run_from(tmp_path / "part"))


def test_a_weight_in_two_files_is_refused(trunk):
    save_file({"final_norm.weight": torch.zeros(32)}, trunk / "other.safetensors")
    with pytest.raises(ModelError, match=r"other\.safetensors: final_norm\.weight is in another \.safetensors file"):
        read_weights(trunk, read_architecture(trunk))


# --- the tokenizer --------------------------------------------------------------------------------------------------


def foreign(corpus, folder: Path, **options) -> Path:
    """A tokenizer of the corpus's size, learned from other text."""
    size = len(load_tokenizer(corpus.tokenizer))
    words = [f"{a}{b}{c}" for a in "kvwxz" for b in "aeiou" for c in "mnprst"] * 4
    tokenizer = train_bpe([" ".join(words)], vocab_size=size)
    missing = size - len(tokenizer)
    tokenizer.add_tokens([f"filler{i}" for i in range(missing)])
    tokenizer.save_pretrained(folder)
    return folder


def test_a_tokenizer_of_another_vocabulary_of_the_same_size_is_refused(trunk, run_from, corpus, tmp_path):
    other = foreign(corpus, tmp_path / "foreign")
    a, b = load_tokenizer(corpus.tokenizer).get_vocab(), load_tokenizer(other).get_vocab()
    assert sorted(a.values()) == sorted(b.values())
    differing = len(a.items() - b.items())
    run = run_from(trunk, tokenizer=str(other))
    with pytest.raises(DataError, match=f"{differing} of {len(a)} ids mean a different token") as caught:
        train(run)
    for part in (str(other), str(trunk), "model.allow_tokenizer_mismatch: true"):
        assert part in str(caught.value)
    assert not RunFolder.of(run).checkpoints.exists()


def test_it_passes_with_a_warning_where_it_is_meant(trunk, run_from, corpus, tmp_path, caplog):
    run = run_from(trunk, tokenizer=str(foreign(corpus, tmp_path / "foreign")), allow_tokenizer_mismatch=True)
    check_tokenizer(run, load_tokenizer(str(run.model.tokenizer)))
    assert "ids mean a different token" in caplog.text


def test_an_extended_vocabulary_is_a_difference_too(trunk, run_from, corpus, tmp_path):
    tokenizer = load_tokenizer(corpus.tokenizer)
    new = len(tokenizer)
    tokenizer.add_tokens(["pembrolizumab"])
    tokenizer.save_pretrained(tmp_path / "extended")
    with pytest.raises(DataError, match=rf"1 ids are new \({new} 'pembrolizumab'\)"):
        check_tokenizer(run_from(trunk, tokenizer=str(tmp_path / "extended")), tokenizer)


def test_another_mask_token_is_a_difference(trunk, run_from, corpus, tmp_path):
    tokenizer = load_tokenizer(corpus.tokenizer)
    before, tokenizer.mask_token = tokenizer.mask_token_id, "[UNK]"
    with pytest.raises(DataError, match=f"mask_token is id {before} there and {tokenizer.mask_token_id} here"):
        check_tokenizer(run_from(trunk, tokenizer=str(tmp_path)), tokenizer)


def test_a_copy_of_the_start_model_s_tokenizer_passes(trunk, run_from, corpus, caplog):
    check_tokenizer(run_from(trunk, tokenizer=str(corpus.tokenizer)), load_tokenizer(corpus.tokenizer))
    assert caplog.text == ""


def test_other_rules_over_the_same_vocabulary_are_said(trunk, run_from, corpus, tmp_path, caplog):
    path = trunk / "tokenizer.json"
    spec = json.loads(path.read_text())
    spec["normalizer"] = {"type": "Lowercase"}
    path.write_text(json.dumps(spec))
    check_tokenizer(run_from(trunk, tokenizer=str(corpus.tokenizer)), load_tokenizer(corpus.tokenizer))
    assert "tokenizes text differently" in caplog.text


def test_a_start_folder_without_a_tokenizer_cannot_be_compared_and_says_so(tmp_path, run_from, corpus, caplog):
    ModernBertModel(config()).save_pretrained(tmp_path / "bare")
    run = run_from(tmp_path / "bare", tokenizer=str(corpus.tokenizer))
    check_tokenizer(run, load_tokenizer(corpus.tokenizer))
    assert "has no tokenizer to compare" in caplog.text


def test_a_damaged_tokenizer_in_the_start_folder_is_not_passed_over(trunk, run_from, corpus):
    (trunk / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="that one cannot be read"):
        check_tokenizer(run_from(trunk, tokenizer=str(corpus.tokenizer)), load_tokenizer(corpus.tokenizer))
