"""MB and tokens per second of data preparation: text to packed rows, against `datasets.map` with the same tokenizer.

Both run in one process with one thread, alternately. The peer reads the same file, tokenizes in batches of its default
size and writes Arrow, without packing or hashes. Speeds are per CPU second, which depends little on the load of the
machine, and per second of wall time.

    python -m benchmarks.data_prep                                  20 MB of synthetic cases
    python -m benchmarks.data_prep --corpus file.jsonl.zst --tokenizer FOLDER --rounds 5
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

SIDES = ("ours", "datasets.map")


def main(
    corpus: Annotated[Path | None, typer.Option(help="JSON lines with a text; left out, synthetic cases.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Left out, one of 8,192 trained on them.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    seq_len: Annotated[int, typer.Option(min=8)] = 1024,
    side: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure both and print the ratio."""
    if side is not None:
        assert corpus is not None
        assert tokenizer is not None
        print(json.dumps(_ours(corpus, tokenizer, seq_len) if side == "ours" else _peer(corpus, tokenizer)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if corpus is None or tokenizer is None:
            made = synthetic(Path(folder))
            corpus, tokenizer = corpus or made[0], tokenizer or made[1]
        megabytes = text_bytes(corpus) / 1e6
        results: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
        for turn in range(rounds):
            for name in SIDES if turn % 2 == 0 else SIDES[::-1]:
                results[name].append(in_a_process(name, corpus, tokenizer, seq_len))
    _show(results, megabytes)


def _ours(corpus: Path, tokenizer: Path, seq_len: int) -> dict[str, float]:
    from detour.corpus.config import PrepareConfig, SourceConfig
    from detour.corpus.document_encoder import document_encoder_of
    from detour.corpus.prepare import prepare

    document_encoder_of(str(tokenizer))
    with tempfile.TemporaryDirectory() as folder:
        source = SourceConfig(name="corpus", kind="jsonl", paths=[str(corpus)])
        config = PrepareConfig(
            out=f"{folder}/out", tokenizer=str(tokenizer), seq_len=seq_len, sources=[source], shard_megabytes=4
        )
        started = time.perf_counter(), time.process_time()
        record, _ = prepare(config)
        return _measured(started, record["sources"]["corpus"]["folders"]["train"]["tokens"])


def _peer(corpus: Path, tokenizer: Path) -> dict[str, float]:
    import datasets

    from detour.data.tokenizer import load_tokenizer

    loaded = load_tokenizer(tokenizer)
    loaded.model_max_length = 1 << 40
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter(), time.process_time()
        dataset = datasets.load_dataset("json", data_files=str(corpus), split="train", cache_dir=folder)
        ids = dataset.map(
            lambda batch: {"input_ids": loaded(batch["text"])["input_ids"]},
            batched=True,
            remove_columns=dataset.column_names,
        )
        measured = _measured(started, 0)
        return {**measured, "tokens": sum(len(row) for row in ids["input_ids"])}


def _measured(started: tuple[float, float], tokens: int) -> dict[str, float]:
    return {
        "seconds": time.perf_counter() - started[0],
        "cpu_seconds": time.process_time() - started[1],
        "tokens": tokens,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def in_a_process(side: str, corpus: Path, tokenizer: Path, seq_len: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.data_prep", "--side", side, "--corpus", str(corpus)]
    command += ["--tokenizer", str(tokenizer), "--seq-len", str(seq_len)]
    one_thread = {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env={**os.environ, **one_thread}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def synthetic(folder: Path) -> tuple[Path, Path]:
    from data_prep.synthetic import generate
    from detour.data.tokenizer import train_bpe

    path, size = folder / "corpus.jsonl", 0
    records = []
    for record in generate(documents=100_000, seed=1):
        records.append(record)
        size += len(record["text"])
        if size > 20e6:
            break
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    train_bpe((r["text"] for r in records[:1000]), vocab_size=8192).save_pretrained(folder / "tokenizer")
    return path, folder / "tokenizer"


def text_bytes(corpus: Path) -> int:
    from detour.corpus.text import read_documents

    return sum(len(document.text.encode()) for document in read_documents([corpus]))


def _show(results: dict[str, list[dict[str, float]]], megabytes: float) -> None:
    table = Table("", "MB/s", "tokens/s", "MB/s by the clock", "peak MB", title=f"{megabytes:.1f} MB of text, one core")
    speeds = {}
    for name, turns in results.items():
        speeds[name] = [megabytes / turn["cpu_seconds"] for turn in turns]
        by_clock = statistics.median(megabytes / turn["seconds"] for turn in turns)
        tokens = statistics.median(turn["tokens"] / turn["cpu_seconds"] for turn in turns)
        peak = max(turn["peak_megabytes"] for turn in turns)
        table.add_row(
            name, f"{statistics.median(speeds[name]):.2f}", f"{tokens:,.0f}", f"{by_clock:.2f}", f"{peak:,.0f}"
        )
    console = Console()
    console.print(table)
    ratios = [ours / peer for ours, peer in zip(*speeds.values(), strict=True)]
    console.print(
        f"ratio of MB/s: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} over the rounds)"
    )
    counted = [f"{name} {turns[0]['tokens']:,.0f}" for name, turns in results.items()]
    console.print(f"tokens: {', '.join(counted)}")


if __name__ == "__main__":
    typer.run(main)
