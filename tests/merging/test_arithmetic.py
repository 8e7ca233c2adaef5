"""SLERP, TIES, and DARE against computations by hand, and against vectors on a circle."""

from __future__ import annotations

import math

import pytest
import torch

from detour.merging.arithmetic import drop, elect, linear, slerp, threshold


def test_linear_is_the_weighted_sum_and_bitwise_a_parent_at_the_ends():
    a, b = torch.tensor([0.1, 2.0]), torch.tensor([0.3, -1.0])
    assert linear([a, b], (0.25, 0.75)).tolist() == pytest.approx([0.25, -0.25])
    assert linear([a, b], (1.0, 0.0)) is a
    assert linear([a, b], (0.0, 1.0)) is b
    halves = [torch.tensor([1.0]).bfloat16(), torch.tensor([2.0]).bfloat16()]
    assert linear(halves, (0.5, 0.5)).dtype == torch.bfloat16


def test_slerp_walks_along_the_circle():
    """Between the unit vectors at 0 and 90 degrees, t = 1/3 is the vector at 30 degrees."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    third = slerp([a, b], (2 / 3, 1 / 3))
    assert third.tolist() == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6)])
    # other lengths are interpolated with the same coefficients: sin(60)/sin(90) x 2 and sin(30)/sin(90) x 4
    assert slerp([2 * a, 4 * b], (2 / 3, 1 / 3)).tolist() == pytest.approx([math.sqrt(3), 2.0])
    assert slerp([a.reshape(1, 2), b.reshape(1, 2)], (0.5, 0.5)).shape == (1, 2)


@pytest.mark.parametrize(("a", "b"), [([1.0, 2.0], [2.0, 4.0]), ([1.0, 2.0], [-3.0, -6.0]), ([0.0, 0.0], [1.0, 2.0])])
def test_slerp_is_linear_where_it_is_not_defined(a, b):
    expected = [0.25 * x + 0.75 * y for x, y in zip(a, b, strict=True)]
    assert slerp([torch.tensor(a), torch.tensor(b)], (0.25, 0.75)).tolist() == pytest.approx(expected)


def test_slerp_is_bitwise_a_parent_at_the_ends():
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    assert slerp([a, b], (1.0, 0.0)) is a
    assert slerp([a, b], (0.0, 1.0)) is b


def test_the_threshold_keeps_the_largest_fraction_of_the_whole_task_vector():
    deltas = {"x": torch.tensor([[0.1, -0.9], [0.3, 0.0]]), "y": torch.tensor([-0.5])}
    assert threshold(deltas, 0.4) == pytest.approx(0.5)  # two of five: 0.9 and 0.5, both kept in two tensors
    assert threshold(deltas, 0.6) == pytest.approx(0.3)
    assert threshold(deltas, 1.0) == 0
    assert threshold(deltas, 0.01) == pytest.approx(0.9)  # never none


def test_ties_elects_signs_and_averages_over_those_who_agree():
    """Column by column: agreement; a majority by magnitude, not by count; one parent alone; an exact tie; all zero."""
    deltas = [
        torch.tensor([1.0, -5.0, 0.0, 1.0, 0.0]),
        torch.tensor([3.0, 2.0, 4.0, -1.0, 0.0]),
        torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0]),
    ]
    assert elect(deltas, (1 / 3, 1 / 3, 1 / 3)).tolist() == pytest.approx([2.0, -5.0, 4.0, 0.0, 0.0])
    # weights .5, .25, .25: (.5 + .75 + .5) / 1 = 1.75; tie broken: .5 - .25 > 0
    assert elect(deltas, (0.5, 0.25, 0.25)).tolist() == pytest.approx([1.75, -5.0, 4.0, 1.0, 0.0])
    assert elect(deltas, (0.0, 0.0, 1.0)).tolist() == pytest.approx([2.0, 2.0, 0.0, 0.0, 0.0])


def test_dare_keeps_a_number_or_drops_it_and_rescales_the_kept():
    delta = torch.full((20_000,), 3.0, dtype=torch.float64)
    found = drop(delta, 0.25, seed=1)
    assert set(found.tolist()) == {0.0, 12.0}
    # a binomial fraction: six standard deviations of sqrt(.25 x .75 / 20000)
    assert float((found > 0).double().mean()) == pytest.approx(0.25, abs=6 * 0.0031)
    assert torch.equal(found, drop(delta, 0.25, seed=1))
    assert not torch.equal(found, drop(delta, 0.25, seed=2))
    assert drop(delta, 1, seed=0) is delta
