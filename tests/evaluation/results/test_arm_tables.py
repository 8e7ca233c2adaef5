"""Tables and figures of arms, read back by value."""

from __future__ import annotations

import csv
import importlib.util
import io
import math
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from detour.evaluation.results import arm_tables
from detour.evaluation.results.arm_figures import arms_plot, draw_arms
from detour.evaluation.results.levels import arm_means, compare_arms
from detour.evaluation.results.score_grid import Score
from detour.evaluation.results.verdicts import NATS, POINTS
from detour.plotting import PAPER, STYLE

spec = importlib.util.spec_from_file_location("table_readers", Path(__file__).with_name("test_tables.py"))
assert spec is not None
assert spec.loader is not None
readers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(readers)  # its parsers of Markdown and LaTeX

GAINS = {"up": (2.0, 2.1, 2.2), "open": (1.0, -1.0, 0.3), "down": (-1.0, -1.1, -1.2)}  # points, by training seed


def scores_of(gains=GAINS, baseline="twin", arm="detour") -> list[Score]:
    return [
        Score(arm=name, training_seed=17 + i, task=task, score=0.5 + (gain / 100 if name == arm else 0.0))
        for name in (arm, baseline)
        for task, values in gains.items()
        for i, gain in enumerate(values)
    ]


def cells(rows) -> list[list[str]]:
    return [[text for text, _ in row] for row in rows]


def test_a_line_is_the_difference_its_interval_its_tests_and_its_verdict():
    comparison = compare_arms(scores_of(), "detour", "twin", margin=0.5)
    for rows in (
        readers.markdown_rows(arm_tables.contrasts_markdown(comparison)),
        readers.latex_rows(arm_tables.contrasts_latex(comparison)),
    ):
        header, *lines = cells(rows)
        assert header[:4] == ["task", "repeated", "difference (points)", "95% interval"]
        assert header[6] == "p (TOST, margin 0.5, Holm)"
        assert [line[0] for line in lines] == ["up", "open", "down", "mean over tasks"]
        assert [line[1] for line in lines] == ["3 training seeds"] * 4
        assert [line[2] for line in lines] == ["+2.10", "+0.10", "-1.10", "+0.37"]
        # mean ± 4.303 * 0.1 / sqrt(3), by hand
        assert [lines[0][3], lines[2][3]] == ["[+1.85, +2.35]", "[-1.35, -0.85]"]
        assert [line[-1] for line in lines] == ["better", "undecided", "worse", "undecided"]
    found = list(csv.DictReader(io.StringIO(arm_tables.contrasts_csv([comparison]))))
    assert [float(row["difference"]) for row in found] == pytest.approx([2.1, 0.1, -1.1, 1.1 / 3])
    assert float(found[0]["low"]) == pytest.approx(2.1 - 4.302653 * 0.1 / math.sqrt(3), abs=1e-6)
    assert float(found[0]["low_90"]) == pytest.approx(2.1 - 2.919986 * 0.1 / math.sqrt(3), abs=1e-6)
    assert {(row["arm"], row["baseline"], row["unit"], row["basis"], row["margin"]) for row in found} == {
        ("detour", "twin", "points", "training seeds", "0.5")
    }
    assert found[1]["sentence"] == comparison.tasks[1].sentence
    assert found[0]["verdict"] == "better"


def test_a_difference_within_the_margin_is_named():
    comparison = compare_arms(scores_of({"a": (0.10, 0.11, 0.12)}), "detour", "twin", margin=0.5)
    assert arm_tables.verdict_cell(comparison.overall) == "better, within the margin"
    comparison = compare_arms(scores_of({"a": (0.10, -0.11, 0.02)}), "detour", "twin", margin=0.5)
    assert arm_tables.verdict_cell(comparison.overall) == "equivalent"


def test_means_are_those_of_the_arms_and_what_was_repeated_is_named():
    basis, means = arm_means(scores_of())
    for rows in (
        readers.markdown_rows(arm_tables.means_markdown(basis, means, POINTS)),
        readers.latex_rows(arm_tables.means_latex(basis, means, POINTS)),
    ):
        header, *lines = cells(rows)
        assert header == ["task", "repeated", "detour", "twin"]
        assert lines[0] == ["up", "3 training seeds", "52.10 ± 0.10 [51.85, 52.35]", "50.00 ± 0.00 [50.00, 50.00]"]
        assert lines[-1][0] == "mean over tasks"
    found = list(csv.DictReader(io.StringIO(arm_tables.means_csv(basis, means, POINTS))))
    assert [(row["arm"], row["task"]) for row in found[:5]] == [
        ("detour", "up"), ("detour", "open"), ("detour", "down"), ("detour", "mean over tasks"), ("twin", "up"),
    ]  # fmt: skip
    assert float(found[0]["mean"]) == pytest.approx(52.1)
    assert float(found[0]["sd"]) == pytest.approx(0.1)
    one = [replace(s, finetuning_seed=1) for s in scores_of() if s.training_seed == 17]
    basis, means = arm_means(one)
    (_, line, *_) = cells(readers.markdown_rows(arm_tables.means_markdown(basis, means, POINTS)))
    assert line == ["up", "1 fine-tuning seed only", "52.00", "50.00"]


