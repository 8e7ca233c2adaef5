"""Spans to mask: lengths, rate and places, by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from detour.batch import IGNORE, doc_ids_of
from detour.errors import ConfigError
from detour.objectives import MLM, RowRandom, build
from detour.objectives.spans import length_probabilities
from detour.testing import make_batch, make_vocab

VOCAB = make_vocab()


def spans_of(chosen_T, doc_T):
    """(start, length) of each run of selected tokens within a document."""
    runs, start = [], None
    for t in range(len(chosen_T) + 1):
        inside = t < len(chosen_T) and chosen_T[t]
        if start is not None and (not inside or doc_T[t] != doc_T[start]):
            runs.append((start, t - start))
            start = None
        if inside and start is None:
            start = t
    return runs


def test_the_lengths_are_spanberts():
    """Geo(0.2) cut at 10, whose mean the paper gives as 3.8."""
    weights = 0.2 * 0.8 ** np.arange(10)
    weights /= weights.sum()
    mean = float(weights @ np.arange(1, 11))
    assert mean == pytest.approx(3.8, abs=0.05)
    np.testing.assert_allclose(length_probabilities(mean, 10), weights, rtol=1e-9)


def corrupt(batch, **options):
    return MLM(**options)(batch, VOCAB, RowRandom(seed=1, step=0, sample_id_B=batch["sample_id"]))


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("lengths", [[1000, 24], [7] * 100, [1, 2, 3, 4] * 60], ids=["long", "short", "tiny"])
def test_the_rate_holds_in_documents_of_every_length(rate, lengths):
    batch = make_batch([lengths] * 60, vocab=VOCAB, specials=False)
    labels_BT = corrupt(batch, rate=rate, mean_span=3.8)["labels"]
    tokens = int(batch["doc_lengths"].sum())
    # in each document the count is exact but for the rounding, whose variance is at most 1/4
    sd = math.sqrt(0.25 * len(lengths) * 60)
    assert abs(int((labels_BT != IGNORE).sum()) - rate * tokens) < 5 * sd + 1


def test_the_mean_length_is_the_one_asked_for():
    """At a low rate few spans touch, and one in each document is cut short."""
    batch = make_batch([[4000]] * 30, vocab=VOCAB, specials=False)
    chosen_BT, doc_BT = corrupt(batch, rate=0.02, mean_span=3.8)["labels"] != IGNORE, doc_ids_of(batch)
    lengths = [n for b in range(30) for _, n in spans_of(chosen_BT[b].tolist(), doc_BT[b].tolist())]
    assert np.mean(lengths) == pytest.approx(3.8, rel=0.1)
    assert len(set(lengths)) > 8


def test_all_tokens_of_a_span_meet_the_same_fate():
    batch = make_batch([[200]] * 40, vocab=VOCAB, specials=False)
    out = corrupt(batch, rate=0.1, mean_span=3.8, mask_fraction=0.5, random_fraction=0.0)
    chosen_BT, doc_BT = out["labels"] != IGNORE, doc_ids_of(batch)
    masked_BT = out["input_ids"] == VOCAB.mask_id
    mixed = total = 0
    for b in range(40):
        for start, n in spans_of(chosen_BT[b].tolist(), doc_BT[b].tolist()):
            total += n > 1
            mixed += 0 < int(masked_BT[b, start : start + n].sum()) < n
    assert mixed < 0.25 * total  # spans that touch are one run here; drawn token by token, 7 in 10 would be mixed


def test_whole_words_are_not_cut_except_where_the_rate_is_reached():
    batch = make_batch([[300]] * 30, vocab=VOCAB, specials=False)
    chosen_BT = corrupt(batch, rate=0.2, mean_span=2.0, whole_word=True)["labels"] != IGNORE
    starts_BT = VOCAB.starts_word_V[batch["input_ids"]]
    starts_BT[:, 0] = True
    word_BT = starts_BT.cumsum(1)
    cut = 0
    for b in range(30):
        size = torch.bincount(word_BT[b])
        taken = torch.bincount(word_BT[b], weights=chosen_BT[b].double(), minlength=len(size))
        cut += int(((taken > 0) & (taken < size)).sum())
    assert cut <= 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean_span": 0.5}, "mean_span is 0.5, expected 1 to 5.5"),
        ({"mean_span": 6.0}, "mean_span is 6.0, expected 1 to 5.5"),
        ({"mean_span": 2.0, "max_span": 0}, "max_span is 0, expected 1 to 1000"),
        ({"lookahead": -1}, "lookahead is -1, expected at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build("mlm", options)
