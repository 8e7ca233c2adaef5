"""Row 13: tokens, keys and values from the environment are in nothing that a run says or leaves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from detour.cli.main import main
from detour.config.load import to_yaml
from detour.training.run_folder import RunFolder

pytestmark = pytest.mark.timeout(200)
KEY = "AKIA" + "QRST" * 4
TOKEN = "hf_" + "Zz9Yy8" * 5
PLACE = "the-home-of-a-project"


def without_secrets(text: bytes, where: str) -> None:
    for secret in (KEY, TOKEN, PLACE):
        assert secret.encode() not in text, f"{secret} in {where}"


@pytest.mark.faults(
    13, "tokens, keys and ${oc.env:...} in the configuration: not in the log, run folder, W&B, checkpoint, export"
)
def test_secrets_of_the_configuration_are_in_nothing_that_is_left(
    tiny_run, corpus, start, tmp_path, monkeypatch, capsys
):
    home = tmp_path / PLACE
    shutil.copytree(corpus.tokenizer, home / "tokenizer")
    shutil.copytree(corpus.train, tmp_path / KEY / "rows")
    monkeypatch.setenv("DETOUR_TEST_PLACE", str(home))
    run = tiny_run(logging={"wandb_project": "test"})
    overrides = [
        "model.tokenizer=${oc.env:DETOUR_TEST_PLACE}/tokenizer",
        f"data.train=[{{path: {tmp_path / KEY / 'rows'}}}]",
    ]
    environment = {"WANDB_MODE": "offline", "HF_TOKEN": TOKEN, "DETOUR_TEST_PLACE": str(home)}
    (child,) = start(run, *overrides, **environment)
    assert child.code() == 0, child.text()
    folder = RunFolder.of(run).path
    assert main_code("export", str(folder), "--out", str(tmp_path / "encoder")) == 0
    assert main_code("report", str(folder)) == 0
    without_secrets((child.text() + "".join(capsys.readouterr())).encode(), "the output")
    files = [path for top in (folder, tmp_path / "encoder") for path in top.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".jsonl", ".safetensors", ".wandb", ".md", ".yaml"}
    for path in files:
        without_secrets(path.read_bytes(), str(path))
    assert "${oc.env:DETOUR_TEST_PLACE}/tokenizer" in (folder / "config.yaml").read_text()
    assert main_code("train", str(tmp_path / "run.yaml"), *overrides) == 0, (
        "complete: what is recorded compares equal with what is configured"
    )


@pytest.mark.faults(13, "the same in error messages")
def test_secrets_are_not_in_errors(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DETOUR_TEST_PLACE", str(tmp_path / PLACE))
    values = yaml.safe_load(to_yaml(tiny_run()))
    values["data"]["train"] = [{"path": "${oc.env:DETOUR_TEST_PLACE}/" + TOKEN}]
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    assert main_code("train", str(config)) == 1
    text = capsys.readouterr().err
    assert "error: ${oc.env:DETOUR_TEST_PLACE}/[hidden]" in text
    without_secrets(text.encode(), "the error")


def main_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return int(exit.value.code or 0)


def test_the_test_would_see_a_secret(tmp_path: Path):
    with pytest.raises(AssertionError, match="in a file"):
        without_secrets(f"x{KEY}y".encode(), "a file")
