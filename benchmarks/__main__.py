"""The benchmark suites. Results go to a JSON Lines file and to a page of tables in docs/.

python -m benchmarks cpu                     the entire CPU suite
python -m benchmarks cpu --only step         the benchmarks whose names begin with "step"
python -m benchmarks cpu --rounds 2          faster and noisier
python -m benchmarks gpu                     the GPU suite
python -m benchmarks commands                CPU seconds of commands that train nothing
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from benchmarks import evaluation, parts, step
from benchmarks.parts import Line
from benchmarks.step import Result, Setting
from detour.provenance import environment

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
GPU_PAGE = PAGE.with_name("benchmarks_gpu.md")

STEPS = [
    Setting("tiny", rows=8, peers=("packed", "sparse", "compiled", "padded"), steps=6),
    Setting("ettin-17m", seq_len=512, rows=4, peers=("packed", "sparse", "padded")),
    Setting("ettin-17m", rows=2, peers=("packed", "sparse", "compiled", "padded")),
    Setting("ettin-17m", seq_len=8192, rows=1, peers=("packed", "sparse"), steps=3, rounds=3),
    Setting("ettin-17m", rate=0.15, rows=2, peers=("packed", "sparse")),
    Setting("ettin-17m", objective="clm", rows=2, peers=("packed",)),
    Setting("ettin-17m", rows=2, peers=("packed", "sparse"), precision="bf16", rounds=3),
    Setting("ettin-32m", rows=2, peers=("packed", "sparse")),
    Setting("modernbert-base", rows=1, peers=("packed", "sparse"), steps=3, rounds=3),
    Setting("modernbert-base", objective="clm", rows=1, peers=("packed",), steps=3, rounds=3),
]
PARTS: dict[str, Callable[[], Iterator[Line]]] = {
    "packer 1024": lambda: parts.packer(1024),
    "packer 8192": lambda: parts.packer(8192),
    "blocks 1024": lambda: parts.attention_blocks(1024, rows=64),
    "blocks 8192": lambda: parts.attention_blocks(8192, rows=8),
    "loader and resume": parts.loader_and_resume,
    "data": parts.data_preparation,
    "loss": parts.loss_alone,
    "trainer, ettin-17m": lambda: parts.trainer_and_checkpoints("ettin-17m", rows=2, seq_len=1024),
    "trainer, modernbert-base": lambda: parts.trainer_and_checkpoints("modernbert-base", rows=1, seq_len=512),
    "start": parts.start_up,
    "cell": evaluation.cell_against_trainer,
}


@app.command()
def cpu(
    out: Annotated[Path, typer.Option(help="JSON Lines file, one result per line; earlier results are kept.")] = Path(
        "build/benchmarks_cpu.jsonl"
    ),
    only: Annotated[
        str,
        typer.Option(
            help="Only benchmarks whose names begin with this: step, packer, blocks, loader, data, loss, trainer, start, cell."
        ),
    ] = "",
    rounds: Annotated[
        int, typer.Option(help="Rounds per comparison of steps; 0 takes the number of each setting.")
    ] = 0,
) -> None:
    """Run everything that needs no GPU, then write docs/benchmarks.md from all results in --out."""
    warnings.simplefilter("ignore")
    out.parent.mkdir(parents=True, exist_ok=True)
    for setting in STEPS:
        if f"step, {setting.title}".startswith(only):
            result = step.compare(replace(setting, rounds=rounds or setting.rounds))
            step.show(result)
            _keep(out, "step", result.setting.title, asdict(result))
    for name, measure in PARTS.items():
        if name.startswith(only):
            for line in measure():
                console.print(_row(line))
                _keep(out, "part", line.what, asdict(line))
    PAGE.write_text(page(_kept(out)))
    console.print(f"{PAGE.name}: written")


@app.command()
def gpu(
    out: Annotated[Path, typer.Option(help="JSON Lines file, one result per line.")] = Path(
        "build/benchmarks_gpu.jsonl"
    ),
) -> None:
    """Run on one GPU: backends, objectives, the steps from Hugging Face's training step to ours, memory, sharding, stalls."""
    from benchmarks import gpu as on_gpu

    out.parent.mkdir(parents=True, exist_ok=True)
    for record in on_gpu.run():
        console.print(record)
        _keep(out, "gpu", record["what"], record)
    GPU_PAGE.write_text(gpu_page(_kept(out)))
    console.print(f"{GPU_PAGE.name}: written")


