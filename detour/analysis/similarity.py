"""Divergence of the layers of two encoders, 100 (1 - CKA), beside the divergence of models that differ by their seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from statistics import fmean, stdev
from typing import Any

import numpy as np

from detour.analysis.cka import ESTIMATORS, OUTLIER_FACTOR, Estimator, MinibatchCKA, cka, divergence, outlier_dimensions
from detour.analysis.representations import EMBEDDINGS, FINAL, TextSet, depths_of, layer_states
from detour.errors import ConfigError, DataError
from detour.evaluation.models import Model
from detour.evaluation.probes.frozen import Frozen

Pair = tuple[str, str]  # names of two models
States = list[np.ndarray]  # float32 [n, H] for each depth


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Options of a comparison; all are recorded with the result.

    Attributes:
        subset: Texts per draw; None takes all texts once.
        draws: Seeds of the subset draws.
        max_length: Longest input in tokens.
        batch: Texts per forward pass.
        outlier_factor: A dimension is an outlier if its variance exceeds this many times the median variance.
        minibatch: Texts per minibatch of the streaming estimator (`MinibatchCKA`), in constant memory; None computes CKA
            over all texts of a draw at once.
    """

    subset: int | None = None
    draws: tuple[int, ...] = (42, 43, 44)
    max_length: int = 512
    batch: int = 16
    outlier_factor: float = OUTLIER_FACTOR
    minibatch: int | None = None

    def __post_init__(self) -> None:
        if not self.draws or len(set(self.draws)) < len(self.draws) or min(self.draws) < 0:
            raise ConfigError(f"draws: {list(self.draws)}, expected different seeds of at least 0")
        if not self.outlier_factor > 1:
            raise ConfigError(f"outlier factor: {self.outlier_factor}, expected a number above 1")
        if self.minibatch is not None and self.minibatch < 4:
            raise ConfigError(f"minibatch: {self.minibatch} texts, expected at least 4 (unbiased HSIC)")


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Divergence of two models at one depth.

    Attributes:
        pair: Names of the models.
        depth: "embeddings", the index of a layer, "final", or "mean" (over the layers).
        estimator: "biased" or "unbiased".
        outliers: Whether outlier dimensions are "kept" or "removed", from each model its own.
        draws: Draw's seed -> 100 (1 - CKA).
    """

    pair: Pair
    depth: str
    estimator: Estimator
    outliers: str
    draws: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean over the draws."""
        return fmean(self.draws.values())

    @property
    def sd(self) -> float:
        """Standard deviation over the draws, n - 1 in the denominator; NaN for one draw.

        Draws share texts and training runs: it describes the choice of texts and nothing else.
        """
        return stdev(self.draws.values()) if len(self.draws) > 1 else float("nan")


