"""Recomputes an experiment's comparisons from its raw records, sharing no code with the library.

python scripts/recompute_experiment.py work/experiments/smoke

Reads the records of fine-tuning, the CSV files of the probes and the metrics of the runs; computes every mean
difference over training seeds, its 95% interval and its p value with numpy and scipy; and compares them with
page/results.json. Exit code 1 if a number differs by more than 1e-9.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

folder = Path(sys.argv[1])
page = json.loads((folder / "page" / "results.json").read_text())
scores: dict[str, dict[tuple[str, int, str], list[float]]] = {"finetuning": {}, "probes": {}, "held_out": {}}
metric_of: dict[str, str] = {}
total: dict[tuple[str, int, str], list[float]] = {}
for file in folder.glob("evaluation/*/cells/*/*/seed*.json"):
    record = json.loads(file.read_text())
    arm, seed = record["model"]["name"].split("@")
    metric = metric_of.setdefault(record["task"]["name"], record["task"]["metric"])
    key = arm, int(seed), record["task"]["name"]
    scores["finetuning"].setdefault(key, []).append(record["outcome"]["test"][metric])
for file in folder.glob("probes/*.csv"):
    if file.name.startswith(("transplant-", "needle-")):
        continue
    for row in csv.DictReader(file.open()):
        arm, seed = row["model"].split("@")
        if row["metric"] == metric_of.get(row["data"]):
            scores["probes"][arm, int(seed), row["data"]] = [float(row["value"])]
for file in folder.glob("runs/*-seed*/metrics.jsonl"):
    arm, _, seed = file.parent.name.rpartition("-seed")
    if not seed.isdigit() or arm.startswith("trunk-"):
        continue
    for line in file.read_text().splitlines():
        for key, value in json.loads(line).items():
            if key == "loss/eval/mlm":  # the last one stays
                total[arm, int(seed), "validation"] = [value]
            elif key.startswith("loss/eval_folder/mlm/"):
                scores["held_out"][arm, int(seed), key.rpartition("/")[2]] = [value]
if not scores["held_out"]:  # one validation folder: its loss is the total
    scores["held_out"] = total

wrong = checked = 0
for kind, comparisons in page["comparisons"].items():
    table = {key: float(np.mean(values)) for key, values in scores[kind].items()}
    for comparison in comparisons:
        a, b = comparison["arm"], comparison["baseline"]
        seeds = sorted({seed for arm, seed, _ in table if arm == a})
        tasks = sorted({task for arm, _, task in table if arm == a})
        differences = np.array([[table[a, s, t] - table[b, s, t] for t in tasks] for s in seeds])
        by_seed = differences.mean(1)
        test = stats.ttest_1samp(by_seed, 0.0)
        low, high = test.confidence_interval(0.95)
        p = test[1]
        if np.ptp(by_seed) < 1e-12:  # equal differences do not show their spread
            low = high = p = np.nan
        ours = {"difference": by_seed.mean(), "low": low, "high": high, "p": p}
        for name, value in ours.items():
            checked += 1
            found = comparison[name]
            if not (np.isnan(value) and found is None) and abs(value - found) > 1e-9:
                wrong += 1
                print(f"{kind}, {a} minus {b}, {name}: page {found}, recomputed {value}")
        for column, task in enumerate(tasks):
            checked += 1
            if abs(comparison["tasks"][task]["difference"] - differences[:, column].mean()) > 1e-9:
                wrong += 1
                print(
                    f"{kind}, {a} minus {b}, {task}: {comparison['tasks'][task]['difference']}, {differences[:, column].mean()}"
                )
        print(f"{kind}: {a} minus {b}: {by_seed.mean():+.4f} [{low:+.4f}, {high:+.4f}], p {p:.4f}, {len(seeds)} seeds")
print(f"{checked} numbers recomputed, {wrong} differ")
sys.exit(1 if wrong or not checked else 0)
