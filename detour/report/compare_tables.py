"""Output of a comparison of runs: tables for the terminal, and JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from detour.data.fingerprint import RowComparison
from detour.errors import DataError
from detour.files import naming, write_text
from detour.report.compare import ComparedKey, RunComparison
from detour.report.compared_run import ABSENT, ComparedRun
from detour.report.phase_summary import PhaseSummary

START = "start, data, rows"
LAST_BATCHES = 32  # the final training loss is the mean over these
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
_LEDGER: dict[str, tuple[Callable[[PhaseSummary], float], str]] = {
    "tokens": (lambda phase: phase.tokens, ",.0f"),
    "supervised tokens": (lambda phase: phase.supervised, ",.0f"),
    "steps": (lambda phase: phase.steps, ",.0f"),
    "FLOPs": (lambda phase: phase.flops, ".4g"),
    "device-seconds": (lambda phase: phase.device_seconds, ",.1f"),
}


def tables(found: RunComparison, *, everything: bool = False) -> Iterator[Table | str]:
    """What `detour compare` prints: tables and lines of text, the conclusion last.

    Args:
        found: The comparison.
        everything: Whether settings and versions that are equal get a line each, not just a count.
    """
    names = [run.name for run in found.runs]
    for title, items in _sections(found.keys).items():
        shown = [item for item in items if everything or title == START or item.status != "same"]
        table = _table(title, "", [*names, "status"])
        for item in shown:
            mark = "" if item.status == "same" else item.status
            style = {"differs": "bold red", "unknown": "bold yellow", "declared": "green"}.get(item.status)
            table.add_row(item.key, *(Text(_as_text(value)) for value in item.values), mark, style=style)
        if shown:
            yield table
        if equal := len(items) - len(shown):
            yield f"{title}: {equal} {'more ' if shown else ''}equal in all runs (--all lists them)\n"
    yield "batches"
    for first, second, rows in found.rows:
        yield f"  {first} and {second}: {rows_text(rows)}"
    yield _ledger(found.runs)
    yield _losses(found.runs)
    for run in found.runs:
        for note in run.history.notes:
            yield f"{run.name}: {note}"
    yield from _conclusion(found)


def as_json(found: RunComparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    return {
        "format": 1,
        "same": found.same,
        "runs": [run.name for run in found.runs],
        "items": [{"key": i.key, "values": list(i.values), "status": i.status} for i in found.keys],
        "batches": [
            {"runs": [first, second], "common": rows.common_batches if rows else None, "text": rows_text(rows)}
            for first, second, rows in found.rows
        ],
        "ledger": {
            run.name: [
                {"phase": phase.name, "objective": phase.objective}
                | {name: _plain(of(phase)) for name, (of, _) in _LEDGER.items()}
                for phase in run.history.phases
            ]
            for run in found.runs
        },
        "final_losses": {
            run.name: {name: asdict(at) | {"loss": _plain(at.loss)} for name, at in final_losses(run).items()}
            for run in found.runs
        },
        "notes": {run.name: run.history.notes for run in found.runs},
    }


def write_json(found: RunComparison, path: Path) -> None:
    """Writes `as_json` atomically. Raises DataError if the file cannot be written."""
    with naming(path, DataError):
        write_text(path, json.dumps(as_json(found), indent=1, default=str) + "\n")


@dataclass(frozen=True)
class FinalLoss:
    """The last training loss, or the last held-out loss under one objective.

    Attributes:
        loss: Nats per supervised token.
        token: Tokens the run had seen.
        batches: Number of batches averaged for a training loss; None for a held-out loss.
    """

    loss: float
    token: int
    batches: int | None = None


def final_losses(run: ComparedRun) -> dict[str, FinalLoss]:
    """The last held-out loss under each objective, and the training loss at the end of the last phase that has begun.

    The training loss is the mean over the last `LAST_BATCHES` batches of the phase.
    """
    found: dict[str, FinalLoss] = {}
    metrics = run.history.metrics
    if len(metrics):
        index_N, loss_N = metrics.column("phase/index"), metrics.column("loss/train/total")
        mine_N = np.flatnonzero((index_N == index_N[-1]) & np.isfinite(loss_N))[-LAST_BATCHES:]
        index = int(index_N[-1]) if math.isfinite(index_N[-1]) else -1
        if len(mine_N) and 0 <= index < len(run.history.phases):
            loss = FinalLoss(float(loss_N[mine_N].mean()), metrics.tokens_seen, len(mine_N))
            found[f"training, {run.history.phases[index].objective}"] = loss
    for name, points in metrics.evaluations.items():
        token = max(points)
        found[f"held-out, {name}"] = FinalLoss(points[token], token)
    return found


def _as_text(value: Any) -> str:
    """A value in a table cell; hashes are shortened to 12 digits."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return _HASH.sub(r"\1", text)


