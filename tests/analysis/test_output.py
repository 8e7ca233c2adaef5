"""Files of an analysis: written together, never over the result of other inputs."""

from __future__ import annotations

import csv
import json

import pytest
from matplotlib.figure import Figure

from detour.analysis.output import refuse_others, save
from detour.errors import ConfigError, DataError

INPUTS = {"models": {"a": "sha"}, "pairs": [("a", "b")]}
ROWS = [{"depth": "=1+1", "value": 0.5}, {"depth": "0", "value": float("nan")}]


def write(out, inputs=INPUTS, settings=None):
    return save(out, "cka", inputs=inputs, settings=settings or {}, values={"x": float("nan")}, rows=ROWS, draw=Figure)


def test_values_table_and_figure_are_written_and_the_svg_is_deterministic(tmp_path):
    paths = write(tmp_path / "new")
    assert [path.name for path in paths] == ["cka.json", "cka.csv", "cka.png", "cka.svg"]
    assert sorted(tmp_path.joinpath("new").iterdir()) == sorted(paths)
    record = json.loads(paths[0].read_text())
    assert record["inputs"]["pairs"] == [["a", "b"]]
    assert record["values"] == {"x": None}
    assert "detour" in record["environment"]
    assert list(csv.DictReader(paths[1].read_text().splitlines())) == [
        {"depth": "'=1+1", "value": "0.5"},
        {"depth": "0", "value": ""},
    ]
    before = paths[3].read_bytes()
    write(tmp_path / "new")
    assert paths[3].read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"inputs": {"models": {"a": "other"}}}, "other inputs"), ({"settings": {"x": 1}}, "other settings")],
)
def test_the_result_of_other_inputs_is_kept(tmp_path, changes, says):
    path = write(tmp_path)[0]
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=says):
        write(tmp_path, **changes)
    assert path.read_bytes() == before


def test_files_without_their_json_and_a_damaged_json_are_kept(tmp_path):
    path = tmp_path / "cka.csv"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"cka\.csv: exists"):
        write(tmp_path)
    assert path.read_text() == "mine"
    (tmp_path / "cka.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        refuse_others(tmp_path, "cka", inputs={}, settings={})
    (tmp_path / "cka.json").write_text("[]")
    with pytest.raises(ConfigError, match="other format"):
        write(tmp_path)
