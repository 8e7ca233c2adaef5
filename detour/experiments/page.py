"""The page of an experiment: one HTML file with question, answer, proof of equality, results, costs, and what is not shown."""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detour.evaluation.results.arm_figures import arms_plot
from detour.evaluation.results.arm_tables import contrasts_csv, means_csv, verdict_cell
from detour.evaluation.results.claims import LedgerRow, Ours, ledger, ledger_csv, ledger_markdown
from detour.evaluation.results.levels import ArmComparison
from detour.evaluation.results.tables import NONE, probability
from detour.evaluation.results.verdicts import amount
from detour.experiments.analyses import Analysis, analyses, as_json
from detour.experiments.cells import Plan, finetuning_tasks
from detour.experiments.costs import RunCost, run_costs
from detour.experiments.figures import arm_style, histories, save_figures
from detour.experiments.results import Measured, check_alike, read_results
from detour.files import naming, write_json, write_text
from detour.plotting import OBJECTIVE_COLORS, save_figure
from detour.provenance import environment
from detour.report.compare import RunComparison, compare_runs
from detour.report.compare_tables import rows_text
from detour.report.page import inline_svg, page_environment
from detour.training.run_folder import RunFolder

log = logging.getLogger(__name__)
PAGE = "index.html"


def write_page(plan: Plan) -> Path:
    """Writes ``page/index.html`` from what is done so far, with its figures (PNG, SVG) and tables (CSV, JSON) beside it.

    The page says what is missing. Every number on it is also in ``results.json``.

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
        write_text(folder / f"{each.key}_means.csv", means_csv(each.basis, each.means, each.scale))
        write_text(folder / f"{each.key}_differences.csv", contrasts_csv(each.comparisons))
    write_text(folder / "claims.md", ledger_markdown(claims))
    write_text(folder / "claims.csv", ledger_csv(claims))
    write_json(folder / "results.json", _as_json(plan, measured, costs, equality, analyzed))
    html = page_environment("detour.experiments").get_template("experiment.html.j2").render(
        config=plan.experiment.config,
        arms=_arms(plan),
        seeds=plan.experiment.config.seeds,
        tasks=list(finetuning_tasks(plan.experiment).values()),
        measured=[_tables(each) for each in measured],
        analyses=analyzed,
        equality=[_equality_table(seed, found) for seed, found in equality.items()],
        figures={name: _figure(name, svg) for name, svg in svgs.items()},
        costs=costs,
        total={key: sum(cost.own[key] for cost in costs) for key in ("tokens", "supervised", "flops", "device_seconds")},
        alone={key: sum(_of_arm(plan, cost, key) for cost in costs) for key in ("tokens", "flops", "device_seconds")},
        claims=[_claim(row) for row in claims],
        missing=_missing(plan, measured),
        limits=_limits(plan, measured),
        environment=environment(),
    )  # fmt: skip
    write_text(folder / PAGE, html)
    return folder / PAGE


def _arms(plan: Plan) -> list[dict[str, Any]]:
    """Name, description, phases and color of each arm."""
    found = []
    for name, arm in plan.experiment.config.arms.items():
        run = plan.experiment.runs[name, plan.experiment.config.seeds[0]]
        phases = []
        for phase in run.phases:
            options = [f"{key} {value}" for key, value in phase.options.items()]
            options += [f"layers {phase.freeze.layers} frozen"] if phase.freeze.layers else []
            phases.append((phase.name, phase.objective, phase.tokens, ", ".join(options)))
        found.append({
            "name": name,
            "description": arm.description,
            "phases": phases,
            "color": f"var(--objective-{OBJECTIVE_COLORS.index(arm_style(plan, name)[0])})",
        })  # fmt: skip
    return found


def _equality(plan: Plan, seed: int) -> RunComparison | None:
    """The comparison of all arms of one training seed; None until all have begun."""
    runs = [RunFolder.of(run).path for (_, s), run in plan.experiment.runs.items() if s == seed]
    if not all((folder / "run.json").exists() for folder in runs):
        return None
    return compare_runs(runs, differ=plan.experiment.config.differ)


def _equality_table(seed: int, found: RunComparison | None) -> dict[str, Any]:
    if found is None:
        return {"seed": seed, "known": False}
    shown = [item for item in found.keys if item.status in ("differs", "declared", "unknown")]
    rows = [(a, b, same.common_batches if same else None, rows_text(same)) for a, b, same in found.rows]
    return {
        "seed": seed,
        "known": True,
        "same": found.same,
        "equal": len(found.of("same")),
        "undeclared": [*found.of("differs"), *found.of("unknown")],
        "names": [run.name for run in found.runs],
        "keys": [(i.key, [_short_value(v) for v in i.values], i.status) for i in shown],
        "start": _value(found, "start_weights"),
        "tokenizer": _value(found, "tokenizer"),
        "rows": rows,
    }


def _value(found: RunComparison, key: str) -> str:
    values = next(item.values for item in found.keys if item.key == key)
    return str(values[0])[:12] if len(set(map(str, values))) == 1 else "different"


def _short_value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b", r"\1…", text)


def _tables(each: Measured) -> dict[str, Any]:
    """The tables of one kind of measurement as text."""
    first = next(iter(each.means.values()))
    rows = []
    for task in first:
        cells = []
        for arm in each.means:
            s = each.means[arm][task]
            mean, low, high = (amount(value, each.scale, sign=False) for value in (s.mean, s.low, s.high))
            cells.append((mean, None if math.isnan(s.low) else f"[{low}, {high}]"))
        rows.append((task, cells))
    return {
        "key": each.key,
        "title": each.title,
        "note": each.note,
        "basis": each.basis,
        "n": next(iter(first.values())).n,
        "unit": each.scale.unit,
        "arms": list(each.means),
        "rows": rows,
        "comparisons": [_contrasts(each, comparison) for comparison in each.comparisons],
        "missing": each.missing,
    }


def _contrasts(each: Measured, comparison: ArmComparison) -> dict[str, Any]:
    rows = []
    for contrast in (comparison.overall, *comparison.tasks):
        s = contrast.summary
        interval = NONE if math.isnan(s.low) else f"[{amount(s.low, each.scale)}, {amount(s.high, each.scale)}]"
        needed = contrast.seeds_to_decide
        rows.append((
            contrast.name,
            amount(s.mean, each.scale),
            interval,
            probability(contrast.p),
            probability(contrast.p_holm),
            probability(contrast.p_equivalence_holm),
            amount(contrast.minimum_detectable_effect, each.scale, sign=False),
            NONE if needed is None else "over 1000" if needed > 1000 else str(needed),
            verdict_cell(contrast),
        ))  # fmt: skip
    return {
        "arm": comparison.arm,
        "baseline": comparison.baseline,
        "sentence": comparison.overall.sentence,
        "verdict": comparison.overall.verdict.value,
        "rows": rows,
        "figure": f"forest_{each.key}_{comparison.arm}_{comparison.baseline}",
    }


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


def _claim(row: LedgerRow) -> dict[str, Any]:
    distance = [f"{name.replace('_', ' ')}: {ours} / {paper}" for name, (ours, paper) in row.distance.items()]
    return {
        "statement": row.claim.statement,
        "paper": f"{row.claim.paper.gap:+.2f}",
        "ours": row.ours.sentence if row.ours else None,
        "status": row.status.value,
        "distance": distance,
    }


def _of_arm(plan: Plan, cost: RunCost, key: str) -> float:
    """The cost of a run with everything shared, if it is an arm's or the base; what all runs would cost alone is their sum."""
    return cost.history[key] if cost.name in {*plan.experiment.names.values(), "base"} else 0.0


