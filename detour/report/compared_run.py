"""Reads what is compared of one run: its record, its rows, every setting with the defaults filled in, its environment.

Only small files are read, no weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from detour import objectives
from detour.data.fingerprint import Fingerprint, PhaseRowsHash
from detour.errors import ConfigError, DataError, DetourError
from detour.models.families import architecture
from detour.optimizer import PhaseOptimizer
from detour.options import flatten
from detour.phases import PhaseData, PhaseRope
from detour.report.phase_summary import intact_state
from detour.report.run_history import RunHistory, read_run
from detour.training.checkpoints.files import listing
from detour.training.run_folder import RECORD

UNKNOWN, ABSENT = "(not recorded)", "(none)"
# mappings and lists of any length
FREE = ("phases", "data.train", "data.validation", "evaluation.objectives", "evaluation.streams", "model.architecture")


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: Name of the run, or its folder if two runs share a name.
        history: Content of its folder.
        values: Key -> value, everything that is compared.
        fingerprint: Fingerprint of the rows consumed up to its newest checkpoint; None if unknown.
        phase_rows: The name of each phase and the hash of its rows; empty if unknown.
    """

    name: str
    history: RunHistory
    values: dict[str, Any]
    fingerprint: Mapping[str, Any] | None
    phase_rows: tuple[tuple[str, PhaseRowsHash], ...]


def read_compared(folder: Path) -> ComparedRun:
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
    return ComparedRun(
        name=run.name, history=run, values=values, fingerprint=fingerprint, phase_rows=_phase_rows(state, record)
    )


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
    flat = {key: value for key, value in flatten(config).items() if not _left_out(key, value)}
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


def _phase_rows(state: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[tuple[str, PhaseRowsHash], ...]:
    try:
        names = [phase["name"] for phase in record["config"]["phases"]]
        found = [PhaseRowsHash.from_state(each) for each in state["callbacks"]["Ledger"]["phase_rows"]]
    except (LookupError, TypeError, DataError):
        return ()
    return tuple(zip(names, found, strict=False))


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
        found = asdict(architecture(model["size"], dict(given or {})))
        return {key: _scaling(value) if key.endswith("rope_scaling") else value for key, value in found.items()}
    except (ConfigError, KeyError, TypeError, ValueError):
        return given


def _phase(phase: Any) -> Any:
    if not isinstance(phase, dict):
        return phase
    data = {**asdict(PhaseData()), **(phase.get("data") or {})}
    rope = asdict(PhaseRope()) | (phase.get("rope") or {})
    rope["scaling"] = _scaling(rope["scaling"])
    optimizer = asdict(PhaseOptimizer()) | (phase.get("optimizer") or {})
    options = _options(phase.get("objective"), phase.get("options"))
    later = {"streams": phase.get("streams") or {}, "evaluate": phase.get("evaluate")}  # keys that older records lack
    return {**phase, **later, "options": options, "data": data, "optimizer": optimizer, "rope": rope}


def _scaling(scaling: Any) -> Any:
    """A scaling of rotary positions as one value: one run's numbers have no counterpart in a run without a scaling."""
    if not isinstance(scaling, dict):
        return scaling
    numbers = [f"{key} {value:g}" for key, value in sorted(scaling.items()) if isinstance(value, (int, float))]
    return ", ".join([str(scaling.get("rope_type")), *numbers])


def _options(name: Any, options: Any) -> Any:
    """Options of an objective with its defaults; as configured if the objective is not installed."""
    try:
        return objectives.all_options(name, options)
    except (ConfigError, TypeError, ValueError):
        return options


def _left_out(key: str, value: Any) -> bool:
    """Whether an empty value says no more than an absent one."""
    return value in ([], {}, None) and (key in FREE or (value == {} and key.endswith(".options")))
