"""`detour verdict`: its rule on scores that are given here, the pilot that it writes, and one small pilot that is run."""

from __future__ import annotations

import json

import pytest
import typer
import yaml

from detour.cli.main import app, main
from detour.config.load import load, to_yaml
from detour.cost.plan import plan as plan_run
from detour.errors import ConfigError, DataError
from detour.evaluation.results.levels import arm_means, compare_arms
from detour.evaluation.results.score_grid import Score
from detour.evaluation.results.verdicts import NATS, POINTS
from detour.experiments.config import load_experiment
from detour.experiments.pilot import start_seconds
from detour.experiments.pilot_verdict import Outcome, decide, verdict_of_pilot
from detour.experiments.results import Measured


def verdict(detour, twin, nothing, *, scale=POINTS, margin: float | None = 1.0):
    """Of scores of one task, one for each training seed."""
    scores = [
        Score(arm=arm, training_seed=17 + i, task="triage", score=score)
        for arm, values in {"detour": detour, "twin": twin, "nothing": nothing}.items()
        for i, score in enumerate(values)
    ]
    return decide(*(compare_arms(scores, "detour", other, margin=margin, scale=scale) for other in ("twin", "nothing")))


LEVEL = (0.70, 0.70, 0.70)


def test_a_gain_over_both_is_expected_with_its_interval():
    """Gains of 2, 3 and 4 points: mean 3, standard error 1/sqrt(3), and t(.975, 2) = 4.3027, so 3 +- 2.48."""
    found = verdict((0.72, 0.73, 0.74), LEVEL, (0.68, 0.685, 0.70))
    assert found.outcome is Outcome.GAIN
    assert "Expected gain: +3.00 points [+0.52, +5.48] over the twin" in found.sentence


def test_too_few_seeds_show_no_difference_and_how_many_it_would_take():
    """Differences of 0, 1 and 2 points: +- 2.48 about 1. By scipy, below, 12 seeds decide."""
    found = verdict((0.70, 0.71, 0.72), LEVEL, LEVEL)
    assert found.outcome is Outcome.UNDECIDED
    assert "No difference seen: +1.00 points [-1.48, +3.48] over the twin" in found.sentence
    seeds = seeds_by_scipy(sd=1.0, margin=1.0)
    assert f"it would take about {seeds} training seeds to tell a gain of 1 points from none" in found.sentence


def seeds_by_scipy(*, sd: float, margin: float) -> int:
    """Seeds that show a difference of the margin, and declare one of 0 equivalent, each with a power of 0.8."""
    import numpy as np
    from scipy import stats

    def shown(n: int) -> bool:
        shift, critical = margin / sd * n**0.5, stats.t.ppf(0.975, n - 1)
        return bool(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift) >= 0.8)

    def equivalent(n: int) -> bool:
        s_S = sd * np.sqrt(stats.chi2.ppf((np.arange(20_000) + 0.5) / 20_000, n - 1) / (n - 1))
        half_S = margin - stats.t.ppf(0.95, n - 1) * s_S / n**0.5
        inside_S = np.where(half_S > 0, 2 * stats.norm.cdf(half_S / (sd / n**0.5)) - 1, 0.0)
        return bool(inside_S.mean() >= 0.8)

    return next(n for n in range(2, 1000) if shown(n) and equivalent(n))


@pytest.mark.parametrize(
    ("detour", "nothing", "against"),
    [
        ((0.659, 0.660, 0.661), (0.60, 0.60, 0.60), "its twin."),  # 4 points worse
        ((0.701, 0.700, 0.699), (0.60, 0.60, 0.60), "its twin."),  # equivalent: 0 +- 0.17 within 90%
        ((0.7029, 0.7030, 0.7031), (0.60, 0.60, 0.60), "its twin."),  # better, by less than a point
        ((0.72, 0.73, 0.74), (0.75, 0.76, 0.78), "doing nothing."),  # better than the twin, worse than the start model
        ((0.659, 0.660, 0.661), (0.75, 0.76, 0.77), "its twin and with doing nothing."),
    ],
)
def test_what_is_not_worth_it(detour, nothing, against):
    found = verdict(detour, LEVEL, nothing)
    assert found.outcome is Outcome.NOT_WORTH_IT
    assert f"Not worth it, compared with {against}" in found.sentence


