"""A toy experiment from training to its page: interrupted, continued, and recomputed from its records."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from statistics import mean

import pytest
from safetensors.torch import load_file

from detour.errors import ConfigError
from detour.experiments.cells import plan_experiment
from detour.experiments.config import load_experiment
from detour.experiments.page import write_page
from detour.experiments.run import run_experiment
from detour.export.run import export_run
from detour.train import train
from detour.training.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_from_training_to_the_page(toy, arms, forked_python, tmp_path):
    path = toy(arms={name: arms[name] for name in ("twin", "order")}, probes={})  # every job starts a process
    plan = plan_experiment(load_experiment(path))
    page = run_experiment(plan)
    html = page.read_text()
    assert "Does &lt;b&gt;it&lt;/b&gt; help &amp; how much?" in html
    assert '<span class="badge done">complete</span>' in html
    assert html.count('<span class="badge done">equal</span>') == 2  # one per training seed
    assert "http://" not in html.replace("http://www.w3.org", "")
    _check_scores(plan, json.loads((page.parent / "results.json").read_text()))
    _check_branches(plan, tmp_path)

    stamps = {file: file.stat().st_mtime_ns for file in plan.folder.rglob("model.safetensors")}
    run_experiment(plan)  # nothing is left to do
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps

    changed = plan_experiment(load_experiment(path, ["arms.order.changes.schedule.peak_lr=2e-3"]))
    with pytest.raises(ConfigError, match=r"order-seed17: was trained with other settings .*: schedule"):
        write_page(changed)


def _check_scores(plan, results):
    """Differences between the arms, from the records on disk and nothing else."""
    by_hand = defaultdict(list)
    for file in plan.folder.glob("evaluation/*/cells/*/signs/seed*.json"):
        record = json.loads(file.read_text())
        by_hand[record["model"]["name"]].append(record["outcome"]["test"]["accuracy"])
    assert {name: len(values) for name, values in by_hand.items()} == {
        f"{arm}@{seed}": 2 for arm in ("twin", "order") for seed in (17, 18)
    }
    expected = mean(mean(by_hand[f"order@{seed}"]) - mean(by_hand[f"twin@{seed}"]) for seed in (17, 18))
    (found,) = [c for c in results["comparisons"]["finetuning"] if c["arm"] == "order"]
    assert found["difference"] == pytest.approx(expected, abs=1e-12)
    assert found["basis"] == "training seeds"
    seeds = {(score["training_seed"], score["finetuning_seed"]) for score in results["scores"]["finetuning"]}
    assert seeds == {(17, 42), (17, 43), (18, 44), (18, 45)}
    lines = [json.loads(line) for line in (plan.folder / "runs/twin-seed17/metrics.jsonl").read_text().splitlines()]
    last = [line["loss/eval/mlm"] for line in lines if "loss/eval/mlm" in line][-1]
    (held_out,) = [s for s in results["scores"]["held_out"] if (s["arm"], s["training_seed"]) == ("twin", 17)]
    assert held_out["score"] == last


def _check_branches(plan, tmp_path):
    """An arm of the tree has the weights of the same run trained alone, and costs are counted once."""
    run = plan.experiment.runs["order", 18]
    alone = replace(run, folder=str(tmp_path / "alone"))
    train(alone)
    export_run(RunFolder.of(alone).path, tmp_path / "alone_export")
    ours, theirs = (
        load_file(folder / "model.safetensors") for folder in (plan.model("order-seed18"), tmp_path / "alone_export")
    )
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    costs = json.loads((plan.folder / "page/results.json").read_text())["costs"]
    total = {cost["name"]: cost["history"]["tokens"] for cost in costs}
    own = {cost["name"]: cost["own"]["tokens"] for cost in costs}
    (trunk,) = [cost["name"] for cost in costs if cost["name"].startswith("trunk") and "seed18" in cost["name"]]
    assert own["order-seed18"] == total["order-seed18"] - total[trunk]
    assert own[trunk] == total[trunk]
