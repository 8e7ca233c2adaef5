"""The notebook runs from its first cell to its last, at toy size, and is committed without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = json.loads((ROOT / "examples" / "first_detour.ipynb").read_text())
TOY = {
    "documents = 6_000": "documents = 200",
    "tokens = 300_000": "tokens = 21_000",
    'folder = "work/notebook"': 'folder = "{folder}"',
}


@pytest.mark.slow
def test_the_notebook_runs_from_text_to_an_encoder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)  # its paths are those of a clone
    names: dict[str, object] = {}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            for printed, toy in TOY.items():
                source = source.replace(printed, toy.format(folder=tmp_path / "notebook"))
            exec(compile(source, "first_detour.ipynb", "exec"), names)
    printed = capsys.readouterr().out
    assert "nothing but the phases differs" in printed
    assert (tmp_path / "notebook" / "encoders" / "twin" / "model.safetensors").is_file()
    assert (tmp_path / "notebook" / "runs" / "detour" / "report" / "index.html").is_file()


@pytest.mark.parametrize("cell", [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"])
def test_no_cell_was_committed_with_outputs(cell):
    assert cell["outputs"] == []
    assert cell["execution_count"] is None
