"""What an experiment cost: every run's own training, with what it took over from its trunk counted there only."""

from __future__ import annotations

from dataclasses import dataclass

from detour.cost.ledger import parse_costs, read_costs
from detour.experiments.cells import Plan, trained

COUNTED = ("tokens", "supervised", "flops", "device_seconds")


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """The cost of one finished run.

    Attributes:
        name: Name of the run.
        parent: The run that it branched from, or None.
        own: ``tokens``, ``supervised``, ``flops`` and ``device_seconds`` of what it trained itself.
        history: The same of everything that made its weights, shared or own, from the start model on.
    """

    name: str
    parent: str | None
    own: dict[str, float]
    history: dict[str, float]


def run_costs(plan: Plan) -> list[RunCost]:
    """The cost of every finished run, parents first, from the ledgers in their checkpoints."""
    found = []
    for node in plan.nodes:
        checkpoint = trained(node.run)
        if checkpoint is None:
            continue
        state = checkpoint.state()
        costs = read_costs(state)
        history = {key: float(sum(getattr(cost, key) for cost in costs)) for key in COUNTED}
        branch = state["run"].get("branch")
        shared = parse_costs(branch["costs"]) if branch else []
        taken = {key: float(sum(getattr(cost, key) for cost in shared)) for key in COUNTED}
        own = {key: history[key] - taken[key] for key in COUNTED}
        found.append(RunCost(name=node.run.name, parent=node.parent, own=own, history=history))
    return found
