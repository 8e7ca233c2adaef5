"""The rules of a budget, against counts by hand."""

from __future__ import annotations

import pytest

from detour.errors import DataError
from detour.init.budget import choose_budget, choose_seq_len, warnings
from detour.init.machine import Machine
from detour.init.write import estimate_speed, validation_fraction
from detour.models.families import architecture

BASE = 149_655_232  # parameters of ModernBERT-base


def budget(corpus: float, *, parameters: int = BASE, affordable: float = 1e15, seq_len: int = 8192, devices: int = 1):
    return choose_budget(
        corpus_tokens=corpus, parameters=parameters, affordable_tokens=affordable, seq_len=seq_len, devices=devices
    )


def test_with_text_and_time_enough_it_is_the_recipe_of_the_paper():
    """67 x 149,655,232 = 10,026,900,544 tokens; 3,187.46 steps of 384 x 8,192."""
    found = budget(1e12)
    assert (found.bound, found.rows, found.first_steps, found.decay_steps, found.warmup_steps) == (
        "recipe",
        384,
        3187,
        319,
        32,
    )
    assert found.first_tokens == 3187 * 3_145_728
    assert warnings(found) == []


def test_a_corpus_is_read_four_times():
    """4 x 275M = 1.1B tokens: 1B in the first phase. A thousandth, 1M, holds 122 rows of 8,192: 96, that is 786,432 tokens."""
    found = budget(275e6)
    assert (found.bound, found.rows, found.first_steps) == ("corpus", 96, 1271)  # 1271.57
    assert (found.decay_steps, found.warmup_steps) == (127, 13)
    assert found.epochs == pytest.approx((1271 + 127) * 786_432 / 275e6)
    assert found.epochs < 4
    assert "6.7 tokens per parameter are fewer than in any published detour" in warnings(found)[0]


def test_hours_limit_the_tokens_of_a_run():
    """110M tokens: 100M in the first phase, a thousandth of which holds 97 rows of 1,024."""
    found = budget(1e12, affordable=110e6, seq_len=1024)
    assert (found.bound, found.rows, found.first_steps, found.decay_steps) == ("hours", 96, 1017, 102)
    assert found.tokens == 1119 * 96 * 1024
    assert "not worth paying for: 0.67 tokens per parameter" in warnings(found)[0]
    assert "--model jhu-clsp/ettin-encoder-17m" not in warnings(found)[0]
    english, french = (warnings(found, on_cpu=True, language=code)[0] for code in ("en", "fr"))
    assert "On a CPU, try a small start (--model jhu-clsp/ettin-encoder-17m)" in english
    assert "a small encoder of the text's language" in french


def test_steps_have_at_least_eight_rows_and_the_warmup_at_most_a_tenth_of_the_phase():
    """4 x 20,000 = 80,000 tokens, 72,727 of them in the first phase: 71 steps of 8 x 128."""
    found = budget(20_000, seq_len=128)
    assert (found.rows, found.first_steps, found.decay_steps, found.warmup_steps) == (8, 71, 7, 7)


@pytest.mark.parametrize(("devices", "rows"), [(3, 9), (5, 10), (8, 8), (16, 16)])
def test_rows_are_divided_among_the_devices(devices, rows):
    """3 x 3, 5 x 2, 8 x 1 and 16 x 1 are the least with eight rows; 5 rows would be wanted."""
    assert budget(200_000, seq_len=128, devices=devices).rows == rows


def test_too_little_is_refused_with_what_would_help():
    """4 x 2,000 tokens are 7 steps of 8 x 128."""
    with pytest.raises(
        DataError, match=r"less than 10 steps of 8 rows of 128 tokens: the text has 2k tokens.*; add text"
    ):
        budget(2_000, seq_len=128)
    with pytest.raises(DataError, match=r"the hours allow 8k tokens; raise --hours at least 1\.4 times"):
        budget(1e9, affordable=8_000, seq_len=128)


@pytest.mark.parametrize(
    ("p95", "longest", "expected"),
    [(40, 8192, 128), (300, 8192, 512), (512, 512, 512), (5000, 512, 512), (9000, 8192, 8192), (70, 64, 64)],
)
def test_rows_hold_most_documents_whole(p95, longest, expected):
    assert choose_seq_len(p95, longest) == expected


@pytest.mark.parametrize(
    ("documents", "expected"), [(50, 0.2), (200, 0.1), (1000, 0.02), (50_000, 0.01), (1_000_000, 0.005)]
)
def test_a_share_of_the_documents_is_held_out(documents, expected):
    assert validation_fraction(documents) == expected


def test_hours_follow_from_flops():
    """docs/performance.md: of documents of 1,024 tokens, 943 MFLOPs a token under CLM, 824 under MLM 30%, 789 under MLM 15%."""
    speed = estimate_speed(architecture("modernbert-base"), Machine(gpus=2, gigabytes=40, cores=1), 1024, None)
    per_second = 2 * 155e12 * 0.4
    assert speed.detour == pytest.approx(per_second * 1.1 / (943e6 + 0.1 * 789e6), rel=2e-3)
    assert speed.twin == pytest.approx(per_second * 1.1 / (824e6 + 0.1 * 789e6), rel=2e-3)
    assert "155 TFLOP/s per GPU (those of the RTX A6000)" in speed.basis
