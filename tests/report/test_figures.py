"""The report's figures, read back from what was drawn, against pandas and numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from detour.plotting import INK, OBJECTIVE_COLORS
from detour.report import figures
from detour.report.metrics_log import Metrics, smooth
from detour.report.phase_summary import PhaseSummary
from detour.report.run_history import RunHistory

MLM, CLM = OBJECTIVE_COLORS[:2]
STEP, COUNT = 10, 700  # tokens of a batch, batches: a span of seven


@pytest.fixture
def run() -> RunHistory:
    rng = np.random.default_rng(0)
    index = np.repeat([0.0, 1.0], [400, 300])
    columns = {
        "batch": np.arange(1.0, COUNT + 1),
        "token": STEP * np.arange(1.0, COUNT + 1),
        "before": STEP * np.arange(0.0, COUNT),
        "phase/index": index,
        "loss/train/total": 5 - index + rng.normal(0, 0.3, COUNT),
        "lr": np.linspace(0, 3e-4, COUNT),
        "grad_norm": rng.uniform(0.5, 1.5, COUNT),
        "throughput/tokens_per_second": rng.uniform(900, 1100, COUNT),
    }
    return RunHistory(
        held_out_options={},
        held_out={},
        name="run",
        config_text="",
        phases=[
            PhaseSummary(name="a", objective="mlm", planned=4000, tokens=4000, clip_norm=2.0),
            PhaseSummary(name="b", objective="clm", planned=3000, start=4000, tokens=3000, clip_norm=1.5),
        ],
        environment={},
        metrics=Metrics(columns=columns),
        notes=[],
    )


def lines_of(build, run, width):
    figure = Figure()
    build(figure, run)
    axes = figure.axes[0]
    return axes, {
        (line.get_color(), len(line.get_xdata())): (np.array(line.get_xdata()), np.array(line.get_ydata()))
        for line in axes.get_lines()
        if line.get_linewidth() == width
    }


@given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(np.nan)), min_size=1, max_size=60), st.integers(1, 30))
@settings(deadline=None)
def test_smoothing_is_the_exponential_moving_average_of_pandas(values, span):
    values_N = np.array(values)
    theirs = pd.Series(values_N).ewm(span=span, adjust=True, ignore_na=True).mean().to_numpy()
    finite = np.isfinite(values_N)
    np.testing.assert_allclose(smooth(values_N, span)[finite], theirs[finite], rtol=1e-6, atol=1e-6)
    assert np.isnan(smooth(values_N, span)[~finite]).all()


@pytest.mark.parametrize(
    ("lines", "span"), [(0, 3), (299, 3), (399, 3), (400, 4), (5_050, 50), (10_000, 100), (10**6, 100)]
)
def test_the_span_is_a_hundredth_of_the_lines_from_3_to_100(lines, span, run):
    assert figures.smoothing_span(replace(run, metrics=Metrics(columns={"token": np.zeros(lines)}))) == span


@pytest.mark.parametrize(
    ("build", "column"), [(figures._loss, "loss/train/total"), (figures._gradient_norm, "grad_norm")]
)
def test_the_thick_line_is_the_average_of_each_phase_begun_anew_and_the_thin_one_the_values(build, column, run):
    values, before = run.metrics.columns[column], run.metrics.columns["before"]
    _, thin = lines_of(build, run, 0.8)
    _, thick = lines_of(build, run, 2)
    for color, part in ((MLM, slice(0, 400)), (CLM, slice(400, 700))):
        x, y = thin[color, part.stop - part.start]
        np.testing.assert_array_equal(x, before[part])
        np.testing.assert_array_equal(y, values[part])
        x, y = thick[color, part.stop - part.start]
        np.testing.assert_array_equal(x, before[part])
        np.testing.assert_allclose(y, pd.Series(values[part]).ewm(span=7, adjust=True).mean())


def test_the_rate_is_drawn_as_it_was_set(run):
    axes, drawn = lines_of(figures._learning_rate, run, 2)
    np.testing.assert_array_equal(drawn[MLM, 400][1], run.metrics.columns["lr"][:400])
    np.testing.assert_array_equal(drawn[CLM, 300][1], run.metrics.columns["lr"][400:])
    assert axes.get_ylim() == pytest.approx((0, 1.06 * 3e-4))


def test_scheduled_options_are_drawn_where_they_were_in_force(run):
    """The mask rate falls over the first phase; in the second it does not exist."""
    rate = np.concatenate([np.linspace(0.3, 0.15, 400), np.full(300, np.nan)])
    run = replace(run, metrics=replace(run.metrics, columns={**run.metrics.columns, "phase/rate": rate}))
    assert figures.scheduled_columns(run) == ["phase/rate"]
    axes, drawn = lines_of(figures._scheduled, run, 2)
    np.testing.assert_array_equal(drawn[MLM, 400][1], rate[:400])
    np.testing.assert_array_equal(drawn[MLM, 400][0], run.metrics.columns["before"][:400])
    assert np.isnan(drawn[CLM, 300][1]).all()
    assert axes.get_ylabel() == "rate"
    assert axes.get_title() == "Scheduled values"


def test_a_scheduled_proportion_is_named_by_its_folder(run):
    column = "phase/train[1].proportion"
    assert run.scheduled_label(column) == "train[1].proportion"  # a record without folders
    named = [
        replace(phase, mixture=mixture) for phase, mixture in zip(run.phases, ((), ("papers", "notes")), strict=True)
    ]
    assert replace(run, phases=named).scheduled_label(column) == "proportion of notes"
    both = [replace(phase, mixture=mixture) for phase, mixture in zip(named, (("a", "b"), ("a", "c")), strict=True)]
    assert replace(run, phases=both).scheduled_label(column) == "train[1].proportion"


def test_throughput_has_its_median_in_each_phase(run):
    rate = run.metrics.columns["throughput/tokens_per_second"]
    _, medians = lines_of(figures._throughput, run, 2)
    x, y = medians[MLM, 2]
    assert x.tolist() == [0, 4000]
    assert y.tolist() == [np.median(rate[:400])] * 2
    x, y = medians[CLM, 2]
    assert x.tolist() == [4000, 7000]
    assert y.tolist() == [np.median(rate[400:])] * 2


def test_the_clipping_norm_of_each_phase_is_a_line(run):
    axes, _ = lines_of(figures._gradient_norm, run, 1)
    at = [(*line.get_xdata(), line.get_ydata()[0]) for line in axes.get_lines() if line.get_color() == INK]
    assert at == [(0, 4000, 2.0), (4000, 7000, 1.5)]
    assert axes.get_ylim() == pytest.approx((0, 2.0 * 1.06))
