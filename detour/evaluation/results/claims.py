"""The ledger of claims: each figure of the paper beside ours, with the distance between the two protocols.

A claim says how an arm compares with a baseline: higher, lower, or equal. Its status follows from our verdict on the same two
arms (`detour.evaluation.results.verdicts.Verdict`):

- *not tried*: there is no result of ours.
- *reproduced*: our verdict rests on training seeds, is decided, and says the same. For a claim of "equal" that is
  equivalence within the margin. A difference in the claimed direction counts also where it is within the margin.
- *contradicted*: our verdict rests on training seeds, is decided, and says something else: the other direction;
  equivalence within the margin where the paper has a difference; or a difference where the paper has none.
- *undecided*: our verdict is undecided, or rests on fine-tuning seeds only. Another training run might come out otherwise.

The status is about our protocol. How far it is from the paper's is listed field by field: a claim that fails on a small model
is not refuted for a large one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from detour.errors import ConfigError, DataError
from detour.evaluation.results.levels import ArmComparison, Contrast
from detour.evaluation.results.published import Claim, Paper, Protocol, Published, load_claims
from detour.evaluation.results.tables import MARKDOWN, NONE, csv_table, markdown_table, probability
from detour.evaluation.results.verdicts import TRAINING, Basis, Scale, Verdict, amount
from detour.registry import suggestion
from detour.units import short


class Status(str, Enum):
    """What became of a claim; the module's docstring has the rules."""

    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, kw_only=True)
class Ours:
    """Our result on the two arms of a claim.

    Attributes:
        verdict: Of the comparison.
        mean: Arm minus baseline, in the unit of the scores.
        low: Lower end of its 95% interval; nan if there is none.
        high: Upper end.
        basis: What the verdict rests on.
        scale: Unit and direction of the scores.
        sentence: The verdict in words.
        protocol: How it was measured.
    """

    verdict: Verdict
    mean: float
    low: float
    high: float
    basis: Basis
    scale: Scale
    sentence: str
    protocol: Protocol

    @classmethod
    def of(
        cls, comparison: ArmComparison, *, model: str, data: str, tokens: int, metric: str, task: str | None = None
    ) -> Ours:
        """From a comparison. Numbers of seeds and names of tasks are taken from it.

        Args:
            task: One of its tasks; None for the mean over them.

        Raises:
            DataError: The comparison has no such task.
        """
        contrast = _contrast(comparison, task)
        protocol = Protocol(
            model=model,
            data=data,
            tokens=tokens,
            training_seeds=len(comparison.training_seeds),
            finetuning_seeds=comparison.finetuning_seeds,
            tasks=[t.name for t in comparison.tasks] if task is None else [task],
            metric=metric,
        )
        return cls(
            verdict=contrast.verdict,
            mean=contrast.summary.mean,
            low=contrast.summary.low,
            high=contrast.summary.high,
            basis=comparison.basis,
            scale=comparison.scale,
            sentence=contrast.sentence,
            protocol=protocol,
        )


@dataclass(frozen=True, kw_only=True)
class LedgerRow:
    """A claim and what became of it.

    Attributes:
        claim: The paper's.
        ours: None if it was not tried.
        status: By the rules of the module.
        protocol: The paper's.
        distance: For each field in which the protocols differ, ours and the paper's as text; empty if it was not tried.
    """

    claim: Claim
    protocol: Protocol
    ours: Ours | None
    status: Status
    distance: dict[str, tuple[str, str]]


def ledger(results: Mapping[str, Ours], *, paper: Paper | None = None) -> list[LedgerRow]:
    """Every claim of the paper beside our result.

    Args:
        results: By the id of the claim; claims without a result are "not tried".
        paper: The claims; None reads those of the library.

    Raises:
        ConfigError: A result has the id of no claim.
    """
    paper = paper or load_claims()
    ids = [claim.id for claim in paper.claims]
    if unknown := next((key for key in results if key not in ids), None):
        raise ConfigError(
            f"claim '{unknown}': no claim has this id{suggestion(unknown, ids)}; claims: {', '.join(ids)}"
        )
    rows = []
    for claim in paper.claims:
        ours = results.get(claim.id)
        protocol = paper.protocols[claim.protocol]
        distance = protocol_distance(ours.protocol, protocol) if ours else {}
        status = status_of(claim, ours)
        rows.append(LedgerRow(claim=claim, ours=ours, status=status, protocol=protocol, distance=distance))
    return rows


