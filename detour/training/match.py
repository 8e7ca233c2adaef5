"""Equal compute between the arms of a comparison: the length of one phase, fitted to what another run cost.

Equal tokens are not equal compute. Per token CLM passes every position through the vocabulary projection and MLM only
the masked ones; bidirectional attention sees twice the keys. Which is dearer depends on the lengths of the documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from detour import objectives
from detour.config.check import check
from detour.config.load import from_mapping, load
from detour.config.schema import RunConfig
from detour.cost.flops import head_flops
from detour.cost.plan import plan
from detour.errors import ConfigError
from detour.phases import Phase
from detour.training.checkpoints.files import newest_valid


@dataclass(frozen=True)
class Spent:
    """What a phase of the other run cost: planned, or counted by its ledger.

    Attributes:
        phase: What it was.
        attention: Its objective's attention.
        device_seconds: None if it is only planned.
    """

    phase: Phase
    attention: str
    tokens: float
    supervised: float
    flops: float
    device_seconds: float | None


def fitted(run: RunConfig) -> RunConfig:
    """The run with the length of `match.phase` such that its whole cost, by `match.by`, is that of `match.run`.

    FLOPs a token are the other run's, counted over the same documents, phase of the same attention by phase; what the
    number of supervised tokens adds is computed. Device-seconds follow the FLOPs at the speed that the other run had
    under the same attention: an estimate, off by whatever the two objectives' efficiencies differ.

    Returns:
        The same run where `match.run` is null.

    Raises:
        ConfigError: The other run is not there, not finished, of another model, or cannot price one of the phases; or
            the fixed phases alone cost more than it did.
        CheckpointError: All of its checkpoints are damaged.
    """
    match = run.match
    if match.run is None:
        return run
    names = [phase.name for phase in run.phases]
    index = names.index(match.phase) if match.phase else 0
    spent = _spent(run, Path(match.run))
    budget = sum(_of(phase, match.by, match.run) for phase in spent)
    costs = [_cost_of_a_token(run, phase, spent) for phase in run.phases]
    others = sum(cost * p.tokens for i, (cost, p) in enumerate(zip(costs, run.phases, strict=True)) if i != index)
    tokens = round((budget - others) / costs[index])
    if tokens < 1:
        raise ConfigError(
            f"match: {match.run} cost {budget:.4g} {match.by}, and the phases beside '{names[index]}' alone cost {others:.4g}"
        )
    phases = [replace(phase, tokens=tokens) if i == index else phase for i, phase in enumerate(run.phases)]
    result = replace(run, phases=phases)
    if problems := check(result):
        raise ConfigError(
            f"match: phase '{names[index]}' becomes {tokens:,} tokens long, and then " + "; ".join(problems)
        )
    return result


def _cost_of_a_token(run: RunConfig, phase: Phase, spent: Sequence[Spent]) -> float:
    if run.match.by == "tokens":
        return 1.0
    objective, head = objectives.build(phase.objective, phase.options), head_flops(run.architecture)
    alike = [each for each in spent if each.attention == objective.attention and each.tokens]
    if not alike:
        raise ConfigError(
            f"match: {run.match.run} has no phase with {objective.attention} attention, so phase '{phase.name}' has no price"
        )
    tokens = sum(each.tokens for each in alike)
    body = sum(each.flops - head * each.supervised for each in alike) / tokens
    same = [each for each in alike if (each.phase.objective, each.phase.options) == (phase.objective, phase.options)]
    if same:
        share = sum(each.supervised for each in same) / sum(each.tokens for each in same)
    else:
        share = objective.target_fraction(run.match.document_tokens or run.data.seq_len)
    flops = body + head * share
    if run.match.by == "flops":
        return flops
    seconds = sum(_of(each, "device_seconds", str(run.match.run)) for each in alike)
    return flops * seconds / sum(each.flops for each in alike)


def _of(phase: Spent, by: str, source: str) -> float:
    value = getattr(phase, by)
    if value is None:
        raise ConfigError(f"match.by: device_seconds are only known of a run that has been made; {source} is a plan")
    return value


def _spent(run: RunConfig, source: Path) -> list[Spent]:
    """The other run's phases, from its ledger or its plan."""
    if source.is_file():
        other = load(source)
        if other.match.run is not None:
            raise ConfigError(f"match.run: {source} is itself fitted to another run; name that one")
        _same_model(run, other, source)
        lines = plan(other, document_tokens=run.match.document_tokens)
        priced = [(line.tokens, line.supervised, line.flops, None) for line in lines]
    else:
        checkpoint, _ = newest_valid(source / "checkpoints")
        if checkpoint is None:
            raise ConfigError(f"match.run: {source} is neither a YAML nor the folder of a run with checkpoints")
        state = checkpoint.state()
        other = from_mapping(state["run"]["config"], source=str(checkpoint.path))
        _same_model(run, other, source)
        total = sum(phase.tokens for phase in other.phases)
        if checkpoint.tokens < total:
            raise ConfigError(
                f"match.run: {source} has seen {checkpoint.tokens:,} of {total:,} tokens; finish it first"
            )
        priced = [
            (entry["tokens"], entry["supervised"], entry["flops"], entry["device_seconds"])
            for entry in state["callbacks"]["Ledger"]["entries"]
        ]
    return [
        Spent(phase, objectives.build(phase.objective, phase.options).attention, *price)
        for phase, price in zip(other.phases, priced, strict=True)
    ]


def _same_model(run: RunConfig, other: RunConfig, source: Path) -> None:
    if run.architecture != other.architecture:
        raise ConfigError(f"match.run: {source} is of another architecture; its costs say nothing about this run's")
