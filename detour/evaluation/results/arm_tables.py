"""Tables of comparisons between arms: means, differences with their verdicts, variance components."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from detour.evaluation.metrics import title
from detour.evaluation.results.levels import ArmComparison, Contrast
from detour.evaluation.results.statistics import Summary
from detour.evaluation.results.tables import (
    LATEX,
    MARKDOWN,
    NO_FLAGS,
    NONE,
    Flagged,
    Form,
    csv_table,
    latex_table,
    markdown_table,
    probability,
)
from detour.evaluation.results.verdicts import ALPHA, FINETUNING, Basis, Scale, Verdict, amount

Metrics = Mapping[str, str]  # task -> name of its metric; given, every table names the averaging
Means = Mapping[str, Mapping[str, Summary]]  # arm -> task -> mean, as of `detour.evaluation.results.levels.arm_means`


def means_markdown(
    basis: Basis, means: Means, scale: Scale, metrics: Metrics | None = None, flagged: Flagged = NO_FLAGS
) -> str:
    """One line per task, the mean over tasks last: for each arm mean ± standard deviation over seeds [95% interval]."""
    return markdown_table(
        [*_first(metrics), "repeated", *means], _mean_cells(basis, means, scale, metrics, MARKDOWN, flagged)
    )


def means_latex(
    basis: Basis, means: Means, scale: Scale, metrics: Metrics | None = None, flagged: Flagged = NO_FLAGS
) -> str:
    """The same as a booktabs table."""
    return latex_table(
        [*_first(metrics), "repeated", *means], _mean_cells(basis, means, scale, metrics, LATEX, flagged)
    )


def means_csv(
    basis: Basis, means: Means, scale: Scale, metrics: Metrics | None = None, flagged: Flagged = NO_FLAGS
) -> str:
    """One line per arm and task, in the scale's unit."""
    header = ["arm", "task", "metric", "unit", "basis", "seeds", "mean", "sd", "low", "high", "degenerate"]
    lines = [
        [
            arm,
            task,
            (metrics or {}).get(task),
            scale.unit,
            basis,
            s.n,
            *(scale.factor * value for value in (s.mean, s.sd, s.low, s.high)),
            degenerate_of(flagged, arm, task, scale),
        ]
        for arm, tasks in means.items()
        for task, s in tasks.items()
    ]
    return csv_table(header, lines)


def degenerate_of(flagged: Flagged, arm: str, task: str, scale: Scale) -> int:
    """Degenerate cells of an arm on a task; on the mean, those of all tasks, which it averages."""
    if task == scale.mean:
        return sum(count for (other, _), count in flagged.items() if other == arm)
    return flagged.get((arm, task), 0)


def contrasts_markdown(comparison: ArmComparison, metrics: Metrics | None = None) -> str:
    """One line per task, the mean over tasks last: the difference, its interval, tests, and verdict."""
    return markdown_table(_header(comparison, metrics), _contrast_cells(comparison, metrics, MARKDOWN))


def contrasts_latex(comparison: ArmComparison, metrics: Metrics | None = None) -> str:
    """The same as a booktabs table."""
    return latex_table(_header(comparison, metrics), _contrast_cells(comparison, metrics, LATEX))


def contrasts_csv(comparisons: Iterable[ArmComparison], metrics: Metrics | None = None) -> str:
    """One line per comparison and task, the mean over tasks last; differences in the scale's unit."""
    header = [
        "arm",
        "baseline",
        "task",
        "metric",
        "unit",
        "basis",
        "seeds",
        "difference",
        "sd",
        "low",
        "high",
        "low_90",
        "high_90",
    ]
    header += ["p", "p_holm", "margin", "p_equivalence", "p_equivalence_holm", "minimum_detectable_effect"]
    header += ["seeds_to_decide", "verdict", "sentence", "degenerate"]
    lines = []
    for c in comparisons:
        for t in (*c.tasks, c.overall):
            s = t.summary
            values = [c.scale.factor * value for value in (s.mean, s.sd, s.low, s.high, t.low_90, t.high_90)]
            tests = [t.p, t.p_holm, c.margin, t.p_equivalence, t.p_equivalence_holm]
            tests += [c.scale.factor * t.minimum_detectable_effect, t.seeds_to_decide, t.verdict.value, t.sentence]
            metric = (metrics or {}).get(t.name)
            lines.append([c.arm, c.baseline, t.name, metric, c.scale.unit, c.basis, s.n, *values, *tests, t.degenerate])
    return csv_table(header, lines)


