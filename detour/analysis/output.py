"""Results of an analysis as files: values as JSON and CSV, the figure as PNG and SVG. All are written atomically."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from detour.errors import ConfigError, DataError
from detour.files import naming, write_json, write_text
from detour.markup import spreadsheet
from detour.plotting import save_figure
from detour.provenance import environment

FORMAT = 1
IDENTITY = ("format", "analysis", "inputs", "settings")  # keys of the JSON that tell one result from another
FIGURES = (".png", ".svg")


def refuse_others(out: Path, name: str, *, inputs: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Checks that ``out`` holds no result of this name, or one of the same inputs and settings.

    To be called before any computation; `save` calls it again.

    Raises:
        ConfigError: ``NAME.json`` is the result of other inputs or settings, or files of this name have no JSON.
        DataError: ``NAME.json`` cannot be read.
    """
    path = out / f"{name}.json"
    if not path.exists():
        if stray := [file for suffix in (".csv", *FIGURES) if (file := path.with_suffix(suffix)).exists()]:
            raise ConfigError(f"{stray[0]}: exists, and {path.name} with its inputs does not; choose another folder")
        return
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); choose another folder") from error
    ours = _plain({"format": FORMAT, "analysis": name, "inputs": inputs, "settings": settings})
    for key in IDENTITY:
        found = theirs.get(key) if isinstance(theirs, dict) else None
        if found != ours[key]:
            raise ConfigError(f"{path}: holds the result of other {key}; choose another folder, or remove it")


def save(
    out: Path,
    name: str,
    *,
    inputs: Mapping[str, Any],
    settings: Mapping[str, Any],
    values: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    draw: Callable[[], Figure],
) -> list[Path]:
    """Writes ``NAME.json``, ``NAME.csv``, ``NAME.png`` and ``NAME.svg``; returns their paths.

    Args:
        out: The folder; created if it does not exist.
        name: Name of the analysis.
        inputs: Hashes of everything that was read.
        settings: Every option that affects the values.
        values: The result.
        rows: The result as a table with the same keys in every row.
        draw: Returns the figure; called under the style of `detour.plotting`.

    Raises:
        ConfigError, DataError: See `refuse_others`; a file cannot be written.
    """
    refuse_others(out, name, inputs=inputs, settings=settings)
    record = {"format": FORMAT, "analysis": name, "inputs": inputs, "settings": settings}
    paths = [out / f"{name}{suffix}" for suffix in (".json", ".csv", *FIGURES)]
    with naming(out, ConfigError):
        write_json(paths[0], _plain({**record, "values": values, "environment": environment()}))
        write_text(paths[1], as_csv(rows))
        save_figure(draw, paths[2], paths[3])
    return paths


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A header and one line per row; undefined numbers are empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows({key: spreadsheet(_plain(value)) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """JSON types; an undefined number (NaN) is null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