def test_equivalence_is_shown_with_the_interval_that_it_rests_on():
    """Differences of 0.1, 0 and -0.1 points: t(.95, 2) = 2.91999 times 0.1 / sqrt(3) is 0.17."""
    found = verdict((0.701, 0.700, 0.699), LEVEL, (0.60, 0.60, 0.60))
    assert "Gain over the twin: +0.00 points (90% interval [-0.17, +0.17], TOST p = 0.002)" in found.sentence


def test_of_losses_the_lower_is_the_gain():
    """Losses lower by 0.02, 0.03 and 0.04 nats."""
    found = verdict((1.98, 1.97, 1.96), (2.0, 2.0, 2.0), (2.5, 2.6, 2.4), scale=NATS, margin=None)
    assert found.outcome is Outcome.GAIN
    assert "+0.0300 nats of loss [+0.0052, +0.0548] over the twin" in found.sentence


def test_equal_differences_in_all_seeds_decide_nothing():
    found = verdict((0.72, 0.72, 0.72), LEVEL, LEVEL)
    assert found.outcome is Outcome.UNDECIDED
    assert "+2.00 points, without an interval over the twin" in found.sentence
    assert "how many training seeds it would take is not known" in found.sentence


def measured(key, scale, margin, *, degenerate=None, **arms):
    """What an experiment has recorded of one task."""
    scores = [
        Score(arm=arm, training_seed=17 + i, task="triage", score=score)
        for arm, values in arms.items()
        for i, score in enumerate(values)
    ]
    basis, means = arm_means(scores, scale=scale)
    pairs = [("detour", "twin"), ("nothing", "twin"), ("detour", "nothing")]
    flagged = degenerate or {}
    comparisons = [compare_arms(scores, *pair, margin=margin, scale=scale, flagged=flagged) for pair in pairs]
    return Measured(
        key=key, title="", note="", scale=scale, basis=basis, means=means, comparisons=comparisons, scores=scores,
        degenerate=flagged,
    )  # fmt: skip


def test_labeled_tasks_decide_and_held_out_losses_only_without_any():
    """After fine-tuning the detour is better by 3 points; its held-out loss is worse by 0.9 to 1.1 nats."""
    tuned = measured("finetuning", POINTS, 1.0, detour=(0.72, 0.73, 0.74), twin=LEVEL, nothing=(0.68, 0.685, 0.70))
    losses = measured("held_out", NATS, None, detour=(2.9, 3.0, 3.1), twin=(2.0, 2.0, 2.0), nothing=(2.5, 2.6, 2.4))
    assert verdict_of_pilot([tuned, losses]).outcome is Outcome.GAIN
    alone = verdict_of_pilot([losses])
    assert alone.outcome is Outcome.NOT_WORTH_IT
    assert "does not decide which encoder is better" in alone.evidence[-1]
    with pytest.raises(DataError, match="no training seed has results in every arm"):
        verdict_of_pilot([])


@pytest.mark.parametrize("arm", ["detour", "twin", "nothing"])
def test_scores_of_one_class_give_no_verdict(arm):
    """Scores below a point that are alike in all arms, as of encoders that find nothing: two of the nine cells."""
    alike = {"detour": (0.0071, 0.0070, 0.0069), "twin": (0.007, 0.007, 0.007), "nothing": (0.006, 0.0061, 0.006)}
    assert verdict_of_pilot([measured("finetuning", POINTS, 1.0, **alike)]).outcome is Outcome.NOT_WORTH_IT
    found = verdict_of_pilot([measured("finetuning", POINTS, 1.0, degenerate={(arm, "triage"): 2}, **alike)])
    assert found.outcome is Outcome.NONE
    assert found.sentence == (
        "No verdict: on triage the encoders predict one class only or nothing in 2 of 9 cells; give it more examples or epochs, "
        "or take a larger pilot (--share)."
    )
    assert any("equivalent" in line for line in found.evidence) == (
        arm == "nothing"
    )  # of detour and twin, which say something


