"""Console output of a preparation's plan."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Column, Table

from detour.corpus.config import PrepareConfig
from detour.corpus.plan import PreparationPlan
from detour.units import counted, disk_size, duration, short


def table_of(found: PreparationPlan, out: str) -> Table:
    """A row for each source, and the total."""
    names = ("files", "on disk", "sampled", "documents", "kept", "tokens", "rows", "core-hours")
    table = Table("source", *(Column(name, justify="right") for name in names), title=out)
    for each in found.sources:
        table.add_row(
            each.name,
            f"{each.files:,}",
            disk_size(each.bytes),
            f"{each.fraction:.2%}",
            short(each.documents),
            f"{each.kept / each.documents:.1%}",
            short(each.tokens),
            disk_size(each.row_bytes),
            f"{each.core_seconds / 3600:.3g}",
        )
    if len(found.sources) > 1:
        sums = {
            name: sum(getattr(each, name) for each in found.sources)
            for name in ("files", "bytes", "documents", "kept", "tokens", "row_bytes", "core_seconds")
        }
        table.add_section()
        table.add_row(
            "total",
            f"{sums['files']:,}",
            disk_size(sums["bytes"]),
            "",
            short(sums["documents"]),
            f"{sums['kept'] / sums['documents']:.1%}",
            short(sums["tokens"]),
            disk_size(sums["row_bytes"]),
            f"{sums['core_seconds'] / 3600:.3g}",
        )
    return table


def lines_of(found: PreparationPlan, config: PrepareConfig) -> Iterator[str]:
    """Time, disk and memory, and what they rest on."""
    jobs = config.executor.parallel if config.executor else 1
    cores = config.processes * jobs
    seconds = sum(each.core_seconds for each in found.sources)
    where = counted(cores, "process", "processes") + (f" (executor.parallel {jobs})" if jobs > 1 else "")
    yield (
        f"Time: {duration(seconds / cores)} with {where}, if the cores are as fast as this one and none waits for another; "
        "beside that, seconds to start each process."
    )
    work, rows = sum(each.work_bytes for each in found.sources), sum(each.row_bytes for each in found.sources)
    yield f"Disk: {disk_size(rows)} of rows, and up to {disk_size(work)} of intermediate files until the end."
    yield (
        f"Memory: {disk_size(found.process_bytes)} in this process; each process holds up to {config.shard_megabytes} MiB of "
        "text at a time (shard_megabytes)."
        + (f" Deciding duplicates: {disk_size(found.main_bytes)} more in one process." if found.main_bytes else "")
    )
    yield "Sources beyond the sample are scaled up from it. Duplicates are rarer in it: with a deduplication, less may be kept."
    if found.unknown:
        yield f"NOT COUNTED, size unknown before it is read: {', '.join(found.unknown)}"
