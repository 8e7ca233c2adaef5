"""`make demo`, in all its steps, with every family that it offers: in seconds, and so with a model that has learned nothing."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "demo.py"))
SHORT = ["phases.0.tokens=8192", "phases.1.tokens=4096", "phases.2.tokens=4096", "schedule.warmup_tokens=100",
         "evaluation.rows=2", "model.architecture={hidden_size: 32, num_hidden_layers: 2, intermediate_size: 48}"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model", SCRIPT["SIZES"])
def test_text_becomes_an_encoder_that_fills_a_mask(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SCRIPT["demo"].__globals__, "console", SCRIPT["Console"](width=200))
    SCRIPT["demo"](corpus=None, work=tmp_path / "demo", config=Path("yamls/smoke.yaml"), documents=120, model=model,
                   overrides=SHORT)  # fmt: skip
    shown = capsys.readouterr().out
    assert shown.count("first piece guessed:") == 2
    assert "logits in plain transformers differ by" in shown
    assert Path("".join(shown.split("open ")[-1].split())).exists()
    written = json.loads((tmp_path / "demo" / "encoder" / "config.json").read_text())
    assert written["model_type"] == model
    assert written["hidden_size"] == 32


def test_another_model_is_refused_by_the_names_that_there_are(tmp_path):
    with pytest.raises(Exception, match="'gpt', expected one of modernbert, roberta, llama"):
        SCRIPT["demo"](
            corpus=None, work=tmp_path, config=Path("yamls/smoke.yaml"), documents=1, model="gpt", overrides=None
        )
