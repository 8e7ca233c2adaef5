"""Marginals of a CRF by brute force over all tag sequences, and scores of spans computed one by one."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
import torch

from detour.evaluation.finetune.span_marginals import ABSENT, log_marginals, span_log_probabilities


def drawn(seed: int, labels: int, lengths: list[int]):
    generator = torch.Generator().manual_seed(seed)
    tags, length = 1 + 4 * labels, max(lengths)

    def draw(*shape: int):
        return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw(len(lengths), length, tags), torch.tensor(lengths), draw(tags, tags), draw(tags), draw(tags)


def brute_force(scores_TC, transitions, start, end):
    """P(tag) at each token, from the weights of all C^T sequences."""
    length, tags = scores_TC.shape
    weights = torch.zeros(length, tags, dtype=torch.float64)
    for sequence in product(range(tags), repeat=length):
        total = start[sequence[0]] + end[sequence[-1]] + sum(scores_TC[t, tag] for t, tag in enumerate(sequence))
        total += sum(transitions[a, b] for a, b in pairwise(sequence))
        for t, tag in enumerate(sequence):
            weights[t, tag] += math.exp(total)
    return weights / weights.sum(1, keepdim=True)


@pytest.mark.parametrize(("labels", "lengths"), [(1, [4, 1, 3]), (2, [3, 2])])
def test_marginals_are_those_of_all_tag_sequences(labels, lengths):
    scores, lengths_B, transitions, start, end = drawn(labels, labels, lengths)
    found = log_marginals(scores, lengths_B, transitions, start, end).exp()
    for b, length in enumerate(lengths):
        expected = brute_force(scores[b, :length], transitions, start, end)
        assert (found[b, :length] - expected).abs().max() < 1e-6


def test_padding_is_of_no_consequence():
    scores, lengths, *rest = drawn(3, 2, [5, 2])
    other = scores.clone()
    other[1, 2:] = 50
    found, again = (log_marginals(each, lengths, *rest) for each in (scores, other))
    assert torch.equal(found[1, :2], again[1, :2])
    assert torch.equal(found[0], again[0])


def test_forbidden_transitions_have_no_probability():
    scores, lengths, transitions, start, end = drawn(4, 1, [4])
    transitions[1, 0] = -1e4  # O after I
    transitions[1, 1] = transitions[1, 2] = transitions[1, 3] = transitions[1, 4] = -1e4
    end[1] = -1e4  # and I cannot be last: so it cannot be anywhere
    assert log_marginals(scores, lengths, transitions, start, end)[..., 1].exp().max() < 1e-30


def test_scores_of_spans_are_the_least_of_three():
    scores, lengths, *rest = drawn(5, 2, [6, 3])
    log_p = log_marginals(scores, lengths, *rest)
    found = span_log_probabilities(log_p, lengths, longest=4)
    assert found.shape == (2, 6, 4, 2)
    p = log_p.exp()
    for b, t, extra, label in product(range(2), range(6), range(4), range(2)):
        inside, begin, last, unit = range(1 + 4 * label, 5 + 4 * label)
        end = t + extra
        if end >= lengths[b]:
            assert found[b, t, extra, label] == ABSENT
            continue
        expected = min(
            sum(math.log(p[b, i, inside : unit + 1].sum()) for i in range(t, end + 1)),
            math.log(p[b, t, begin] + p[b, t, unit]),
            math.log(p[b, end, last] + p[b, end, unit]),
        )
        assert float(found[b, t, extra, label]) == pytest.approx(expected, abs=1e-9)


def test_gradients_are_those_of_finite_differences():
    scores, lengths, *rest = drawn(6, 1, [3])
    scores.requires_grad_(True)

    def total(s):
        return span_log_probabilities(log_marginals(s, lengths, *rest), lengths, longest=2)[:, 0, 1].sum()

    assert torch.autograd.gradcheck(total, scores)