@app.command()
def commands(
    run: Annotated[list[Path] | None, typer.Option(help="A run folder, for report; give two for compare, too.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="A folder of `detour eval run` with two models, for scores.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Processes per command.", min=1)] = 5,
) -> None:
    """Measure the CPU seconds of each command that trains nothing and reads no weights."""
    from benchmarks import commands as of_commands

    with tempfile.TemporaryDirectory() as out:
        for line in of_commands.measure(of_commands.commands(run or [], scores, Path(out)), rounds=rounds):
            console.print(f"{line.what}: {statistics.median(line.ours):.2f} {line.unit} ({_spread(line.ours)})")


def _keep(out: Path, kind: str, name: str, record: dict[str, Any]) -> None:
    machine = {**environment(), "cpu": _cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    with out.open("a") as file:
        file.write(json.dumps({"kind": kind, "name": name, "record": record, "machine": machine}) + "\n")


def _kept(out: Path) -> list[dict[str, Any]]:
    """The newest result of each name, in the order of the suite."""
    newest = {(kept["kind"], kept["name"]): kept for kept in map(json.loads, out.read_text().splitlines())}
    order = [setting.title for setting in STEPS]
    return sorted(newest.values(), key=lambda kept: order.index(kept["name"]) if kept["kind"] == "step" else len(order))


def _cpu_name() -> str:
    names = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def _row(line: Line) -> str:
    ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
    peer = f"{_figure(statistics.median(line.theirs))} ({line.peer})" if line.theirs else ""
    return (
        f"| {line.what} | {_figure(statistics.median(line.ours))} {line.unit} | {_spread(line.ours)} | {peer} | {ratio} | "
        f"{line.goal} |"
    )


def _spread(figures: list[float]) -> str:
    return f"{_figure(min(figures))} to {_figure(max(figures))}" if len(figures) > 1 else ""


def _figure(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.4g}"


def page(kept: list[dict[str, Any]]) -> str:
    """docs/benchmarks.md."""
    machines = {(k["machine"]["cpu"], k["machine"]["threads"], k["machine"]["commit"]) for k in kept}
    versions = kept[-1]["machine"]
    lines = [
        "# Benchmarks",
        "",
        "Generated by `python -m benchmarks cpu`. Both sides of a ratio ran alternately on the same machine; absolute figures do",
        "not transfer to other machines. Equal loss is checked first (1e-5). tokens/s exclude padding.",
        "",
        *(
            f"- {cpu}, {threads} threads, commit {(commit or 'unknown')[:12]}"
            for cpu, threads, commit in sorted(machines, key=str)
        ),
        "- " + ", ".join(f"{name} {versions[name]}" for name in ("python", "torch", "mosaicml", "transformers")),
        "",
        "## A training step against Hugging Face Trainer",
        "",
        "Ratio: our median tokens/s divided by the peer's. Memory: peak resident set of a round, minus that of the process",
        "before the first round (libraries). MFU: counted FLOPs divided by those that the measured matmul throughput allows.",
        "",
        *(f"- {name}: {meaning}." for name, meaning in step.PEERS.items()),
        "- ours, compiled: ours with `model.compile`; a ratio below 1 means that compilation helps.",
        "",
        "| setting | implementation | tokens/s | range | ratio | peak GB | MFU |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in (k["record"] for k in kept if k["kind"] == "step"):
        sides = {name: step.Side(**side) for name, side in record["sides"].items()}
        result = Result(
            Setting(**record["setting"]), **{k: record[k] for k in ("threads", "loss_difference")}, sides=sides
        )
        for name, side in sides.items():
            own, share = name == "ours", f"{record['matmul_fraction']:.0%}"
            lines.append(
                f"| {result.setting.title if own else ''} | {name} | {side.median:,.0f} | "
                f"{_spread(side.tokens_per_second)} | {'' if own else f'{result.ratio(name):.2f}'} | "
                f"{side.peak_bytes / 1e9:.2f} | {share if own else ''} |"
            )
    lines += [
        "",
        "## The parts",
        "",
        "| measurement | ours | range | peer | ratio, ours / peer's | goal |",
        "|---|---|---|---|---|---|",
        *(_row(Line(**k["record"])) for k in kept if k["kind"] == "part"),
        "",
    ]
    return "\n".join(lines)


def gpu_page(kept: list[dict[str, Any]]) -> str:
    """docs/benchmarks_gpu.md: one line per measurement, with tokens/s, MFU, memory, and its other values."""
    columns = {
        "tokens_per_second": "{:,.0f}".format,
        "spread": lambda ends: " to ".join(f"{end:,.0f}" for end in ends),
        "mfu": "{:.0%}".format,
        "peak_gigabytes": "{:.1f}".format,
    }
    machine = kept[-1]["machine"]
    lines = [
        "# Benchmarks on a GPU",
        "",
        "Generated by `python -m benchmarks gpu`. Medians and ranges over rounds; tokens/s exclude padding.",
        "",
        f"- {machine['machine']}, commit {(machine['commit'] or 'unknown')[:12]}",
        "- " + ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "mosaicml", "transformers")),
        "",
        "| measurement | tokens/s | range | MFU | peak GB | |",
        "|---|---|---|---|---|---|",
    ]
    for record in (k["record"] for k in kept):
        known = [show(record[key]) if record.get(key) is not None else "" for key, show in columns.items()]
        rest = {k: v for k, v in record.items() if k not in {*columns, "what", "seconds"} and v is not None}
        notes = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rest.items())
        lines.append(f"| {record['what']} | {' | '.join(known)} | {notes} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    app()
