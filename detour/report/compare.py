"""Whether runs differ in what was declared and in nothing else: start, data, rows, every setting, environment.

The folders are only read, and no weights are. What a run did not record is unknown, and unknown is not equal.
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
from detour.report.run_history import RunRecord, intact_state, read_run
from detour.training.checkpoints.files import listing
from detour.training.run_folder import RECORD

UNKNOWN, ABSENT = "(not recorded)", "(none)"
# what a run and its folders are called: the data, tokenizer and weights that they name are compared by their hashes
NAMES = ("name", "folder", "model.init", "model.tokenizer", "model.size", "logging", "match")
PLACES = ("path", "remote")  # of data.train[0] and the like
FREE = ("phases", "data.train", "data.validation", "evaluation.objectives", "model.architecture")  # of any length
StepCheck = Literal["same", "differs", "declared", "unknown", "not compared"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that is compared.

    Attributes:
        key: A setting's full key, or ``start_weights``, ``tokenizer``, ``data.train[0].rows``, ``rows``, ``progress``,
            ``environment.torch`` and the like.
        values: One for each run; UNKNOWN where the run did not record it, ABSENT where there is no such phase or folder.
        check: "declared" is said of what differs or is unknown, and was declared. "not compared" are names.
    """

    key: str
    values: tuple[Any, ...]
    check: StepCheck


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as it is compared.

    Attributes:
        name: Its name; its folder where two runs have the same one.
        record: Its folder's content.
        facts: Key to value, all that is compared.
        fingerprint: Of the rows that it consumed, up to its newest checkpoint; None if that is not known.
    """

    name: str
    record: RunRecord
    facts: dict[str, Any]
    fingerprint: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """What was found.

    Attributes:
        runs: In the order given.
        items: Everything compared, in the order of the configuration.
        rows: For each pair of runs, their names and how far they consumed the same rows; None where that is unknown.
        idle: Declarations of what does not differ.
    """

    runs: list[Run]
    items: list[Item]
    rows: list[tuple[str, str, RowComparison | None]]
    idle: list[str]

    def of(self, check: StepCheck) -> list[str]:
        """Keys of the items with that check."""
        return [item.key for item in self.items if item.check == check]

    @property
    def same(self) -> bool:
        """Whether all that was not declared is known and equal."""
        return not self.of("differs") and not self.of("unknown")


def compare_runs(folders: Sequence[Path], *, differ: Sequence[str] = ()) -> RunComparison:
    """Compares two or more runs.

    Args:
        folders: Their folders.
        differ: Keys that are meant to differ, each with all below it: "phases", "schedule.peak_lr", "rows".

    Raises:
        ConfigError: Fewer than two runs, one given twice, or a declared key that none of them has.
        DataError: A folder is missing or is not that of a run.
    """
    if len(folders) < 2:
        raise ConfigError(f"compare: {len(folders)} run, expected two or more folders")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("compare: one folder is given twice")
    runs = _named([read(folder) for folder in folders], folders)
    rows = [(a.name, b.name, _rows(a, b)) for a, b in combinations(runs, 2)]
    keys = dict.fromkeys(key for run in runs for key in run.facts)
    _known(differ, keys)
    items = [_item(key, [_value(run, key) for run in runs], differ) for key in keys]
    idle = [d for d in differ if not any(item.check == "declared" and _covers(d, item.key) for item in items)]
    return RunComparison(runs=runs, items=items, rows=rows, idle=idle)


def read(folder: Path) -> Run:
    """A run's facts. Raises DataError."""
    run = read_run(folder)
    state: dict[str, Any] = {}
    for checkpoint in reversed(listing(folder / "checkpoints")):
        try:
            state = intact_state(checkpoint)
            break
        except (OSError, ValueError, TypeError, KeyError, AttributeError, DetourError):
            continue  # the notes of `read_run` say so
    record, fingerprint = _record(folder, state), _fingerprint(state)
    try:
        facts = _facts(run, record, fingerprint)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder}: its record is not that of a run ({type(error).__name__}: {error})") from error
    return Run(name=run.name, record=run, facts=facts, fingerprint=fingerprint)


