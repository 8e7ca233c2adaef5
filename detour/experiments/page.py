"""The page of an experiment: one HTML file with question, answer, proof of equality, results, costs, and what is not shown."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detour.evaluation.results.arm_figures import arms_plot
from detour.evaluation.results.arm_tables import contrasts_csv, means_csv
from detour.evaluation.results.claims import LedgerRow, Ours, ledger, ledger_csv, ledger_markdown
from detour.experiments.analyses import Analysis, analyses, as_json
from detour.experiments.cells import Plan, finetuning_tasks
from detour.experiments.costs import COUNTED, RunCost, run_costs
from detour.experiments.figures import histories, save_figures
from detour.experiments.page_tables import (
    arms,
    claim_row,
    equality_table,
    limits,
    matched,
    measured_tables,
    missing_work,
)
from detour.experiments.pilot_verdict import verdict_of_pilot
from detour.experiments.results import Measured, check_alike, read_results
from detour.files import naming, write_json, write_text
from detour.plotting import save_figure
from detour.provenance import environment
from detour.report.compare import RunComparison, compare_runs
from detour.report.page import inline_svg, page_environment
from detour.training.run_folder import RunFolder

log = logging.getLogger(__name__)
PAGE, RESULTS = "index.html", "results.json"


def write_page(plan: Plan) -> Path:
    """Writes ``page/index.html`` from what is done so far, with its figures (PNG, SVG) and tables (CSV, JSON) beside it.

    The page says what is missing. Every number on it is also in ``results.json``.

    Args:
        plan: The experiment.

    Returns:
        The page.

    Raises:
        DataError: A record is damaged, or scores were made with different settings.
        ConfigError: A run was trained with other settings than the experiment's file now gives.
    """
    folder = plan.folder / "page"
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_alike(plan)
    measured, costs, runs = read_results(plan), run_costs(plan), histories(plan)
    equality = {seed: _equality(plan, seed) for seed in plan.experiment.config.seeds}
    claims = _claims(plan, measured)
    svgs = save_figures(plan, runs, folder)
    analyzed = analyses(plan, measured)
    for found in analyzed:
        svgs[found.key] = save_figure(found.draw, folder / f"{found.key}.png", folder / f"{found.key}.svg")
    for each in measured:
        svgs |= _forests(each, folder)
        write_text(
            folder / f"{each.key}_means.csv", means_csv(each.basis, each.means, each.scale, None, each.degenerate)
        )
        write_text(folder / f"{each.key}_differences.csv", contrasts_csv(each.comparisons))
    write_text(folder / "claims.md", ledger_markdown(claims))
    write_text(folder / "claims.csv", ledger_csv(claims))
    missing = missing_work(plan, measured)
    answer = verdict_of_pilot(measured).sentence if plan.experiment.config.rule == "pilot" and not missing else None
    results = _as_json(plan, measured, costs, equality, analyzed) | _summary(plan, measured, costs, claims, missing)
    results["answer"] = answer
    write_json(folder / RESULTS, results)
    html = page_environment("detour.experiments").get_template("experiment.html.j2").render(
        config=plan.experiment.config,
        answer=answer,
        arms=arms(plan),
        matched=matched(plan.experiment.config),
        seeds=plan.experiment.config.seeds,
        tasks=list(finetuning_tasks(plan.experiment).values()),
        measured=[measured_tables(each) for each in measured],
        analyses=analyzed,
        equality=[equality_table(seed, found) for seed, found in equality.items()],
        figures={name: _figure(name, svg) for name, svg in svgs.items()},
        costs=costs,
        total=_total(costs),
        alone={key: sum(_of_arm(plan, cost, key) for cost in costs) for key in ("tokens", "flops", "device_seconds")},
        claims=[claim_row(row) for row in claims],
        missing=missing,
        limits=limits(plan, measured),
        environment=environment(),
    )  # fmt: skip
    write_text(folder / PAGE, html)
    return folder / PAGE


def _equality(plan: Plan, seed: int) -> RunComparison | None:
    """The comparison of all arms of one training seed; None until all have begun."""
    runs = [RunFolder.of(run).path for (_, s), run in plan.experiment.runs.items() if s == seed]
    if not all((folder / "run.json").exists() for folder in runs):
        return None
    return compare_runs(runs, differ=plan.experiment.config.differ)


def _forests(each: Measured, folder: Path) -> dict[str, str]:
    svgs = {}
    for comparison in each.comparisons:
        name = f"forest_{each.key}_{comparison.arm}_{comparison.baseline}"
        arms_plot(comparison, folder, name)
        svgs[name] = (folder / f"{name}.svg").read_text(encoding="utf-8")
    return svgs


def _figure(name: str, svg: str) -> Any:
    return inline_svg(svg, name=name, label=name.replace("_", " "))


def _claims(plan: Plan, measured: list[Measured]) -> list[LedgerRow]:
    """Every claim of the paper, beside the comparison that tries it."""
    config = plan.experiment.config
    tuned = next((each for each in measured if each.key == "finetuning"), None)
    results = {}
    for claim, pair in config.claims.items() if tuned else []:
        comparison = next(c for c in tuned.comparisons if (c.arm, c.baseline) == pair)  # type: ignore[union-attr]
        tokens = plan.experiment.runs[pair[0], config.seeds[0]].phase_schedule.total_tokens
        results[claim] = Ours.of(
            comparison, model=config.setting.model, data=config.setting.data, tokens=tokens, metric="each task's"
        )
    return ledger(results)


def _of_arm(plan: Plan, cost: RunCost, key: str) -> float:
    """The cost of a run with everything shared, if it is an arm's or the base; what all runs would cost alone is their sum."""
    return cost.history[key] if cost.name in {*plan.experiment.names.values(), "base"} else 0.0


