"""Pairs of texts in JSON objects: where their parts are, and which of them are held out."""

from __future__ import annotations

from dataclasses import dataclass

import xxhash

from detour.corpus.text import Document
from detour.errors import DataError


@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Keys of a pair's JSON object: the two texts and the class."""

    first: str = "first"
    second: str = "second"
    label: str = "label"


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Which pairs are held out of training.

    Attributes:
        fraction: Expected fraction of the pairs, in (0, 1).
        by: Key of the JSON objects whose value decides, so that all pairs with an equal value are on one side; "" for the two
            texts in either order. White space and case make no difference.
        seed: Another seed holds out others.
    """

    fraction: float
    by: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise DataError(f"--held-out is {self.fraction}, expected a fraction between 0 and 1")

    def holds(self, pair: Document, columns: PairColumns) -> bool:
        """Whether a pair is held out."""
        texts = {columns.first: pair.text} | dict(pair.metadata or {})
        values = [texts[columns.first], texts[columns.second]] if not self.by else [texts[self.by]]
        key = "\n".join(sorted(" ".join(str(value).split()).casefold() for value in values))
        return xxhash.xxh64_intdigest(f"validation {key}", seed=self.seed) / 2**64 < self.fraction
