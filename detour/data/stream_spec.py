"""The configuration of one stream: a folder of packed rows and its proportion of the mixture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """One folder of packed rows.

    Attributes:
        path: Folder written by `detour data prepare` or `detour data pack`; with `remote`, the folder that caches its shards.
        proportion: Fraction of the training rows drawn from this folder; set it for all streams or for none.
        remote: Location of the folder: s3://, gs://, hf://datasets/, http(s):// or another path.
        name: Of a validation folder: name of its held-out loss, such as general; null for the part of its path that
            distinguishes it.
    """

    path: str
    proportion: float | None = None
    remote: str | None = None
    name: str | None = None
