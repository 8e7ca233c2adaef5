"""Domain gain and general loss of models whose loss on every word is written by hand."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import ModernBertConfig, ModernBertForMaskedLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from detour.cli.main import app
from detour.config.load import load
from detour.data.tokenizer import ROLES
from detour.errors import ConfigError, DataError
from detour.evaluation.models import resolve
from detour.evaluation.probes.held_out_sets import read_sets
from detour.retention.measure import measure
from detour.retention.page import draw_retention

WORDS = ["fever", "river", *(f"word{i}" for i in range(25))]
PLACES = {  # probability of "fever", the domain's only word, and of "river", the only word elsewhere
    "start": (0.1, 0.1),
    "detour": (0.4, 0.05),
    "twin": (0.2, 0.08),
}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def write_model(folder: Path, fever: float, river: float, words=WORDS) -> Path:
    """A ModernBERT whose states are 0, so that its predictions are its output bias whatever the text."""
    special = [ROLES[role] for role in ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token")]
    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in special[1:3]]
    )
    PreTrainedTokenizerFast(tokenizer_object=made, **ROLES, model_max_length=64).save_pretrained(folder)
    model = ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=len(vocabulary), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            max_position_embeddings=64, pad_token_id=3, cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
            reference_compile=False,
        )
    )  # fmt: skip
    p_V = torch.full((len(vocabulary),), (1 - fever - river) / (len(vocabulary) - 2))
    p_V[vocabulary["fever"]], p_V[vocabulary["river"]] = fever, river
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.decoder.bias.data = p_V.log()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return [str(write_model(root / name, *places)) for name, places in PLACES.items()]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Six documents of each kind, of several lengths; the general ones in two files."""
    root = tmp_path_factory.mktemp("texts")
    for name, word, lengths in (("notes", "fever", (30, 80, 50, 40, 20, 60)), ("wiki", "river", (50, 90, 30)),
                                ("news", "river", (40, 40, 40))):  # fmt: skip
        lines = (json.dumps({"text": " ".join([word] * length)}) for length in lengths)
        (root / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def words(folders, texts):
    return ["retention", *folders, "--domain", f"notes={texts}/notes.jsonl", "--general", f"wiki={texts}/wiki.jsonl",
            "--general", f"news={texts}/news.jsonl", "--window", "32"]  # fmt: skip


def test_gains_and_losses_are_the_changes_of_the_words_log_probabilities(words, tmp_path):
    done = run(*words, "--out", tmp_path / "r")
    assert done.exit_code == 0, done.output
    kinds = ("html", "json", "csv", "png", "svg")
    assert done.output.split() == [str(tmp_path / "r" / f"retention.{kind}") for kind in kinds]
    rows = list(csv.DictReader((tmp_path / "r" / "retention.csv").read_text().splitlines()))
    found = {(r["model"], r["role"], r["data"], r["quantity"], r["minus"]): float(r["mean"]) for r in rows}
    for name, (fever, river) in PLACES.items():
        for role, data, p, before in (("domain", "notes", fever, 0.1), ("domain", "all", fever, 0.1),
                                      ("general", "wiki", river, 0.1), ("general", "news", river, 0.1),
                                      ("general", "all", river, 0.1)):  # fmt: skip
            assert found[name, role, data, "loss", ""] == pytest.approx(-math.log(p), abs=1e-5)
            assert found[name, role, data, "change", "start"] == pytest.approx(math.log(before / p), abs=1e-5)
    assert found["detour", "domain", "all", "difference", "twin"] == pytest.approx(math.log(0.2 / 0.4), abs=1e-5)
    assert found["detour", "general", "all", "difference", "twin"] == pytest.approx(math.log(0.08 / 0.05), abs=1e-5)
    pooled = [r for r in rows if (r["role"], r["data"], r["quantity"]) == ("general", "all", "change")]
    assert {r["documents"] for r in pooled} == {"6"}
    page = (tmp_path / "r" / "retention.html").read_text()
    assert f"{math.log(4):+.3f} [{math.log(4):+.3f}, {math.log(4):+.3f}]" in page  # the gain: every token alike
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_the_figure_has_one_point_for_each_model(folders, texts):
    sets = {"domain": read_sets([f"a={texts}/notes.jsonl"]), "general": read_sets([f"b={texts}/wiki.jsonl"])}
    found = measure(resolve(folders), sets, window=32)
    (axes,) = draw_retention(found).axes
    points = [tuple(float(part[0]) for part in bars.lines[0].get_data()) for bars in axes.containers]
    expected = [(math.log(0.1 / river), math.log(fever / 0.1)) for fever, river in list(PLACES.values())[1:]]
    assert [value for point in points for value in point] == pytest.approx([v for p in expected for v in p], abs=1e-5)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["start (start)", "detour", "twin"]


def test_models_of_other_tokenizers_are_not_compared(folders, texts, tmp_path):
    other = write_model(tmp_path / "other", 0.1, 0.1, ["word", *WORDS])
    sets = {"domain": read_sets([f"a={texts}/notes.jsonl"]), "general": read_sets([f"b={texts}/wiki.jsonl"])}
    with pytest.raises(DataError, match="their tokenizers differ"):
        measure(resolve([folders[0], str(other)]), sets, window=32)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda words: [*words[:2], *words[4:]], "1 model, expected a start model"),
        (lambda words: [*words, "--general", words[5].replace("notes=", "wiki=")], "among the domain's texts"),
        (lambda words: [*words, "--general", words[7].replace("wiki=", "all=")], "'all' is the name of all sets"),
    ],
)
def test_a_comparison_that_means_nothing_is_refused(words, tmp_path, change, error):
    with pytest.raises((ConfigError, DataError), match=error):
        run(*change(words), "--out", tmp_path)