def _sections(items: list[ComparedKey]) -> dict[str, list[ComparedKey]]:
    """Title -> keys: start and data, settings, environment."""
    found: dict[str, list[ComparedKey]] = {START: [], "settings": [], "environment": []}
    for item in items:
        first = item.key.partition(".")[0]
        began = first in ("start_weights", "tokenizer", "rows", "progress") or item.key.endswith("].rows")
        found["environment" if first == "environment" else START if began else "settings"].append(item)
    return {title: listed for title, listed in found.items() if listed}


def rows_text(found: RowComparison | None) -> str:
    return found.text if found else "unknown: a run has no readable checkpoint"


def _ledger(runs: list[ComparedRun]) -> Table:
    """Cost per phase and in total; each total with its ratio to that of the first run."""
    table = _table("ledger", "", [run.name for run in runs])
    for index in range(max(len(run.history.phases) for run in runs)):
        phases = [run.history.phases[index] if index < len(run.history.phases) else None for run in runs]
        table.add_row(
            f"phase {index}", *(Text(f"{phase.name} ({phase.objective})" if phase else ABSENT) for phase in phases)
        )
        for name, (of, form) in _LEDGER.items():
            table.add_row(f"  {name}", *(format(of(phase), form) if phase else "" for phase in phases))
        table.add_section()
    table.add_row("all phases", *[""] * len(runs))
    for name, (of, form) in _LEDGER.items():
        sums = [sum(of(phase) for phase in run.history.phases) for run in runs]
        ratios = ["", *(f" (x {total / sums[0]:.4f})" if sums[0] else "" for total in sums[1:])]
        table.add_row(f"  {name}", *(f"{total:{form}}{ratio}" for total, ratio in zip(sums, ratios, strict=True)))
    return table


def _losses(runs: list[ComparedRun]) -> Table:
    table = _table("final losses, in nats per supervised token", "", [run.name for run in runs])
    losses = [final_losses(run) for run in runs]
    for name in dict.fromkeys(name for each in losses for name in each):
        table.add_row(name, *(_loss(each.get(name)) for each in losses))
    if not table.row_count:
        table.add_row("none recorded", *[""] * len(runs))
    return table


def _loss(at: FinalLoss | None) -> str:
    if at is None:
        return ABSENT
    over = f", mean of {at.batches} batches" if at.batches else ""
    return f"{at.loss:.4f} at token {at.token:,}{over}"


def _conclusion(found: RunComparison) -> Iterator[str]:
    declared, unknown, differing = found.of("declared"), found.of("unknown"), found.of("differs")
    if declared:
        yield f"declared to differ: {', '.join(declared)}"
    if found.unused:
        yield f"declared, but equal: {', '.join(found.unused)}"
    if unknown:
        yield f"UNKNOWN, not recorded by a run: {', '.join(unknown)}"
    if differing:
        yield f"DIFFERS, not declared (--differ): {', '.join(differing)}"
    if found.same:
        yield ("The runs are otherwise equal." if declared else "The runs are equal in everything compared.")


def _table(title: str, first: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in columns:
        table.add_column(Text(name), overflow="fold")
    return table


def _plain(value: float) -> float | None:
    """The value, or None if JSON cannot hold it."""
    return value if math.isfinite(value) else None
