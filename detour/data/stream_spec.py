"""Where a stream of packed rows lies, and its share of the training rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """One folder of packed rows.

    Attributes:
        path: The folder that `detour data prepare` or `detour data pack` wrote; with `remote`, where its shards are cached.
        proportion: Fraction of the training rows drawn from this folder; set it for all streams or for none.
        remote: Where the folder lies: s3://, gs://, hf://datasets/, http(s):// or another path.
    """

    path: str
    proportion: float | None = None
    remote: str | None = None