def _missing(plan: Plan, measured: list[Measured]) -> list[str]:
    """One line per kind of work that is not complete."""
    lines = []
    for kind in dict.fromkeys(job.kind for job in plan.jobs):
        left = [job.name for job in plan.jobs if job.kind == kind and not job.is_done()]
        if left:
            total = sum(job.kind == kind for job in plan.jobs)
            lines.append(
                f"{kind}: {len(left)} of {total} jobs are not done: {', '.join(left[:8])}"
                + (" ..." if left[8:] else "")
            )
    for each in measured:
        if each.missing:
            lines.append(
                f"{each.title}: without the training seeds in which an arm lacks scores ({', '.join(each.missing)})"
            )
    return lines


def _limits(plan: Plan, measured: list[Measured]) -> list[str]:
    """What the experiment cannot show by its design, one sentence each."""
    config = plan.experiment.config
    lines = [
        f"Nothing about other models or data: one model ({config.setting.model}), one corpus ({config.setting.data}).",
        f"{len(config.seeds)} training seeds per arm: intervals rest on {max(0, len(config.seeds) - 1)} degrees of freedom.",
    ]
    if plan.experiment.base is not None:
        lines.append("All arms and seeds start from one base: the spread between bases is not in the intervals.")
    if config.match == "tokens":
        lines.append("Arms are matched by tokens, not by compute; the cost of each is in the table of costs.")
    undecided = [
        f"{c.arm} against {c.baseline} ({each.title.lower()})"
        for each in measured
        for c in each.comparisons
        if c.overall.verdict.value == "undecided"
    ]
    if undecided:
        lines.append(f"Undecided with these seeds: {'; '.join(undecided)}.")
    return lines


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
