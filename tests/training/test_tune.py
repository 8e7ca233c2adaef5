"""The micro-batch finder."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from detour.cli.main import app
from detour.config.load import to_yaml
from detour.cost.plan import memory, rows_that_fit
from detour.errors import ConfigError
from detour.training.tune import Trial, recommended, trials

LONG = [
    {"name": "detour", "objective": "clm", "tokens": 100_000},
    {"name": "decay", "objective": "mlm", "tokens": 100_000},
]


def test_micro_batches_double_up_to_the_global_batch_and_one_is_advised(tiny_run, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(tiny_run(data={"global_batch_size": 6})))
    result = CliRunner().invoke(app, ["tune", str(path), "--document-tokens", "20"])
    assert result.exit_code == 0, result.output
    tried = [line.split(":")[0] for line in result.output.splitlines() if line.startswith("micro_batch_size ")]
    assert tried == ["micro_batch_size 1", "micro_batch_size 2", "micro_batch_size 4"]
    assert result.output.splitlines()[-1] in {f"data.micro_batch_size={n}" for n in (1, 2, 4)}


def test_nothing_is_tried_that_the_estimate_says_cannot_fit(tiny_run):
    run = tiny_run(data={"global_batch_size": 64}, phases=LONG)
    limit = memory(run, rows=4)[2].total
    assert [trial.rows for trial in trials(run, memory_bytes=limit, document_tokens=20)] == [1, 2, 4]
    with pytest.raises(ConfigError, match="a single row of 64 tokens does not fit"):
        list(trials(run, memory_bytes=1000, document_tokens=20))


def test_the_recommendation_is_the_smallest_micro_batch_near_the_best_throughput():
    tried = [Trial(1, 50.0, 1), Trial(2, 98.0, 2), Trial(4, 100.0, 4), Trial(8, 90.0, 8)]
    assert recommended(tried).rows == 2


def test_the_rows_that_fit_are_the_most_whose_estimate_does(tiny_run):
    run = tiny_run(data={"global_batch_size": 1000}, phases=LONG)
    room = memory(run, rows=7)[2].total
    gigabytes = (room + 2e9) / 0.9e9
    assert rows_that_fit(run, gigabytes=gigabytes * 1.0000001) == 7
    assert rows_that_fit(run, gigabytes=1) == 0
