"""The tables, comparisons, forest plots and summary page of a folder of records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from detour.errors import ConfigError, DataError
from detour.evaluation.metrics import title
from detour.evaluation.results import tables
from detour.evaluation.results.arms import check_comparison, write_arms
from detour.evaluation.results.statistics import Comparison, clear_best, compare, summarize
from detour.evaluation.results.student import seeds_needed
from detour.evaluation.results.tables import points, probability
from detour.evaluation.results.verdicts import FINETUNING
from detour.evaluation.suite import collect, deciding, row_of
from detour.files import write_text
from detour.markup import markdown

GAPS = (0.005, 0.01, 0.02)  # differences for which the page states the seeds needed
Scores = dict[str, dict[str, dict[int, float]]]  # model -> task -> seed -> score


def write_summary(
    out: Path, *, baseline: str | None = None, margin: float | None = None, drop_tasks: Sequence[str] = ()
) -> Path:
    """Writes ``scores`` and ``differences`` (.md, .csv, .tex), ``forest_MODEL`` (.png, .svg) and ``summary.md``.

    Args:
        out: A folder of records.
        baseline: Compare every other model with this model, over fine-tuning seeds; or every other arm with this arm, over
            training seeds (models named ``ARM@SEED``; see `write_arms` for the files). None compares none.
        margin: Of equivalence between arms, in points.
        drop_tasks: Tasks to leave out of the comparison of arms.

    Returns:
        The page.

    Raises:
        DataError: No records, a damaged one, or records of one task that differ in configuration or data.
        ConfigError: The baseline is none of the models and arms, or shares no cell with one of the others; or a margin or
            tasks to drop are given without an arm as the baseline.
    """
    records = collect(out)
    _check_alike(records)
    scores = _scores(records)
    models = sorted(scores, key=lambda name: (name != baseline, name))
    check_comparison(models, baseline, margin, drop_tasks)
    by_arm = baseline is not None and baseline not in models
    metrics = {record["task"]["name"]: record["task"]["metric"] for record in records}
    flagged = tables.degenerate_cells(records)
    rows = _rows(records, scores, models, flagged)
    write_text(out / "scores.md", tables.scores_markdown(rows, models))
    write_text(out / "scores.tex", tables.scores_latex(rows, models))
    write_text(out / "scores.csv", tables.scores_csv(rows))
    comparisons = [] if by_arm else _comparisons(scores, models, baseline)
    compared: list[str] = []
    if by_arm and baseline is not None:
        compared = write_arms(records, out, baseline=baseline, margin=margin, drop_tasks=drop_tasks)
    if comparisons:
        _write_comparisons(out, comparisons, metrics, flagged)
    page = out / "summary.md"
    write_text(page, "\n".join(_page(records, rows, models, comparisons, metrics, compared)))
    return page


def _scores(records: Sequence[dict[str, Any]]) -> Scores:
    scores: Scores = {}
    for record in records:
        row = row_of(record)
        scores.setdefault(row["model"], {}).setdefault(row["task"], {})[row["seed"]] = row["test"]
    return scores


def _rows(
    records: Sequence[dict[str, Any]], scores: Scores, models: Sequence[str], flagged: tables.Flagged
) -> list[tables.Row]:
    """One row per task, in the order of the records."""
    best = clear_best(scores)
    tasks = {record["task"]["name"]: record["task"] for record in records}
    return [
        tables.Row(
            task=name,
            language=task["language"],
            metric=task["metric"],
            summaries={m: summarize(list(scores[m][name].values())) for m in models if name in scores[m]},
            best=best.get(name),
            degenerate={m: flagged[m, name] for m in models if (m, name) in flagged},
        )
        for name, task in tasks.items()
    ]


def _write_comparisons(
    out: Path, comparisons: Sequence[Comparison], metrics: dict[str, str], flagged: tables.Flagged
) -> None:
    from detour.evaluation.results.figures import forest_plot  # loads matplotlib

    write_text(out / "differences.csv", tables.differences_csv(comparisons, metrics, flagged))
    for comparison in comparisons:
        suffix = f"differences_{comparison.model}"
        write_text(out / f"{suffix}.md", tables.differences_markdown(comparison, metrics, flagged))
        write_text(out / f"{suffix}.tex", tables.differences_latex(comparison, metrics, flagged))
        forest_plot(comparison, metrics, out)


def _check_alike(records: Sequence[dict[str, Any]]) -> None:
    """Raises DataError if records of one task differ in its configuration or data, or those of one model in its weights."""
    first: dict[str, dict[str, Any]] = {}
    for record in records:
        name = record["task"]["name"]
        other = first.setdefault(name, record)
        for key in ("task", "data"):
            if deciding(record)[key] != deciding(other)[key]:
                one, two = (f"{r['model']['name']} seed {r['seed']}" for r in (other, record))
                raise DataError(f"task '{name}': {one} and {two} differ in their {key}; use one folder for each")
    hashes: dict[str, str] = {}
    for record in records:
        model = record["model"]
        if hashes.setdefault(model["name"], model["sha256"]) != model["sha256"]:
            raise DataError(f"model '{model['name']}': its records are of two models; use one folder for each")


def _comparisons(scores: Scores, models: Sequence[str], baseline: str | None) -> list[Comparison]:
    if baseline is None:
        return []
    try:
        return [compare(m, scores[m], baseline, scores[baseline]) for m in models if m != baseline]
    except ValueError as error:
        raise ConfigError(f"baseline '{baseline}': {error}") from error


def _page(
    records: Sequence[dict[str, Any]],
    rows: Sequence[tables.Row],
    models: Sequence[str],
    comparisons: Sequence[Comparison],
    metrics: dict[str, str],
    compared: Sequence[str],
) -> list[str]:
    hashes = {record["model"]["name"]: record["model"]["sha256"] for record in records}
    page = ["# Scores\n", "Test scores in points, of the epoch that scored best on validation."]
    page.append(
        "Mean ± standard deviation over fine-tuning seeds [95% t interval of the mean]. In bold: clearly better than every "
        "other model (paired t tests over fine-tuning seeds, Holm's correction over tasks, 0.05).\n"
    )
    page.append(tables.scores_markdown(rows, models))
    if any(row.degenerate for row in rows):
        page.append(f"{tables.FOOTNOTE}\n")
    for language in dict.fromkeys(row.language for row in rows):
        page += _language_mean([row for row in rows if row.language == language], models, language)
    page += compared
    for comparison in comparisons:
        page += [
            "",
            *_check(comparison),
            "",
            tables.differences_markdown(comparison, metrics, tables.degenerate_cells(records)),
        ]
        page.append(f"![forest plot]({quote(f'forest_{comparison.model}.png')})\n")
    page += [
        "## Models and notes\n",
        *[f"- {markdown(model)}: sha256 {markdown(hashes[model])}" for model in models],
    ]
    page += _remarks(records)
    return [*page, ""]


def _language_mean(rows: Sequence[tables.Row], models: Sequence[str], language: str) -> list[str]:
    complete = [model for model in models if all(model in row.summaries for row in rows)]
    if len(rows) < 2 or not complete:
        return []
    means = {model: sum(row.summaries[model].mean for row in rows) / len(rows) for model in complete}
    spelt = "; ".join(f"{markdown(model)} {points(mean)}" for model, mean in means.items())
    kinds = "; ".join(dict.fromkeys(title(row.metric) for row in rows))
    return [f"Mean over the {len(rows)} tasks in {markdown(language)} (of {kinds}): {spelt}.\n"]


def _check(comparison: Comparison) -> list[str]:
    c = comparison
    lines = [
        f"## {markdown(c.model)} minus {markdown(c.baseline)}\n",
        f"**Basis: {FINETUNING}.** Everything in this section is about these two trained models and says nothing about another "
        "training run.\n",
        f"Mean over {len(c.tasks)} tasks: {points(c.mean, sign=True)} points, 95% interval "
        f"[{points(c.low, sign=True)}, {points(c.high, sign=True)}], p = {probability(c.p)} "
        "(paired bootstrap over tasks and seeds).",
        f"{c.wins} wins, {c.ties} ties, {c.losses} losses by the mean difference; after Holm's correction "
        f"{c.significant_wins} and {c.significant_losses} are significant at 0.05 (paired t test over seeds).",
        "*Minimum detectable effect*: the smallest true difference that this number of seeds detects with a power of 0.8 at "
        "0.05, given the observed standard deviation; *seeds needed*: to detect the observed difference with that power. Both "
        "before correction over tasks.",
    ]
    if spreads := [d.summary.sd for d in c.tasks if d.summary.sd > 0]:
        needed = [[seeds_needed(gap, sd) or "over 1000" for sd in (min(spreads), max(spreads))] for gap in GAPS]
        spelt = "; ".join(f"{points(gap)} points, {n[0]} to {n[1]}" for gap, n in zip(GAPS, needed, strict=True))
        lines.append(
            f"Seeds needed to detect a given difference on one task, from the least to the most variable task: {spelt}."
        )
    if all(d.summary.n == 1 for d in c.tasks):
        lines.append("With one seed, the interval of the mean does not include the variance between seeds.")
    if len(c.tasks) < 6:
        lines.append(f"With only {len(c.tasks)} tasks, the bootstrap interval of the mean is too narrow.")
    return lines


def _remarks(records: Sequence[dict[str, Any]]) -> list[str]:
    """Notes on single tasks: truncation, limits, lengths below those configured, unreadable words, the tasks' own notes."""
    remarks: dict[str, None] = {}
    for record in records:
        task, outcome, name = record["task"], record["outcome"], markdown(record["task"]["name"])
        who = f"{name}, {markdown(record['model']['name'])}"
        if cut := {split: n for split, n in outcome["truncated"].items() if n}:
            spelt = ", ".join(f"{n} of {record['data']['counts'][split]} {split}" for split, n in cut.items())
            remarks[f"- {who}: texts truncated to {outcome['max_length']} tokens: {spelt}"] = None
        if outcome.get("degenerate"):
            remarks[f"- {who}, seed {record['seed']}: degenerate, the test predictions are {outcome['degenerate']}"] = (
                None
            )
        if outcome["max_length"] < task["max_length"]:
            remarks[
                f"- {who}: inputs of {outcome['max_length']} tokens, the maximum of the model; configured: {task['max_length']}"
            ] = None
        if lost := sum(outcome["unreadable"].values()):
            remarks[f"- {who}: {lost} words without a token, predicted O"] = None
        if limits := {split: n for split, n in task["limit"].items() if n}:
            spelt = ", ".join(f"at most {n} {split}" for split, n in limits.items())
            remarks[f"- {name}: limited to {spelt} examples; not comparable with published scores"] = None
        if task["note"]:
            remarks[f"- {name}: {markdown(task['note'])}"] = None
    return list(remarks)
