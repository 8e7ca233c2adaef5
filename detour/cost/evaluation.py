"""What the held-out losses of a run cost, from the configuration alone."""

from __future__ import annotations

from itertools import pairwise

from detour import objectives
from detour.config.schema import RunConfig
from detour.cost.plan import document_flops, document_length, plan
from detour.objectives import Objective


def evaluations(run: RunConfig) -> dict[str, int]:
    """How often the held-out loss under each objective of ``evaluation.objectives`` is measured, where there are rows for it.

    At the start, every ``evaluation.interval_tokens`` and at the end of each phase, but at most once a step.
    """
    counts = dict.fromkeys(_measured(run), 1)
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
    measured, total = _measured(run), 0.0
    for name, count in evaluations(run).items():
        stream = measured[name].stream_at(0)
        phase = next((phase for phase in run.phases if stream in phase.streams), run.phases[0])
        seq_len = run.data_of(phase, stream).seq_len if stream in phase.streams else run.data.seq_len
        length = min(document_length(run, phase, document_tokens, stream), seq_len)
        tokens = run.evaluation.rows * seq_len * run.evaluation.mask_draws
        total += count * tokens * document_flops(run.architecture, measured[name], length) / round(length) / 3
    return total


def _measured(run: RunConfig) -> dict[str, Objective]:
    """The objectives of ``evaluation.objectives`` for whose stream there are held-out folders."""
    built = {name: objectives.build(name, options) for name, options in run.evaluation.objectives.items()}
    folders = {"": run.data.validation, **run.evaluation.streams}
    return {name: objective for name, objective in built.items() if folders.get(objective.stream_at(0))}
