"""Training, resuming and exporting a model of every family through the whole library."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from detour.data.tokenizer import load_tokenizer
from detour.export.run import export_run
from detour.train import train
from detour.training.checkpoints import files as checkpoints
from detour.training.run_folder import RunFolder
from tests.models.family_cases import CASES

# one case of each family, with the pad id of the corpus's tokenizer
STARTS = {"modernbert": "modernbert", "bert": "roberta, pad 0"}


@pytest.fixture
def start(tmp_path, corpus):
    """A function that gives a folder of a family, with the corpus's tokenizer; the trunk alone, if asked for."""

    def make(family: str, *, trunk: bool = False) -> Path:
        case = CASES[STARTS[family]]
        config = case.config()
        config.vocab_size, config.max_position_embeddings = 600, config.max_position_embeddings + 64
        model = AutoModel.from_config(config) if trunk else case.bidirectional(config)
        model.save_pretrained(tmp_path / "start")
        load_tokenizer(corpus.tokenizer).save_pretrained(tmp_path / "start")
        return tmp_path / "start"

    return make


@pytest.fixture
def run_from(tiny_run):
    """A function that gives a run of 12 steps from a folder."""
    from dataclasses import asdict

    from detour.models.hf import read_architecture

    sizes = {"modernbert": "tiny", "bert": "tiny-roberta"}

    def make(name: str, init: Path, **sections):
        arch = read_architecture(init)
        model = {"init": str(init), "tokenizer": None, "size": sizes[arch.family], "architecture": asdict(arch)}
        return tiny_run(name, model=model, **sections)

    return make


@pytest.mark.parametrize("family", STARTS)
def test_a_run_resumes_to_the_same_bits_and_is_exported(start, run_from, tmp_path, family):
    init = start(family)
    whole = run_from("whole", init, checkpoint={"interval_tokens": 1})
    train(whole)
    saved = checkpoints.listing(RunFolder.of(whole).checkpoints)
    part = run_from("part", init, checkpoint={"interval_tokens": 1})
    folder = RunFolder.of(part).checkpoints
    folder.mkdir(parents=True)
    (folder / saved[5].path.name).symlink_to(saved[5].path)  # in the causal phase
    train(part)
    mine, theirs = checkpoints.listing(folder)[-1].tensors("model"), saved[-1].tensors("model")
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    assert export_run(RunFolder.of(whole).path, tmp_path / "out") < 1e-5
    assert "fever" in AutoTokenizer.from_pretrained(tmp_path / "out").decode(
        AutoTokenizer.from_pretrained(tmp_path / "out")("fever")["input_ids"]
    )


@pytest.mark.parametrize("family", STARTS)
def test_a_trunk_gets_a_head_drawn_anew_and_says_so(start, run_from, family, caplog):
    from detour.training.start import read_start

    run = run_from("run", start(family, trunk=True))
    with caplog.at_level("WARNING"):
        found = read_start(run)
    assert found is not None
    assert found.drawn
    assert "has no language-modeling head" in caplog.text
