"""Held-out losses of several models on texts of a domain and on general ones, paired by token."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from detour.errors import ConfigError
from detour.evaluation.models import Model
from detour.evaluation.probes.frozen import Frozen
from detour.evaluation.probes.held_out_sets import HeldOutSet
from detour.evaluation.probes.masked_lm import RowLosses
from detour.evaluation.results.token_means import TokenMean, loss_change, loss_of

log = logging.getLogger(__name__)
Role = Literal["domain", "general"]
ROLES: tuple[Role, ...] = ("domain", "general")
TOGETHER = "all"  # the sets of a role, taken together


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The held-out loss of a model on one set.

    Attributes:
        model: Its name.
        role: "domain" or "general".
        data: Name of the set, or TOGETHER.
        loss: Nats per masked token.
        change: Loss minus that of the start model, on the same masked tokens; 0 for the start model.
    """

    model: str
    role: Role
    data: str
    loss: TokenMean
    change: TokenMean


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The loss of one model minus that of another, on the same masked tokens of all sets of a role."""

    model: str
    minus: str
    role: Role
    difference: TokenMean


@dataclass(frozen=True, kw_only=True)
class Retention:
    """The result.

    Attributes:
        models: Names, the start model first.
        losses: By model, role, and set; TOGETHER is the last of a role.
        contrasts: Of each pair of models other than the start, on both roles.
    """

    models: list[str]
    losses: list[Loss]
    contrasts: list[Contrast]

    def of(self, model: str, role: Role, data: str = TOGETHER) -> Loss:
        """The loss of a model on a set. Raises StopIteration if there is none."""
        return next(each for each in self.losses if (each.model, each.role, each.data) == (model, role, data))

    def rows(self) -> list[dict[str, Any]]:
        """A table with one line per model, role, and set, then one per contrast."""
        return [
            {"model": each.model, "role": each.role, "data": each.data, "quantity": quantity, "minus": minus, **vars(mean)}
            for each in self.losses
            for quantity, minus, mean in (("loss", None, each.loss), ("change", self.models[0], each.change))
        ] + [
            {"model": each.model, "role": each.role, "data": TOGETHER, "quantity": "difference", "minus": each.minus,
             **vars(each.difference)}
            for each in self.contrasts
        ]  # fmt: skip


def measure(
    models: Sequence[Model],
    sets: Mapping[Role, Sequence[HeldOutSet]],
    *,
    window: int = 512,
    tokens: int = 200_000,
    load: Callable[[Path], Frozen] = lambda folder: Frozen(folder, masked_lm=True),
) -> Retention:
    """Measures every model on every set, with the same windows and masks.

    Args:
        models: The start model, then those that were trained from it.
        sets: Held-out texts of each role.
        window: Tokens per text window.
        tokens: Documents of a set are read until this many tokens are reached.
        load: Loads a folder with its masked-LM head.

    Raises:
        ConfigError: Fewer than two models, a role without a set, or a set of two roles.
        DataError: The models' tokenizers differ.

    Cost: one forward pass per window, set, and model.
    """
    _check(models, sets)
    found: dict[tuple[str, Role, str], RowLosses] = {}
    for model in models:
        encoder = load(model.folder)
        for role in ROLES:
            for each in sets[role]:
                log.info("%s: %s", model.name, each.name)
                found[model.name, role, each.name] = each.losses(encoder, window=window, tokens=tokens)
            found[model.name, role, TOGETHER] = pooled([found[model.name, role, each.name] for each in sets[role]])
    start, names = models[0].name, [model.name for model in models]
    losses = [
        Loss(model=name, role=role, data=data, loss=loss_of(own), change=loss_change(found[start, role, data], own))
        for (name, role, data), own in found.items()
    ]
    contrasts = [
        Contrast(
            model=a, minus=b, role=role, difference=loss_change(found[b, role, TOGETHER], found[a, role, TOGETHER])
        )
        for a, b in combinations(names[1:], 2)
        for role in ROLES
    ]
    return Retention(models=names, losses=losses, contrasts=contrasts)


def pooled(parts: Sequence[RowLosses]) -> RowLosses:
    """The windows of several sets as those of one."""
    firsts = np.cumsum([0, *(part.document_R.max() + 1 for part in parts[:-1])])
    return RowLosses(
        loss_R=np.concatenate([part.loss_R for part in parts]),
        hits_R=np.concatenate([part.hits_R for part in parts]),
        masked_R=np.concatenate([part.masked_R for part in parts]),
        document_R=np.concatenate([part.document_R + first for part, first in zip(parts, firsts, strict=True)]),
        tokens=sum(part.tokens for part in parts),
        sha256=" ".join(part.sha256 for part in parts),
    )


def _check(models: Sequence[Model], sets: Mapping[Role, Sequence[HeldOutSet]]) -> None:
    if len(models) < 2:
        raise ConfigError(f"retention: {len(models)} model, expected a start model and at least one trained from it")
    for role in ROLES:
        if not sets[role]:
            raise ConfigError(f"retention: no {role} text, expected --{role} NAME=FILE")
        if any(each.name == TOGETHER for each in sets[role]):
            raise ConfigError(f"--{role}: '{TOGETHER}' is the name of all sets together; give another")
    used = {file.resolve(): each.name for each in sets["domain"] for file in each.files}
    for each in sets["general"]:
        for file in each.files:
            if (path := file.resolve()) in used:
                raise ConfigError(f"{file}: among the domain's texts ({used[path]}) and the general ones ({each.name})")
