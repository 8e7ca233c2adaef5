"""Console output of a preparation: tables, warnings, and the reasons why no document is left."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from detour.console import WIDTH
from detour.corpus.input_files import describe_ignored
from detour.data.manifest import SPLITS
from detour.errors import DataError

ADVICE = {  # reason -> what to try
    "not valid UTF-8": "if the file has another encoding, set the option `encoding`, such as windows-1252",
}


def refuse_nothing_left(record: dict[str, Any], out: Path) -> None:
    """Raises DataError, with the reasons, if no training document is left at all or of a source that has a proportion."""
    sources = record["sources"]
    if not any("train" in source["folders"] for source in sources.values()):
        why = [line for name in sources for line in _dropped(record, name)]
        raise DataError("\n  ".join([f"{out}: no document is left to train on", *why]))
    for name, source in sources.items():
        if source["proportion"] and "train" not in source["folders"]:
            what = f"source '{name}' has proportion {source['proportion']}, and no document of it is left to train on"
            raise DataError("\n  ".join([f"{out}: {what}", *_dropped(record, name)]))


def show(record: dict[str, Any], out: str) -> None:
    """Prints what was read, what each step did, what was written, and what was skipped."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
    table = Table("source", "read", "train", "validation", "tokens", "packing efficiency", title=out)
    for name, source in record["sources"].items():
        folders = [source["folders"].get(split, {}) for split in SPLITS]
        numbers = [source["documents_read"], *[folder.get("documents", 0) for folder in folders]]
        tokens = sum(folder.get("tokens", 0) for folder in folders)
        table.add_row(
            name, *[f"{n:,}" for n in numbers], f"{tokens:,}", f"{folders[0].get('packing_efficiency', 0):.1%}"
        )
    console.print(table)
    steps = Table("step", "documents", "kept", "changed", "dropped because")
    for step in record["steps"]:
        counts = step["by_source"].values()
        dropped = sum((Counter(each["dropped"]) for each in counts), Counter())
        numbers = [sum(each[key] for each in counts) for key in ("documents_in", "documents_out", "changed")]
        why = ", ".join(f"{reason}: {n:,}" for reason, n in dropped.most_common(4))
        steps.add_row(step["kind"], *[f"{n:,}" for n in numbers], why)
    if record["steps"]:
        console.print(steps)
    for step in record["steps"]:
        if step["kind"] == "upsample" and not any(each["changed"] for each in step["by_source"].values()):
            column = step["options"]["column"]
            console.print(
                f"upsample: no document's '{column}' matches; nothing is repeated", style="yellow", markup=False
            )
    for name, source in record["sources"].items():
        if literal := sum(folder.get("literal_special_tokens", 0) for folder in source["folders"].values()):
            console.print(f"{name}: special tokens spelled out in the text: {literal:,}", style="yellow", markup=False)
        if "train" not in source["folders"]:
            console.print(f"{name}: no training documents; left out of the mixture", style="yellow", markup=False)
        for line in _faults(name, source):
            console.print(line, style="yellow", markup=False)


def _faults(name: str, source: dict[str, Any]) -> Iterator[str]:
    """One line for each kind of record or file of a source that was not used."""
    if source.get("ignored_files"):
        yield f"{name}: {describe_ignored(source['ignored_files'])}"
    for reason, n in source["skipped"].items():
        locations = ", ".join(source["first_skipped"].get(reason, []))
        advice = f"; {ADVICE[reason]}" if reason in ADVICE else ""
        yield f"{name}: skipped {n:,}, {reason}; first at {locations}{advice}"
    for file in source["files"]:
        if "damage" in file:
            yield f"{name}: {file['documents']:,} documents were read before the damage: {file['damage']}"


def _dropped(record: dict[str, Any], name: str) -> Iterator[str]:
    """One line for each reason why documents of a source are not in the training rows."""
    source = record["sources"][name]
    yield f"{name}: {source['documents_read']:,} documents read from {len(source['files']):,} files"
    yield from _faults(name, source)
    for step in record["steps"]:
        for reason, n in step["by_source"].get(name, {}).get("dropped", {}).items():
            yield f"{name}: {step['kind']} dropped {n:,}, {reason}"
    if validation := source["folders"].get("validation"):
        yield f"{name}: {validation['documents']:,} documents are in the validation split"