@dataclass(kw_only=True)
class Similarity:
    """Result of `compare_layers`.

    Attributes:
        pairs: The compared pairs.
        noise: The pairs that differ by their training seed only.
        divergences: For each pair, depth, estimator, and treatment of outliers.
        outliers: Model -> depth -> removed dimensions.
        truncated: Model -> texts that were cut; with minibatches, counted once per pair and draw.
        texts: Different texts that were read by the models.
    """

    pairs: list[Pair]
    noise: list[Pair]
    divergences: list[Divergence] = field(default_factory=list)
    outliers: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    texts: int = 0

    @property
    def depths(self) -> list[str]:
        """All depths in order, "mean" last."""
        return list(dict.fromkeys(found.depth for found in self.divergences))

    def of(self, pair: Pair, estimator: Estimator, outliers: str = "kept") -> dict[str, Divergence]:
        """Depth -> divergence of a pair."""
        key = (pair, estimator, outliers)
        return {
            found.depth: found for found in self.divergences if (found.pair, found.estimator, found.outliers) == key
        }

    def noise_mean(self, depth: str, estimator: Estimator, outliers: str = "kept") -> float:
        """Mean divergence of the noise pairs at a depth; NaN if there are none."""
        found = [self.of(pair, estimator, outliers)[depth].mean for pair in self.noise]
        return fmean(found) if found else float("nan")

    def ratio(self, pair: Pair, depth: str, estimator: Estimator, outliers: str = "kept") -> float:
        """Divergence of a pair / mean divergence of the noise pairs; NaN without noise pairs or if theirs is not above 0."""
        noise = self.noise_mean(depth, estimator, outliers)
        return self.of(pair, estimator, outliers)[depth].mean / noise if noise > 0 else float("nan")

    def rows(self) -> list[dict[str, Any]]:
        """One row per pair, depth, estimator, and treatment of outliers, for CSV and JSON."""
        return [
            {
                "kind": "noise" if found.pair in self.noise else "pair",
                "a": found.pair[0],
                "b": found.pair[1],
                "depth": found.depth,
                "estimator": found.estimator,
                "outliers": found.outliers,
                "divergence": found.mean,
                "sd_over_draws": found.sd,
                "draws": len(found.draws),
                "ratio_to_noise": float("nan")
                if found.pair in self.noise
                else self.ratio(found.pair, found.depth, found.estimator, found.outliers),
            }
            for found in self.divergences
        ]


def compare_layers(
    models: Mapping[str, Model],
    pairs: Sequence[Pair],
    texts: TextSet,
    settings: Settings,
    *,
    noise: Sequence[Pair] = (),
) -> Similarity:
    """Divergence of every layer of pairs of models, on the same texts.

    Args:
        models: Name -> model; every name in a pair must be there.
        pairs: Pairs to compare.
        texts: The text set.
        settings: Draws and estimators. With ``minibatch`` only the unbiased estimator is computed, with outlier
            dimensions kept.
        noise: Pairs of models that differ by their training seed only.

    Raises:
        ConfigError: The two models of a pair differ in depth, a pair is listed twice, or the subset is larger than the
            text set.
        DataError: States of a layer that do not vary, or are not finite.

    Cost: one forward pass per model and drawn text; n H^2 per layer, pair, and draw.
    """
    every = [*pairs, *noise]
    if len(set(every)) < len(every):
        raise ConfigError("pairs: one is listed twice")
    drawn = _draws(texts, settings)
    used = sorted(set(chain.from_iterable(drawn.values())))
    result = Similarity(pairs=list(pairs), noise=list(noise), texts=len(used))
    if settings.minibatch is not None:
        _by_minibatches(result, models, every, texts, drawn, settings)
    else:
        place = {index: row for row, index in enumerate(used)}
        rows = {seed: [place[index] for index in indices] for seed, indices in drawn.items()}
        _at_once(result, models, every, [texts.texts[index] for index in used], rows, settings)
    return result


def _draws(texts: TextSet, settings: Settings) -> dict[int, list[int]]:
    """Seed -> indices; one draw of everything without a subset."""
    if settings.subset is None:
        return {settings.draws[0]: list(range(len(texts.texts)))}
    return {seed: texts.draw(settings.subset, seed) for seed in settings.draws}


