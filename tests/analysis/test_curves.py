"""Curves over scores that are written here by hand."""

from __future__ import annotations

import math
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from detour.analysis.curve_figures import draw_decay, draw_freeze, draw_needle
from detour.analysis.curves import (
    decay_points,
    freeze_rows,
    gain_p,
    mean_scores,
    needle_accuracies,
    parse_decay,
    wilson,
)
from detour.analysis.paper import figures
from detour.errors import ConfigError, DataError
from detour.evaluation.results.statistics import Summary


def test_wilson_intervals_are_those_of_statsmodels():
    for hits, examples in ((0, 5), (3, 7), (140, 225), (225, 225)):
        expected = proportion_confint(hits, examples, 0.05, method="wilson")
        assert wilson(hits, examples) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ConfigError, match="6 of 5"):
        wilson(6, 5)


def test_needle_accuracies_are_pooled_over_places_and_over_lengths(tmp_path, write_needle):
    found, inputs = needle_accuracies([write_needle(tmp_path / "n.csv")])
    points = {(p.model, p.at): p for p in found}
    assert (points["one", 512].hits, points["one", 512].examples) == (60, 120)
    assert points["one", "start"].accuracy == 45 / 80
    assert points["two", 1024].hits == 3
    expected = proportion_confint(60, 120, 0.05, method="wilson")
    assert (points["one", 512].low, points["one", 512].high) == pytest.approx(expected, abs=1e-9)
    assert inputs == {
        "models": {"one": "sha one", "two": "sha two"},
        "probe": "needle",
        "language": "en",
        "distractors": 3,
    }
    left, right = draw_needle(found).axes
    line = left.containers[0].lines[0]
    assert list(line.get_xdata()) == [512, 1024]
    assert list(line.get_ydata()) == [50, 25]
    (bars,) = left.containers[0].lines[2]
    assert bars.get_segments()[0][:, 1] == pytest.approx(100 * np.array(expected))
    assert list(right.containers[1].lines[0].get_ydata()) == pytest.approx([50, 100 * 41 / 80, 52.5])
    published = figures()["needle"]["clm_detour"]
    labels = {line.get_label(): line for line in right.lines}
    paper = labels["paper, detour, binary, chance 50% (other model and data)"]
    assert list(paper.get_ydata()) == [published["by_position"][place] for place in ("start", "middle", "end")]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"probe": "linear"}, DataError, "not a score of the needle"),
        ({"metric": "accuracy"}, DataError, "metric 'accuracy'"),
        ({"value": 0.51}, DataError, "no share of 40"),
        ({"value": "nan"}, DataError, "no share|damaged"),
        ({"settings": "{}"}, DataError, "damaged"),
        ({"settings": "[]"}, DataError, "damaged"),
    ],
)
def test_damaged_scores_are_one_error_with_their_line(tmp_path, changes, error, says, write_needle):
    with pytest.raises(error, match=rf"n\.csv:2: .*({says})"):
        needle_accuracies([write_needle(tmp_path / "n.csv", **changes)])


def test_scores_that_do_not_belong_together_are_refused(tmp_path, write_needle, hits):
    one = write_needle(tmp_path / "one.csv", {"one": hits["one"]})
    with pytest.raises(ConfigError, match="second score at 512 tokens, start"):
        needle_accuracies([one, one])
    other = write_needle(tmp_path / "fr.csv", {"two": hits["two"]}, data="fr")
    with pytest.raises(ConfigError, match="scores of 2 probes, languages"):
        needle_accuracies([one, other])
    short = write_needle(tmp_path / "short.csv", {"two": {512: (1, 2, 3)}})
    with pytest.raises(ConfigError, match="no score of 'two' at 1024 tokens"):
        needle_accuracies([one, short])
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="expected the columns"):
        needle_accuracies([tmp_path / "x.csv"])


