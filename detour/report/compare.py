"""Compares runs: start weights, data, consumed rows, every setting and the environment.

Differences are either declared or reported. A value that a run did not record is unknown, and never counts as equal. Run
folders are only read, without their weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import yaml

from detour import objectives
from detour.data.fingerprint import Fingerprint, RowComparison, compare_fingerprints
from detour.errors import ConfigError, DataError, DetourError
from detour.models.modernbert.architecture import architecture
from detour.registry import suggestion
from detour.report.run_history import RunHistory, intact_state, read_run
from detour.training.checkpoints.files import listing
from detour.training.run_folder import RECORD

UNKNOWN, ABSENT = "(not recorded)", "(none)"
# names, which are not compared: data, tokenizer and weights are compared by their hashes
NAMES = ("name", "folder", "model.init", "model.tokenizer", "model.size", "logging", "match", "branch")
PATHS = ("path", "remote")  # of data.train[0] and the like
FREE = (
    "phases",
    "data.train",
    "data.validation",
    "evaluation.objectives",
    "model.architecture",
)  # mappings and lists of any length
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
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: Name of the run, or its folder if two runs share a name.
        history: Content of its folder.
        values: Key -> value, everything that is compared.
        fingerprint: Fingerprint of the rows consumed up to its newest checkpoint; None if unknown.
    """

    name: str
    history: RunHistory
    values: dict[str, Any]
    fingerprint: Mapping[str, Any] | None


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
    runs = _with_unique_names([read(folder) for folder in folders], folders)
    rows = [(a.name, b.name, _rows(a, b)) for a, b in combinations(runs, 2)]
    keys = dict.fromkeys(key for run in runs for key in run.values)
    _check_declared(differ, keys)
    compared = [_compared_key(key, [_value(run, key) for run in runs], differ) for key in keys]
    unused = [d for d in differ if not any(item.status == "declared" and _covers(d, item.key) for item in compared)]
    return RunComparison(runs=runs, keys=compared, rows=rows, unused=unused)


def read(folder: Path) -> ComparedRun:
    """Reads the compared values of a run. Raises DataError if the folder holds no run or its record is damaged."""
    run = read_run(folder)
    state: dict[str, Any] = {}
    for checkpoint in reversed(listing(folder / "checkpoints")):
        try:
            state = intact_state(checkpoint)
            break
        except (OSError, ValueError, TypeError, KeyError, AttributeError, DetourError):
            continue  # noted by `read_run`
    record, fingerprint = _record(folder, state), _fingerprint(state)
    try:
        values = _values(run, record, fingerprint)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder}: the record of the run is damaged ({type(error).__name__}: {error})") from error
    return ComparedRun(name=run.name, history=run, values=values, fingerprint=fingerprint)


def _values(run: RunHistory, record: Mapping[str, Any], fingerprint: Mapping[str, Any] | None) -> dict[str, Any]:
    config = record.get("config") or yaml.safe_load(run.config_text)
    environment = record.get("environment") or run.environment or {"detour": UNKNOWN}
    return {
        "start_weights": record.get("start_weights") or UNKNOWN,
        "tokenizer": record.get("tokenizer") or UNKNOWN,
        "rows": "{batches:,} batches, {rows:,} rows, {digest}".format(**fingerprint) if fingerprint else UNKNOWN,
        "progress": "complete" if run.seen >= run.planned else f"at token {run.seen:,} of {run.planned:,}",
        **_data(record, config),
        **settings(config, record.get("resolved")),
        **{f"environment.{key}": value for key, value in environment.items()},
    }


def settings(config: Mapping[str, Any], resolved: Any = None) -> dict[str, Any]:
    """Every setting by its full key, with implicit defaults filled in.

    Filled in are the architecture of `model.size`, the options of each objective, and the device and attention backend
    chosen for "auto".

    Args:
        config: A run's configuration.
        resolved: What the run recorded in place of "auto"; without it the setting is UNKNOWN.
    """
    config = dict(config)
    model = config.get("model")
    if isinstance(model, dict):
        config["model"] = {**model, "architecture": _architecture(model)}
    if isinstance(config.get("phases"), list):
        config["phases"] = [_phase(phase) for phase in config["phases"]]
    evaluation = config.get("evaluation")
    if isinstance(evaluation, dict) and isinstance(evaluation.get("objectives"), dict):
        filled = {name: _options(name, options) for name, options in evaluation["objectives"].items()}
        config["evaluation"] = {**evaluation, "objectives": filled}
    flat = dict(_flat(config))
    chosen = resolved if isinstance(resolved, dict) else {}
    for key in ("system.device", "model.attention_backend"):
        if flat.get(key) == "auto":
            flat[key] = chosen.get(key, UNKNOWN)
    return flat


def _record(folder: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run: run.json, or in runs of older versions the newest checkpoint."""
    path = folder / RECORD
    if path.exists():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}: expected a mapping")
        return record
    record = state.get("run")
    return record if isinstance(record, dict) else {}


def _fingerprint(state: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        return Fingerprint.from_state(state["callbacks"]["Ledger"]["fingerprint"]).state_dict()
    except (KeyError, TypeError, DataError, AttributeError, ZeroDivisionError):
        return None


def _data(record: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Hashes of the rows in each data folder."""
    values: dict[str, Any] = {}
    for key, hashes in [
        ("train", [pair[0] for pair in record.get("data") or []]),
        ("validation", record.get("validation") or []),
    ]:
        data = config.get("data")
        count = len((data.get(key) if isinstance(data, dict) else None) or [])
        for index in range(max(count, len(hashes))):
            values[f"data.{key}[{index}].rows"] = hashes[index] if index < len(hashes) else UNKNOWN
    return values


def _architecture(model: Mapping[str, Any]) -> Any:
    given = model.get("architecture")
    try:
        return asdict(architecture(model["size"], dict(given or {})))
    except (ConfigError, KeyError, TypeError, ValueError):
        return given


def _phase(phase: Any) -> Any:
    if not isinstance(phase, dict):
        return phase
    return {**phase, "options": _options(phase.get("objective"), phase.get("options"))}


def _options(name: Any, options: Any) -> Any:
    """Options of an objective with its defaults; as configured if the objective is not installed."""
    try:
        return asdict(objectives.build(name, options))
    except (ConfigError, TypeError, ValueError):
        return options


def _flat(value: Any, key: str = "") -> Iterable[tuple[str, Any]]:
    if isinstance(value, Mapping):
        if not value and key not in FREE and not key.endswith(".options"):
            yield key, {}
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{key}[{index}]")
    elif not (value in ([], None) and key in FREE):
        yield key, list(value) if isinstance(value, tuple) else value


def _with_unique_names(runs: list[ComparedRun], folders: Sequence[Path]) -> list[ComparedRun]:
    """Replaces names by folders if two runs share a name."""
    if len({run.name for run in runs}) == len(runs):
        return runs
    return [
        ComparedRun(name=str(folder), history=run.history, values=run.values, fingerprint=run.fingerprint)
        for run, folder in zip(runs, folders, strict=True)
    ]


def _rows(a: ComparedRun, b: ComparedRun) -> RowComparison | None:
    return compare_fingerprints(a.fingerprint, b.fingerprint) if a.fingerprint and b.fingerprint else None


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
            raise ConfigError(f"--differ {declared}: no such key{suggestion(declared, above)}")