def _at_once(
    result: Similarity,
    models: Mapping[str, Model],
    every: Sequence[Pair],
    texts: list[str],
    rows: dict[int, list[int]],
    settings: Settings,
) -> None:
    states: dict[str, States] = {}
    kept: dict[str, list[np.ndarray]] = {}  # model -> depth -> dimensions without outliers
    for name in dict.fromkeys(chain.from_iterable(every)):
        states[name], result.truncated[name] = layer_states(
            Frozen(models[name].folder), texts, max_length=settings.max_length, batch=settings.batch
        )
        found = [outlier_dimensions(x_np, settings.outlier_factor) for x_np in states[name]]
        result.outliers[name] = {
            depth: dims.tolist() for depth, dims in zip(depths_of(states[name]), found, strict=True) if len(dims)
        }
        kept[name] = [np.delete(np.arange(x.shape[1]), dims) for x, dims in zip(states[name], found, strict=True)]
    for a, b in every:
        _refuse_depths((a, b), states[a], states[b])
        for estimator, outliers in product(ESTIMATORS, ("kept", "removed")):
            values: dict[str, dict[int, float]] = {}
            for d, depth in enumerate(depths_of(states[a])):
                x_np, y_nq = states[a][d], states[b][d]
                if outliers == "removed":
                    x_np, y_nq = x_np[:, kept[a][d]], y_nq[:, kept[b][d]]
                values[depth] = {
                    seed: _divergence(x_np[some], y_nq[some], estimator, (a, b), depth) for seed, some in rows.items()
                }
            _add(result, (a, b), estimator, outliers, values)


def _by_minibatches(
    result: Similarity,
    models: Mapping[str, Model],
    every: Sequence[Pair],
    texts: TextSet,
    drawn: dict[int, list[int]],
    settings: Settings,
) -> None:
    """Both models of a pair read one minibatch after the other; no states are kept."""
    size = settings.minibatch or 0
    for a, b in every:
        encoders = {name: Frozen(models[name].folder) for name in dict.fromkeys((a, b))}
        values: dict[str, dict[int, float]] = {}
        cut = dict.fromkeys(encoders, 0)
        for seed, indices in drawn.items():
            shuffled = np.random.default_rng(seed).permutation(indices).tolist()
            batches = [shuffled[i : i + size] for i in range(0, len(shuffled), size)]
            if len(batches) > 1 and len(batches[-1]) < 4:  # too few for HSIC_1: they join the batch before
                batches[-2:] = [batches[-2] + batches[-1]]
            totals: dict[str, MinibatchCKA] = {}
            for some in batches:
                read = {}
                for name, encoder in encoders.items():
                    read[name], count = layer_states(
                        encoder, [texts.texts[i] for i in some], max_length=settings.max_length, batch=settings.batch
                    )
                    cut[name] += count
                _refuse_depths((a, b), read[a], read[b])
                for depth, x_np, y_nq in zip(depths_of(read[a]), read[a], read[b], strict=True):
                    totals.setdefault(depth, MinibatchCKA()).add(x_np, y_nq)
            for depth, total in totals.items():
                values.setdefault(depth, {})[seed] = divergence(_named(total.value, (a, b), depth))
        for name, count in cut.items():
            result.truncated[name] = result.truncated.get(name, 0) + count
        _add(result, (a, b), "unbiased", "kept", values)


def _add(
    result: Similarity, pair: Pair, estimator: Estimator, outliers: str, values: dict[str, dict[int, float]]
) -> None:
    """Adds the divergences of a pair, and their mean over the layers (without "embeddings" and "final")."""
    layers = [draws for depth, draws in values.items() if depth not in (EMBEDDINGS, FINAL)]
    means = {seed: fmean(draws[seed] for draws in layers) for seed in layers[0]}
    for depth, draws in {**values, "mean": means}.items():
        result.divergences.append(
            Divergence(pair=pair, depth=depth, estimator=estimator, outliers=outliers, draws=draws)
        )


def _refuse_depths(pair: Pair, a: States, b: States) -> None:
    if len(a) != len(b):
        raise ConfigError(f"{pair[0]} has {len(a) - 2} layers and {pair[1]} has {len(b) - 2}; expected the same depth")


def _divergence(x_np: np.ndarray, y_nq: np.ndarray, estimator: Estimator, pair: Pair, depth: str) -> float:
    return divergence(_named(lambda: cka(x_np, y_nq, estimator=estimator), pair, depth))


def _named(compute: Any, pair: Pair, depth: str) -> float:
    try:
        return compute()
    except DataError as error:
        raise DataError(f"{pair[0]} and {pair[1]}, {depth}: {error}") from error
