"""Which steps the guard rejects, and how many it allows. Whole runs with rejected steps: tests/faults."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from composer.core import Timestamp

from detour.errors import TrainingError
from detour.training.callbacks.step_guard import StepGuard
from detour.training.loggers.jsonl import JsonlLogger
from detour.training.stop import StopRequest


@pytest.fixture
def build(tmp_path: Path):
    def make(**options) -> StepGuard:
        metrics = JsonlLogger(tmp_path / "metrics.jsonl", batches_trained=0)
        return StepGuard(
            **{"max_skips": 100, "spike_factor": 3.0, "window": 4, **options}, metrics=metrics, stop=StopRequest()
        )

    return make


def show(guard: StepGuard, *losses: float, norm: float = 1.0, phase: int = 0) -> list[str | None]:
    """The problem of each batch; a batch has two micro-batches of 3 and 1 supervised tokens."""
    problems = []
    for batch, loss in enumerate(losses):
        state = SimpleNamespace(
            batch={"sample_id": torch.tensor([7, 3]), "objective": "mlm"},
            timestamp=Timestamp(batch=batch, token=10 * batch),
        )
        guard.before_train_batch(state, None)  # type: ignore[arg-type]
        for supervised in (3, 1):
            outputs = SimpleNamespace(total=torch.tensor(loss * supervised), supervised=torch.tensor(supervised))
            guard.after_loss(SimpleNamespace(outputs=outputs), None)  # type: ignore[arg-type]
        problems.append(guard.check(state, torch.tensor(norm), phase=phase).problem)  # type: ignore[arg-type]
    return problems


def events(guard: StepGuard) -> list[dict]:
    return [json.loads(line)["rejected_step"] for line in guard.metrics.path.read_text().splitlines()]


def test_the_loss_is_the_mean_over_tokens_and_the_norm_is_passed_on(build):
    guard, state = build(), SimpleNamespace(batch={"objective": "mlm"}, timestamp=None)
    guard.before_train_batch(state, None)
    for total, supervised in ((6.0, 3), (4.0, 1)):
        outputs = SimpleNamespace(total=torch.tensor(total), supervised=torch.tensor(supervised))
        guard.after_loss(SimpleNamespace(outputs=outputs), None)
    check = guard.check(state, torch.tensor(0.5), phase=0)
    assert (check.loss, check.norm, check.problem) == (2.5, 0.5, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_or_norm_is_rejected(build, value):
    assert show(build(), value) == [f"the loss is {value}"]
    assert show(build(), 1.0, norm=value) == [f"the gradient norm is {value}"]


def test_a_spike_is_measured_against_accepted_steps_only(build):
    guard = build()
    found = show(guard, 1, 1.2, 0.9, 1, 50, 2.9, 40, math.nan, 3.2, 1)
    assert [problem is not None for problem in found] == [False] * 4 + [True, False, True, True, False, False]
    assert found[4] == "the loss is 50, more than 3 times the median of 1"
    assert guard.state_dict()["losses"]["mlm"] == pytest.approx([1, 2.9, 3.2, 1])


def test_repeated_spikes_never_raise_the_median(build):
    assert all(show(build(), 1, 1, 1, 1, *[50] * 20)[4:])


def test_no_batch_is_a_spike_before_the_window_is_full_or_where_the_factor_is_off(build):
    assert show(build(), 1, 1, 1, 50) == [None] * 4
    assert show(build(spike_factor=None), 1, 1, 1, 1, 1e9) == [None] * 5


def test_each_phase_has_a_window_of_its_own(build):
    guard = build()
    show(guard, 1, 1, 1, 1)
    assert show(guard, 50, 50, 50, 50, phase=1) == [None] * 4
    assert show(guard, 200, phase=1) != [None]


def test_consecutive_rejections_beyond_max_skips_end_the_run(build):
    guard = build(max_skips=2)
    show(guard, math.nan, math.nan, 1, math.nan, math.nan)
    with pytest.raises(
        TrainingError, match=r"the loss is nan; no weight was changed.*guard\.max_skips: 2 .*Rows of the batch: 3, 7"
    ):
        show(guard, math.nan)
    assert [event["action"] for event in events(guard)] == ["skip"] * 4 + ["stop"]


def test_the_first_rejected_step_ends_the_run_by_default(build):
    with pytest.raises(TrainingError):
        show(build(max_skips=0), math.nan)


def test_a_rejected_step_is_written_with_its_rows_as_strict_json(build):
    guard = build()
    show(guard, 1, math.nan)
    (line,) = guard.metrics.path.read_text().splitlines()
    record = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (record["batch"], record["token"]) == (1, 10)
    assert record["rejected_step"] == {
        "problem": "the loss is nan",
        "loss": "nan",
        "grad_norm": "1.0",
        "rows": [3, 7],
        "action": "skip",
    }


def test_a_resumed_guard_decides_like_the_unbroken_one(build):
    losses = [1, 1.1, 0.7, 1, 1 / 3, 9, 1, math.nan, 2.5, 1]
    whole = show(build(max_skips=1), *losses)
    for cut in range(len(losses)):
        first, second = build(max_skips=1), build(max_skips=1)
        problems = show(first, *losses[:cut])
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert [*problems, *show(second, *losses[cut:])] == whole


def test_a_wish_to_stop_is_agreed_on_in_the_same_step(build):
    guard = build()
    show(guard, 1.0)
    assert not guard.stop.agreed
    guard.stop.reason = "SIGTERM"
    show(guard, 1.0)
    assert guard.stop.agreed


def empty_batch(guard: StepGuard, batch: int) -> None:
    state = SimpleNamespace(
        batch={"sample_id": torch.tensor([7, 3]), "objective": "mlm"},
        timestamp=Timestamp(batch=batch, token=10 * batch),
    )
    guard.before_train_batch(state, None)  # type: ignore[arg-type]
    outputs = SimpleNamespace(total=torch.tensor(0.0), supervised=torch.tensor(0))
    guard.after_loss(SimpleNamespace(outputs=outputs), None)  # type: ignore[arg-type]
    check = guard.check(state, torch.tensor(0.0), phase=0)  # type: ignore[arg-type]
    assert (check.problem, guard.rejected_last) == ("no token is supervised", True)


def test_a_batch_without_supervised_tokens_is_skipped_and_never_ends_the_run(build):
    guard = build(max_skips=0)
    for batch in range(5):
        empty_batch(guard, batch)
    assert {event["action"] for event in events(guard)} == {"skip"}
    assert show(guard, 2.0) == [None]
    assert not guard.rejected_last


def test_an_empty_batch_neither_enters_the_window_nor_counts_as_rejected(build):
    guard = build(max_skips=1, window=2)
    assert show(guard, 2.0) == [None]
    empty_batch(guard, 1)
    assert guard.state_dict()["losses"] == {"mlm": [2.0]}
    assert show(guard, math.nan)[0] is not None
    empty_batch(guard, 3)
    with pytest.raises(TrainingError):
        show(guard, math.nan)