ROOT = Path(__file__).parents[2]


def test_the_table_of_the_page_is_that_of_its_numbers():
    lines = (ROOT / "docs" / "results" / "retention" / "retention.csv").read_text().splitlines()
    rows = {(r["model"], r["data"], r["role"], r["quantity"]): r for r in csv.DictReader(lines)}
    places = {"clinical cases": ("cases", "domain"), "general, both": ("all", "general"),
              "novels": ("novels", "general"), "Code civil": ("code_civil", "general")}  # fmt: skip
    page = (ROOT / "docs" / "results" / "retention.md").read_text()

    def change(row) -> str:
        return f"{float(row['mean']):+.3f} [{float(row['low']):+.3f}, {float(row['high']):+.3f}]"

    text, checked = "", 0
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[4].isdigit():
            text, model = cells[0] or text, cells[1].strip("`")
            loss, since = (rows[(model, *places[text], quantity)] for quantity in ("loss", "change"))
            assert cells[2:] == [
                f"{float(loss['mean']):.3f}",
                "" if model == "base" else change(since),
                loss["documents"],
            ]
            checked += 1
    assert checked == 10
    for role in ("domain", "general"):
        assert change(rows["detour", "all", role, "difference"]) in page


def test_the_stand_ins_of_the_page_are_runs_that_load(tmp_path):
    """With a `detour` that writes its arguments down."""
    fake = tmp_path / "detour"
    fake.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >> "$LOG"\necho >> "$LOG"\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    command = ["bash", str(ROOT / "scripts" / "small_standin.sh"), "data", str(tmp_path / "out")]
    subprocess.run(command, env=environment, check=True)
    calls = [line.split("\0")[:-1] for line in (tmp_path / "log").read_text().splitlines()]
    assert [call[0] for call in calls] == ["train", "export"] * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETOUR_SMALL_DATA", "data")
        base, detour, twin = (load(call[1], call[2:]) for call in calls[::2])
    assert [phase.objective for phase in detour.phases] == ["clm", "mlm"]
    assert detour.phase_schedule.total_tokens == twin.phase_schedule.total_tokens == 260_000
    assert replace(detour, name="", phases=[]) == replace(twin, name="", phases=[])
    assert detour.model.init == str(tmp_path / "out" / "base")
    assert base.phase_schedule.total_tokens == 650_000
