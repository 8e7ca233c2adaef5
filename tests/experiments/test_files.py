"""The experiment files that come with the library: all can be planned without data; what is shared, counted by hand."""

import runpy
from functools import cache
from pathlib import Path

import pytest

from detour.evaluation.results.published import load_claims
from detour.experiments.cells import Plan, plan_experiment
from detour.experiments.config import load_experiment

FOLDER = Path(__file__).parents[2] / "yamls" / "experiments"
PAPER = ["english_base", "english_base_50b", "english_large_50b", "french_base", "french_large"]
# tokens of one training seed in billions, each phase that arms share counted once
BILLIONS = {
    "english_base": 11 + 11 + 11 + (5 + 1) + (5 + 1) + 1 + 10,  # the last arm shares its first 1B
    "english_base_50b": 55 + 55,
    "english_large_50b": 55 + 55,
    "french_base": 10 + 10 + 2 * (0.25 + 1 + 2 + 3 + 5) + 1 + 11 + 11,
    "french_large": 25 + 25 + 2 * (1 + 2.5 + 5),
}


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    """What the files refer to: environment variables, and the smoke experiment's tasks in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER.parents[1])
    runpy.run_path(str(FOLDER.parents[1] / "scripts" / "smoke_data.py"))["describe"](Path("work/smoke"))
    monkeypatch.setenv("DETOUR_SMALL_DATA", "data")
    monkeypatch.setenv("DETOUR_TASKS", "tasks")


@cache
def planned(name: str) -> Plan:
    return plan_experiment(load_experiment(FOLDER / f"{name}.yaml"))


@pytest.mark.parametrize("name", ["smoke", "small", *(f"paper/{name}" for name in PAPER)])
def test_it_can_be_planned_and_is_named_after_its_file(name):
    plan = planned(name)
    assert plan.experiment.config.name == Path(name).stem
    assert len({job.name for job in plan.jobs}) == len(plan.jobs)
    known = {job.name for job in plan.jobs}
    assert all(set(job.needs) <= known for job in plan.jobs)


@pytest.mark.parametrize("name", PAPER)
def test_shared_phases_are_trained_once_per_seed(name):
    plan = planned(f"paper/{name}")
    assert sum(node.tokens for node in plan.nodes) == pytest.approx(3e9 * BILLIONS[name])


def test_the_papers_comparisons_of_fine_tuned_scores_are_all_tried():
    tried = {claim for name in PAPER for claim in planned(f"paper/{name}").experiment.config.claims}
    by_scores = {"french", "english", "decay", "freeze"}
    assert {claim.id for claim in load_claims().claims if claim.id.split("_")[0] in by_scores} == tried


def test_the_five_lengths_of_the_decay_are_the_papers():
    from detour.experiments.analyses import decay_fraction

    plan = planned("paper/french_base")
    curves = plan.experiment.config.analysis.decay
    assert {name: [100 * decay_fraction(plan, arm) for arm in arms] for name, arms in curves.items()} == {
        "CLM": [2.5, 10, 20, 30, 50],
        "MLM": [2.5, 10, 20, 30, 50],
    }