def test_a_verdict_of_two_seeds_is_warned_of():
    tuned = measured("finetuning", POINTS, 1.0, detour=(0.72, 0.73), twin=LEVEL[:2], nothing=LEVEL[:2])
    assert verdict_of_pilot([tuned]).evidence[-1].startswith("Fewer than 3 training seeds")


@pytest.fixture
def project(tiny_run, tmp_path, monkeypatch):
    """A folder with a detour and a twin of 24 + 3 steps, and a current folder elsewhere."""
    folder = tmp_path / "project"
    folder.mkdir()
    decay = {"name": "decay", "objective": "mlm", "tokens": 768, "options": {"rate": 0.15}}
    first = {"detour": {"objective": "clm"}, "twin": {"objective": "mlm", "options": {"rate": 0.3}}}
    for name, objective in first.items():
        run = tiny_run(name, phases=[{"name": "first", "tokens": 24 * 256, **objective}, decay], folder="runs")
        (folder / f"{name}.yaml").write_text(to_yaml(run))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detour.experiments.pilot.start_seconds", lambda: 7.0)
    monkeypatch.setattr("detour.init.machine.cpu_speed", lambda: (1e9, "1 GFLOP/s"))
    return folder


def call(*arguments) -> int:
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return int(exit.value.code or 0)


def test_the_pilot_is_short_and_its_arms_cost_the_same(project, capsys):
    assert call("verdict", project, "--plan", "--share", 0.5, "--seeds", 2) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of the FLOPs of the detour and its twin" in said
    runs = load_experiment(project / "pilot.yaml").runs
    seconds = sum(line.flops for run in runs.values() for line in plan_run(run)) / 1e9
    # a training and an export of each arm and seed: 12 processes of 7 s
    assert (
        f"About {84 + seconds:.1f} s if one job runs at a time: {seconds:.1f} s of training (1 GFLOP/s) and 84.0 s for"
        in said
    )
    assert "the start of 12 processes (7.0 s of CPU time each, measured here)" in said
    assert {seed for _, seed in runs} == {17, 18}
    twin, detour, nothing = (runs[arm, 18] for arm in ("twin", "detour", "nothing"))
    assert [phase.tokens for phase in detour.phases] == [12 * 256, 2 * 256]  # half of 24 and of 3 steps, rounded
    costs = [sum(line.flops for line in plan_run(run, document_tokens=64)) for run in (detour, twin)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)
    assert nothing.phase_schedule.total_tokens == 256
    assert nothing.phases[0].lr_factor == 0
    assert detour.seed == detour.data.shuffle_seed == 18


def test_the_start_of_a_process_is_its_cpu_time():
    spin = "import time\nwhile time.process_time() < 0.5: pass\ntime.sleep(0.5)"
    assert 0.5 <= start_seconds(spin) < 0.9  # an interpreter starts in some hundredths of a second


def test_a_rule_of_a_pilot_needs_its_arms(toy):
    with pytest.raises(ConfigError, match="rule: pilot, expected the arms detour, twin and nothing"):
        load_experiment(toy(rule="pilot"))


def test_the_rule_is_fixed_once_it_is_written(project, capsys):
    assert call("verdict", project, "--plan", "--share", 0.5, "--margin", 2) == 0
    before = (project / "pilot.yaml").read_text()
    assert yaml.safe_load(before)["margin"] == 2.0
    assert "not worth it" in before
    assert call("verdict", project, "--plan", "--margin", 1) == 1
    assert "were fixed before its runs" in capsys.readouterr().err
    assert (project / "pilot.yaml").read_text() == before


