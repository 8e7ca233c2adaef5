"""The forest plot, read back from what was drawn: positions, ends, marks, names."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Polygon

from detour.evaluation.results.figures import draw_forest, forest_plot
from detour.evaluation.results.statistics import Comparison, Difference, Summary
from detour.plotting import OBJECTIVE_COLORS, PAPER, STYLE


def difference(task: str, low: float, mean: float, high: float, p_holm: float, n: int = 4) -> Difference:
    summary = Summary(n=n, mean=mean, sd=0.01, low=low, high=high)
    return Difference(
        task=task, summary=summary, p=p_holm / 3, p_holm=p_holm, minimum_detectable_effect=0.01, seeds_needed=9
    )


def comparison(*tasks: Difference, **changes) -> Comparison:
    values = {"mean": 0.004, "low": -0.006, "high": 0.013, "p": 0.4, "model": "detour", "baseline": "twin"}
    counts = {"wins": 2, "losses": 1, "significant_wins": 1, "significant_losses": 1}
    return Comparison(tasks=list(tasks), **{**values, **counts, **changes})


WORSE = difference("worse", -0.03, -0.02, -0.01, p_holm=0.049)
OPEN = difference("open", -0.01, 0.012, 0.034, p_holm=0.051, n=5)
BETTER = difference("better", 0.01, 0.025, 0.04, p_holm=0.001)
METRICS = {"worse": "accuracy", "open": "span_micro_f1", "better": "pearson", "wide": "accuracy"}


def read(axes):
    """What a reader sees: {name of the row: value} of points, whether filled, colors; ends of intervals; arrows."""
    names = {round(y): label.get_text() for y, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)}
    points, intervals, arrows = {}, {}, {}
    for line in axes.get_lines():
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if line.get_marker() == "o":
            filled = to_hex(line.get_markerfacecolor()) != PAPER
            points[names[round(y[0])]] = (x[0], filled, to_hex(line.get_color()))
        elif line.get_marker() in ("<", ">"):
            arrows.setdefault(names[round(y[0])], []).append((line.get_marker(), x[0]))
        elif len(x) == 2 and y[0] == y[1] and line.get_linewidth() == 1.6:
            intervals[names[round(y[0])]] = tuple(x)
    return points, intervals, arrows


def test_every_task_has_its_difference_and_interval_in_points_and_is_filled_where_it_is_significant():
    with matplotlib.rc_context(STYLE):
        (axes,) = draw_forest(comparison(OPEN, BETTER, WORSE), METRICS).axes
    points, intervals, arrows = read(axes)
    plus, minus = OBJECTIVE_COLORS[:2]
    worse, open_, better = "worse (accuracy, n = 4)", "open (micro F1, exact spans, n = 5)", "better (pearson, n = 4)"
    assert points == {
        worse: (pytest.approx(-2.0), True, minus),
        open_: (pytest.approx(1.2), False, plus),
        better: (pytest.approx(2.5), True, plus),
    }
    assert intervals == {
        worse: pytest.approx((-3.0, -1.0)),
        open_: pytest.approx((-1.0, 3.4)),
        better: pytest.approx((1.0, 4.0)),
    }
    assert arrows == {}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["mean over tasks", worse, open_, better]
    assert list(axes.get_yticks()) == [0, 1, 2, 3]
    assert axes.get_title(loc="left") == "detour minus twin"
    assert "arrow" not in axes.get_xlabel()
    assert axes.get_xlim()[0] == -axes.get_xlim()[1]
    assert axes.get_xlim()[1] == pytest.approx(1.05 * 4)


def test_the_diamond_is_the_mean_over_tasks_and_its_interval():
    (axes,) = draw_forest(comparison(OPEN, BETTER, WORSE), METRICS).axes
    (diamond,) = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    corners = diamond.get_xy()[:4]
    assert corners[:, 0] == pytest.approx([-0.6, 0.4, 1.3, 0.4])
    assert corners[[0, 2], 1] == pytest.approx([0, 0])
    assert corners[1, 1] == -corners[3, 1] > 0


def test_an_interval_that_ends_beyond_the_axis_has_an_arrow_and_the_value_of_its_end():
    wide = difference("wide", -1.493, 0.008, 1.509, p_holm=0.9, n=2)
    (axes,) = draw_forest(comparison(BETTER, wide), METRICS).axes
    points, intervals, arrows = read(axes)
    limit = axes.get_xlim()[1]
    assert limit == pytest.approx(1.05 * 5 * 2.5)
    name = "wide (accuracy, n = 2)"
    assert points[name][0] == pytest.approx(0.8)
    assert intervals[name] == pytest.approx((-limit, limit))
    (left, right) = arrows.pop(name)
    assert arrows == {}
    assert left == ("<", pytest.approx(-0.99 * limit))
    assert right == (">", pytest.approx(0.99 * limit))
    told = {text.get_text(): (text.xy[0] > 0, text.xy[1]) for text in axes.texts}
    assert told == {"-149.3": (False, 1.0), "+150.9": (True, 1.0)}
    assert axes.get_xlabel().endswith("arrows: the interval ends at the value shown")


def test_one_end_beyond_the_axis_is_told_alone():
    wide = difference("wide", -0.3, -0.02, 0.005, p_holm=0.9)
    (axes,) = draw_forest(comparison(wide), METRICS).axes
    _, intervals, arrows = read(axes)
    (ends,) = intervals.values()
    assert ends == pytest.approx((-axes.get_xlim()[1], 0.5))
    assert [[marker for marker, _ in found] for found in arrows.values()] == [["<"]]
    assert [text.get_text() for text in axes.texts] == ["-30.0"]


def test_one_seed_is_a_point_without_an_interval():
    alone = difference("open", math.nan, 0.01, math.nan, p_holm=math.nan, n=1)
    (axes,) = draw_forest(comparison(alone), METRICS).axes
    points, intervals, arrows = read(axes)
    assert points == {"open (micro F1, exact spans, n = 1)": (pytest.approx(1.0), False, OBJECTIVE_COLORS[0])}
    assert (intervals, arrows) == ({}, {})


def test_the_files_show_the_same_and_hold_no_name_as_markup(tmp_path):
    hostile = difference("<script>$x^2$</script>", -1.5, 0.02, 1.5, p_holm=0.5)
    metrics = {**METRICS, hostile.task: "accuracy"}
    png, svg = forest_plot(comparison(hostile, WORSE, model="a<b"[:1]), metrics, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    assert "<script" not in text
    shown = re.findall(r"<text [^>]*>([^<]*)</text>", text)
    for expected in ("-150.0", "+150.0", "worse (accuracy, n = 4)", "a minus twin", "mean over tasks"):
        assert expected in shown
    assert any("$x^2$" in label for label in shown)


def test_the_vertical_line_is_at_no_difference():
    with matplotlib.rc_context(STYLE):
        (axes,) = draw_forest(comparison(OPEN, BETTER), METRICS).axes
    vertical = [line.get_xdata() for line in axes.get_lines() if list(line.get_ydata()) == [0, 1]]
    assert [list(x) for x in vertical] == [[0, 0]]


def test_tiny_differences_are_not_blown_up_beyond_a_point():
    tiny = difference("open", -0.0002, 0.0001, 0.0004, p_holm=0.5)
    with matplotlib.rc_context(STYLE):
        (axes,) = draw_forest(comparison(tiny, mean=0.0001, low=-0.0002, high=0.0004), METRICS).axes
    assert axes.get_xlim() == pytest.approx((-1.05, 1.05))  # in points, with a margin of 5%


def test_names_of_many_tasks_do_not_overlap():
    tasks = [difference(f"t{i}", -0.01, 0.001 * i, 0.04, p_holm=0.5) for i in range(20)]
    with matplotlib.rc_context(STYLE):
        figure = draw_forest(comparison(*tasks), {f"t{i}": "accuracy" for i in range(20)})
        figure.draw_without_rendering()
        boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(above.y0 > below.y1 for below, above in pairwise(boxes))
