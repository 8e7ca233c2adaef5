"""Only complete tables of scores are compared; holes are named."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from detour.errors import DataError
from detour.evaluation.results.score_grid import Score, score_grid


def table(arms=("detour", "twin"), training=(17, 18), tasks=("a", "b"), finetuning=(1, 2, 3)):
    cells = [(a, s, k, f) for a in arms for s in training for k in tasks for f in finetuning]
    return [Score(arm=a, training_seed=s, task=k, finetuning_seed=f, score=i) for i, (a, s, k, f) in enumerate(cells)]


def test_scores_are_arranged_by_arm_training_seed_task_and_finetuning_seed():
    scores = table()
    grid = score_grid(reversed(scores), ["twin", "detour"])
    assert (grid.arms, grid.training_seeds, grid.tasks) == (("twin", "detour"), (17, 18), ("b", "a"))
    assert grid.finetuning_seeds == {17: (1, 2, 3), 18: (1, 2, 3)}
    assert grid.scores_ASKF.shape == (2, 2, 2, 3)
    for s in scores:
        place = (
            grid.arms.index(s.arm),
            grid.training_seeds.index(s.training_seed),
            grid.tasks.index(s.task),
            s.finetuning_seed - 1,
        )
        assert grid.scores_ASKF[place] == s.score


def test_missing_cells_are_named():
    scores = [s for s in table() if (s.arm, s.training_seed, s.task) != ("twin", 18, "b")]
    with pytest.raises(DataError) as error:
        score_grid(scores)
    lines = str(error.value).splitlines()
    assert lines[0].startswith("3 of 24 scores are missing")
    assert "(b)" in lines[0]
    assert lines[1:] == [f"  - arm 'twin', training seed 18, task 'b', fine-tuning seed {f}" for f in (1, 2, 3)]
    grid = score_grid(scores, drop_tasks=["b"])
    assert (grid.tasks, grid.dropped, grid.scores_ASKF.shape) == (("a",), ("b",), (2, 2, 1, 3))


def test_a_training_seed_that_one_arm_lacks_is_missing_and_long_lists_are_counted():
    scores = [s for s in table(tasks="abcde") if (s.arm, s.training_seed) != ("twin", 18)]
    with pytest.raises(DataError) as error:
        score_grid(scores)
    assert str(error.value).startswith("15 of 60 scores are missing")
    assert str(error.value).endswith("  - and 5 more")
    assert len(str(error.value).splitlines()) == 12


def test_fine_tuning_seeds_may_differ_between_training_seeds_but_not_their_number():
    scores = table(training=(17,)) + table(training=(18,), finetuning=(4, 5, 6))
    grid = score_grid(scores)
    assert grid.finetuning_seeds == {17: (1, 2, 3), 18: (4, 5, 6)}
    assert grid.scores_ASKF.shape == (2, 2, 2, 3)
    with pytest.raises(DataError, match="4 of 24 scores are missing") as error:
        score_grid(table(training=(17,)) + table(training=(18,), finetuning=(1, 2)))
    assert "training seed 18, task 'a', fine-tuning seed 3" in str(error.value)


def test_arms_with_other_fine_tuning_seeds_are_refused():
    scores = table(arms=["detour"]) + table(arms=["twin"], finetuning=(4, 5, 6))
    with pytest.raises(DataError, match="24 of 48 scores are missing"):
        score_grid(scores)


def test_measurements_without_a_fine_tuning_have_one_place():
    scores = [replace(s, finetuning_seed=None) for s in table(finetuning=(1,))]
    grid = score_grid(scores)
    assert grid.finetuning_seeds == {17: (None,), 18: (None,)}
    with pytest.raises(DataError) as error:
        score_grid(scores[1:])
    assert str(error.value).splitlines()[1] == "  - arm 'detour', training seed 17, task 'a'"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_refused(value):
    scores = table()
    scores[5] = replace(scores[5], score=value)
    with pytest.raises(DataError, match=f"training seed 17, task 'b', fine-tuning seed 3: {value}, expected a finite"):
        score_grid(scores)


def test_what_is_not_a_table_is_refused():
    scores = table()
    with pytest.raises(DataError, match=r"task 'a', fine-tuning seed 1: has two scores, 0\.0 and 0\.5"):
        score_grid([*scores, replace(scores[0], score=0.5)])
    with pytest.raises(DataError, match=r"arm 'twim': no scores.*twin"):
        score_grid(scores, ["detour", "twim"])
    with pytest.raises(DataError, match="task 'c': no scores"):
        score_grid(scores, drop_tasks=["c"])
    with pytest.raises(DataError, match="no scores are left"):
        score_grid(scores, drop_tasks=["a", "b"])
    with pytest.raises(DataError, match="no scores"):
        score_grid([])
    with pytest.raises(DataError, match="cannot be compared with itself"):
        score_grid(scores, ["twin", "twin"])
    assert np.isfinite(score_grid(scores, ["twin"]).scores_ASKF).all()
