"""Comparisons between arms from the records of a folder. Models named ``ARM@SEED`` are runs of an arm with a training seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from detour.errors import ConfigError, DataError
from detour.evaluation.results import arm_tables
from detour.evaluation.results.levels import ArmComparison, arm_means, compare_arms
from detour.evaluation.results.score_grid import Score
from detour.evaluation.results.tables import degenerate_cells
from detour.evaluation.results.verdicts import POINTS
from detour.files import write_text
from detour.markup import markdown
from detour.registry import suggestion


def arm_and_seed(name: str) -> tuple[str, int | None]:
    """The arm and training seed in a model's name: ``detour@17`` -> (detour, 17). Without a seed, (name, None)."""
    arm, _, seed = name.rpartition("@")
    if arm and seed.isascii() and seed.isdecimal():
        return arm, int(seed)
    return name, None


def seeded_arms(models: Iterable[str]) -> list[str]:
    """Arms of the models that have a training seed in their name, in order of first appearance."""
    return list(dict.fromkeys(arm for arm, seed in map(arm_and_seed, models) if seed is not None))


def check_comparison(
    models: Sequence[str], baseline: str | None, margin: float | None, drop_tasks: Sequence[str] = ()
) -> None:
    """Checks what is to be compared, before anything is trained.

    Raises:
        ConfigError: The baseline is neither a model nor the arm of models named ``ARM@SEED``; a margin is not above 0; or a
            margin or tasks to drop are given and the baseline is not an arm.
    """
    arms = seeded_arms(models)
    spelled = f"arms, of models named ARM@SEED: {', '.join(arms) or 'none'}"
    if baseline is not None and baseline not in models and baseline not in arms:
        near = suggestion(baseline, [*models, *arms])
        raise ConfigError(f"baseline '{baseline}': no such model{near}; models: {', '.join(models)}; {spelled}")
    if margin is not None and not 0 < margin < math.inf:
        raise ConfigError(f"margin: {margin}, expected a number of points above 0")
    if (margin is not None or drop_tasks) and (baseline is None or baseline in models):
        raise ConfigError(f"a margin and tasks to drop need an arm as the baseline; {spelled}")


def scores_of_records(records: Iterable[dict[str, Any]]) -> list[Score]:
    """Test scores of cells' records, by arm and training seed."""
    scores = []
    for record in records:
        arm, seed = arm_and_seed(record["model"]["name"])
        task = record["task"]
        scores.append(
            Score(
                arm=arm,
                training_seed=seed,
                task=task["name"],
                finetuning_seed=record["seed"],
                score=record["outcome"]["test"][task["metric"]],
            )
        )
    return scores


def write_arms(
    records: Sequence[dict[str, Any]],
    out: Path,
    *,
    baseline: str,
    margin: float | None = None,
    drop_tasks: Sequence[str] = (),
) -> list[str]:
    """Compares every arm with the baseline. Writes tables and a forest plot; returns the sections of the page.

    Args:
        records: Of all models; those without a training seed in their name are not compared.
        out: Gets ``arms`` (.md, .csv, .tex), ``arms_differences.csv``, and for each arm ``arms_ARM`` (.md, .tex, .png, .svg).
        baseline: An arm.
        margin: Of equivalence, in points.
        drop_tasks: Tasks to leave out of all arms.

    Raises:
        ConfigError: There is no other arm.
        DataError: Two runs of an arm have equal files; or arms lack training seeds, tasks, or fine-tuning seeds that others
            have (see `score_grid`).
    """
    from detour.evaluation.results.arm_figures import arms_plot  # loads matplotlib

    scores = [score for score in scores_of_records(records) if score.training_seed is not None]
    _check_runs(records)
    metrics = {record["task"]["name"]: record["task"]["metric"] for record in records}
    seeded = [
        r for r in records if arm_and_seed(r["model"]["name"])[1] is not None and r["task"]["name"] not in drop_tasks
    ]
    flagged = degenerate_cells(seeded, lambda name: arm_and_seed(name)[0])
    arms = [baseline, *sorted({score.arm for score in scores} - {baseline})]
    if len(arms) == 1:
        raise ConfigError(f"baseline '{baseline}': there is no other arm; models of an arm are named ARM@SEED")
    basis, means = arm_means(scores, arms=arms, drop_tasks=drop_tasks)
    comparisons = [
        compare_arms(scores, arm, baseline, margin=margin, drop_tasks=drop_tasks, flagged=flagged) for arm in arms[1:]
    ]
    write_text(out / "arms.md", arm_tables.means_markdown(basis, means, POINTS, metrics, flagged))
    write_text(out / "arms.tex", arm_tables.means_latex(basis, means, POINTS, metrics, flagged))
    write_text(out / "arms.csv", arm_tables.means_csv(basis, means, POINTS, metrics, flagged))
    write_text(out / "arms_differences.csv", arm_tables.contrasts_csv(comparisons, metrics))
    page = ["## Arms\n", f"Mean ± standard deviation over {basis} [95% t interval of the mean], in points.\n"]
    page += [arm_tables.means_markdown(basis, means, POINTS, metrics, flagged)]
    for comparison in comparisons:
        name = f"arms_{comparison.arm}"
        write_text(out / f"{name}.md", arm_tables.contrasts_markdown(comparison, metrics))
        write_text(out / f"{name}.tex", arm_tables.contrasts_latex(comparison, metrics))
        arms_plot(comparison, out, name, metrics)
        page += [*comparison_section(comparison, metrics), f"![forest plot]({quote(f'{name}.png')})\n"]
    unseeded = {arm for arm, seed in (arm_and_seed(r["model"]["name"]) for r in records) if seed is None}
    if unseeded:
        names = ", ".join(map(markdown, sorted(unseeded)))
        page.append(f"Not compared, for want of a training seed in the name (ARM@SEED): {names}.\n")
    return page


def _check_runs(records: Iterable[dict[str, Any]]) -> None:
    """One model under two training seeds would pass for two runs without any spread between them."""
    owners: dict[str, str] = {}
    for record in records:
        model = record["model"]
        other = owners.setdefault(model["sha256"], model["name"])
        if other != model["name"] and arm_and_seed(other)[0] == arm_and_seed(model["name"])[0]:
            raise DataError(
                f"models '{other}' and '{model['name']}' have equal files; expected runs with different seeds"
            )


def comparison_section(comparison: ArmComparison, metrics: Mapping[str, str] | None = None) -> list[str]:
    """A section of a Markdown page: the verdict, the table of tasks, and what dominates the spread."""
    c = comparison
    lines = [f"### {markdown(c.arm)} minus {markdown(c.baseline)}\n", f"{markdown(c.overall.sentence)}\n"]
    if c.dropped:
        lines.append(f"Tasks left out of all arms: {', '.join(map(markdown, c.dropped))}.\n")
    lines += [
        f"Paired t tests and intervals over {c.basis}; of single tasks, verdicts follow p values with Holm's correction. "
        "Seeds to decide: with them a difference as large as the margin and a difference of 0 are each recognized with a "
        "power of 0.8, given the spread seen.\n"
        if c.margin is not None
        else f"Paired t tests and intervals over {c.basis}; of single tasks, verdicts follow p values with Holm's "
        "correction. No margin was named, so nothing is tested for equivalence. Seeds to decide: to show the difference seen "
        "with a power of 0.8.\n",
        arm_tables.contrasts_markdown(c, metrics),
        "Spread of the differences at each level:\n",
        arm_tables.components_markdown(c),
    ]
    return lines
