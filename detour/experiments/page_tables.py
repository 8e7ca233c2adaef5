"""The tables of an experiment's page as text, and its lists of what is missing and what is not shown."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from detour.evaluation.results.arm_tables import degenerate_of, verdict_cell
from detour.evaluation.results.claims import LedgerRow
from detour.evaluation.results.levels import ArmComparison
from detour.evaluation.results.tables import FOOTNOTE, NONE, probability
from detour.evaluation.results.verdicts import amount
from detour.experiments.cells import Plan
from detour.experiments.figures import arm_style
from detour.experiments.results import Measured
from detour.experiments.schema import ExperimentConfig
from detour.plotting import OBJECTIVE_COLORS
from detour.report.compare import RunComparison
from detour.report.compare_tables import rows_text
from detour.scheduled import spelled


def arms(plan: Plan) -> list[dict[str, Any]]:
    """Name, description, phases and color of each arm."""
    found = []
    for name, arm in plan.experiment.config.arms.items():
        run = plan.experiment.runs[name, plan.experiment.config.seeds[0]]
        phases = []
        for phase in run.phases:
            options = [f"{key} {spelled(value)}" for key, value in phase.options.items()]
            options += [f"layers {phase.freeze.layers} frozen"] if phase.freeze.layers else []
            options += [*phase.optimizer.words, *(f"rotary {words}" for words in phase.rope.words)]
            phases.append((phase.name, phase.objective, phase.tokens, ", ".join(options)))
        found.append({
            "name": name,
            "description": arm.description,
            "phases": phases,
            "color": f"var(--objective-{OBJECTIVE_COLORS.index(arm_style(plan, name)[0])})",
        })  # fmt: skip
    return found


def equality_table(seed: int, found: RunComparison | None) -> dict[str, Any]:
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


def measured_tables(each: Measured) -> dict[str, Any]:
    """The tables of one kind of measurement as text."""
    first = next(iter(each.means.values()))
    rows = []
    for task in first:
        cells = []
        for arm in each.means:
            s = each.means[arm][task]
            mean, low, high = (amount(value, each.scale, sign=False) for value in (s.mean, s.low, s.high))
            mark = " †" if degenerate_of(each.degenerate, arm, task, each.scale) else ""
            cells.append((mean + mark, None if math.isnan(s.low) else f"[{low}, {high}]"))
        rows.append((task, cells))
    return {
        "key": each.key,
        "title": each.title,
        "note": each.note,
        "basis": each.basis,
        "n": next(iter(first.values())).n,
        "unit": each.scale.unit,
        "row": each.scale.over.removesuffix("s").capitalize(),
        "arms": list(each.means),
        "rows": rows,
        "comparisons": [_contrasts(each, comparison) for comparison in each.comparisons],
        "footnote": FOOTNOTE if each.degenerate else None,
        "missing": each.missing,
    }


def _contrasts(each: Measured, comparison: ArmComparison) -> dict[str, Any]:
    rows = []
    for contrast in (comparison.overall, *comparison.tasks):
        s = contrast.summary
        interval = NONE if math.isnan(s.low) else f"[{amount(s.low, each.scale)}, {amount(s.high, each.scale)}]"
        needed = contrast.seeds_to_decide
        rows.append((
            contrast.name + (" †" if contrast.degenerate else ""),
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


def claim_row(row: LedgerRow) -> dict[str, Any]:
    distance = [f"{name.replace('_', ' ')}: {ours} / {paper}" for name, (ours, paper) in row.distance.items()]
    return {
        "statement": row.claim.statement,
        "paper": f"{row.claim.paper.gap:+.2f}",
        "ours": row.ours.sentence if row.ours else None,
        "status": row.status.value,
        "distance": distance,
    }


def matched(config: ExperimentConfig) -> str:
    """What arms have in common, in a sentence."""
    return config.setting.matched or f"Arms are matched by {config.match.replace('_', ' ')}."


def missing_work(plan: Plan, measured: list[Measured]) -> list[str]:
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


def limits(plan: Plan, measured: list[Measured]) -> list[str]:
    """What the experiment cannot show by its design, one sentence each."""
    config = plan.experiment.config
    lines = [
        f"Nothing about other models or data: one model ({config.setting.model}), one corpus ({config.setting.data}).",
        f"{len(config.seeds)} training seeds per arm: intervals rest on {max(0, len(config.seeds) - 1)} degrees of freedom.",
    ]
    if plan.experiment.base is not None:
        lines.append("All arms and seeds start from one base: the spread between bases is not in the intervals.")
    if config.match == "tokens" and not config.setting.matched:
        lines.append(
            "Arms are compared at the tokens that the file gives them; the compute of each is in the table of costs."
        )
    undecided = [
        f"{c.arm} against {c.baseline} ({each.title.lower()})"
        for each in measured
        for c in each.comparisons
        if c.overall.verdict.value == "undecided"
    ]
    if undecided:
        lines.append(f"Undecided with these seeds: {'; '.join(undecided)}.")
    return lines
