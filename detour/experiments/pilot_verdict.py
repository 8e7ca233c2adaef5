"""The rule of `detour verdict`: from the comparisons of a pilot to one of three sentences, or to none.

The statistics are those of every experiment (`detour.evaluation.results.levels`); this only reads them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from detour.errors import DataError
from detour.evaluation.results.levels import ArmComparison, Contrast
from detour.evaluation.results.verdicts import ALPHA, Scale, Verdict, amount, few_seeds, tost_evidence
from detour.experiments.results import Measured
from detour.experiments.schema import DETOUR, NOTHING, TWIN


class Outcome(str, Enum):
    """What a pilot says of a detour."""

    GAIN = "expected gain"
    UNDECIDED = "no difference seen"
    NOT_WORTH_IT = "not worth it"
    NONE = "no verdict"


@dataclass(frozen=True, kw_only=True)
class PilotVerdict:
    """The verdict of a pilot.

    Attributes:
        outcome: By the rule in `decide`; "no verdict" if scores that decide are degenerate.
        sentence: The outcome with numbers.
        evidence: The sentence of each comparison, and what they rest on.
    """

    outcome: Outcome
    sentence: str
    evidence: list[str]


def verdict_of_pilot(measured: Sequence[Measured]) -> PilotVerdict:
    """The verdict by the labeled tasks if there are any, else by the held-out loss.

    There is none if predictions of a task that decides are one class only, or empty, in any arm: such scores are alike whatever
    the encoder.

    Raises:
        DataError: No training seed is complete in all arms.
    """
    by_key = {each.key: each for each in measured}
    chosen = by_key.get("finetuning") or by_key.get("held_out")
    if chosen is None:
        raise DataError("pilot: no training seed has results in every arm")
    pairs = {(c.arm, c.baseline): c for c in chosen.comparisons}
    twin, nothing = pairs[DETOUR, TWIN], pairs[DETOUR, NOTHING]
    warnings = few_seeds(len(twin.training_seeds))
    if chosen.degenerate:
        evidence = [comparison.overall.sentence for comparison in (twin, nothing)]
        return PilotVerdict(outcome=Outcome.NONE, sentence=_no_verdict(chosen), evidence=[*evidence, *warnings])
    found = decide(twin, nothing)
    if chosen.key == "finetuning":
        return replace(found, evidence=[*found.evidence, *warnings])
    caution = (
        "This rests on the held-out MLM loss, which does not decide which encoder is better (docs/results/small.md in "
        "the repository of detour): name labeled tasks with --task in a new pilot."
    )
    return replace(found, evidence=[*found.evidence, caution, *warnings])


def _no_verdict(chosen: Measured) -> str:
    """Which scores say nothing, and what to do."""
    counts: Counter[str] = Counter()
    for (_, task), cells in chosen.degenerate.items():
        counts[task] += cells
    where = [
        f"on {task} the encoders predict one class only or nothing in {n} of {sum(s.task == task for s in chosen.scores)} cells"
        for task, n in counts.items()
    ]
    it = "it" if len(counts) == 1 else "them"
    return f"No verdict: {', '.join(where)}; give {it} more examples or epochs, or take a larger pilot (--share)."


def decide(twin: ArmComparison, nothing: ArmComparison) -> PilotVerdict:
    """Applies the rule that pilot.yaml states.

    "Not worth it" if, in either comparison, the detour is worse, equivalent within the margin, or better by less than the margin;
    "expected gain" if it is better in both, each at 0.05: since both have to be, no correction for two tests is needed; "no
    difference seen" otherwise.

    Args:
        twin: The detour minus its twin.
        nothing: The detour minus the start model.
    """
    both = (twin, nothing)
    evidence = [comparison.overall.sentence for comparison in both]
    against = [name for name, c in zip(("its twin", "doing nothing"), both, strict=True) if _is_refuted(c)]
    better = [c.overall.verdict is Verdict.BETTER for c in both]
    if against:
        outcome, text = Outcome.NOT_WORTH_IT, f"Not worth it, compared with {' and with '.join(against)}."
        text += f" Gain over the twin: {_gain(twin)}; over doing nothing: {_gain(nothing)}."
    elif all(better):
        outcome = Outcome.GAIN
        text = f"Expected gain: {_gain(twin)} over the twin, {_gain(nothing)} over doing nothing."
    else:
        outcome = Outcome.UNDECIDED
        text = f"No difference seen: {_gain(twin)} over the twin, {_gain(nothing)} over doing nothing; {_seeds(both)}."
    return PilotVerdict(outcome=outcome, sentence=text, evidence=evidence)


def _is_refuted(comparison: ArmComparison) -> bool:
    overall = comparison.overall
    return overall.verdict in (Verdict.WORSE, Verdict.EQUIVALENT) or overall.p_equivalence < ALPHA


def _gain(comparison: ArmComparison) -> str:
    """The gain with its 95% interval, or with the TOST that the verdict rests on; above 0 is better, for losses too."""
    scale, overall = comparison.scale, comparison.overall
    s = overall.summary
    if overall.p_equivalence < ALPHA:  # there is no margin for losses
        tost = tost_evidence(overall.low_90, overall.high_90, overall.p_equivalence, scale)
        return f"{amount(s.mean, scale)} {_unit(scale)} ({tost})"
    low, high = (s.low, s.high) if scale.higher_is_better else (-s.high, -s.low)
    mean = s.mean if scale.higher_is_better else -s.mean
    interval = f" [{amount(low, scale)}, {amount(high, scale)}]" if low == low else ", without an interval"  # not nan
    return f"{amount(mean, scale)} {_unit(scale)}{interval}"


def _unit(scale: Scale) -> str:
    return scale.unit if scale.higher_is_better else f"{scale.unit} of loss"


def _seeds(both: Sequence[ArmComparison]) -> str:
    """How many training seeds it would take to decide what is undecided."""
    undecided: list[Contrast] = [c.overall for c in both if c.overall.verdict is Verdict.UNDECIDED]
    counts = [contrast.seeds_to_decide for contrast in undecided]
    known = [count for count in counts if count is not None]
    margin = both[0].margin
    task = "show the difference seen" if margin is None else f"tell a gain of {margin:g} {both[0].scale.unit} from none"
    if len(known) < len(counts):
        return "how many training seeds it would take is not known, for want of a spread between them"
    most, seen = max(known), both[0].overall.summary.n
    if most > 1000:
        return f"it would take more than 1000 training seeds to {task}"
    if most <= seen:
        return f"the {seen} training seeds are enough to {task}, given the spread seen: the true gain may lie between"
    return f"it would take about {most} training seeds to {task}, given the spread seen"