def test_a_pilot_that_cannot_be_used_is_not_left_behind_and_one_of_few_steps_says_so(project, capsys):
    assert call("verdict", project, "--plan", "--share", 0.5, "--task", "no_such_task") != 0
    assert "no_such_task" in capsys.readouterr().err
    assert not list(project.glob("pilot*"))
    assert call("verdict", project, "--plan", "--share", 0.5) == 0  # 12 + 2 steps
    said = " ".join(capsys.readouterr().out.split())
    assert "Pilot, detour: The decay, phase 'decay', has only 2 steps" in said
    assert call("experiment", "status", "pilot.yaml") == 0  # in the project: `detour verdict` went there
    assert f"nothing has run yet: {project / 'pilot'} does not exist" in " ".join(capsys.readouterr().out.split())


def test_a_pilot_needs_rows_and_steps(project, capsys):
    assert call("verdict", project, "--plan", "--share", 0.01) == 1
    assert "expected at least 10; --share 0.355 is enough" in capsys.readouterr().err
    assert call("verdict", project, "--plan") == 0  # round(8.52) + round(1.07) steps of 0.355, since 0.05 would be two
    assert "on 0.355 of its tokens" in (project / "pilot.yaml").read_text()
    said = " ".join(capsys.readouterr().out.split())
    assert "Detour and twin are matched by planned FLOPs; nothing, the start model, trains" in said
    assert "Arms are matched" not in said
    assert "GPU-hours" not in said  # of a pilot on a CPU
    for name in ("pilot.yaml", "pilot_arm.yaml"):
        (project / name).unlink()
    run = load(project / "detour.yaml")
    text = (project / "detour.yaml").read_text().replace(run.data.train[0].path, "data/train/none")
    (project / "detour.yaml").write_text(text)
    assert call("verdict", project, "--plan") == 1
    assert "run first: detour data prepare recipe.yaml" in capsys.readouterr().err


@pytest.mark.slow
def test_a_pilot_runs_to_its_verdict(project, monkeypatch, capsys):
    """Every job in this process, one after the other."""

    def run_here(jobs, *arguments, **options):
        for job in jobs:
            if not job.is_done():
                typer.main.get_command(app).main(list(job.arguments), standalone_mode=False)
                assert job.is_done(), job.name

    monkeypatch.setattr("detour.experiments.run.run_jobs", run_here)
    assert call("verdict", project, "--share", 0.9, "--seeds", 2) == 0
    said = capsys.readouterr().out
    found = json.loads((project / "pilot" / "verdict.json").read_text())
    assert found["outcome"] in [outcome.value for outcome in Outcome]
    assert found["sentence"] in said
    assert "which does not decide which encoder is better" in said
    page = project / "pilot" / "page" / "index.html"
    assert found["sentence"] in page.read_text()
    page.unlink()
    assert call("experiment", "report", "pilot.yaml") == 0  # in the project: `detour verdict` went there
    assert f"<strong>{found['sentence']}</strong>" in page.read_text()
    (project / "pilot" / "models" / "twin-seed17" / "config.json").rename(project / "twin.json")
    assert call("experiment", "report", "pilot.yaml") == 0
    assert found["sentence"] not in page.read_text()  # no verdict before all is done
    results = json.loads((project / "pilot" / "page" / "results.json").read_text())
    assert results["answer"] is None
    losses = {(s["arm"], s["training_seed"]): s["score"] for s in results["scores"]["held_out"]}
    assert set(losses) == {(arm, seed) for arm in ("twin", "detour", "nothing") for seed in (17, 18)}
    assert results["equal"] == {"17": True, "18": True}
    lines = (project / "pilot" / "runs" / "nothing-seed17" / "metrics.jsonl").read_text().splitlines()
    nothing = [json.loads(line)["loss/eval/mlm"] for line in lines if "loss/eval/mlm" in line]
    assert len(nothing) > 1
    assert len(set(nothing)) == 1  # before and after the step
