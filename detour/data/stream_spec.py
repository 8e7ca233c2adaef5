"""The configuration of one stream: a folder of packed rows and its proportion of the mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detour import scheduled
from detour.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """One folder of packed rows.

    Attributes:
        path: Folder written by `detour data prepare` or `detour data pack`; with `remote`, the folder that caches its shards.
        proportion: Fraction of the training rows drawn from this folder; set it for all streams or for none. A schedule over
            the phase (`detour.scheduled`) for one folder or more: each batch then has rows of every folder accordingly.
        remote: Location of the folder: s3://, gs://, hf://datasets/, http(s):// or another path.
        name: Of a validation folder: name of its held-out loss, such as general; null for the part of its path that
            distinguishes it.
    """

    path: str
    proportion: float | dict[str, Any] | None = None
    remote: str | None = None
    name: str | None = None


def proportions_at(streams: Sequence[StreamSpec], fraction: float) -> list[float]:
    """The proportion of each stream after a fraction of the phase. Raises ConfigError if a schedule is malformed."""
    found = [scheduled.at(stream.proportion, fraction) for stream in streams]
    for value in found:
        if type(value) not in (int, float):
            raise ConfigError(f"{value!r} is no number, and no schedule with the keys from and to")
    return [float(value) for value in found]


def is_scheduled_mixture(streams: Sequence[StreamSpec]) -> bool:
    """Whether a proportion changes over the phase."""
    return any(scheduled.is_scheduled(stream.proportion) for stream in streams)