def status_of(claim: Claim, ours: Ours | None) -> Status:
    """Applies the rules of the module's docstring."""
    if ours is None:
        return Status.NOT_TRIED
    if ours.basis != TRAINING or ours.verdict is Verdict.UNDECIDED:
        return Status.UNDECIDED
    found = "equal" if ours.verdict is Verdict.EQUIVALENT else "higher" if ours.mean > 0 else "lower"
    return Status.REPRODUCED if found == claim.expects else Status.CONTRADICTED


def protocol_distance(ours: Protocol, theirs: Protocol) -> dict[str, tuple[str, str]]:
    """The fields in which two protocols differ, as text, ours first. Names are compared without case, tasks without order."""
    found = {}
    for name in (f.name for f in fields(Protocol)):
        one, other = getattr(ours, name), getattr(theirs, name)
        if _comparable(one) != _comparable(other):
            found[name] = (_shown(name, one), _shown(name, other))
    return found


def _contrast(comparison: ArmComparison, task: str | None) -> Contrast:
    if task is None:
        return comparison.overall
    names = [t.name for t in comparison.tasks]
    if task not in names:
        raise DataError(f"task '{task}': not compared{suggestion(task, names)}; tasks: {', '.join(names)}")
    return comparison.tasks[names.index(task)]


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return value.casefold()
    return sorted(item.casefold() for item in value) if isinstance(value, list) else value


def _shown(name: str, value: Any) -> str:
    if value is None or value == []:
        return "not given"
    if isinstance(value, list):
        return ", ".join(value)
    return short(value) if name == "tokens" else str(value)


LABELS = {"training_seeds": "training seeds", "finetuning_seeds": "fine-tuning seeds"}
HEADER = ["claim", "paper", "ours", "status", "what differs (ours / paper)"]


def ledger_markdown(rows: list[LedgerRow]) -> str:
    """One line per claim: statement, the paper's values, ours, status, and every field in which the protocols differ."""
    lines = []
    for row in rows:
        statement = f"{row.claim.statement} {row.claim.note or ''}".strip()
        cells = (statement, _published(row.claim.paper), _result(row.ours), row.status.value, _differing(row))
        lines.append([MARKDOWN.escape(cell) for cell in cells])
    return markdown_table(HEADER, lines)


def ledger_csv(rows: list[LedgerRow]) -> str:
    """One line per claim with every value, and each field of both protocols, in a column of its own."""
    names = [f.name for f in fields(Protocol)]
    header = [
        "id",
        "statement",
        "expects",
        "paper_arm",
        "paper_baseline",
        "paper_difference",
        "paper_p",
        "source",
        "note",
    ]
    header += ["status", "verdict", "basis", "unit", "difference", "low", "high", "sentence"]
    header += [f"{who}_{name}" for name in names for who in ("ours", "paper")]
    lines = []
    for row in rows:
        c, o = row.claim, row.ours
        line: list[object] = [
            c.id,
            c.statement,
            c.expects,
            c.paper.arm,
            c.paper.baseline,
            round(c.paper.gap, 6),
            c.paper.p,
        ]
        line += [c.source, c.note, row.status.value]
        if o is None:
            line += [None] * 7
        else:
            values = [o.scale.factor * value for value in (o.mean, o.low, o.high)]
            line += [o.verdict.value, o.basis, o.scale.unit, *values, o.sentence]
        line += [
            _shown(name, getattr(p, name)) if p else None for name in names for p in (o and o.protocol, row.protocol)
        ]
        lines.append(line)
    return csv_table(header, lines)


def _published(paper: Published) -> str:
    values = (
        f"{paper.gap:+.2f}" if paper.arm is None else f"{paper.arm:g} against {paper.baseline:g} ({paper.gap:+.1f})"
    )
    return values if paper.p is None else f"{values}, p = {probability(paper.p)}"


def _result(ours: Ours | None) -> str:
    if ours is None:
        return NONE
    value = f"{amount(ours.mean, ours.scale)} {ours.scale.unit}"
    if not math.isnan(ours.low):
        value += f" [{amount(ours.low, ours.scale)}, {amount(ours.high, ours.scale)}]"
    return f"{value}, {ours.verdict.value}, {ours.basis}"


def _differing(row: LedgerRow) -> str:
    if row.ours is None:
        return NONE
    spelled = [f"{LABELS.get(name, name)}: {one} / {other}" for name, (one, other) in row.distance.items()]
    return "; ".join(spelled) or "nothing"
