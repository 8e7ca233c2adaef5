"""Scores by arm, training seed, task, and fine-tuning seed, checked to be complete.

Shapes: A arms, S training seeds, K tasks, F fine-tuning seeds of one training seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detour.errors import DataError
from detour.registry import suggestion

LISTED = 10  # missing cells that an error names


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measurement of one trained model.

    Attributes:
        arm: What is compared: the recipe that trained the model.
        training_seed: Seed of the run that trained it; None where it is not known, as of a published model.
        task: Name of the task, probe, or validation folder.
        finetuning_seed: Seed of the fine-tuning; None for measurements without one, such as held-out loss.
        score: The value; finite.
    """

    arm: str
    training_seed: int | None
    task: str
    finetuning_seed: int | None = None
    score: float

    def __str__(self) -> str:
        return _cell(self.arm, self.training_seed, self.task, self.finetuning_seed)


@dataclass(frozen=True, kw_only=True)
class ScoreGrid:
    """A complete table of scores.

    Attributes:
        arms: In the order asked for.
        training_seeds: Sorted; every arm has all of them.
        tasks: In the order of first appearance.
        finetuning_seeds: For each training seed, sorted; the same in all arms and tasks.
        scores_ASKF: The scores.
        dropped: Tasks that the caller left out of all arms.
    """

    arms: tuple[str, ...]
    training_seeds: tuple[int | None, ...]
    tasks: tuple[str, ...]
    finetuning_seeds: dict[int | None, tuple[int | None, ...]]
    scores_ASKF: np.ndarray
    dropped: tuple[str, ...]


def score_grid(
    scores: Iterable[Score], arms: Sequence[str] | None = None, *, drop_tasks: Sequence[str] = ()
) -> ScoreGrid:
    """Arranges scores in a complete table; refuses a table with holes.

    Each arm needs every training seed, task, and fine-tuning seed. Training seeds may have fine-tuning seeds of their own
    if each has equally many.

    Args:
        arms: Those to keep; None keeps all.
        drop_tasks: Tasks to leave out, for all arms.

    Raises:
        DataError: There is no score, an arm or dropped task is unknown, a score is not finite or appears twice, or cells
            are missing; the error names them.
    """
    kept = list(scores)
    known_arms = list(dict.fromkeys(s.arm for s in kept))
    known_tasks = list(dict.fromkeys(s.task for s in kept))
    for kind, asked, known in (("arm", arms or (), known_arms), ("task", drop_tasks, known_tasks)):
        for name in asked:
            if name not in known:
                raise DataError(
                    f"{kind} '{name}': no scores{suggestion(name, known)}; {kind}s: {', '.join(known) or 'none'}"
                )
    arms = tuple(arms or known_arms)
    if twice := next((arm for arm, count in Counter(arms).items() if count > 1), None):
        raise DataError(f"arm '{twice}': cannot be compared with itself")
    kept = [s for s in kept if s.arm in arms and s.task not in drop_tasks]
    if not kept:
        raise DataError("no scores are left" if drop_tasks else "no scores")
    values = _values(kept)
    seeds = sorted({s.training_seed for s in kept}, key=_order)
    tasks = tuple(dict.fromkeys(s.task for s in kept))
    finetuning = _finetuning_seeds(kept, seeds)
    cells = [[[[(arm, seed, task, f) for f in finetuning[seed]] for task in tasks] for seed in seeds] for arm in arms]
    flat = [cell for by_seed in cells for by_task in by_seed for by_f in by_task for cell in by_f]
    if missing := [cell for cell in flat if cell not in values]:
        raise DataError(_listing(missing, len(flat)))
    shape = (len(arms), len(seeds), len(tasks), -1)
    return ScoreGrid(
        arms=arms,
        training_seeds=tuple(seeds),
        tasks=tasks,
        finetuning_seeds=finetuning,
        scores_ASKF=np.array([values[cell] for cell in flat]).reshape(shape),
        dropped=tuple(drop_tasks),
    )


def _values(scores: Sequence[Score]) -> dict[tuple[str, int | None, str, int | None], float]:
    values = {}
    for s in scores:
        cell = (s.arm, s.training_seed, s.task, s.finetuning_seed)
        if cell in values:
            raise DataError(f"{s}: has two scores, {values[cell]} and {s.score}")
        if not math.isfinite(s.score):
            raise DataError(f"{s}: {s.score}, expected a finite score")
        values[cell] = float(s.score)
    return values


def _finetuning_seeds(scores: Sequence[Score], seeds: Sequence[int | None]) -> dict[int | None, tuple[int | None, ...]]:
    """Of each training seed, all that any of its cells has; of all training seeds together where the numbers differ."""
    found = {seed: {s.finetuning_seed for s in scores if s.training_seed == seed} for seed in seeds}
    if len({len(own) for own in found.values()}) > 1:
        found = dict.fromkeys(seeds, set().union(*found.values()))
    return {seed: tuple(sorted(own, key=_order)) for seed, own in found.items()}


def _order(seed: int | None) -> tuple[bool, int]:
    return seed is not None, seed or 0


def _cell(arm: str, training_seed: int | None, task: str, finetuning_seed: int | None) -> str:
    parts = [f"arm '{arm}'", *[f"training seed {training_seed}"] * (training_seed is not None), f"task '{task}'"]
    return ", ".join([*parts, *[f"fine-tuning seed {finetuning_seed}"] * (finetuning_seed is not None)])


def _listing(missing: Sequence[tuple[str, int | None, str, int | None]], total: int) -> str:
    tasks = ", ".join(dict.fromkeys(task for _, _, task, _ in missing))
    lines = [f"  - {_cell(*cell)}" for cell in missing[:LISTED]]
    if len(missing) > LISTED:
        lines.append(f"  - and {len(missing) - LISTED} more")
    start = f"{len(missing)} of {total} scores are missing; measure them, or drop these tasks from all arms ({tasks})"
    return "\n".join([start, *lines])
