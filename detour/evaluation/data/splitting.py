"""Cutting dev and test from train: at random and without dividing groups, by our rule or by one of published code."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from detour.errors import ConfigError
from detour.evaluation.data.examples import Splits
from detour.evaluation.data.task import SplitConfig


def cut(splits: Splits, config: SplitConfig) -> Splits:
    """Splits train by `split.fractions`.

    Raises:
        ConfigError: The source already has a split that would be cut.
    """
    if not config.fractions:
        return splits
    names = ["train", "dev"] if len(config.fractions) == 2 else ["train", "dev", "test"]
    if present := [name for name in names[1:] if name in splits]:
        raise ConfigError(
            f"split.fractions would cut {' and '.join(names[1:])} from train, but the source has {present[0]}"
        )
    examples = splits.get("train", [])
    groups = list(dict.fromkeys(example.group or example.id for example in examples))
    if not groups:
        return splits
    parts = RULES[config.rule](groups, config.fractions, config.seed)
    split_of = {group: name for name, part in zip(names, parts, strict=True) for group in part}
    made: Splits = {name: [] for name in names}
    for example in examples:
        made[split_of[example.group or example.id]].append(example)
    return {**splits, **made}


def _permutation(groups: Sequence[str], fractions: Sequence[float], seed: int) -> list[list[str]]:
    order = np.random.default_rng(seed).permutation(len(groups))
    bounds = np.rint(np.cumsum(fractions) * len(groups)).astype(int)
    return [[groups[int(i)] for i in part] for part in np.split(order, bounds[:-1])]


def _shuffled_names(
    groups: Sequence[str], fractions: Sequence[float], seed: int, *, remainder: bool
) -> list[list[str]]:
    """Names sorted, then shuffled by Python's generator: FRACCO and FRASIMED in the authors' evaluation code."""
    names, total = sorted(groups), len(groups)
    random.Random(seed).shuffle(names)
    exact = [total * fraction for fraction in fractions]
    counts = [int(count) for count in exact]
    if remainder:
        largest_first = sorted(range(len(counts)), key=lambda i: counts[i] - exact[i])
        for i in largest_first[: total - sum(counts)]:
            counts[i] += 1
    bounds = np.cumsum(counts[:-1]).tolist()
    return [names[begin:end] for begin, end in zip([0, *bounds], [*bounds, total], strict=True)]


def _library(
    groups: Sequence[str],
    fractions: Sequence[float],
    seed: int,
    *,
    cutter: Callable[..., Any],
    test_first: bool = False,
) -> list[list[str]]:
    """A library's own split, applied twice: dev and test cut off together and then divided, or test first and then dev."""
    if len(fractions) == 2:
        return list(cutter(groups, fractions[1], seed))
    train, dev, test = fractions
    if test_first:
        rest, last = cutter(groups, test, seed)
        return [*cutter(rest, round(dev / (train + dev), 9), seed), last]
    first, rest = cutter(groups, round(dev + test, 9), seed)
    return [first, *cutter(rest, round(test / (dev + test), 9), seed)]


def _datasets(groups: Sequence[str], size: float, seed: int) -> list[list[str]]:
    import datasets  # a slow import that other rules do not need

    found = datasets.Dataset.from_dict({"group": list(groups)}).train_test_split(test_size=size, seed=seed)
    return [list(found[part]["group"]) for part in ("train", "test")]


def _sklearn(groups: Sequence[str], size: float, seed: int) -> list[list[str]]:
    from sklearn.model_selection import train_test_split

    return [list(part) for part in train_test_split(list(groups), test_size=size, random_state=seed)]


RULES: dict[str, Callable[[Sequence[str], Sequence[float], int], list[list[str]]]] = {
    "permutation": _permutation,
    "largest_remainder": partial(_shuffled_names, remainder=True),
    "floor": partial(_shuffled_names, remainder=False),
    "datasets": partial(_library, cutter=_datasets),
    "datasets_test_first": partial(_library, cutter=_datasets, test_first=True),
    "sklearn": partial(_library, cutter=_sklearn),
}