def _total(costs: list[RunCost]) -> dict[str, float]:
    """What all runs trained, with shared parts counted once."""
    return {key: sum(cost.own[key] for cost in costs) for key in COUNTED}


def _summary(
    plan: Plan, measured: list[Measured], costs: list[RunCost], claims: list[LedgerRow], missing: list[str]
) -> dict[str, Any]:
    """What `detour experiment index` shows besides the comparisons."""
    config = plan.experiment.config
    return {
        "question": config.question,
        "arms": list(config.arms),
        "baseline": config.baseline,
        "seeds": list(config.seeds),
        "missing": missing,
        "titles": {each.key: each.title for each in measured},
        "claims": [
            {"statement": row.claim.statement, "status": row.status.value, "ours": row.ours.sentence}
            for row in claims
            if row.ours
        ],
        "total": _total(costs),
    }


def _as_json(
    plan: Plan,
    measured: list[Measured],
    costs: list[RunCost],
    equality: dict[int, RunComparison | None],
    analyzed: list[Analysis],
) -> dict[str, Any]:
    return {
        "format": 1,
        "experiment": plan.experiment.config.name,
        "scores": {each.key: [asdict(score) for score in each.scores] for each in measured},
        "comparisons": {
            each.key: [
                {
                    "arm": c.arm,
                    "baseline": c.baseline,
                    "basis": c.basis,
                    "unit": c.scale.unit,
                    "verdict": c.overall.verdict.value,
                    "sentence": c.overall.sentence,
                    "degenerate": c.overall.degenerate,
                    "difference": c.overall.summary.mean,
                    "low": _finite(c.overall.summary.low),
                    "high": _finite(c.overall.summary.high),
                    "p": _finite(c.overall.p),
                    "p_equivalence": _finite(c.overall.p_equivalence),
                    "tasks": {
                        t.name: {"difference": t.summary.mean, "p_holm": _finite(t.p_holm), "verdict": t.verdict.value}
                        for t in c.tasks
                    },
                }
                for c in each.comparisons
            ]
            for each in measured
        },
        "analyses": {found.key: as_json(found) for found in analyzed},
        "costs": [asdict(cost) for cost in costs],
        "equal": {str(seed): found.same if found else None for seed, found in equality.items()},
        "environment": environment(),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
