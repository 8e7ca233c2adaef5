"""Merges checkpoints of one run: the mean or a moving average of a decay's, or of a stable phase's in place of a decay."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detour.cost.ledger import read_costs
from detour.errors import CheckpointError, ConfigError
from detour.evaluation.derived import refuse_full
from detour.evaluation.models import Model, folder_hash
from detour.export.run import export_run, rope_of
from detour.merging.folders import merge_models
from detour.merging.recipe import Recipe
from detour.phases import PhaseRope
from detour.training.checkpoints import files as checkpoints

log = logging.getLogger(__name__)


def merge_checkpoints(
    run_folder: Path, out: Path, *, tokens: Sequence[int] | None = None, weights: str = "mean"
) -> dict[int, float]:
    """Exports checkpoints of a run, and writes their weighted mean as a Hugging Face folder.

    Each checkpoint is exported and verified in a temporary folder beside ``out``.

    Args:
        run_folder: The run.
        out: The new folder; must not exist, or be empty.
        tokens: Token counts of the checkpoints; None for all of the phase of the last one, the one it began from
            included if it was trained under the same objective.
        weights: As `average_weights` reads it; checkpoints count in the order of their tokens.

    Returns:
        The weight of each checkpoint, by its tokens.

    Raises:
        CheckpointError: The run has fewer than two such checkpoints, one is missing or damaged, or their last steps were
            trained under different objectives.
        ConfigError: ``weights`` has another form.
        ModelError: See `export_run` and `merge_models`.

    Cost: one export per checkpoint on disk, and all of them in memory in fp32.
    """
    out = refuse_full(out)
    chosen = _choose(run_folder / "checkpoints", tokens)
    factors = dict(zip(chosen, average_weights(weights, len(chosen)), strict=True))
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".merging-{out.name}-") as scratch:
        models = []
        for at in chosen:
            folder = Path(scratch) / str(at)
            export_run(run_folder, folder, tokens=at)
            models.append(Model(name=f"{run_folder.resolve().name}@{at}", folder=folder, sha256=folder_hash(folder)))
        merge_models(models, out, Recipe(weights=tuple(factors.values())))
    return factors


def average_weights(spec: str, count: int) -> tuple[float, ...]:
    """The weights of checkpoints in order, with sum 1.

    Args:
        spec: - "mean".
            - "ema:D": an exponential moving average that starts at the first and keeps the fraction D at each further one:
              D^k, then (1 - D) D^(k-j) for checkpoint j = 1..k.
            - "one_minus_sqrt": as if the learning rate had decayed by 1 - sqrt over the checkpoints (WSM, arXiv 2507.17634):
              the steps between checkpoints j-1 and j count 1 - sqrt(j / (k+1)). A linear decay corresponds to the mean.
            - numbers with commas, one per checkpoint.
        count: Number of checkpoints, k + 1.

    Raises:
        ConfigError: Another form.
    """
    last = count - 1
    if spec == "mean":
        return (1 / count,) * count
    if spec == "one_minus_sqrt":
        steps = [1.0, *(1 - math.sqrt(j / count) for j in range(1, count)), 0.0]
        return tuple(steps[j] - steps[j + 1] for j in range(count))
    kind, _, rest = spec.partition(":")
    try:
        if kind == "ema" and 0 < float(rest) < 1:
            keep = float(rest)
            return (keep**last, *((1 - keep) * keep ** (last - j) for j in range(1, count)))
        if (given := tuple(float(part) for part in spec.split(","))) and kind != "ema":
            return given
    except ValueError:
        pass
    raise ConfigError(
        f"weights '{spec[:60]}': expected mean, ema:D with 0 < D < 1, one_minus_sqrt, or numbers with commas"
    )


def _choose(folder: Path, tokens: Sequence[int] | None) -> list[int]:
    """Token counts of the checkpoints to merge, ascending."""
    found = {checkpoint.tokens: _trained_last(checkpoint) for checkpoint in checkpoints.listing(folder)}
    if not found:
        raise CheckpointError(f"{folder}: no checkpoints there")
    if tokens is not None:
        if missing := [at for at in tokens if at not in found]:
            raise CheckpointError(
                f"{folder}: no checkpoint at token {missing[0]}; there are {', '.join(map(str, found))}"
            )
        chosen = sorted(set(tokens))
    else:
        phase, *trained_as = found[max(found)]
        chosen = [at for at, (name, *_) in sorted(found.items()) if name == phase]
        before = [at for at in found if at < chosen[0]]
        if before and [*found[max(before)][1:]] == trained_as:
            chosen = [max(before), *chosen]
    objectives = {found[at][1] for at in chosen}
    ropes = {found[at][2] for at in chosen}
    if len(objectives) > 1:
        raise CheckpointError(
            f"{folder}: checkpoints {', '.join(map(str, chosen))} were trained last under different objectives "
            f"({', '.join(sorted(objectives))}); weights of a causal phase cannot be merged into those of an encoder"
        )
    if len(ropes) > 1:
        raise CheckpointError(
            f"{folder}: checkpoints {', '.join(map(str, chosen))} were trained last under different rotary positions "
            f"({'; '.join(sorted(rope or 'those of the model' for rope in ropes))}), and their average has one setting"
        )
    if len(chosen) < 2:
        raise CheckpointError(
            f"{folder}: {len(chosen)} checkpoint to merge ({', '.join(map(str, chosen))}), expected two or more; "
            "checkpoint.keep keeps more of them"
        )
    return chosen


def _trained_last(checkpoint: checkpoints.Checkpoint) -> tuple[str, str, str]:
    """Name, objective and rotary positions of the phase of a checkpoint's last steps."""
    state = checkpoint.state()
    with checkpoint.translate_errors():
        costs = [cost for cost in read_costs(state) if cost.tokens]
        return costs[-1].phase, costs[-1].objective, ", ".join(PhaseRope(**rope_of(state)).words)
