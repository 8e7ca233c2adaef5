"""Models named ARM@SEED are compared by arm, over training seeds."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from detour.cli.main import app
from detour.errors import ConfigError, DataError
from detour.evaluation.data.task import load_task
from detour.evaluation.results.arms import arm_and_seed
from detour.evaluation.results.summary import write_summary

TASKS, TRAINING, FINETUNING = ("bc5cdr", "hoc"), (17, 18, 19), (42, 43)
MODELS = [f"{arm}@{seed}" for arm in ("twin", "detour") for seed in TRAINING]


def score_of(model: str, task: str, seed: int) -> float:
    arm, training = arm_and_seed(model)
    rng = np.random.default_rng([len(arm), training or 0, len(task), seed])
    return round(0.7 + 0.03 * (arm == "detour") + float(rng.normal(0, 0.004)), 6)


def write_records(out, *, models=MODELS, tasks=TASKS, seeds=FINETUNING, sha=None):
    for model in models:
        for name in tasks:
            task = load_task(name)
            for seed in seeds:
                score = {task.metric: score_of(model, name, seed)}
                record = {
                    "format": 1,
                    "model": {"name": model, "sha256": sha or model},
                    "task": json.loads(json.dumps(task, default=vars)),
                    "data": {"sha256": "d", "counts": {"train": 9, "dev": 9, "test": 9}, "labels": []},
                    "seed": seed,
                    "outcome": {
                        "test": score, "validation": score, "epoch": 1, "max_length": task.max_length, "seconds": 1.0,
                        "truncated": {"train": 0, "dev": 0, "test": 0}, "unreadable": {}, "precision": "fp32",
                    },
                    "environment": {"detour": "0", "commit": None},
                }  # fmt: skip
                path = out / "cells" / model / name / f"seed{seed}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(record))


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("detour@17", ("detour", 17)),
        ("a@b@0", ("a@b", 0)),
        ("detour", ("detour", None)),
        ("@17", ("@17", None)),
        ("detour@", ("detour@", None)),
        ("detour@1x", ("detour@1x", None)),
        ("detour@-1", ("detour@-1", None)),
        ("detour@²", ("detour@²", None)),
    ],
)
def test_the_arm_and_its_seed_are_read_from_the_name(name, expected):
    assert arm_and_seed(name) == expected


def test_arms_are_compared_over_training_seeds(tmp_path):
    write_records(tmp_path)
    page = write_summary(tmp_path, baseline="twin", margin=0.5).read_text()
    rows = {row["task"]: row for row in read_csv(tmp_path / "arms_differences.csv")}
    assert list(rows) == [*TASKS, "mean over tasks"]
    by_task = {
        task: [
            np.mean([score_of(f"detour@{s}", task, f) - score_of(f"twin@{s}", task, f) for f in FINETUNING])
            for s in TRAINING
        ]
        for task in TASKS
    }
    by_task["mean over tasks"] = np.mean([by_task[task] for task in TASKS], axis=0)
    for task, values in by_task.items():
        row = rows[task]
        low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
        assert [float(row[key]) / 100 for key in ("difference", "low", "high")] == pytest.approx(
            [np.mean(values), low, high]
        )
        assert float(row["p"]) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
        assert (row["basis"], row["seeds"], row["margin"]) == ("training seeds", "3", "0.5")
    assert "detour is better than twin on the mean over tasks" in page
    assert "3 training seeds" in page
    assert "another training run" not in page
    for name in ("arms.md", "arms.tex", "arms.csv", "arms_detour.md", "arms_detour.tex", "arms_detour.svg"):
        assert (tmp_path / name).stat().st_size
    assert not (tmp_path / "differences.csv").exists()


def test_models_are_compared_over_fine_tuning_seeds_and_the_page_says_so(tmp_path):
    write_records(tmp_path)
    page = write_summary(tmp_path, baseline="twin@17").read_text()
    for section in re.findall(r"^## detour@\d+ minus .*?(?=^## )", page, flags=re.M | re.S):
        assert "**Basis: fine-tuning seeds only.**" in section
        assert "says nothing about another training run" in section
    assert page.count("**Basis: fine-tuning seeds only.**") == 5
    assert not (tmp_path / "arms.csv").exists()


def test_missing_cells_are_named_unless_their_task_is_dropped(tmp_path):
    write_records(tmp_path)
    (tmp_path / "cells" / "detour@18" / "hoc" / "seed43.json").unlink()
    with pytest.raises(DataError, match="1 of 24 scores are missing") as error:
        write_summary(tmp_path, baseline="twin")
    assert "arm 'detour', training seed 18, task 'hoc', fine-tuning seed 43" in str(error.value)
    page = write_summary(tmp_path, baseline="twin", drop_tasks=["hoc"]).read_text()
    assert "Tasks left out of all arms: hoc." in page
    assert [row["task"] for row in read_csv(tmp_path / "arms_differences.csv")] == ["bc5cdr", "mean over tasks"]
    with pytest.raises(DataError, match=r"task 'hocc': no scores.*tasks: bc5cdr, hoc"):
        write_summary(tmp_path, baseline="twin", drop_tasks=["hocc"])


def test_a_model_without_a_training_seed_is_named_and_not_compared(tmp_path):
    write_records(tmp_path, models=[*MODELS, "base"])
    page = write_summary(tmp_path, baseline="twin").read_text()
    assert "Not compared, for want of a training seed in the name (ARM@SEED): base." in page
    assert {row["arm"] for row in read_csv(tmp_path / "arms.csv")} == {"twin", "detour"}


def test_one_model_under_two_seeds_is_refused(tmp_path):
    write_records(tmp_path, models=["twin@17", "twin@18"], sha="same")
    write_records(tmp_path, models=["detour@17", "detour@18"])
    with pytest.raises(DataError, match="'twin@17' and 'twin@18' have equal files"):
        write_summary(tmp_path, baseline="twin")


def test_one_training_seed_per_arm_is_labeled(tmp_path):
    write_records(tmp_path, models=["twin@17", "detour@17"])
    page = write_summary(tmp_path, baseline="twin", margin=0.5).read_text()
    assert "This rests on fine-tuning seeds only and says nothing about another training run." in page
    assert {row["basis"] for row in read_csv(tmp_path / "arms_differences.csv")} == {"fine-tuning seeds only"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "twim"}, r"no such model.*twin.*arms, of models named ARM@SEED: detour, twin"),
        ({"baseline": "twin@17", "margin": 0.5}, "need an arm as the baseline"),
        ({"margin": 0.5}, "need an arm as the baseline"),
        ({"baseline": "twin", "margin": 0.0}, r"margin: 0.0, expected a number of points above 0"),
        ({"baseline": "twin", "margin": float("nan")}, "margin: nan"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, options, message):
    write_records(tmp_path)
    with pytest.raises(ConfigError, match=message):
        write_summary(tmp_path, **options)


def test_an_arm_alone_is_refused(tmp_path):
    write_records(tmp_path, models=["twin@17", "twin@18"])
    with pytest.raises(ConfigError, match="there is no other arm"):
        write_summary(tmp_path, baseline="twin")


def test_the_command_takes_margin_and_dropped_tasks(tmp_path):
    write_records(tmp_path)
    call = ["eval", "scores", str(tmp_path), "--baseline", "twin", "--margin", "0.5", "--drop-task", "hoc"]
    done = CliRunner().invoke(app, call, catch_exceptions=False)
    assert done.exit_code == 0
    (row, _) = read_csv(tmp_path / "arms_differences.csv")
    assert (row["task"], row["margin"]) == ("bc5cdr", "0.5")
