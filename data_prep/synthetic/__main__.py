"""`python -m data_prep.synthetic --out DIR`: writes the synthetic corpus as compressed JSONL, train and validation."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, TextIO

import typer
import zstandard
from rich.progress import track

from data_prep.synthetic import generate
from data_prep.synthetic import pairs as pairs_of

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Language(str, Enum):
    """Choices of --language."""

    en = "en"
    fr = "fr"
    both = "both"


class Suffix(str, Enum):
    """Choices of --suffix; it decides the compression."""

    zst = "jsonl.zst"
    gz = "jsonl.gz"


@contextmanager
def _writer(path: Path) -> Iterator[TextIO]:
    """A compressed text file, written atomically."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as raw:
        if path.suffix == ".zst":
            packed = zstandard.ZstdCompressor(level=9).stream_writer(raw, closefd=False)
        else:  # without name and time in its header, so that equal documents give equal bytes
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0)
        with io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text:  # type: ignore[arg-type]
            yield text
    os.replace(partial, path)


def in_validation(index: int, *, seed: int, share: float) -> bool:
    """Whether a document belongs to the validation file; depends on the arguments only."""
    return random.Random(f"split:{seed}:{index}").random() < share


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Output folder.")],
    documents: Annotated[int, typer.Option(min=1, help="Number of documents.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 17,
    language: Annotated[Language, typer.Option(help="One language, or both alternately.")] = Language.both,
    validation_share: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Fraction of documents in the validation file.")
    ] = 0.02,
    name: Annotated[str, typer.Option(help="Prefix of the file names.")] = "synthetic",
    suffix: Annotated[Suffix, typer.Option(help="Format of the files.")] = Suffix.zst,
    pairs: Annotated[
        int, typer.Option(min=0, help="Also write NAME.pairs.SUFFIX: so many pairs of terms and their relations.")
    ] = 0,
) -> None:
    """Write NAME.train.SUFFIX and NAME.val.SUFFIX: synthetic clinical texts, one JSON record per line."""
    out.mkdir(parents=True, exist_ok=True)
    train, val = (out / f"{name}.{part}.{suffix.value}" for part in ("train", "val"))
    counts = {train: 0, val: 0}
    with _writer(train) as train_file, _writer(val) as val_file:
        records = generate(documents=documents, seed=seed, language=language.value)
        for index, record in enumerate(track(records, total=documents, description="Writing", transient=True)):
            held_out = in_validation(index, seed=seed, share=validation_share)
            line = json.dumps(record, ensure_ascii=False)
            (val_file if held_out else train_file).write(line + "\n")
            counts[val if held_out else train] += 1
    related = out / f"{name}.pairs.{suffix.value}"
    if pairs:
        counts[related] = pairs
        with _writer(related) as file:
            for pair in pairs_of(count=pairs, seed=seed, language=language.value):
                file.write(json.dumps(pair._asdict(), ensure_ascii=False) + "\n")
    for path, count in counts.items():
        typer.echo(f"{path}: {count} {'pairs' if path == related else 'documents'}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    app()
