"""Data of yamls/experiments/smoke.yaml: tokenizer, rows and two labeled tasks from synthetic clinical cases.

python scripts/smoke_data.py --out work/smoke
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from data_prep.synthetic import facts, generate
from detour.corpus.pack import pack_corpus
from detour.data.tokenizer import train_bpe

SPLITS = {"train": 160, "dev": 60, "test": 120}
DISEASES = 4  # classes of the diagnosis task
Records = Iterator[dict[str, Any]]


def main(
    out: Annotated[Path, typer.Option(help="Folder for all output; emptied first.")] = Path("work/smoke"),
    documents: Annotated[int, typer.Option(help="Number of synthetic documents.")] = 2500,
) -> None:
    """Writes text, tokenizer, rows and tasks."""
    shutil.rmtree(out, ignore_errors=True)
    (out / "text").mkdir(parents=True)
    texts = [record["text"] for record in generate(documents=documents, seed=17)]
    tokenizer = train_bpe(iter(texts), vocab_size=2048)
    tokenizer.save_pretrained(out / "tokenizer")
    held_out = len(texts) // 10
    for name, part in {"train": texts[held_out:], "validation": texts[:held_out]}.items():
        path = out / "text" / f"{name}.jsonl"
        _write(path, ({"text": text} for text in part))
        pack_corpus([path], tokenizer=out / "tokenizer", out=out / "rows" / name, seq_len=256)
    describe(out)
    for name, (_, _, make) in TASKS.items():
        records = make(record["text"] for record in generate(documents=200_000, seed=99, language="en"))
        (out / "tasks" / name).mkdir()
        for split, count in SPLITS.items():
            _write(out / "tasks" / name / f"{split}.jsonl", (next(records) for _ in range(count)))
    typer.echo(f"data of the smoke experiment in {out}")


def diagnosis(texts: Iterator[str]) -> Records:
    """Texts that name one of a few diseases, its name left out: which one is it?"""
    names = sorted({fact.disease for fact in facts("en")})[:DISEASES]
    for index, text in enumerate(texts):
        named = [name for name in names if name in text]
        if len(named) == 1:
            yield {"id": str(index), "text": text.replace(named[0], "this disease")[:600], "label": named[0]}


def symptoms(texts: Iterator[str]) -> Records:
    """Sentences with the mentions of symptoms and drugs tagged."""
    kinds = {fact.drug: "DRUG" for fact in facts("en")} | {fact.symptom: "SYMPTOM" for fact in facts("en")}
    mention = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in sorted(kinds, key=len, reverse=True)))
    for index, text in enumerate(texts):
        sentence = next((part for part in text.split(". ") if mention.search(part)), None)
        if sentence is None:
            continue
        tokens: list[str] = []
        tags: list[str] = []
        end = 0
        for found in mention.finditer(sentence):
            before, inside = sentence[end : found.start()].split(), found.group().split()
            kind, end = kinds[found.group()], found.end()
            tokens += before + inside
            tags += ["O"] * len(before) + [f"B-{kind}"] + [f"I-{kind}"] * (len(inside) - 1)
        rest = sentence[end:].split()
        yield {"id": str(index), "tokens": tokens + rest, "ner_tags": tags + ["O"] * len(rest)}


def describe(out: Path) -> None:
    """Writes the tasks' YAMLs."""
    (out / "tasks").mkdir(parents=True, exist_ok=True)
    for name, (kind, metric, _) in TASKS.items():
        described = {
            "name": name,
            "language": "en",
            "kind": kind,
            "source": {"kind": "local", "options": {"path": name}},
            "metric": metric,
            "max_length": 128,
            "license": "CC0-1.0",
            "training": {"learning_rate": 1e-3, "weight_decay": 0.01, "batch_size": 16, "epochs": 2},
        }
        (out / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(described, sort_keys=False))


TASKS: dict[str, tuple[str, str, Callable[[Iterator[str]], Records]]] = {
    "diagnosis": ("classification", "accuracy", diagnosis),
    "symptoms": ("ner", "span_micro_f1", symptoms),
}


def _write(path: Path, records: Records) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


if __name__ == "__main__":
    typer.run(main)
