"""metrics.jsonl: a line a batch, whole numbers of lines, and after a resume none twice and none lost."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from composer.core import Timestamp

from detour.training.loggers.jsonl import JsonlLogger


def at(batch: int):
    return SimpleNamespace(timestamp=Timestamp(batch=batch, token=10 * batch))


def train(logger: JsonlLogger, *batches: int) -> None:
    for batch in batches:
        logger.log_metrics({"lr": 0.5})
        logger.log_metrics({"loss/train/mlm": torch.tensor(1.5)}, step=batch)
        logger.batch_end(at(batch), None)  # type: ignore[arg-type]


def batches_in(path: Path) -> list[int]:
    return [json.loads(line)["batch"] for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_batch_is_one_line_of_all_that_was_logged_with_its_place(path):
    train(JsonlLogger(path, batches_trained=0), 1, 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"batch": 1, "token": 10, "lr": 0.5, "loss/train/mlm": 1.5}
    assert [line["token"] for line in lines] == [10, 20]


def test_evaluations_have_lines_of_their_own(path):
    logger = JsonlLogger(path, batches_trained=0)
    train(logger, 1)
    logger.log_metrics({"loss/eval/clm": 3.0})
    logger.eval_end(at(1), None)  # type: ignore[arg-type]
    assert json.loads(path.read_text().splitlines()[1]) == {"batch": 1, "token": 10, "loss/eval/clm": 3.0}


def test_nothing_logged_is_no_line_and_nothing_is_carried_over(path):
    logger = JsonlLogger(path, batches_trained=0)
    train(logger, 1)
    logger.batch_end(at(2), None)  # type: ignore[arg-type]
    assert batches_in(path) == [1]


def test_composer_s_own_timers_are_left_out(path):
    logger = JsonlLogger(path, batches_trained=0)
    logger.log_metrics({"time/epoch": 1, "metrics/eval/x": 2, "trainer/device": 3, "loss": 4})
    logger.batch_end(at(1), None)  # type: ignore[arg-type]
    assert json.loads(path.read_text()) == {"batch": 1, "token": 10, "loss": 4}


def test_a_resume_drops_the_lines_past_its_checkpoint_and_goes_on(path):
    train(JsonlLogger(path, batches_trained=0), 1, 2, 3, 4)
    before = path.read_text().splitlines()
    train(JsonlLogger(path, batches_trained=2), 3, 4, 5)
    assert batches_in(path) == [1, 2, 3, 4, 5]
    assert path.read_text().splitlines()[:4] == before


def test_a_run_from_the_start_begins_an_empty_file(path):
    train(JsonlLogger(path, batches_trained=0), 1, 2)
    JsonlLogger(path, batches_trained=0)
    assert path.read_text() == ""


def test_every_file_of_a_run_that_starts_over_is_kept_under_a_number_of_its_own(path):
    (path.parent / "metrics.before.jsonl").write_text("of an earlier version\n")
    texts = []
    for batches in ([1], [1, 2], [1, 2, 3]):
        train(JsonlLogger(path, batches_trained=0), *batches)
        texts.append(path.read_text())
    JsonlLogger(path, batches_trained=0)
    JsonlLogger(path, batches_trained=0)  # an empty file is no loss
    kept = [path.with_name(f"metrics.before-{number}.jsonl") for number in (1, 2, 3)]
    assert [each.read_text() for each in kept] == texts
    assert (path.parent / "metrics.before.jsonl").read_text() == "of an earlier version\n"
    assert len(list(path.parent.glob("metrics.before*"))) == 4


def test_a_number_that_is_taken_is_passed_over(path):
    path.with_name("metrics.before-1.jsonl").mkdir()
    path.with_name("metrics.before-2.jsonl").write_text("mine")
    train(JsonlLogger(path, batches_trained=0), 1)
    text = path.read_text()
    JsonlLogger(path, batches_trained=0)
    assert path.with_name("metrics.before-2.jsonl").read_text() == "mine"
    assert path.with_name("metrics.before-3.jsonl").read_text() == text


@pytest.mark.parametrize("event", ["rejected_step", "measurement"])
def test_an_event_of_the_batch_under_way_is_there_once_after_any_number_of_resumes(path, event):
    """It is written before its batch ends, and again when the batch is trained again."""
    logger = JsonlLogger(path, batches_trained=0)
    train(logger, 1)
    logger.write_event(at(1), {event: "first"})
    train(logger, 2)
    for _ in range(3):
        logger = JsonlLogger(path, batches_trained=2)
        logger.write_event(at(2), {event: "second"})
    train(logger, 3)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["batch"] for line in lines] == [1, 1, 2, 2, 3]
    assert [line[event] for line in lines if event in line] == ["first", "second"]


@pytest.mark.parametrize("lost", [1, 2, 30])
def test_a_half_written_last_line_breaks_nothing(path, lost):
    train(JsonlLogger(path, batches_trained=0), 1, 2, 3)
    text = path.read_text()
    assert lost < len(text.splitlines()[-1])
    path.write_text(text[:-lost])
    whole_lines = [1, 2, 3] if lost == 1 else [1, 2]  # without its end a line still says all
    train(JsonlLogger(path, batches_trained=3), 4)
    assert batches_in(path) == [*whole_lines, 4]


def test_a_crash_while_lines_are_dropped_leaves_the_old_file(path, monkeypatch):
    train(JsonlLogger(path, batches_trained=0), 1, 2, 3)
    before = path.read_text()

    def crash(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(KeyboardInterrupt):
        JsonlLogger(path, batches_trained=1)
    assert path.read_text() == before


def test_only_process_zero_writes(path, monkeypatch):
    monkeypatch.setattr("composer.utils.dist.get_global_rank", lambda: 1)
    logger = JsonlLogger(path, batches_trained=0)
    train(logger, 1)
    assert not path.exists()
