"""The tutorial and the quickstart, command by command, as a reader would run them, at toy size."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from transformers import ModernBertConfig, ModernBertForMaskedLM

from data_prep.synthetic import generate
from detour.cli.main import main
from detour.config.load import to_yaml
from detour.data.tokenizer import load_tokenizer

DOCS = Path(__file__).parents[1] / "docs"
TOY = {  # text of the pages -> what the test runs in its place; everything else is run as it is printed
    "answerdotai/ModernBERT-base": "start",  # a folder with random weights
    "size: modernbert-base": "size: tiny\n  architecture: {vocab_size: 600, hidden_size: 32, intermediate_size: 48,"
    " num_hidden_layers: 3, local_attention: 16}",
    "seq_len: 1024": "seq_len: 64",
    "--seq-len 1024": "--seq-len 64",
    "max_length: 1024": "max_length: 64",
    "global_batch_size: 256": "global_batch_size: 4",
    "micro_batch_size: 16": "micro_batch_size: 2",
    "500_000_000": "1_000",
    "50_000_000": "500",
    "25_000_000": "500",
    "10_000_000": "100",
    "400_000": "1_000",
    "--seeds 5": "--seeds 2",
    "epochs: 10": "epochs: 1",
    'model="my-encoder"': 'model="encoders/detour"',  # the README's block
}


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language, at toy size."""
    found = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    pattern = "|".join(re.escape(text) for text in sorted(TOY, key=len, reverse=True))
    return [re.sub(rf"(?<![\d_])(?:{pattern})", lambda match: TOY[match[0]], block) for block in found]


def run(command: str) -> None:
    """Runs one line of a shell block in this process; it must exit with 0."""
    program, *arguments = shlex.split(command, comments=True)
    assert program == "detour"
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert not exit.value.code, command


def write_jsonl(path: Path, records: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def reader(tmp_path, monkeypatch, corpus):
    """The reader's folder: text, start model, and labeled task."""
    monkeypatch.chdir(tmp_path)
    documents = list(generate(documents=60, seed=3))
    write_jsonl(tmp_path / "train.jsonl", documents[:50])
    write_jsonl(tmp_path / "validation.jsonl", documents[50:])
    labels = ["home", "ward", "intensive care"]
    for split in ("train", "dev", "test"):
        examples = [{"id": f"{split}-{i}", "text": documents[i]["text"], "label": labels[i % 3]} for i in range(12)]
        write_jsonl(tmp_path / "data" / "tasks" / "en" / "triage" / f"{split}.jsonl", examples)
    tokenizer = load_tokenizer(corpus.tokenizer)
    config = ModernBertConfig(
        vocab_size=600, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2,
        local_attention=16, pad_token_id=tokenizer.pad_token_id, reference_compile=False,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ModernBertForMaskedLM(config).save_pretrained(tmp_path / "start")
    tokenizer.save_pretrained(tmp_path / "start")
    return tmp_path


def test_the_tutorial_leads_from_text_to_two_encoders_and_their_scores(reader):
    page = DOCS / "tutorials" / "your_text.md"
    (reader / "detour.yaml").write_text(blocks(page, "yaml")[0])
    (reader / "twin.yaml").write_text(blocks(page, "yml")[0])
    (triage,) = [block for block in blocks(DOCS / "evaluation.md", "yml") if "name: triage" in block]
    (reader / "triage.yaml").write_text(triage)
    commands = [line for block in blocks(page, "bash") for line in block.splitlines()]
    assert len(commands) == 14
    for command in commands:
        run(command)
    for code in blocks(page, "python") + [b for b in blocks(DOCS.parent / "README.md", "python") if "pipeline" in b]:
        exec(code)
    summary = (reader / "scores" / "summary.md").read_text()
    assert "detour" in summary
    assert "minimum detectable effect" in summary
    assert list((reader / "runs" / "my_detour" / "report").glob("*.html"))
    assert (reader / "encoders" / "twin" / "model.safetensors").is_file()


def test_the_quickstart_changes_a_run_and_compares_it(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yamls").mkdir()
    (tmp_path / "yamls" / "smoke.yaml").write_text(to_yaml(tiny_run("smoke")))
    run("detour train yamls/smoke.yaml folder=work/demo/runs")  # what `make demo` leaves
    (commands,) = [block for block in blocks(DOCS / "quickstart.md", "bash") if "detour train" in block]
    assert len(commands.splitlines()) == 3
    for command in commands.splitlines():
        run(command)
