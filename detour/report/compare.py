"""Compares runs: start weights, data, consumed rows, every setting and the environment.

Differences are either declared or reported. A value that a run did not record is unknown, and never counts as equal. Run
folders are only read, without their weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from detour.data.fingerprint import RowComparison, compare_fingerprints
from detour.errors import ConfigError
from detour.registry import suggestion
from detour.report.compared_run import ABSENT, FREE, UNKNOWN, ComparedRun, read_compared

# names, which are not compared: data, tokenizer and weights are compared by their hashes
NAMES = ("name", "folder", "model.init", "model.tokenizer", "model.size", "logging", "match", "branch")
PATHS = ("path", "remote")  # of data.train[0] and the like
Status = Literal["same", "differs", "declared", "unknown", "not compared"]


@dataclass(frozen=True, kw_only=True)
class ComparedKey:
    """The values of one key in all runs.

    Attributes:
        key: Full key of a setting, or ``start_weights``, ``tokenizer``, ``data.train[0].rows``, ``rows``, ``progress``,
            ``environment.torch`` and so on.
        values: One value per run: UNKNOWN if the run did not record it, ABSENT if it has no such phase or folder.
        status: "declared" if the values differ or are unknown and the key was declared; "not compared" for names.
    """

    key: str
    values: tuple[Any, ...]
    status: Status


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """The result of a comparison.

    Attributes:
        runs: The runs, in the order given.
        keys: Every compared key, in the order of the configuration.
        rows: Per pair of runs: their names, and how far they consumed the same rows (None if unknown).
        unused: Declared keys that do not differ.
    """

    runs: list[ComparedRun]
    keys: list[ComparedKey]
    rows: list[tuple[str, str, RowComparison | None]]
    unused: list[str]

    def of(self, status: Status) -> list[str]:
        """Names of the keys with a status."""
        return [item.key for item in self.keys if item.status == status]

    @property
    def same(self) -> bool:
        """Whether every key that was not declared is known and equal."""
        return not self.of("differs") and not self.of("unknown")


def compare_runs(folders: Sequence[Path], *, differ: Sequence[str] = ()) -> RunComparison:
    """Compares two or more runs.

    Args:
        folders: Run folders.
        differ: Keys declared to differ; each covers the keys below it: "phases", "schedule.peak_lr", "rows".

    Raises:
        ConfigError: There are fewer than two runs, a run is given twice, or no run has a declared key.
        DataError: A folder is missing or holds no run.
    """
    if len(folders) < 2:
        raise ConfigError(f"compare: {len(folders)} run, expected two or more folders")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("compare: a folder is given twice")
    runs = _with_unique_names([read_compared(folder) for folder in folders], folders)
    rows = [(a.name, b.name, _rows(a, b)) for a, b in combinations(runs, 2)]
    keys = dict.fromkeys(key for run in runs for key in run.values)
    _check_declared(differ, keys)
    compared = [_compared_key(key, [_value(run, key) for run in runs], differ) for key in keys]
    unused = [d for d in differ if not any(item.status == "declared" and _covers(d, item.key) for item in compared)]
    return RunComparison(runs=runs, keys=compared, rows=rows, unused=unused)


def _with_unique_names(runs: list[ComparedRun], folders: Sequence[Path]) -> list[ComparedRun]:
    """Replaces names by folders if two runs share a name."""
    if len({run.name for run in runs}) == len(runs):
        return runs
    return [replace(run, name=str(folder)) for run, folder in zip(runs, folders, strict=True)]


def _rows(a: ComparedRun, b: ComparedRun) -> RowComparison | None:
    if not (a.fingerprint and b.fingerprint):
        return None
    found = compare_fingerprints(a.fingerprint, b.fingerprint)
    if found.same or len(a.phase_rows) < 2 or [name for name, _ in a.phase_rows] != [name for name, _ in b.phase_rows]:
        return found
    both = zip(a.phase_rows, b.phase_rows, strict=True)
    equal = [name for (name, ours), (_, theirs) in both if ours == theirs and ours.batches]
    return replace(found, text=f"{found.text}; phases with equal rows: {', '.join(equal) or 'none'}")


def _value(run: ComparedRun, key: str) -> Any:
    """The value of a key; ABSENT or UNKNOWN if the run has none."""
    if key in run.values:
        return run.values[key]
    if not any(_covers(free, key) for free in FREE):
        return UNKNOWN
    element = re.match(r"[^\[]*\[\d+\]", key)  # a phase or data folder, of which older versions recorded fewer keys
    recorded = element and ".options." not in key and any(_covers(element[0], other) for other in run.values)
    return UNKNOWN if recorded else ABSENT


def _compared_key(key: str, values: Sequence[Any], differ: Sequence[str]) -> ComparedKey:
    distinct = {json.dumps(value, sort_keys=True, default=str) for value in values if value != UNKNOWN}
    status: Status = "same"
    if any(_covers(name, key) for name in NAMES) or (key.startswith("data.") and key.rpartition(".")[2] in PATHS):
        status = "not compared"
    elif len(distinct) > 1:
        status = "differs"
    elif UNKNOWN in values:
        status = "unknown"
    if status in ("differs", "unknown") and any(_covers(declared, key) for declared in differ):
        status = "declared"
    return ComparedKey(key=key, values=tuple(values), status=status)


def _covers(declared: str, key: str) -> bool:
    return key == declared or key.startswith((f"{declared}.", f"{declared}["))


def _check_declared(differ: Sequence[str], keys: Iterable[str]) -> None:
    """Raises ConfigError for a declared key that covers no key."""
    above = {key[:end] for key in keys for end in range(1, len(key) + 1) if end == len(key) or key[end] in ".["}
    for declared in differ:
        if declared not in above:
            hint = "; give --differ once for each key" if "," in declared else suggestion(declared, above)
            raise ConfigError(f"--differ {declared}: no such key{hint}")
