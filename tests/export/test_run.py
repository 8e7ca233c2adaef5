"""From a run folder to a Hugging Face folder; whole runs are exported in tests/test_cli.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detour.errors import CheckpointError, ModelError
from detour.export.run import export_run
from detour.models import hf
from detour.train import train
from detour.training.checkpoints import files
from detour.training.run_folder import RunFolder


def test_a_checkpoint_that_holds_no_run_is_refused_at_the_export(tmp_path):
    files.write(tmp_path / "run" / "checkpoints", tokens=1, tensors={"model": {"w": torch.ones(2)}}, state={})
    with pytest.raises(CheckpointError, match="the contents are not those of a checkpoint of this version"):
        export_run(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_goes_to_any_empty_place_and_says_why_it_cannot_go_to_others(tiny_run, tmp_path, monkeypatch):
    run = tiny_run(phases=[{"name": "p", "objective": "mlm", "tokens": 300}], data={"validation": []},
                   schedule={"decay_phase": None, "warmup_tokens": 0})  # fmt: skip
    train(run)
    folder = RunFolder.of(run).path
    (tmp_path / "file").write_text("precious")
    for place in (tmp_path / "file", tmp_path / "file" / "encoder", tmp_path / "file" / ".." / "file"):
        with pytest.raises(ModelError, match=r"cannot be written: .*Not a directory"):
            export_run(folder, place)
    assert (tmp_path / "file").read_text() == "precious"

    def full(out, **parts):
        out.mkdir()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(hf, "write_folder", full)
        with pytest.raises(ModelError, match=r"encoder: cannot be written: .*No space left on device"):
            export_run(folder, tmp_path / "encoder")
    assert not [path.name for path in tmp_path.iterdir() if "encoder" in path.name]
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    export_run(folder, Path("./encoder/"))
    assert (tmp_path / "here" / "encoder" / "model.safetensors").is_file()
