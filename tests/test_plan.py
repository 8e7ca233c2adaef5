"""The plan: steps, overruns and learning rates worked out by hand, and warnings about phases of few steps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from detour.config.load import from_mapping
from detour.config.schema import RunConfig
from detour.cost.evaluation import evaluation_flops, evaluations
from detour.cost.flops import training_flops
from detour.cost.plan import caveats, gpu_hours, plan
from detour.cost.plan_table import show
from detour.optimizer import PhaseOptimizer
from detour.phases import PhaseRope
from detour.units import disk_size


def run_of(*tokens: int, warmup: int = 0, decay: bool = True) -> RunConfig:
    """Phases of the given lengths, with steps of 10 rows of 100 tokens; the last phase decays linearly from 1e-3 to 0."""
    phases = [{"name": f"p{i}", "objective": "mlm", "tokens": count} for i, count in enumerate(tokens)]
    return from_mapping({
        "name": "run",
        "model": {"size": "tiny", "tokenizer": "folder"},
        "data": {"train": [{"path": "rows"}], "seq_len": 100, "global_batch_size": 10, "micro_batch_size": 2},
        "phases": phases,
        "schedule": {"peak_lr": 1e-3, "shape": "linear", "warmup_tokens": warmup,
                     "decay_phase": phases[-1]["name"] if decay else None},
        "checkpoint": {"interval_tokens": 1000},
        "evaluation": {"interval_tokens": 1000},
    })  # fmt: skip


def test_a_step_belongs_to_the_phase_in_which_it_begins():
    """Steps begin at 0, 1000, ..., 5000; the phases at 0, 2500 and 4000."""
    lines = plan(run_of(2500, 1500, 2000))
    assert [line.steps for line in lines] == [3, 1, 2]
    assert [line.overrun for line in lines] == [0, 500, 0]
    assert sum(line.steps for line in lines) == 6, "6000 tokens in total"


def test_the_last_step_of_a_decay_is_one_step_above_the_final_rate():
    """A linear decay over 4 steps begins them at 1, 3/4, 1/2 and 1/4 of the peak."""
    *_, decay = plan(run_of(100_000, 4000))
    assert decay.lr_first == pytest.approx(1e-3)
    assert decay.lr_last_step == pytest.approx(0.25e-3)


def warnings(run: RunConfig) -> str:
    return "\n".join(caveats(run, plan(run)))


def test_a_decay_of_few_steps_gets_a_warning():
    text = warnings(run_of(100_400, 4000))
    assert "The decay, phase 'p1', has only 4 steps" in text
    assert "the last step uses 1.0e-04" in text  # it begins 600 late: at 3600 of 4000 tokens
    assert "the last one of phase 'p0' may take up to 25% of the tokens of 'p1' (600 if all rows are full)" in text


def test_a_short_phase_gets_a_warning_even_without_decay():
    text = warnings(run_of(100_000, 10_000, decay=False))
    assert "Phase 'p1' has only 10 steps. No step is split between two phases" in text
    assert "the last one of phase 'p0' may take up to 10% of the tokens of 'p1' (0 if" in text
    assert "decay" not in text


@pytest.mark.parametrize("run", [run_of(100_000, 50_000), run_of(3000, decay=False), run_of(100_000, warmup=10_000)])
def test_long_phases_get_no_warning(run):
    assert warnings(run) == ""


def test_a_warmup_of_few_steps_gets_a_warning():
    assert "schedule.warmup_tokens is 2,500, 2.5 steps" in warnings(run_of(100_000, warmup=2500))


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.0, "0.0"), (0.0004321, "0.00043"), (0.04, "0.04"), (1.26, "1.3"), (10.04, "10.0"), (12345.6, "12,345.6")],
)
def test_gpu_hours_keep_two_significant_digits(hours, text):
    assert gpu_hours(hours) == text


def test_the_table_of_a_small_run_shows_costs_and_warnings(capsys):
    show(run_of(100_000, 4000), document_tokens=None, peak_tflops=989, mfu=0.4, memory_gigabytes=80)
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.split()[:1] in (["p0"], ["p1"], ["total"])]
    assert len(rows) == 3
    assert not any(" 0.0 " in row for row in rows)
    assert "Warning: The decay, phase 'p1', has only 4 steps" in " ".join(out.split())


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 MB"), (999e3, "1 MB"), (12_345_678, "12 MB"), (99.6e6, "0.1 GB"), (1e8, "0.1 GB"), (3.45e9, "3.5 GB")],
)
def test_small_sizes_are_not_rounded_to_nothing(size, text):
    assert disk_size(size) == text


def test_a_run_on_a_cpu_has_hours_only_if_its_speed_is_given(capsys):
    run = run_of(100_000, 4000)
    run = replace(run, system=replace(run.system, device="cpu"))
    show(run, document_tokens=None, peak_tflops=None, mfu=0.5, memory_gigabytes=None)
    out = " ".join(capsys.readouterr().out.split())
    assert "Hours on a CPU need its speed" in out
    assert "GPU" not in out
    assert "80 GB" not in out
    show(run, document_tokens=None, peak_tflops=0.1, mfu=0.5, memory_gigabytes=16)
    out = " ".join(capsys.readouterr().out.split())
    flops = sum(line.flops for line in plan(run))
    assert f" {gpu_hours(flops / 0.05e12 / 3600)} " in out
    assert "In 16 GB" in out


def test_held_out_losses_are_counted_and_said_to_cost_more(capsys):
    """Due at 0, at multiples of 1000 and at the phases' ends of 2500, 4000 and 6000; steps end at 1000, 2000, ..., 6000."""
    run = run_of(2500, 1500, 2000)
    assert evaluations(run) == {}
    show(run, document_tokens=None, peak_tflops=1, mfu=0.4, memory_gigabytes=80)
    assert "held-out" not in capsys.readouterr().out
    phases = [replace(phase, evaluate=["clm"] if phase.name == "p0" else None) for phase in run.phases]
    chosen = {"mlm": {"rate": 0.2}, "clm": None}
    evaluation = replace(run.evaluation, rows=30, objectives=chosen, mask_draws=1)
    run = replace(run, data=replace(run.data, validation=run.data.train), phases=phases, evaluation=evaluation)
    assert evaluations(run) == {"mlm": 1 + 3, "clm": 1 + 6}
    mlm, clm = (
        training_flops(run.architecture, [100], attention=rule, supervised=count) / 3
        for rule, count in (("bidirectional", 20), ("causal", 99))
    )
    assert evaluation_flops(run) == pytest.approx(30 * (4 * mlm + 7 * clm))
    show(run, document_tokens=None, peak_tflops=1, mfu=0.4, memory_gigabytes=80)
    out = " ".join(capsys.readouterr().out.split())
    assert "Not in the table: held-out losses (mlm 4 times, clm 7 times, up to 30 rows)" in out
    training = sum(line.flops for line in plan(run))
    assert f"{30 * (4 * mlm + 7 * clm):.1e} FLOPs, {30 * (4 * mlm + 7 * clm) / training:.2g} of training" in out


def test_what_a_phase_changes_of_optimizer_and_positions_is_listed(capsys):
    run = run_of(100_000, 4000)
    phases = [run.phases[0], replace(run.phases[1], optimizer=PhaseOptimizer(weight_decay=0.3, clip_norm="none"))]
    phases[1] = replace(phases[1], rope=PhaseRope(theta=160_000.0, scaling={"rope_type": "default"}))
    show(replace(run, phases=phases), document_tokens=None, peak_tflops=989, mfu=0.4, memory_gigabytes=80)
    assert "Optimizer in phase p1: weight_decay 0.3, clip_norm none." in (out := capsys.readouterr().out)
    assert "Rotary positions in phase p1: theta 160,000, scaling default." in out
