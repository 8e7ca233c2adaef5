"""What the held-out losses of a run cost, from the configuration alone."""

from __future__ import annotations

from itertools import pairwise

from detour import objectives
from detour.config.schema import RunConfig
from detour.cost.plan import document_flops, plan


def evaluations(run: RunConfig) -> dict[str, int]:
    """How often the held-out loss under each objective of ``evaluation.objectives`` is measured; nothing without rows.

    At the start, every ``evaluation.interval_tokens`` and at the end of each phase, but at most once a step.
    """
    if not run.data.validation:
        return {}
    counts = dict.fromkeys(run.evaluation.objectives, 1)
    ends, interval = run.phase_schedule.boundaries, run.evaluation.interval_tokens
    for phase, line, (start, end) in zip(run.phases, plan(run), pairwise(ends), strict=True):
        within = (end - 1) // interval - start // interval  # multiples of the interval before the end
        for name in counts:
            if phase.evaluate is None or name in phase.evaluate:
                counts[name] += min(within + 1, line.steps)
    return counts


def evaluation_flops(run: RunConfig, *, document_tokens: float | None = None) -> float:
    """FLOPs of all held-out losses: forward passes over ``evaluation.rows`` full rows, once for each mask draw.

    Args:
        run: The configuration.
        document_tokens: As in `detour.cost.plan.plan`.
    """
    length = min(document_tokens or run.data.seq_len, run.data.seq_len, run.architecture.longest_document)
    total = 0.0
    tokens = run.evaluation.rows * run.data.seq_len * run.evaluation.mask_draws
    for name, count in evaluations(run).items():
        objective = objectives.build(name, run.evaluation.objectives[name])
        total += count * tokens * document_flops(run.architecture, objective, length) / round(length) / 3
    return total