def components_markdown(comparison: ArmComparison) -> str:
    """Standard deviations of the differences at each level, and their shares of the variance of the mean."""
    c, scale = comparison.components, comparison.scale
    levels = {
        "training seed, shared by all tasks": (c.training_seed, c.shares[0]),
        "training seed, by task": (c.training_seed_by_task, c.shares[1]),
        "fine-tuning seed": (c.finetuning_seed, c.shares[2]),
        "of which shared by all training seeds": (c.finetuning_seed_shared, math.nan),
    }
    lines = [
        [name, amount(sd, scale, sign=False), NONE if math.isnan(share) else f"{share:.0%}"]
        for name, (sd, share) in levels.items()
    ]
    for task, sds in c.by_task.items():
        for level, sd in zip(("training seed", "fine-tuning seed"), sds, strict=True):
            lines.append([f"{MARKDOWN.escape(task)}: {level}", amount(sd, scale, sign=False), NONE])
    return markdown_table(["level", f"standard deviation ({scale.unit})", "share of the variance of the mean"], lines)


def verdict_cell(contrast: Contrast) -> str:
    """The verdict in one or a few words, as tables show it."""
    different = contrast.verdict in (Verdict.BETTER, Verdict.WORSE)
    within = different and contrast.p_equivalence_holm < ALPHA and not contrast.degenerate
    return contrast.verdict.value + (", within the margin" if within else "")


def _repeated(n: int, basis: Basis) -> str:
    """What was repeated: "3 training seeds", "5 fine-tuning seeds only"."""
    kind = basis.removesuffix(" only")
    return f"{n} {kind.removesuffix('s') if n == 1 else kind}" + (" only" if basis == FINETUNING else "")


def _first(metrics: Metrics | None) -> list[str]:
    return ["task"] if metrics is None else ["task", "metric"]


def _task_cells(task: str, metrics: Metrics | None, form: Form, *, marked: bool = False) -> list[str]:
    name = form.escape(task) + (form.mark if marked else "")
    if metrics is None:
        return [name]
    return [name, form.escape(title(metrics[task]) if task in metrics else NONE)]


def _mean_cells(
    basis: Basis, means: Means, scale: Scale, metrics: Metrics | None, form: Form, flagged: Flagged
) -> list[list[str]]:
    lines = []
    for task in next(iter(means.values())):
        cells = []
        for arm, tasks in means.items():
            s = tasks[task]
            mean, sd, low, high = (amount(value, scale, sign=False) for value in (s.mean, s.sd, s.low, s.high))
            cell = mean if s.n == 1 else f"{mean} {form.spread} {sd} [{low}, {high}]"
            cells.append(cell + (form.mark if degenerate_of(flagged, arm, task, scale) else ""))
        n = next(iter(means.values()))[task].n
        lines.append([*_task_cells(task, metrics, form), form.escape(_repeated(n, basis)), *cells])
    return lines


def _header(comparison: ArmComparison, metrics: Metrics | None) -> Sequence[str]:
    unit = comparison.scale.unit
    margin = "no margin" if comparison.margin is None else f"margin {comparison.margin:g}"
    return [
        *_first(metrics),
        "repeated",
        f"difference ({unit})",
        "95% interval",
        "p",
        "p (Holm)",
        f"p (TOST, {margin}, Holm)",
        "minimum detectable effect",
        "seeds to decide",
        "verdict",
    ]


def _contrast_cells(comparison: ArmComparison, metrics: Metrics | None, form: Form) -> list[list[str]]:
    lines = []
    for t in (*comparison.tasks, comparison.overall):
        s, scale = t.summary, comparison.scale
        interval = form.escape(NONE) if math.isnan(s.low) else f"[{amount(s.low, scale)}, {amount(s.high, scale)}]"
        seeds = (
            NONE if t.seeds_to_decide is None else "over 1000" if t.seeds_to_decide > 1000 else str(t.seeds_to_decide)
        )
        texts = [probability(p) for p in (t.p, t.p_holm, t.p_equivalence_holm)]
        texts += [amount(t.minimum_detectable_effect, scale, sign=False), seeds, verdict_cell(t)]
        start = [form.escape(text) for text in (_repeated(s.n, comparison.basis), amount(s.mean, scale))]
        marked = bool(t.degenerate)
        lines.append([*_task_cells(t.name, metrics, form, marked=marked), *start, interval, *map(form.escape, texts)])
    return lines
