"""The commands that `detour init` writes run, from text to two encoders."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess

import pytest

from detour.init.machine import found_gpus


@pytest.mark.slow
def test_the_commands_lead_from_text_to_two_encoders(detour, start_model, cases, jsonl, tmp_path, monkeypatch, capsys):
    """Rows of 256, steps of 8 rows; 13 x 2,048 tokens for each run at 1,000 a second: 11 steps, and one of decay."""
    out = tmp_path / "project"
    hours = 2 * 13 * 8 * 256 / 1000 / 3600
    given = ("--model", start_model, "--gpus", 0, "--hours", hours, "--tokens-per-second", 1000)
    assert detour("init", jsonl([text[:400] for text in cases]), "--out", out, "--yes", *given) == 0
    assert "# whole steps: 11 and 1" in (out / "detour.yaml").read_text()
    monkeypatch.chdir(out)
    commands = [line.split("||")[-1].split() for line in (out / "run.sh").read_text().splitlines() if "detour " in line]
    commands = [words for words in commands if words[0] == "detour"]
    assert [words[1] for words in commands] == ["data", "train", "train", "compare", "export", "export"]
    for words in commands:
        assert detour(*words[1:]) == 0, shlex.join(words)
    for arm in ("detour", "twin"):
        config = json.loads((out / "encoders" / arm / "config.json").read_text())
        assert config["architectures"] == ["ModernBertForMaskedLM"]


def test_what_is_not_given_is_asked(start_model, cases, jsonl, tmp_path, monkeypatch):
    """Answers to: model (the first is none), GPUs, memory, hours, folder."""
    from typer.testing import CliRunner

    from detour.cli.main import app

    answers = ["n", str(start_model), "2", "24", "3", str(tmp_path / "asked")]
    path = jsonl(cases)
    done = CliRunner().invoke(app, ["init"], input="\n".join([str(path), *answers]) + "\n")
    assert done.exit_code == 0, done.output
    assert "n: no such folder, and not a name on the hub, which is owner/name" in done.output
    text = (tmp_path / "asked" / "run.sh").read_text()
    assert "composer -n 2 -m detour train twin.yaml" in text
    assert "parallelism: fsdp" in (tmp_path / "asked" / "detour.yaml").read_text()


def test_a_shell_without_the_command_is_told_what_to_do(start_model, detour, cases, jsonl, tmp_path):
    out = tmp_path / "project"
    given = ("--model", start_model, "--gpus", 0, "--hours", 1, "--tokens-per-second", 1000)
    assert detour("init", jsonl(cases), "--out", out, "--yes", *given) == 0
    tools = tmp_path / "tools"
    tools.mkdir()
    bash, dirname = shutil.which("bash"), shutil.which("dirname")
    assert bash
    assert dirname
    (tools / "dirname").symlink_to(dirname)
    done = subprocess.run([bash, out / "run.sh"], env={"PATH": str(tools)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("run.sh: no command 'detour'; activate the environment")


@pytest.mark.parametrize(("lines", "expected"), [("24576\n81559\n", (2, 26)), ("", (0, 0.0)), (None, (0, 0.0))])
def test_gpus_are_found_by_nvidia_smi(lines, expected, tmp_path, monkeypatch):
    """24,576 MiB are 25.8 GB."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if lines is not None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\nprintf '{lines}'\n")
        tool.chmod(0o755)
    assert found_gpus() == expected
