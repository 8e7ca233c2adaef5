"""Layer divergences of folders, from the states that test_representations.py checks and the formula of test_cka.py."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from detour.analysis.cka import cka, outlier_dimensions
from detour.analysis.figures import draw_course, draw_similarity
from detour.analysis.paper import figures, layer_positions
from detour.analysis.representations import TextSet, layer_states, read_texts
from detour.analysis.similarity import Settings, compare_layers
from detour.errors import ConfigError
from detour.evaluation.probes.frozen import Frozen

SETTINGS = Settings(subset=16, draws=(1, 2), outlier_factor=4)


@pytest.fixture(scope="module")
def texts(texts_file):
    return TextSet.of(read_texts([texts_file]))


@pytest.fixture(scope="module")
def result(models, texts):
    return compare_layers(models, [("a", "b")], texts, SETTINGS, noise=[("b", "c"), ("b", "d")])


def test_a_divergence_is_that_of_the_states_of_each_draw(result, folders, texts):
    states = {name: layer_states(Frozen(folders[name]), texts.texts)[0] for name in "ab"}
    used = sorted({*texts.draw(16, 1), *texts.draw(16, 2)})
    for d, depth in enumerate(["embeddings", "0", "1", "2", "3", "final"]):
        kept = {name: np.setdiff1d(np.arange(32), outlier_dimensions(states[name][d][used], factor=4)) for name in "ab"}
        for seed in (1, 2):
            x, y = (states[name][d][texts.draw(16, seed)] for name in "ab")
            for estimator in ("biased", "unbiased"):
                found = result.of(("a", "b"), estimator)[depth]
                assert found.draws[seed] == pytest.approx(100 * (1 - cka(x, y, estimator=estimator)), abs=1e-3)
                without = result.of(("a", "b"), estimator, "removed")[depth].draws[seed]
                expected = cka(x[:, kept["a"]], y[:, kept["b"]], estimator=estimator)
                assert without == pytest.approx(100 * (1 - expected), abs=1e-3)
        assert result.outliers["a"].get(depth, []) == outlier_dimensions(states["a"][d][used], factor=4).tolist()


def test_means_spreads_and_ratios_are_those_of_a_hand_count(result):
    found = result.of(("a", "b"), "biased")
    one, two = found["2"].draws.values()
    assert found["2"].mean == pytest.approx((one + two) / 2)
    assert found["2"].sd == pytest.approx(abs(one - two) / math.sqrt(2))
    assert found["mean"].draws[1] == pytest.approx(sum(found[d].draws[1] for d in "0123") / 4)
    noise = [result.of(pair, "biased")["2"].mean for pair in (("b", "c"), ("b", "d"))]
    assert result.ratio(("a", "b"), "2", "biased") == pytest.approx(found["2"].mean / (sum(noise) / 2))
    rows = {(r["a"], r["b"], r["depth"], r["estimator"], r["outliers"]): r for r in result.rows()}
    assert len(rows) == 3 * 7 * 2 * 2
    assert rows["a", "b", "2", "biased", "kept"]["ratio_to_noise"] == result.ratio(("a", "b"), "2", "biased")
    assert math.isnan(rows["b", "c", "2", "biased", "kept"]["ratio_to_noise"])
    assert rows["b", "c", "2", "biased", "kept"]["kind"] == "noise"


def test_a_model_does_not_diverge_from_itself(models, texts):
    same = compare_layers({**models, "twin": models["a"]}, [("a", "twin")], texts, Settings())
    assert [d.mean for d in same.divergences] == pytest.approx([0] * len(same.divergences), abs=1e-9)
    assert all(math.isnan(d.sd) and len(d.draws) == 1 for d in same.divergences)
    assert math.isnan(same.ratio(("a", "twin"), "0", "biased"))
    assert same.texts == 24


def test_one_minibatch_of_all_texts_is_the_unbiased_estimator(models, texts):
    whole = compare_layers(models, [("a", "b")], texts, Settings())
    streamed = compare_layers(models, [("a", "b")], texts, Settings(minibatch=24))
    assert {d.estimator for d in streamed.divergences} == {"unbiased"}
    for depth, found in streamed.of(("a", "b"), "unbiased").items():
        assert found.mean == pytest.approx(whole.of(("a", "b"), "unbiased")[depth].mean, abs=1e-3)
    rest = compare_layers(models, [("a", "b")], texts, Settings(minibatch=11))  # 11, and 13 with the rest of 2
    assert rest.of(("a", "b"), "unbiased").keys() == whole.of(("a", "b"), "unbiased").keys()


def test_only_one_minibatch_is_read_at_a_time(models, texts, monkeypatch):
    sizes = []

    def counted(encoder, some, **options):
        sizes.append(len(some))
        return layer_states(encoder, some, **options)

    monkeypatch.setattr("detour.analysis.similarity.layer_states", counted)
    compare_layers(models, [("a", "b")], texts, Settings(minibatch=6))
    assert sizes == [6] * 8


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"draws": ()}, "draws"),
        ({"draws": (1, 1)}, "draws"),
        ({"outlier_factor": 1}, "outlier factor"),
        ({"outlier_factor": float("nan")}, "outlier factor"),
        ({"minibatch": 3}, "minibatch"),
    ],
)
def test_settings_are_checked(options, says):
    with pytest.raises(ConfigError, match=says):
        Settings(**options)


def test_models_of_another_depth_and_pairs_listed_twice_are_refused(make_folder, models, texts):
    from detour.evaluation.models import resolve

    (shallow,) = resolve([str(make_folder("shallow", 9, num_hidden_layers=2))])
    with pytest.raises(ConfigError, match="a has 4 layers and shallow has 2"):
        compare_layers({**models, "shallow": shallow}, [("a", "shallow")], texts, Settings())
    with pytest.raises(ConfigError, match="listed twice"):
        compare_layers(models, [("a", "b")], texts, Settings(), noise=[("a", "b")])


def line(axes, label):
    (found,) = [line for line in axes.lines if line.get_label() == label]
    return found


def test_the_figure_shows_the_values_and_the_papers_behind(result):
    above, below = draw_similarity(result).axes
    drawn = line(above, "a against b, unbiased")
    found = result.of(("a", "b"), "unbiased")
    depths = ["embeddings", "0", "1", "2", "3", "final"]
    assert list(drawn.get_xdata()) == [-1, 0, 1, 2, 3, 4]
    assert list(drawn.get_ydata()) == [found[depth].mean for depth in depths]
    seeds = line(above, "b against d, seeds, biased")
    assert list(seeds.get_ydata()) == [result.of(("b", "d"), "biased")[depth].mean for depth in depths]
    paper = line(above, "paper, CLM against MLM, biased (other model and data)")
    assert list(paper.get_ydata()) == figures()["cka"]["clm_against_mlm"]
    assert list(paper.get_xdata()) == layer_positions(4)
    assert paper.get_zorder() < drawn.get_zorder()
    ratio = line(below, "a against b, biased")
    assert list(ratio.get_ydata()) == [result.ratio(("a", "b"), depth, "biased") for depth in depths]
    published = line(below, "paper, biased (other model and data)").get_ydata()
    assert published[0] == pytest.approx(14.0143 / 0.3158)
    assert draw_similarity(result, with_paper=False).axes[0].get_legend_handles_labels()[1] == [
        label for label in above.get_legend_handles_labels()[1] if "paper" not in label
    ]


def test_the_papers_layers_keep_their_places_at_its_own_depth():
    assert layer_positions(22) == pytest.approx(list(range(22)))
    assert layer_positions(44)[0] == 0.5  # its first layer is our first two
    assert all(a < b for a, b in pairwise(layer_positions(6)))


def test_the_course_shows_means_over_layers_and_over_the_first_third(models, texts):
    pairs = [("a", "b"), ("a", "c")]
    result = compare_layers(models, pairs, texts, Settings())
    axes, above = draw_course(result, [5e8, 1e9], "tokens").axes
    means = line(axes, "all layers, unbiased")
    assert list(means.get_xdata()) == [5e8, 1e9]
    assert list(means.get_ydata()) == [result.of(pair, "unbiased")["mean"].mean for pair in pairs]
    low = line(axes, "layers 0-1, biased").get_ydata()
    found = result.of(("a", "c"), "biased")
    assert low[1] == pytest.approx((found["0"].mean + found["1"].mean) / 2)
    published = line(above, "paper, all layers, biased (other model and data)")
    assert list(published.get_ydata()) == figures()["cka_through_decay"]["mean"]
    assert list(published.get_xdata()) == figures()["cka_through_decay"]["tokens_B"]