def test_losses_are_in_nats():
    scores = [replace(s, score=2.0 + s.score / 100) for s in scores_of()]
    comparison = compare_arms(scores, "detour", "twin", margin=0.0005, scale=NATS)
    header, line, *_ = cells(readers.markdown_rows(arm_tables.contrasts_markdown(comparison)))
    assert header[2] == "difference (nats)"
    assert (line[2], line[-1]) == ("+0.0002", "worse, within the margin")
    (axes,) = draw_arms(comparison).axes
    assert axes.get_xlim()[1] < 0.01


def test_components_are_shown_with_their_shares():
    scores = [replace(s, finetuning_seed=f, score=s.score + 0.001 * f) for s in scores_of() for f in (1, 2)]
    comparison = compare_arms(scores, "detour", "twin", margin=0.5)
    header, *lines = cells(readers.markdown_rows(arm_tables.components_markdown(comparison)))
    assert header[1] == "standard deviation (points)"
    assert len(lines) == 4 + 2 * 3
    by_level = {line[0]: line[1:] for line in lines}
    assert by_level["fine-tuning seed"] == ["0.00", "0%"]
    assert by_level["of which shared by all training seeds"] == ["0.00", "–"]
    assert by_level["up: training seed"][0] == "0.10"


@pytest.mark.parametrize("name", readers.HOSTILE)
def test_a_name_is_shown_as_it_is(name):
    comparison = compare_arms(scores_of({name: (1.0, 2.0, 3.0)}, arm=name), name, "twin", margin=None)
    shown = readers.as_shown(name)
    for rows in (
        readers.markdown_rows(arm_tables.contrasts_markdown(comparison)),
        readers.latex_rows(arm_tables.contrasts_latex(comparison)),
    ):
        assert rows[1][0] == (shown, False)
    basis, means = arm_means(scores_of({name: (1.0, 2.0, 3.0)}, arm=name))
    for rows in (
        readers.markdown_rows(arm_tables.means_markdown(basis, means, POINTS)),
        readers.latex_rows(arm_tables.means_latex(basis, means, POINTS)),
    ):
        assert rows[0][2] == (shown, False)
    line = next(csv.DictReader(io.StringIO(arm_tables.contrasts_csv([comparison]), newline="")))
    assert line["task"].removeprefix("'") == name
    assert line["task"].lstrip()[0] not in "=+-@"


def test_the_figure_shows_every_training_seed_and_the_intervals_over_them():
    comparison = compare_arms(scores_of(), "detour", "twin", margin=0.5)
    with matplotlib.rc_context(STYLE):
        (axes,) = draw_arms(comparison).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["mean over tasks", "down", "open", "up"]  # from the bottom, by their difference
    ticks, points, filled, intervals = {}, {}, {}, {}
    for line in axes.get_lines():
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if line.get_marker() == "|":
            ticks[names[round(y[0] + 0.18)]] = x
        elif line.get_marker() in ("o", "D"):
            points[names[round(y[0])]] = x[0]
            filled[names[round(y[0])]] = to_hex(line.get_markerfacecolor()) != PAPER
        elif len(x) == 2 and y[0] == y[1] and line.get_linewidth() == 1.6:
            intervals[names[round(y[0])]] = x
    for task, gains in GAINS.items():
        assert ticks[task] == pytest.approx(gains)
        assert points[task] == pytest.approx(np.mean(gains))
    assert ticks["mean over tasks"] == pytest.approx(np.mean(list(GAINS.values()), axis=0))
    assert filled == {"mean over tasks": False, "down": True, "open": False, "up": True}
    assert intervals["up"] == pytest.approx([1.8516, 2.3484], abs=1e-4)
    (band,) = axes.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.5, 0.5))
    assert "3 training seeds" in axes.get_xlabel()
    assert axes.get_title(loc="left") == "detour minus twin"


def test_the_figure_says_what_rests_on_fine_tuning_seeds_and_is_the_same_twice(tmp_path):
    scores = [replace(s, finetuning_seed=s.training_seed, training_seed=17) for s in scores_of()]
    comparison = compare_arms(scores, "detour", "twin", margin=None)
    png, svg = arms_plot(comparison, tmp_path, "arms")
    assert png.read_bytes().startswith(b"\x89PNG")
    text = svg.read_text()
    assert "3 fine-tuning seeds only" in text
    assert "margin" not in text
    assert arms_plot(comparison, tmp_path, "again")[1].read_text() == text
