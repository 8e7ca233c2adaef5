"""From a run folder to a Hugging Face folder; whole runs are exported in tests/test_cli.py."""

from __future__ import annotations

import pytest
import torch

from detour.errors import CheckpointError
from detour.export.run import export_run
from detour.training.checkpoints import files


def test_a_checkpoint_that_holds_no_run_is_refused_at_the_export(tmp_path):
    files.write(tmp_path / "run" / "checkpoints", tokens=1, tensors={"model": {"w": torch.ones(2)}}, state={})
    with pytest.raises(CheckpointError, match="does not hold what a checkpoint of this version holds"):
        export_run(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
