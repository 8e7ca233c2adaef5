"""The command line: one-line errors, and the road from rows to an encoder that plain transformers loads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detour.cli.main import main
from detour.config.load import to_yaml
from detour.data.tokenizer import train_bpe
from detour.training.run_folder import RunFolder

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def write(tmp_path):
    def to_file(run, name="run.yaml") -> str:
        path = tmp_path / name
        path.write_text(to_yaml(run))
        return str(path)

    return to_file


def call(*arguments: str) -> int:
    """The exit code of the command line."""
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return int(exit.value.code or 0)


def error_of(capsys, *arguments: str) -> str:
    assert call(*arguments) == 1
    text = capsys.readouterr().err
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in text
    return line


def test_an_unknown_key_is_one_line_with_the_nearest_name(tiny_run, write, capsys):
    line = error_of(capsys, "train", write(tiny_run()), "schedule.warmup_token=3")
    assert "schedule.warmup_token: unknown key; did you mean 'warmup_tokens'?" in line


def test_a_missing_shard_is_one_line_with_its_path(tiny_run, write, corpus, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(corpus.train, broken)
    shard = next(broken.glob("shard.*"))
    shard.unlink()
    line = error_of(capsys, "train", write(tiny_run(data={"train": [{"path": str(broken)}]})))
    assert str(shard) in line


def test_a_missing_folder_of_rows_is_one_line_with_its_path(tiny_run, write, capsys):
    line = error_of(capsys, "train", write(tiny_run(data={"train": [{"path": "no/such/rows"}]})))
    assert "no/such/rows" in line


def test_a_tokenizer_with_other_ids_is_refused(tiny_run, write, tmp_path, capsys):
    train_bpe(["another corpus altogether " * 20], vocab_size=400).save_pretrained(tmp_path / "other")
    line = error_of(capsys, "train", write(tiny_run(model={"tokenizer": str(tmp_path / "other")})))
    assert "tokenizer" in line


def test_a_vocabulary_that_differs_from_the_initial_weights_is_refused(tiny_run, write, tmp_path, capsys):
    run = tiny_run()
    assert call("train", write(run)) == 0
    assert call("export", str(RunFolder.of(run).path), "--out", str(tmp_path / "encoder")) == 0
    architecture = {**run.model.architecture, "vocab_size": 700}
    other = tiny_run("other", model={"init": str(tmp_path / "encoder"), "architecture": architecture})
    line = error_of(capsys, "train", write(other, "other.yaml"))
    assert "vocab_size is 600, configured 700" in line


@pytest.mark.faults(18, "another vocabulary on resume: refused with the difference")
def test_a_vocabulary_that_differs_from_the_checkpoint_is_refused(tiny_run, write, capsys):
    run = tiny_run()
    assert call("train", write(run)) == 0
    architecture = {**run.model.architecture, "vocab_size": 700}
    assert call("train", write(tiny_run(model={"architecture": architecture}), "other.yaml")) == 1
    assert "model.architecture: was" in capsys.readouterr().err


def test_a_run_is_planned_without_data_or_network(write, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "detour", "plan", "yamls/base_clm_detour.yaml"],
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10B" in done.stdout
    assert "3,179" in done.stdout  # 10B tokens in steps of 384 x 8192


def test_a_bad_configuration_is_not_planned(tmp_path, capsys):
    path = tmp_path / "bad.yaml"
    path.write_text("name: bad\nphases: [{name: a, objective: mlmm, tokens: -1}]\n")
    assert call("plan", str(path)) == 1
    assert "schedule.peak_lr: missing" in capsys.readouterr().err


@pytest.mark.faults(20, "an exported run in plain transformers: equal logits, bidirectional")
def test_an_exported_run_loads_in_transformers_with_equal_logits_and_continues_training(
    tiny_run, write, tmp_path, capsys
):
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    from detour.build import build_encoder

    run = tiny_run()
    assert call("train", write(run)) == 0
    encoder = tmp_path / "encoder"
    assert call("export", str(RunFolder.of(run).path), "--out", str(encoder)) == 0
    card = (encoder / "README.md").read_text()
    assert "| device-seconds | MFU |" in card
    assert "| detour | clm | 1,000 |" in card
    assert "detour-synthetic" not in card

    model, tokenizer = AutoModelForMaskedLM.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    ids = tokenizer("The patient has a fever.", return_tensors="pt")["input_ids"]
    again = tiny_run("again", model={"init": str(encoder)})
    ours = build_encoder(again, None).eval()
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        found = ours.logits(ids, torch.tensor([[ids.shape[1]]]), "bidirectional")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert call("train", write(again, "again.yaml")) == 0


def test_an_export_never_overwrites(tiny_run, write, tmp_path, capsys):
    run = tiny_run()
    assert call("train", write(run)) == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("keep")
    assert "is not empty" in error_of(capsys, "export", str(RunFolder.of(run).path), "--out", str(tmp_path / "full"))


def test_a_tokenizer_is_trained_from_text(tmp_path, capsys):
    from transformers import AutoTokenizer

    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": f"case number {i} of many"}) + "\n" for i in range(50))
    )
    assert (
        call("data", "tokenizer", "train", str(tmp_path / "text.jsonl"), "--out", str(tmp_path / "tok"),
             "--vocab-size", "300")
        == 0
    )  # fmt: skip
    loaded = AutoTokenizer.from_pretrained(tmp_path / "tok")
    assert loaded.mask_token == "[MASK]"
    assert loaded.decode(loaded("case number 3")["input_ids"], skip_special_tokens=True).strip() == "case number 3"


def test_a_tokenizer_without_text_to_train_on_is_an_error(tmp_path, capsys):
    (tmp_path / "text.jsonl").write_text('{"body": "a case"}\n' * 3)
    (tmp_path / "empty.txt").write_text("")
    for name, told in {"text.jsonl": r"skipped 3, no 'text' column", "empty.txt": "skipped 1, empty file"}.items():
        assert call("data", "tokenizer", "train", str(tmp_path / name), "--out", str(tmp_path / "tok")) == 1
        assert re.search(rf"{name}: no document with text\n  {told}; first at ", capsys.readouterr().err)
    assert not [*(tmp_path / "tok").iterdir()]


def test_a_tokenizer_is_extended_from_text_and_what_it_saves_is_measured(corpus, tmp_path, capsys):
    text = " ".join(["pembrolizumab"] * 3)
    for name in ("corpus", "held_out"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": text}) + "\n")
    command = ("data", "tokenizer", "extend", str(corpus.tokenizer), str(tmp_path / "corpus.jsonl"), "--add", "40")
    assert call(*command, "--out", str(tmp_path / "new"), "--held-out", str(tmp_path / "held_out.jsonl")) == 0
    report = json.loads((tmp_path / "new" / "vocabulary.json").read_text())
    assert report["base_vocab_size"] == 600
    assert report["vocab_size"] == 600 + len(report["new_tokens"]) <= 640 == report["embedding_rows"]
    before, after = report["held_out"]["before"], report["held_out"]["after"]
    assert (before["words"], after["words"]) == (3, 3)
    assert before["tokens_per_word"] > 3 > 2 > after["tokens_per_word"]  # the first word has no space before it
    shown = capsys.readouterr().out
    assert "tokens per word" in shown
    assert "new_tokens: mean, architecture: {vocab_size: 640}" in shown
    assert call(*command, "--out", str(tmp_path / "new")) == 1
    assert "is not empty" in capsys.readouterr().err


def test_what_a_model_keeps_with_another_tokenizer_is_measured(corpus, tmp_path, capsys):
    """Both are byte-level BPE: a model keeps the embeddings of the tokens that both have."""
    from transformers import AutoTokenizer

    text = tmp_path / "text.jsonl"
    text.write_text(json.dumps({"text": "a fever of unknown origin, and a cough"}) + "\n")
    other = tmp_path / "other"
    train = ("data", "tokenizer", "train", str(text), "--out", str(other), "--vocab-size", "300")
    assert call(*train) == 0
    swap = ("data", "tokenizer", "swap", str(corpus.tokenizer), str(other), str(text), "--out", str(tmp_path / "new"))
    assert call(*swap, "--multiple", "128") == 0
    report = json.loads((tmp_path / "new" / "vocabulary.json").read_text())
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (corpus.tokenizer, tmp_path / "new"))
    shared = before.get_vocab().keys() & after.get_vocab().keys()
    assert report["embeddings"]["copied"] == len(shared)
    assert sum(report["embeddings"].values()) == len(after) == report["vocab_size"]
    assert report["embedding_rows"] == -(-len(after) // 128) * 128
    for name, tokenizer in (("before", before), ("after", after)):
        ids = tokenizer("a fever of unknown origin, and a cough", add_special_tokens=False)["input_ids"]
        assert (report["text"][name]["tokens"], report["text"][name]["words"]) == (len(ids), 8)
    shown = capsys.readouterr().out
    assert f"{len(shared):,} copied" in shown
    assert f"new_tokens: mean, architecture: {{vocab_size: {report['embedding_rows']}}}" in shown
    assert call(*swap) == 1
    assert "is not empty" in capsys.readouterr().err


def test_prepared_rows_are_verified_from_the_command_line(corpus, tmp_path, capsys):
    copy = tmp_path / "rows"
    shutil.copytree(corpus.train, copy)
    assert call("data", "verify", str(copy)) == 0
    shard = next(copy.glob("shard.*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert call("data", "verify", str(copy)) == 1


def test_the_version_is_shown(capsys):
    from detour import __version__

    assert call("--version") == 0
    assert capsys.readouterr().out == f"detour {__version__}\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["tokenizer", "text"], "detour data tokenizer train"),
        (["data", "tokenizer", "text"], "detour data tokenizer train text"),
        (["scores", "folder"], "detour eval scores"),
        (["tasks"], "detour eval tasks"),
        (["eval", "my-encoder", "--suite", "english"], "detour eval run my-encoder"),
    ],
)
def test_a_command_of_an_earlier_draft_is_refused_by_its_new_name(old, new, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert call(*old) == 2
    assert new in capsys.readouterr().err


def test_only_arguments_that_begin_with_task_are_overrides_of_tasks():
    from detour.cli.evaluation import split_overrides

    models, changes = split_overrides(["training=a-folder", "task.training.epochs=1", "hub/name", "task.limit.test=20"])
    assert models == ["training=a-folder", "hub/name"]
    assert changes == ["training.epochs=1", "limit.test=20"]
