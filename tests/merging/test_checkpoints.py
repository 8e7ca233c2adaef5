"""Checkpoints of a run: weights of an average against their definitions, and the merge of a real run's decay."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForMaskedLM

from detour.errors import CheckpointError, ConfigError
from detour.merging.checkpoints import average_weights, merge_checkpoints
from detour.train import train
from detour.training.checkpoints import files
from detour.training.run_folder import RunFolder


def test_a_moving_average_step_by_step():
    """The definition m <- D m + (1 - D) x, from m = x_0, on unit vectors."""
    average = torch.eye(4)[0]
    for j in range(1, 4):
        average = 0.8 * average + 0.2 * torch.eye(4)[j]
    assert average_weights("ema:0.8", 4) == pytest.approx(average.tolist())


@pytest.mark.parametrize(
    ("spec", "rate"), [("mean", lambda j: 1 - j / 5), ("one_minus_sqrt", lambda j: 1 - (j / 5) ** 0.5)]
)
def test_a_merge_in_place_of_a_decay_counts_each_step_as_the_decay_would(spec, rate):
    """Checkpoints are start + sums of steps; the merge is the start + every step times the decayed learning rate."""
    steps = torch.eye(5)[:4]  # of four steps between five checkpoints, one axis for each
    checkpoints = [steps[:j].sum(0) for j in range(5)]
    weights = average_weights(spec, 5)
    assert sum(weights) == pytest.approx(1)
    merge = sum(weight * checkpoint for weight, checkpoint in zip(weights, checkpoints, strict=True))
    assert merge.tolist()[:4] == pytest.approx([rate(j) for j in range(1, 5)])


def test_numbers_are_taken_as_they_are_and_other_forms_are_refused():
    assert average_weights("0.25,0.75", 2) == (0.25, 0.75)
    for wrong in ("median", "ema:1.5", "ema:", "ema:0.5,0.5", "", "a,b"):
        with pytest.raises(ConfigError, match=r"weights '.*': expected mean"):
            average_weights(wrong, 3)


PHASES = [{"name": "detour", "objective": "clm", "tokens": 500}, {"name": "decay", "objective": "mlm", "tokens": 1000}]


def test_the_checkpoints_of_a_decay_are_averaged(tiny_run, tmp_path):
    run = tiny_run(phases=PHASES, schedule={"warmup_tokens": 0}, checkpoint={"interval_tokens": 400, "keep": 9})
    train(run)
    folder = RunFolder.of(run).path
    found = {checkpoint.tokens: checkpoint for checkpoint in files.listing(folder / "checkpoints")}
    decay = [at for at in found if at > 700]
    assert len(decay) >= 2
    assert len(decay) < len(found)  # that of the causal phase is not among them
    factors = merge_checkpoints(folder, tmp_path / "merged")
    assert factors == {at: 1 / len(decay) for at in decay}
    got = dict(AutoModelForMaskedLM.from_pretrained(tmp_path / "merged").named_parameters())
    stored = [found[at].tensors("model") for at in decay]
    assert got.keys() == stored[0].keys()
    for name, tensor in got.items():
        torch.testing.assert_close(tensor.detach(), torch.stack([each[name] for each in stored]).mean(0))
    parents = json.loads((tmp_path / "merged" / "merge.json").read_text())["parents"]
    assert [parent["name"] for parent in parents] == [f"run@{at}" for at in decay]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(CheckpointError, match=r"different objectives \(clm, mlm\)"):
        merge_checkpoints(folder, tmp_path / "mixed", tokens=[min(found), max(found)])
    with pytest.raises(CheckpointError, match="no checkpoint at token 7; there are"):
        merge_checkpoints(folder, tmp_path / "missing", tokens=[7, max(found)])
    with pytest.raises(CheckpointError, match="1 checkpoint to merge"):
        merge_checkpoints(folder, tmp_path / "single", tokens=[max(found)])