def _facts(run: RunRecord, record: Mapping[str, Any], fingerprint: Mapping[str, Any] | None) -> dict[str, Any]:
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
    """Every setting by its full key, with what a configuration leaves to defaults elsewhere filled in.

    That is: the architecture behind `model.size`, each objective's options, and the device and attention backend that
    "auto" stood for. "auto" is unknown where the run did not record what it became.
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
    became = resolved if isinstance(resolved, dict) else {}
    for key in ("system.device", "model.attention_backend"):
        if flat.get(key) == "auto":
            flat[key] = became.get(key, UNKNOWN)
    return flat


def _record(folder: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """What the run remembers of itself: from its folder, or as older runs keep it, from its newest checkpoint."""
    path = folder / RECORD
    if path.exists():
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}: expected a mapping, the record of a run")
        return record
    record = state.get("run")
    return record if isinstance(record, dict) else {}


def _fingerprint(state: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        return Fingerprint.from_state(state["callbacks"]["Ledger"]["fingerprint"]).state_dict()
    except (KeyError, TypeError, DataError, AttributeError, ZeroDivisionError):
        return None


def _data(record: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The hashes of the rows in each folder."""
    facts: dict[str, Any] = {}
    for key, hashes in [
        ("train", [pair[0] for pair in record.get("data") or []]),
        ("validation", record.get("validation") or []),
    ]:
        data = config.get("data")
        count = len((data.get(key) if isinstance(data, dict) else None) or [])
        for index in range(max(count, len(hashes))):
            facts[f"data.{key}[{index}].rows"] = hashes[index] if index < len(hashes) else UNKNOWN
    return facts


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
    """An objective's options with its defaults; as they were written where it is not installed here."""
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


def _named(runs: list[Run], folders: Sequence[Path]) -> list[Run]:
    """With names that tell them apart."""
    if len({run.name for run in runs}) == len(runs):
        return runs
    return [
        Run(name=str(folder), record=run.record, facts=run.facts, fingerprint=run.fingerprint)
        for run, folder in zip(runs, folders, strict=True)
    ]


def _rows(a: Run, b: Run) -> RowComparison | None:
    return compare_fingerprints(a.fingerprint, b.fingerprint) if a.fingerprint and b.fingerprint else None


def _value(run: Run, key: str) -> Any:
    """A fact; where the run has none of that key, whether there is no such thing or it was not recorded."""
    if key in run.facts:
        return run.facts[key]
    if not any(_covers(free, key) for free in FREE):
        return UNKNOWN
    element = re.match(r"[^\[]*\[\d+\]", key)  # a phase or a folder of rows, which older versions may record less of
    recorded = element and ".options." not in key and any(_covers(element[0], other) for other in run.facts)
    return UNKNOWN if recorded else ABSENT


def _item(key: str, values: Sequence[Any], differ: Sequence[str]) -> Item:
    spelt = {json.dumps(value, sort_keys=True, default=str) for value in values if value != UNKNOWN}
    check: StepCheck = "same"
    if any(_covers(name, key) for name in NAMES) or (key.startswith("data.") and key.rpartition(".")[2] in PLACES):
        check = "not compared"
    elif len(spelt) > 1:
        check = "differs"
    elif UNKNOWN in values:
        check = "unknown"
    if check in ("differs", "unknown") and any(_covers(declared, key) for declared in differ):
        check = "declared"
    return Item(key=key, values=tuple(values), check=check)


def _covers(declared: str, key: str) -> bool:
    return key == declared or key.startswith((f"{declared}.", f"{declared}["))


def _known(differ: Sequence[str], keys: Iterable[str]) -> None:
    """Raises ConfigError for a declared key that covers nothing."""
    above = {key[:end] for key in keys for end in range(1, len(key) + 1) if end == len(key) or key[end] in ".["}
    for declared in differ:
        if declared not in above:
            raise ConfigError(f"--differ {declared}: nothing of that name is compared{suggestion(declared, above)}")
