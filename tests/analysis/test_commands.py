"""The commands of docs/analyze.md run on tiny models, and write what they announce."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from typer.testing import CliRunner

from detour.cli.main import app
from detour.errors import ConfigError
from detour.evaluation.models import folder_hash

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "analyze.md").read_text()
COMMANDS = [
    " ".join(line.split())
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("detour analyze")
]
NAMES = {"my-encoder": "a", "my-twin": "b", "my-twin-seed18": "c", "checkpoint-1": "c", "checkpoint-2": "d", "base": "c",
         "after-clm": "d"}  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def place(tmp_path, monkeypatch, folders, texts_file, write_records, write_needle, scores):
    """A working folder with everything that the page's commands name."""
    for name, model in NAMES.items():
        shutil.copytree(folders[model], tmp_path / name)
    (tmp_path / "held_out.jsonl.zst").write_bytes(zstandard.compress(texts_file.read_bytes()))
    write_needle(tmp_path / "needle.csv")
    names = ("d025", "d10", "m025", "m10", "frozen-low", "frozen-mid")
    write_records(tmp_path / "scores", {**scores, **dict.fromkeys(names, scores["frozen"])})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(command.split()[2:4]) for command in COMMANDS])
def test_a_command_of_the_page_runs(command, place):
    words = shlex.split(command.replace("--subset 500", "--subset 20"))[1:]
    done = run(*words)
    assert done.exit_code == 0, done.output
    if words[1] == "transplant":
        assert (place / words[-1] / "transplant.json").is_file()
        return
    assert sorted(path.name for path in (place / "analysis").iterdir()) == [
        f"{words[1]}.{kind}" for kind in ("csv", "json", "png", "svg")
    ]
    assert done.output.split() == [f"analysis/{words[1]}.{kind}" for kind in ("json", "csv", "png", "svg")]


def test_every_command_of_the_group_is_on_the_page():
    (group,) = [g.typer_instance for g in app.registered_groups if g.typer_instance.info.name == "analyze"]
    names = {command.name or command.callback.__name__ for command in group.registered_commands}
    assert names == {command.split()[2] for command in COMMANDS}


def test_the_result_records_its_inputs_and_is_not_overwritten_by_others(place, folders):
    words = ["analyze", "cka", "x=my-encoder", "y=my-twin", "--texts", "held_out.jsonl.zst", "--out", "r"]
    assert run(*words).exit_code == 0
    record = json.loads((place / "r" / "cka.json").read_text())
    assert record["inputs"]["models"] == {"x": folder_hash(folders["a"]), "y": folder_hash(folders["b"])}
    assert record["inputs"]["texts"]["different"] == record["values"]["texts_read"] == 24
    assert record["settings"]["outlier_factor"] == 25
    rows = list(csv.DictReader((place / "r" / "cka.csv").read_text().splitlines()))
    values = record["values"]["divergences"]
    assert [float(row["divergence"]) for row in rows] == [value["divergence"] for value in values]
    assert rows[0]["ratio_to_noise"] == ""
    before = (place / "r" / "cka.json").read_bytes()
    with pytest.raises(ConfigError, match="other settings"):
        run(*words, "--max-length", "64")
    with pytest.raises(ConfigError, match="other inputs"):
        run(*words, "--noise", "y=my-twin,z=base")
    assert (place / "r" / "cka.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("cka my-encoder my-twin --out r", "no texts"),
        ("cka my-encoder my-twin --noise base --texts held_out.jsonl.zst --out r", "expected two models, as C,D"),
        ("cka my-encoder my-twin --texts held_out.jsonl.zst --draws 1,x --out r", "expected whole numbers"),
        ("cka my-encoder my-twin --texts held_out.jsonl.zst --subset 25 --out r", "expected 4 to 24"),
        ("course my-twin base --at 1,2 --texts held_out.jsonl.zst --out r", "2 numbers for 1 folders"),
        ("course my-twin base after-clm --at 2,1 --texts held_out.jsonl.zst --out r", "ascending"),
        ("transplant my-encoder my-twin --out r", "give --layers, --modules"),
        ("weights my-encoder --out r", "expected two or more"),
    ],
)
def test_wrong_options_are_one_error_and_write_nothing(place, words, says):
    with pytest.raises(ConfigError, match=says):
        run("analyze", *words.split())
    assert not (place / "r").exists()


def test_it_loads_neither_composer_nor_streaming(place):
    code = (
        "import sys; from detour.cli.main import main\ntry: main(sys.argv[1:])\nexcept SystemExit as exit: assert not exit.code\n"
        "print([name for name in ('composer', 'streaming') if name in sys.modules])"
    )
    words = [
        "analyze",
        "cka",
        "my-encoder",
        "my-twin",
        "--texts",
        "held_out.jsonl.zst",
        "--minibatch",
        "8",
        "--out",
        "r",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
