"""A verdict on a difference between two arms, as a word and as a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from detour.evaluation.results.tables import NONE, probability

Basis = Literal["training seeds", "fine-tuning seeds only"]
TRAINING: Basis = "training seeds"
FINETUNING: Basis = "fine-tuning seeds only"
ALPHA = 0.05
LEAST_SEEDS = 3  # for training
SAME = 1e-12  # differences of scores of order 1 that are closer are equal up to rounding


class Verdict(str, Enum):
    """What a comparison shows.

    The rules, in this order, for the two-sided t test at 0.05 and the TOST at 0.05 within the margin:

    1. The difference is significant: BETTER or WORSE by its sign, also where the TOST is significant too. The sentence then
       adds "but within the margin".
    2. Only the TOST is significant: EQUIVALENT.
    3. Neither is: UNDECIDED. Without a margin there is no TOST, and nothing is EQUIVALENT.

    Where all seeds have the same difference, their spread is not known: there are no tests, and it is UNDECIDED. So is what
    would be EQUIVALENT if predictions of a cell are one class only, or empty: such scores are alike whatever the encoder.
    """

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How scores are read and shown.

    Attributes:
        unit: Shown after a number.
        factor: From scores to that unit.
        higher_is_better: False for losses.
        digits: Decimal places in tables and sentences.
        over: What there are several of for each arm and seed, in the plural: tasks, or held-out sources.
    """

    unit: str
    factor: float
    higher_is_better: bool
    digits: int
    over: str

    @property
    def mean(self) -> str:
        """What the mean is called: ``mean over tasks``."""
        return f"mean over {self.over}"


POINTS = Scale(unit="points", factor=100, higher_is_better=True, digits=2, over="tasks")  # scores in [0, 1]
NATS = Scale(unit="nats", factor=1, higher_is_better=False, digits=4, over="held-out sources")  # losses


def verdict_of(
    mean: float, p: float, p_equivalence: float, *, higher_is_better: bool = True, degenerate: int = 0
) -> Verdict:
    """Applies the rules of `Verdict`; an unknown p (nan) is not significant."""
    if p < ALPHA and mean:
        return Verdict.BETTER if (mean > 0) == higher_is_better else Verdict.WORSE
    return Verdict.EQUIVALENT if p_equivalence < ALPHA and not degenerate else Verdict.UNDECIDED


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a verdict's sentence is made of; differences in the unit of the scores, the margin in that of the scale."""

    arm: str
    baseline: str
    where: str
    verdict: Verdict
    mean: float
    low: float
    high: float
    low_90: float
    high_90: float
    p_equivalence: float
    within_margin: bool
    margin: float | None
    seeds: int
    basis: Basis
    seeds_to_decide: int | None
    degenerate: int = 0  # cells whose predictions are one class only, or empty
    cells: int = 0


def sentence(finding: Finding, scale: Scale) -> str:
    """One or two sentences: the verdict with its interval, what it rests on, and what it would take to decide."""
    f, unit = finding, scale.unit
    count = f"{f.seeds} {f.basis.removesuffix(' only')}"
    counted = count.removesuffix("s") if f.seeds == 1 else count
    difference = f"{f.arm} minus {f.baseline} is {amount(f.mean, scale)} {unit}"
    if math.isnan(f.low) and f.seeds > 1:
        seen = f"{f.arm} and {f.baseline} tie exactly" if abs(f.mean) <= SAME else difference
        text = f"Undecided {f.where}: {seen} in each of {counted}; without spread between seeds there is no interval."
    elif math.isnan(f.low):
        text = f"Undecided {f.where}: {difference}; with {counted} there is no interval."
    else:
        interval = f"95% interval [{amount(f.low, scale)}, {amount(f.high, scale)}]"
        tost = tost_evidence(f.low_90, f.high_90, f.p_equivalence, scale)
        if f.verdict is Verdict.EQUIVALENT:
            text = f"{f.arm} and {f.baseline} are equivalent within {f.margin:g} {unit} {f.where}: "
            text += f"{difference}, {tost}, {counted}."
        elif f.verdict is Verdict.UNDECIDED:
            text = f"Undecided {f.where}: {difference}, {interval}, {counted}."
            text += "" if f.degenerate else f" {_takes(f, unit)}"
        else:
            within = f", but within the margin of {f.margin:g} {unit}" if f.within_margin else ""
            evidence = f"{interval}, {tost}" if f.within_margin else interval
            text = f"{f.arm} is {f.verdict.value} than {f.baseline} {f.where}{within}: {difference}, {evidence}, {counted}."
    if f.degenerate:
        text += f" † In {f.degenerate} of {f.cells} cells the predictions are one class only, or empty: the score says nothing."
    if f.basis == FINETUNING:
        text += " This rests on fine-tuning seeds only and says nothing about another training run."
    return text


def amount(value: float, scale: Scale, *, sign: bool = True) -> str:
    """A value in the scale's unit: +1.24 for points, -0.0031 for nats; a dash for what is not known."""
    if math.isnan(value):
        return NONE
    value = round(scale.factor * value, scale.digits) + 0.0  # no -0.00
    return f"{value:{'+' if sign else ''}.{scale.digits}f}"


def few_seeds(seeds: int) -> list[str]:
    """A warning if intervals and tests have too few training seeds to rest on."""
    if seeds >= LEAST_SEEDS:
        return []
    left = "1 degree of freedom" if seeds == 2 else f"{seeds - 1} degrees of freedom"
    return [
        f"Fewer than {LEAST_SEEDS} training seeds: intervals and tests rest on {left}, and show hardly any difference or "
        "equivalence."
    ]


def tost_evidence(low_90: float, high_90: float, p: float, scale: Scale) -> str:
    """What a claim of equivalence rests on: the TOST at 0.05 compares the 90% interval with the margin."""
    shown = probability(p)
    return (
        f"90% interval [{amount(low_90, scale)}, {amount(high_90, scale)}], "
        f"TOST p {shown.replace('<', '< ') if shown.startswith('<') else f'= {shown}'}"
    )


def _takes(finding: Finding, unit: str) -> str:
    of, n = finding.basis.removesuffix(" only"), finding.seeds_to_decide
    task = "show the difference seen"
    if finding.margin is not None:
        task = f"tell a difference of {finding.margin:g} {unit} from none"
    if n is None:
        return f"It is not known how many {of} it would take to {task}."
    if n <= finding.seeds:
        return (
            f"{n} {of} are enough to {task} with 80% power, given the spread seen; the true difference may lie between."
        )
    count = "More than 1000" if n > 1000 else f"About {n}"
    return f"{count} {of} would be needed to {task} with 80% power, given the spread seen."
