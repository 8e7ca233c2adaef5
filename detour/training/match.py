"""Equal compute between the arms of a comparison: sets the length of one phase so that a run costs what another one did.

Equal tokens are not equal compute. CLM passes every position through the vocabulary projection and MLM only the masked ones,
but bidirectional attention sees twice as many keys. Which costs more per token depends on the document lengths.
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
from detour.cost.ledger import read_costs
from detour.cost.plan import plan
from detour.errors import ConfigError
from detour.objectives import ModuleObjective
from detour.phases import Phase
from detour.scheduled import spelled
from detour.training.checkpoints.files import newest_valid


@dataclass(frozen=True)
class PriorCost:
    """Cost of a phase of the other run, planned or counted by its ledger.

    Attributes:
        phase: The phase.
        attention: `attention_label` of the phase.
        tokens: Tokens seen.
        supervised: Tokens that carried loss.
        flops: Training FLOPs.
        device_seconds: Device-seconds of training; None in a plan.
    """

    phase: Phase
    attention: str
    tokens: float
    supervised: float
    flops: float
    device_seconds: float | None


def match_budget(run: RunConfig, *, planned: RunConfig | None = None) -> RunConfig:
    """Sets the length of `match.phase` so that the total cost of the run, measured by `match.by`, equals that of `match.run`.

    If the other run is a plan, FLOPs per token are those of `detour plan`. Of a finished run, those of the encoder are taken
    from its phases with the same attention, and those of the head computed from the number of supervised tokens.
    Device-seconds are FLOPs divided by the speed of the other run under the same attention: an estimate, exact only if both
    objectives are equally efficient.

    Args:
        run: The configuration.
        planned: The other run, whose cost is then that of `detour plan`; None reads `match.run`.

    Returns:
        A configuration with the new length; the given one if `match.run` is null.

    Raises:
        ConfigError: The other run does not exist, is unfinished, has another architecture or no phase with the attention
            needed; or the other phases of this run alone exceed the budget.
        CheckpointError: All checkpoints of the other run are damaged.
    """
    match = run.match
    if match.run is None:
        return run
    names = [phase.name for phase in run.phases]
    index = names.index(match.phase) if match.phase else 0
    prior = _planned_costs(run, planned, match.run) if planned else _prior_costs(run, Path(match.run))
    budget = sum(_of(phase, match.by, match.run) for phase in prior)
    costs = [_cost_per_token(run, phase, prior) for phase in run.phases]
    others = sum(cost * p.tokens for i, (cost, p) in enumerate(zip(costs, run.phases, strict=True)) if i != index)
    tokens = round((budget - others) / costs[index])
    if tokens < 1:
        raise ConfigError(
            f"match: {match.run} cost {budget:.4g} {match.by}, but the phases other than '{names[index]}' already cost "
            f"{others:.4g}"
        )
    phases = [replace(phase, tokens=tokens) if i == index else phase for i, phase in enumerate(run.phases)]
    result = replace(run, phases=phases)
    if problems := check(result):
        raise ConfigError(
            f"match: with {tokens:,} tokens in phase '{names[index]}' the configuration is invalid: "
            + "; ".join(problems)
        )
    return result


def _cost_per_token(run: RunConfig, phase: Phase, prior: Sequence[PriorCost]) -> float:
    if run.match.by == "tokens":
        return 1.0
    attention = attention_label(phase)
    if run.match.by == "flops" and all(each.device_seconds is None for each in prior):  # a plan against a plan
        lines = {line.name: line for line in plan(run, document_tokens=run.match.document_tokens)}
        return lines[phase.name].flops / lines[phase.name].tokens
    objective, head = objectives.build(phase.objective, phase.options), head_flops(run.architecture)
    alike = [each for each in prior if each.attention == attention and each.tokens]
    if not alike:
        raise ConfigError(
            f"match: {run.match.run} has no phase with {attention} attention, so the cost of phase '{phase.name}' "
            "is unknown"
        )
    tokens = sum(each.tokens for each in alike)
    body = sum(each.flops - head * each.supervised for each in alike) / tokens
    same = [each for each in alike if (each.phase.objective, each.phase.options) == (phase.objective, phase.options)]
    if same:
        fraction = sum(each.supervised for each in same) / sum(each.tokens for each in same)
    else:
        fraction = objective.target_fraction(run.match.document_tokens or run.data.seq_len)
    flops = body + head * fraction
    if run.match.by == "flops":
        return flops
    seconds = sum(_of(each, "device_seconds", str(run.match.run)) for each in alike)
    return flops * seconds / sum(each.flops for each in alike)


def attention_label(phase: Phase) -> str:
    """What phases must share for a token to cost the same: one attention rule; else objective, options and all."""
    parts = [
        part
        for fraction in (0.0, 1.0)
        for part, _ in objectives.build(phase.objective, phase.options, fraction=fraction).parts
    ]
    rules, own = {part.attention for part in parts}, phase.data.seq_len
    alone = len(rules) > 1 or phase.streams or any(isinstance(part, ModuleObjective) for part in parts)
    label = f"{phase.objective} {spelled(phase.options)}" if alone else rules.pop()
    return label if own is None else f"{label}, rows of {own}"


def _of(phase: PriorCost, by: str, source: str) -> float:
    value = getattr(phase, by)
    if value is None:
        raise ConfigError(f"match.by: device_seconds are known only for a finished run; {source} is a plan")
    return value


def _prior_costs(run: RunConfig, source: Path) -> list[PriorCost]:
    """Cost of each phase of the other run, from its ledger or its plan."""
    if source.is_file():
        other = load(source)
        if other.match.run is not None:
            raise ConfigError(f"match.run: {source} itself matches another run; name that one")
        return _planned_costs(run, other, str(source))
    checkpoint, _ = newest_valid(source / "checkpoints")
    if checkpoint is None:
        raise ConfigError(f"match.run: {source} is neither a YAML nor the folder of a run with checkpoints")
    state = checkpoint.state()
    other = from_mapping(state["run"]["config"], source=str(checkpoint.path))
    _same_model(run, other, source)
    total = sum(phase.tokens for phase in other.phases)
    if checkpoint.tokens < total:
        raise ConfigError(f"match.run: {source} has seen {checkpoint.tokens:,} of {total:,} tokens; finish it first")
    prices = [(cost.tokens, cost.supervised, cost.flops, cost.device_seconds) for cost in read_costs(state)]
    return _priced(other, prices)


def _planned_costs(run: RunConfig, other: RunConfig, source: str) -> list[PriorCost]:
    _same_model(run, other, source)
    lines = plan(other, document_tokens=run.match.document_tokens)
    return _priced(other, [(line.tokens, line.supervised, line.flops, None) for line in lines])


def _priced(other: RunConfig, prices: Sequence[tuple[float, float, float, float | None]]) -> list[PriorCost]:
    return [PriorCost(phase, attention_label(phase), *price) for phase, price in zip(other.phases, prices, strict=True)]


def _same_model(run: RunConfig, other: RunConfig, source: Path | str) -> None:
    if run.architecture != other.architecture:
        raise ConfigError(f"match.run: {source} has another architecture, so its costs do not apply to this run")
