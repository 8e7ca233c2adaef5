"""The learning rate: a pure function of tokens, checked at every edge and against torch and the paper."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detour.phases import Phase, PhaseSchedule
from detour.schedule import WSD

SHAPES = ["linear", "cosine", "one_minus_sqrt"]
shapes = st.sampled_from(SHAPES)
rates = st.floats(1e-8, 1.0)


@st.composite
def runs(draw) -> tuple[WSD, PhaseSchedule]:
    """A stable phase that holds the warmup, a decay phase, and perhaps one after it."""
    stable, decay, after = draw(st.integers(1, 10**11)), draw(st.integers(1, 10**10)), draw(st.integers(0, 10**9))
    lengths = {"stable": stable, "decay": decay} | ({"after": after} if after else {})
    peak = draw(rates)
    schedule = WSD(
        peak_lr=peak,
        final_lr=peak * draw(st.floats(0, 1)),
        warmup_tokens=draw(st.integers(0, stable)),
        decay_phase="decay",
        shape=draw(shapes),
    )
    return schedule, PhaseSchedule([Phase(name=n, objective="mlm", tokens=tokens) for n, tokens in lengths.items()])


def one_phase(tokens: int, **fields) -> PhaseSchedule:
    return PhaseSchedule([Phase(name="only", objective="mlm", tokens=tokens, **fields)])


# --- warmup, stable, decay, floor -----------------------------------------------------------------------------------


@given(runs())
def test_warmup_begins_at_zero(run):
    wsd, phases = run
    assert wsd.lr_at(0, phases) == (0.0 if wsd.warmup_tokens else wsd.peak_lr)


@given(runs(), st.floats(0, 1))
def test_warmup_is_linear(run, share):
    wsd, phases = run
    tokens = min(int(share * wsd.warmup_tokens), phases.span_of("decay").start)
    expected = wsd.peak_lr * (tokens / wsd.warmup_tokens if wsd.warmup_tokens else 1)
    assert wsd.lr_at(tokens, phases) == pytest.approx(expected, rel=1e-12)


@given(runs(), st.floats(0, 1))
def test_the_stable_part_is_exactly_the_peak_up_to_and_including_the_first_token_of_the_decay(run, share):
    wsd, phases = run
    start = phases.span_of("decay").start
    tokens = wsd.warmup_tokens + int(share * (start - wsd.warmup_tokens))
    assert wsd.lr_at(tokens, phases) == wsd.lr_at(start, phases) == wsd.peak_lr


def test_the_peak_at_the_start_of_the_decay_is_not_rounded():
    """7e-5 + (4e-4 - 7e-5) is less than 4e-4 in floating point."""
    wsd = WSD(peak_lr=4e-4, final_lr=7e-5, warmup_tokens=0, decay_phase="only")
    assert wsd.lr_at(0, one_phase(10)) == 4e-4


@given(runs(), st.integers(0, 10**12))
def test_the_decay_ends_exactly_at_the_floor_and_stays_there(run, beyond):
    wsd, phases = run
    end = phases.span_of("decay").end
    assert wsd.lr_at(end, phases) == wsd.lr_at(end + beyond, phases) == wsd.final_lr


@given(runs(), st.integers(0, 2 * 10**11))
def test_after_the_warmup_the_rate_lies_between_floor_and_peak_at_any_token(run, beyond):
    wsd, phases = run
    assert wsd.final_lr <= wsd.lr_at(wsd.warmup_tokens + beyond, phases) <= wsd.peak_lr


@given(runs(), st.floats(0, 1), st.floats(0, 1))
def test_the_decay_never_rises(run, one, other):
    wsd, phases = run
    decay = phases.span_of("decay")
    earlier, later = (decay.start + int(share * (decay.end - decay.start)) for share in sorted((one, other)))
    slack = 1e-15 * wsd.peak_lr  # the last bit of a cosine
    assert wsd.lr_at(later, phases) <= wsd.lr_at(earlier, phases) + slack


@given(runs(), st.integers(0, 10**12))
def test_without_a_decay_phase_the_peak_lasts_to_the_end_and_beyond(run, beyond):
    wsd, phases = run
    assert replace(wsd, decay_phase=None).lr_at(wsd.warmup_tokens + beyond, phases) == wsd.peak_lr


def test_a_warmup_that_reaches_into_the_decay_takes_the_lower_of_the_two():
    phases = PhaseSchedule([
        Phase(name="stable", objective="mlm", tokens=10),
        Phase(name="decay", objective="mlm", tokens=100),
    ])  # fmt: skip
    wsd = WSD(peak_lr=1.0, final_lr=0.0, warmup_tokens=60, decay_phase="decay", shape="linear")
    for tokens in range(111):
        assert wsd.lr_at(tokens, phases) == pytest.approx(min(tokens / 60, (110 - tokens) / 100, 1))


# --- shapes ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(0, 1))
def test_one_minus_sqrt_is_the_paper_s_formula(tokens, alpha):
    wsd = WSD(peak_lr=3.0, final_lr=3.0 * alpha, warmup_tokens=0, decay_phase="only", shape="one_minus_sqrt")
    expected = 3.0 * (alpha + (1 - alpha) * (1 - math.sqrt(tokens / 1000)))
    assert wsd.lr_at(tokens, one_phase(1000)) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_linear_and_cosine_are_torch_s(shape):
    steps, peak, final = 50, 0.3, 0.02
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    if shape == "cosine":
        theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=final)
    else:
        theirs = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, final / peak, total_iters=steps)
    wsd = WSD(peak_lr=peak, final_lr=final, warmup_tokens=0, decay_phase="only", shape=shape)
    for step in range(steps + 1):
        assert wsd.lr_at(7 * step, one_phase(7 * steps)) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no optimizer step was taken
            theirs.step()


# --- phases' own factors --------------------------------------------------------------------------------------------


@given(runs(), st.floats(0, 10), st.integers(0, 2 * 10**11))
def test_lr_factor_multiplies_the_rate_in_its_own_phase_only(run, factor, tokens):
    wsd, phases = run
    scaled = PhaseSchedule([phases.phases[0], replace(phases.phases[1], lr_factor=factor), *phases.phases[2:]])
    expected = wsd.lr_at(tokens, phases) * (factor if phases.at(tokens).index == 1 else 1)
    assert wsd.lr_at(tokens, scaled) == expected


@given(st.integers(1, 1000), st.integers(0, 2999))
def test_a_rewarm_climbs_from_zero_at_the_start_of_its_phase(rewarm, tokens):
    phases = PhaseSchedule([
        Phase(name="before", objective="mlm", tokens=1000),
        Phase(name="detour", objective="clm", tokens=1000, rewarm_tokens=rewarm),
        Phase(name="after", objective="mlm", tokens=1000),
    ])  # fmt: skip
    into = tokens - 1000
    expected = 2.0 * (into / rewarm if 0 <= into < min(rewarm, 1000) else 1)
    assert WSD(peak_lr=2.0, final_lr=0.0, warmup_tokens=0).lr_at(tokens, phases) == pytest.approx(expected)


def test_a_rewarmed_decay_climbs_under_the_decay_s_curve():
    wsd = WSD(peak_lr=1.0, final_lr=0.0, warmup_tokens=0, decay_phase="only", shape="linear")
    rates = [wsd.lr_at(tokens, one_phase(100, rewarm_tokens=10)) for tokens in (0, 5, 10, 50)]
    assert rates == pytest.approx([0, 0.5 * 0.95, 0.9, 0.5])


# --- the paper's recipe (arXiv 2605.12438) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "rate"),
    [
        (0, 0.0),
        (50_000_000, 1e-4),
        (100_000_000, 2e-4),
        (10_000_000_000, 2e-4),
        (10_500_000_000, 2e-4 * (0.1 + 0.9 * (1 - math.sqrt(0.5)))),  # 7.272e-5
        (11_000_000_000, 2e-5),
    ],
)
def test_the_paper_s_recipe(tokens, rate):
    phases = PhaseSchedule([
        Phase(name="detour", objective="clm", tokens=10_000_000_000),
        Phase(name="decay", objective="mlm", tokens=1_000_000_000, options={"rate": 0.15}),
    ])  # fmt: skip
    wsd = WSD(peak_lr=2e-4, final_lr=2e-5, warmup_tokens=100_000_000, decay_phase="decay", shape="one_minus_sqrt")
    assert wsd.lr_at(tokens, phases) == pytest.approx(rate, rel=1e-12)
