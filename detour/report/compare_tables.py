"""How a comparison of runs is shown: tables for a terminal or a log, and the same as JSON."""

from __future__ import annotations

import json
import math
import os
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
from detour.report.compare import ABSENT, Item, Run, RunComparison
from detour.report.run_history import PhaseAccount

LAST_BATCHES = 32  # whose mean is the final training loss
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")
_LEDGER: dict[str, tuple[Callable[[PhaseAccount], float], str]] = {
    "tokens": (lambda phase: phase.tokens, ",.0f"),
    "supervised tokens": (lambda phase: phase.supervised, ",.0f"),
    "steps": (lambda phase: phase.steps, ",.0f"),
    "FLOPs": (lambda phase: phase.flops, ".4g"),
    "device-seconds": (lambda phase: phase.device_seconds, ",.1f"),
}


def tables(found: RunComparison) -> Iterator[Table | str]:
    """The parts of what `detour compare` prints, the check last."""
    names = [run.name for run in found.runs]
    for title, items in _sections(found.items).items():
        table = _table(title, "", [*names, "check"])
        for item in items:
            mark = "" if item.check == "same" else item.check
            style = {"differs": "bold red", "unknown": "bold yellow", "declared": "green"}.get(item.check)
            table.add_row(item.key, *(Text(spelt(value)) for value in item.values), mark, style=style)
        yield table
    yield "batches"
    for first, second, rows in found.rows:
        yield f"  {first} and {second}: {_rows(rows)}"
    yield _ledger(found.runs)
    yield _losses(found.runs)
    for run in found.runs:
        for note in run.record.notes:
            yield f"{run.name}: {note}"
    yield from _check(found)


def as_json(found: RunComparison) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "format": 1,
        "same": found.same,
        "runs": [run.name for run in found.runs],
        "items": [{"key": i.key, "values": list(i.values), "check": i.check} for i in found.items],
        "batches": [
            {"runs": [first, second], "common": rows.common_batches if rows else None, "text": _rows(rows)}
            for first, second, rows in found.rows
        ],
        "ledger": {
            run.name: [
                {"phase": phase.name, "objective": phase.objective}
                | {name: _plain(of(phase)) for name, (of, _) in _LEDGER.items()}
                for phase in run.record.phases
            ]
            for run in found.runs
        },
        "final_losses": {
            run.name: {name: asdict(at) | {"loss": _plain(at.loss)} for name, at in final_losses(run).items()}
            for run in found.runs
        },
        "notes": {run.name: run.record.notes for run in found.runs},
    }


def write_json(found: RunComparison, path: Path) -> None:
    """`as_json` as a file, whole or not at all. Raises DataError."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps(as_json(found), indent=1, default=str) + "\n", encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


@dataclass(frozen=True)
class FinalLoss:
    """A run's last loss of a kind.

    Attributes:
        loss: In nats per supervised token.
        token: Tokens seen by then.
        batches: Training batches that it is the mean of; None for a held-out loss.
    """

    loss: float
    token: int
    batches: int | None = None


def final_losses(run: Run) -> dict[str, FinalLoss]:
    """The last held-out loss under each objective, and the training loss at the end of the last phase that was begun.

    The training loss is the mean over the last `LAST_BATCHES` batches, or over those of the phase if it has fewer.
    """
    found: dict[str, FinalLoss] = {}
    metrics = run.record.metrics
    if len(metrics):
        index_N, loss_N = metrics.column("phase/index"), metrics.column("loss/train/total")
        mine_N = np.flatnonzero((index_N == index_N[-1]) & np.isfinite(loss_N))[-LAST_BATCHES:]
        index = int(index_N[-1]) if math.isfinite(index_N[-1]) else -1
        if len(mine_N) and 0 <= index < len(run.record.phases):
            loss = FinalLoss(float(loss_N[mine_N].mean()), metrics.tokens_seen, len(mine_N))
            found[f"training, {run.record.phases[index].objective}"] = loss
    for name, points in metrics.evaluations.items():
        token = max(points)
        found[f"held-out, {name}"] = FinalLoss(points[token], token)
    return found


def spelt(value: Any) -> str:
    """A setting's value in a cell; hashes are cut to 12 digits."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return _HASH.sub(r"\1", text)


def _sections(items: list[Item]) -> dict[str, list[Item]]:
    """Title to items: how it began and what it consumed, its settings, its environment."""
    found: dict[str, list[Item]] = {"start, data, rows": [], "settings": [], "environment": []}
    for item in items:
        first = item.key.partition(".")[0]
        began = first in ("start_weights", "tokenizer", "rows", "progress") or item.key.endswith("].rows")
        found["environment" if first == "environment" else "start, data, rows" if began else "settings"].append(item)
    return {title: listed for title, listed in found.items() if listed}


def _rows(found: RowComparison | None) -> str:
    return found.text if found else "not known; one of them has no checkpoint whose record can be read"


def _ledger(runs: list[Run]) -> Table:
    """Costs, phase by phase and in all; behind each sum its ratio to the first run's."""
    table = _table("ledger", "", [run.name for run in runs])
    for index in range(max(len(run.record.phases) for run in runs)):
        phases = [run.record.phases[index] if index < len(run.record.phases) else None for run in runs]
        table.add_row(
            f"phase {index}", *(Text(f"{phase.name} ({phase.objective})" if phase else ABSENT) for phase in phases)
        )
        for name, (of, form) in _LEDGER.items():
            table.add_row(f"  {name}", *(format(of(phase), form) if phase else "" for phase in phases))
        table.add_section()
    table.add_row("all phases", *[""] * len(runs))
    for name, (of, form) in _LEDGER.items():
        sums = [sum(of(phase) for phase in run.record.phases) for run in runs]
        ratios = ["", *(f" (x {total / sums[0]:.4f})" if sums[0] else "" for total in sums[1:])]
        table.add_row(f"  {name}", *(f"{total:{form}}{ratio}" for total, ratio in zip(sums, ratios, strict=True)))
    return table


def _losses(runs: list[Run]) -> Table:
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


def _check(found: RunComparison) -> Iterator[str]:
    declared, unknown, differing = found.of("declared"), found.of("unknown"), found.of("differs")
    if declared:
        yield f"declared to differ: {', '.join(declared)}"
    if found.idle:
        yield f"declared, and does not differ: {', '.join(found.idle)}"
    if unknown:
        yield f"NOT KNOWN, for a run did not record it: {', '.join(unknown)}"
    if differing:
        yield f"DIFFERS, and was not declared (--differ): {', '.join(differing)}"
    if found.same:
        yield (
            "The runs are the same in everything else." if declared else "The runs are the same in everything compared."
        )


def _table(title: str, first: str, columns: list[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in columns:
        table.add_column(Text(name), overflow="fold")
    return table


def _plain(value: float) -> float | None:
    """As JSON may hold it."""
    return value if math.isfinite(value) else None
