"""The tutorial for one GPU with 24 GB: its figures are those of `detour plan` and `detour init`."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from detour.cli.main import main
from detour.config.load import load
from detour.cost.plan import rows_that_fit

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tutorials" / "one_gpu.md").read_text()
COMMANDS = [
    command
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
]


def table(heading: str) -> list[list[str]]:
    """The cells of the rows of the table with this first heading."""
    lines = PAGE[PAGE.index(f"| {heading} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def run(command: str) -> None:
    words = shlex.split(command)
    assert words[0] == "detour"
    with pytest.raises(SystemExit) as exit:
        main(words[1:])
    assert not exit.value.code, command


@pytest.mark.parametrize("row", table("tokens per row"), ids=lambda row: row[0])
def test_the_rows_that_fit_are_those_that_plan_and_init_allow(row):
    seq_len, *fits = (int(cell.replace(",", "")) for cell in row)
    found = [
        rows_that_fit(
            load(
                ROOT / "yamls" / f"{size}_clm_detour.yaml",
                [
                    f"data.seq_len={seq_len}",
                    "data.global_batch_size=512",
                    f"model.gradient_checkpointing={checkpointing}",
                ],
            ),
            gigabytes=24,
        )
        for size in ("base", "large")
        for checkpointing in ("false", "true")
    ]
    assert found == fits


def test_what_base_and_large_cost_is_what_the_commands_print(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    commands, rows = [c for c in COMMANDS if c.startswith("detour plan")], table("model")
    assert len(commands) == len(rows) == 2
    for command, row in zip(commands, rows, strict=True):
        run(command)
        printed = capsys.readouterr().out
        ((tokens, _, _, flops, hours),) = re.findall(r"total" + r"\s+(\S+)" * 5, printed)
        (memory,) = re.findall(
            r"micro_batch_size (\d+) .*?: (.+? GB) of weights, .*?, (\S+ GB) of activations, (\S+ GB)\s+for the loss",
            printed,
            re.DOTALL,
        )
        model, size = row[0].split(",")[0], int(memory[0])
        assert f"yamls/{model}_clm_detour.yaml" in command
        assert row == [f"{model}, {size} rows", tokens, flops, hours, *memory[1:]]


@pytest.mark.parametrize(("model", "micro_batch"), [("ModernBERT-base", 8), ("ModernBERT-large", 8)])
def test_init_writes_what_the_page_says(model, micro_batch, tmp_path, monkeypatch):
    """Documents of about 800 tokens, so rows of 1,024, and steps of 8 rows, since the corpus is small."""
    monkeypatch.chdir(tmp_path)
    text = "The patient was seen at the ward, and the findings of that day were written down for the record. " * 37
    lines = [json.dumps({"text": f"Note {i}. {text}"}) for i in range(400)]
    (tmp_path / "notes.jsonl").write_text("\n".join(lines) + "\n")
    (command,) = [c for c in COMMANDS if c.startswith("detour init")]
    run(f"{command} --model answerdotai/{model}")
    written = yaml.safe_load((tmp_path / "project" / "detour.yaml").read_text())
    assert written["data"]["seq_len"] == 1024
    assert written["data"]["global_batch_size"] == written["data"]["micro_batch_size"] == micro_batch
    assert "gradient_checkpointing" not in written["model"]
    assert written["system"]["precision"] == "bf16"
    assert (
        "71 TFLOP/s per GPU (those of the RTX 3090), of which 40%" in (tmp_path / "project" / "README.md").read_text()
    )
