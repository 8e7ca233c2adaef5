"""The published values of the paper: claims with their protocols, score tables and curves; read from ``claims.yaml``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from detour.config.load import read_into
from detour.errors import ConfigError
from detour.registry import suggestion

FILE = Path(__file__).with_name("claims.yaml")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a figure was measured; None or an empty list where it is not known.

    Attributes:
        model: The model that training started from.
        data: The corpus that it was trained on.
        tokens: Of all phases together.
        training_seeds: Number of runs per arm.
        finetuning_seeds: Number of fine-tunings, or other repetitions, per run.
        tasks: Their names.
        metric: With its averaging.
    """

    model: str | None = None
    data: str | None = None
    tokens: int | None = None
    training_seeds: int | None = None
    finetuning_seeds: int | None = None
    tasks: list[str] = field(default_factory=list)
    metric: str | None = None


@dataclass(frozen=True, kw_only=True)
class Published:
    """Values of the paper in percent; those that it does not give are None.

    Attributes:
        arm: Of the arm that the statement is about.
        baseline: Of what it is compared with.
        difference: Given only where arm and baseline are not.
        p: As published.
    """

    arm: float | None = None
    baseline: float | None = None
    difference: float | None = None
    p: float | None = None

    def __post_init__(self) -> None:
        if (self.arm is None) != (self.baseline is None) or (self.arm is None) == (self.difference is None):
            raise ValueError("expected arm and baseline, or difference alone")

    @property
    def gap(self) -> float:
        """Arm minus baseline."""
        if self.arm is None or self.baseline is None:
            assert self.difference is not None
            return self.difference
        return self.arm - self.baseline


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One figure of the paper.

    Attributes:
        id: By which results refer to it.
        statement: In a sentence.
        expects: How the paper finds the arm against the baseline.
        protocol: Name of one of the protocols.
        paper: Its values.
        source: Where they are.
        note: What a reader has to know about them.
    """

    id: str
    statement: str
    expects: Literal["higher", "lower", "equal"]
    protocol: str
    paper: Published
    source: str
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Scores by task, in percent: for each arm one per task."""

    tasks: list[str]
    arms: dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Everything in the file of claims.

    Attributes:
        protocols: By name.
        scores: The tables by language, from which the means of the claims can be computed.
        claims: In the order of the ledger.
        curves: Series of values by figure, which `detour.analysis` draws behind its own.
    """

    protocols: dict[str, Protocol]
    scores: dict[str, ScoreTable]
    claims: list[Claim]
    curves: dict[str, Any] = field(default_factory=dict)


def load_claims(path: Path = FILE) -> Paper:
    """Reads and checks a file of claims.

    Raises:
        ConfigError: A key is unknown, missing or of the wrong type; an id is given twice; a protocol is unknown; a score
            table has a row of another length; or a published difference contradicts what the claim expects.
    """
    paper = read_into(Paper, path)
    problems, seen = [], set()
    for claim in paper.claims:
        if claim.id in seen:
            problems.append(f"claim '{claim.id}': the id is given twice")
        seen.add(claim.id)
        if claim.protocol not in paper.protocols:
            problems.append(
                f"claim '{claim.id}': no protocol '{claim.protocol}'{suggestion(claim.protocol, paper.protocols)}"
            )
        if claim.expects != "equal" and (claim.paper.gap > 0) != (claim.expects == "higher"):
            problems.append(
                f"claim '{claim.id}': expects {claim.expects}, but the difference is {claim.paper.gap:+.2f}"
            )
    for name, table in paper.scores.items():
        problems += [
            f"scores.{name}.{arm}: {len(scores)} scores, expected {len(table.tasks)}, one per task"
            for arm, scores in table.arms.items()
            if len(scores) != len(table.tasks)
        ]
    if problems:
        raise ConfigError(f"{path}: " + "\n  - ".join([f"{len(problems)} problem(s)", *problems]))
    return paper
