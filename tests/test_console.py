"""What a user sees in a terminal of 80 columns and in a redirected log."""

from __future__ import annotations

import json
import logging
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from typer.testing import CliRunner

from detour.cli.cell_progress import reported
from detour.cli.evaluation import app
from detour.cli.main import main
from detour.console import Heartbeat, show
from detour.evaluation.data.task import load_suite, load_task, suite_names

WORD = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=30)


@pytest.fixture(params=["terminal", "log"])
def output(request, monkeypatch) -> str:
    """An output of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if request.param == "terminal":
        monkeypatch.setenv("FORCE_COLOR", "1")  # how rich is told that this is one
        monkeypatch.setenv("NO_COLOR", "1")
    return request.param


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("suite", suite_names())
@pytest.mark.parametrize("check", [[], ["--check", "--data", "nowhere"]])
def test_tasks_break_no_word_at_80_columns(output, suite, check):
    tasks = load_suite(suite)
    shown = plain(CliRunner().invoke(app, ["tasks", "--suite", suite, *check]).output)
    words = set(re.split(r"[\s│┃]+", shown))
    for task in tasks:
        expected = {task.name, task.kind, str(task.max_length), *task.license.split()}
        assert expected <= words
        assert not check or f"task '{task.name}': " in shown  # what is missing, below the table


@given(rows=st.lists(st.lists(WORD, min_size=4, max_size=4), min_size=1, max_size=4), title=WORD)
def test_no_word_of_a_table_is_ever_broken(rows, title):
    from io import StringIO

    from rich.console import Console

    for terminal in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            out = StringIO()
            console = Console(file=out, width=40, force_terminal=terminal, no_color=True)
            patch.setattr("detour.console.Console", lambda console=console: console)
            table = Table(*"abcd", title=title)
            for row in rows:
                table.add_row(*row)
            show(table)
        words = re.split(r"[\s│┃]+", plain(out.getvalue()))
        assert all(word in words for row in rows for word in row)


def test_a_line_of_text_is_neither_wrapped_nor_taken_for_markup(output, capsys):
    line = "x" * 200 + " [bold]y[/bold]"
    show(line)
    assert plain(capsys.readouterr().out) == line + "\n"


def test_a_heartbeat_is_logged_at_once_and_then_at_most_once_in_its_time(caplog):
    now = [0.0]
    alive = Heartbeat(logging.getLogger("detour.test"), seconds=10, clock=lambda: now[0])
    caplog.set_level(logging.INFO, "detour")
    for second in range(35):
        now[0] = float(second)
        alive.beat("second %d", second)
    assert [record.getMessage() for record in caplog.records] == [f"second {s}" for s in (0, 10, 20, 30)]


def test_a_suite_in_a_log_has_a_line_for_each_cell_and_in_long_ones_more(caplog, monkeypatch):
    caplog.set_level(logging.INFO, "detour")
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(Heartbeat.__init__, "__kwdefaults__", {"seconds": 30.0, "clock": lambda: now[0]})
    with reported(2) as begin:
        for seed in (1, 2):
            step = begin(SimpleNamespace(task=load_task("bc5cdr"), model=SimpleNamespace(name="m"), seed=seed))
            for done in range(1, 11):
                now[0] += 7
                step(done, 10)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "cell 1 of 2, bc5cdr, m, seed 1: begun, 0 min after the first",
        "cell 1 of 2, bc5cdr, m, seed 1: step 5 of 10",
        "cell 1 of 2, bc5cdr, m, seed 1: step 10 of 10",
        "cell 2 of 2, bc5cdr, m, seed 2: begun, 1 min after the first",
        "cell 2 of 2, bc5cdr, m, seed 2: step 5 of 10",
        "cell 2 of 2, bc5cdr, m, seed 2: step 10 of 10",
        "2 cells done in 2.3 min",
    ]


def test_training_a_tokenizer_says_what_it_reads_and_when_it_merges(tmp_path, caplog, capsys):
    lines = "".join(json.dumps({"text": f"case number {i:04d}"}) + "\n" for i in range(50))
    (tmp_path / "text.jsonl").write_text(lines)
    with pytest.raises(SystemExit) as exit:
        main(
            [
                "data",
                "tokenizer",
                "train",
                str(tmp_path / "text.jsonl"),
                "--out",
                str(tmp_path / "out"),
                "--vocab-size",
                "300",
            ]
        )
    assert not exit.value.code
    said = [record.getMessage() for record in caplog.records if record.name == "detour.cli.tokenizer"]
    assert said == [
        "reading: 0 documents, 0.0 million characters so far",
        "50 documents, 0.0 million characters read; now merging",
    ]
    assert capsys.readouterr().out.startswith(str(tmp_path / "out"))


def test_a_damaged_file_stops_the_tokenizer_with_one_line(tmp_path, capsys):
    (tmp_path / "text.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    with pytest.raises(SystemExit) as exit:
        main(["data", "tokenizer", "train", str(tmp_path / "text.jsonl.gz"), "--out", str(tmp_path / "out")])
    assert exit.value.code == 1
    assert "text.jsonl.gz" in capsys.readouterr().err