def test_mean_scores_are_over_tasks_then_summarized_over_seeds(write_records, tmp_path, scores):
    out = write_records(tmp_path, scores)
    found, inputs = mean_scores(out, ["twin", "frozen"])
    assert found["frozen"].mean == pytest.approx((0.57 + 0.60) / 2)
    assert found["frozen"].sd == pytest.approx(0.03 / math.sqrt(2))
    assert found["frozen"].high - found["frozen"].mean == pytest.approx(12.706 * 0.03 / 2, rel=1e-4)  # t of 1 degree
    assert inputs == {
        "models": {"twin": "sha twin", "frozen": "sha frozen"},
        "tasks": ["bc5cdr", "ncbi_disease"],
        "seeds": [1, 2],
    }


def test_models_without_the_same_cells_are_refused(write_records, tmp_path, scores):
    out = write_records(tmp_path, scores)
    with pytest.raises(ConfigError, match="no records of 'gone'"):
        mean_scores(out, ["twin", "gone"])
    with pytest.raises(ConfigError, match="'twin' is given twice"):
        mean_scores(out, ["twin", "twin"])
    (out / "cells" / "twin" / "bc5cdr" / "seed2.json").unlink()
    with pytest.raises(ConfigError, match="'twin' lacks bc5cdr with seed 2"):
        mean_scores(out, ["twin", "detour"])


def test_decay_points_are_parsed_and_drawn(write_records, tmp_path, scores):
    parsed = parse_decay(["clm/frozen=0.5", "clm/detour=0.1", "twin=0.1"])
    assert parsed == [("clm", "detour", 0.1), ("clm", "frozen", 0.5), ("decay", "twin", 0.1)]
    found, _ = mean_scores(write_records(tmp_path, scores), ["twin", "detour", "frozen"])
    axes = draw_decay(decay_points(parsed, found)).axes[0]
    line = axes.containers[0].lines[0]
    assert list(line.get_xdata()) == [10, 50]
    assert list(line.get_ydata()) == pytest.approx([66, 58.5])
    labels = {line.get_label(): line for line in axes.lines}
    paper = labels["paper, base 10B, CLM (other model and data)"]
    assert list(paper.get_ydata()) == [71.6, 72.6, 71.9, 72.1, 71.7]
    assert list(paper.get_xdata()) == [2.5, 10, 20, 30, 50]
    for text in ("clm/d", "=0.1", "d=0", "d=nan", "d=x", "clm/=1"):
        with pytest.raises(ConfigError, match="expected ARM/MODEL=FRACTION"):
            parse_decay([text])
    with pytest.raises(ConfigError, match="second model of this arm"):
        parse_decay(["clm/a=0.1", "clm/b=0.1"])


def test_the_freeze_table_gives_the_fraction_of_the_gain_that_is_kept(write_records, tmp_path, scores):
    found, _ = mean_scores(write_records(tmp_path, scores), ["twin", "detour", "frozen"])
    rows = freeze_rows("twin", "detour", ["frozen"], found)
    assert [row.kept for row in rows] == pytest.approx([0, 1, (0.585 - 0.56) / 0.10])
    assert rows[2].score.mean == pytest.approx(58.5)
    ours, theirs, *_ = draw_freeze(rows).axes[0].lines
    assert list(ours.get_xdata()) == [row.kept for row in rows]
    assert list(theirs.get_xdata()) == pytest.approx([0.4 / 2.7, 2.3 / 2.7, 2.3 / 2.7])
    assert all(math.isnan(row.kept) for row in freeze_rows("twin", "twin", [], found))


def test_a_gain_is_clear_by_welch_s_test_over_fine_tuning_seeds():
    twin, detour = [0.50, 0.52, 0.54], [0.55, 0.56, 0.63, 0.58]
    summaries = [Summary(mean=mean(x), sd=stdev(x), n=len(x), low=0.0, high=1.0) for x in (twin, detour)]
    assert gain_p(*summaries) == pytest.approx(stats.ttest_ind(detour, twin, equal_var=False).pvalue)
    alone = Summary(mean=0.5, sd=math.nan, n=1, low=math.nan, high=math.nan)
    assert gain_p(alone, summaries[1]) == 1
