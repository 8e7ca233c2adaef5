"""The entire workflow on a laptop: text, tokenizer, rows, MLM -> CLM -> MLM decay, export, a filled mask, a report.

python scripts/demo.py                               on synthetic clinical cases
python scripts/demo.py --corpus file.jsonl.zst       on real text
python scripts/demo.py --model roberta               with another family of models
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
import zstandard
from rich.console import Console
from rich.table import Table

from data_prep.synthetic import facts, generate
from detour.config.load import load
from detour.corpus.pack import pack_corpus
from detour.corpus.text import Document, find_files, read_documents
from detour.data.tokenizer import train_bpe
from detour.errors import StoppedError
from detour.export.run import export_run
from detour.report.write import write_report
from detour.train import train

console = Console(highlight=False)
SIZES = {"modernbert": "tiny", "roberta": "tiny-roberta", "llama": "tiny-llama"}  # by --model


def demo(
    corpus: Annotated[list[Path] | None, typer.Option(help="JSONL or text. Default: synthetic cases.")] = None,
    work: Annotated[Path, typer.Option(help="Folder for all output; emptied first.")] = Path("work/demo"),
    config: Annotated[Path, typer.Option(help="YAML of the run.")] = Path("yamls/smoke.yaml"),
    documents: Annotated[int, typer.Option(help="Number of synthetic documents.")] = 20_000,
    model: Annotated[str, typer.Option(help=f"Family of the tiny model: {', '.join(SIZES)}.")] = "modernbert",
    overrides: Annotated[list[str] | None, typer.Argument(help="Overrides of the run: key=value.")] = None,
) -> None:
    """Runs all steps and prints what each one produced."""
    if model not in SIZES:
        raise typer.BadParameter(f"'{model}', expected one of {', '.join(SIZES)}", param_hint="--model")
    shutil.rmtree(work, ignore_errors=True)
    (work / "text").mkdir(parents=True)

    console.rule("1. text")
    records = list(_records(corpus, documents))
    texts = _split(records, work / "text")
    console.rule("2. tokenizer")
    tokenizer = train_bpe((document.text for document in records), vocab_size=4096)
    tokenizer.save_pretrained(work / "tokenizer")
    console.print(f"{len(tokenizer):,} tokens in {work / 'tokenizer'}")
    console.rule("3. rows")
    for name, path in texts.items():
        manifest, _ = pack_corpus([path], tokenizer=work / "tokenizer", out=work / "rows" / name, seq_len=256)
        counts = manifest.counts
        console.print(
            f"{name}: {counts.tokens:,} tokens in {counts.rows:,} rows, {manifest.packing_efficiency:.2%} full"
        )
    console.rule("4. training")
    run = load(config, [
        f"folder={work / 'runs'}",
        f"model.size={SIZES[model]}",
        f"model.tokenizer={work / 'tokenizer'}",
        f"data.train.0.path={work / 'rows' / 'train'}",
        f"data.validation.0.path={work / 'rows' / 'validation'}",
        *(overrides or []),
    ])  # fmt: skip
    folder = Path(run.folder) / run.name
    try:
        train(run)
    except StoppedError as error:
        console.print(f"{error}: of `detour train`, not of this demo, which starts over:")
        console.print(f"  detour train {folder / 'config.yaml'}")
        raise SystemExit(error.exit_code) from None
    _show_flip(folder)
    console.rule("5. export")
    difference = export_run(folder, work / "encoder")
    console.print(f"{work / 'encoder'}: logits in plain transformers differ by {difference:.1e}")
    console.rule("6. a masked word, in plain transformers")
    _fill(work / "encoder", _sentences(None if corpus is None else records))
    console.rule("7. report")
    console.print(f"open {write_report(folder)}")


def _records(corpus: list[Path] | None, documents: int) -> Iterator[Document]:
    if corpus is not None:
        yield from read_documents(find_files(corpus))
        return
    for record in generate(documents=documents, seed=17):
        yield Document(text=record["text"], id=record["id"], license=record["license"], path=Path("synthetic"))


def _split(records: list[Document], folder: Path) -> dict[str, Path]:
    """Writes training and validation text. One document in fifty is validation, drawn with a fixed seed."""
    rng, parts = random.Random(17), {"train": [], "validation": []}
    for document in records:
        parts["validation" if rng.random() < 0.02 else "train"].append(document)
    paths = {}
    for name, part in parts.items():
        paths[name] = folder / f"{name}.jsonl.zst"
        lines = "".join(json.dumps({"id": d.id, "text": d.text, "license": d.license}) + "\n" for d in part)
        paths[name].write_bytes(zstandard.compress(lines.encode()))
        console.print(f"{name}: {len(part):,} documents, {sum(len(d.text) for d in part) / 1e6:.1f} M characters")
    return paths


def _show_flip(folder: Path) -> None:
    """Prints every held-out loss of the run."""
    rows: dict[int, dict[str, float]] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        found = {key.removeprefix("loss/eval/"): value for key, value in values.items() if key.startswith("loss/eval/")}
        rows.setdefault(values["token"], {}).update(found)
    rows = {token: losses for token, losses in rows.items() if losses}
    names = sorted({name for losses in rows.values() for name in losses})
    table = Table("tokens", *(f"held-out {name} loss" for name in names))
    for token, losses in rows.items():
        table.add_row(f"{token:,}", *(f"{losses[name]:.3f}" for name in names))
    console.print(table)


def _sentences(records: list[Document] | None) -> list[tuple[str, str]]:
    """A few texts with one masked word, and that word."""
    rng = random.Random(17)
    if records is None:
        chosen = [rng.choice(facts(language)) for language in ("en", "fr")]  # type: ignore[arg-type]
        documents = [
            next(r["text"] for r in generate(documents=5000, seed=99, language=language) if fact.disease in r["text"])  # type: ignore[arg-type]
            for language, fact in zip(("en", "fr"), chosen, strict=True)
        ]
    else:
        documents = [rng.choice(records).text for _ in range(3)]
    pairs = []
    for text in documents:
        words = text.split()[:80]
        at = max(range(20, min(60, len(words))), key=lambda i: len(words[i]), default=0)
        pairs.append((" ".join([*words[:at], "[MASK]", *words[at + 1 :]]), words[at]))
    return pairs


@torch.no_grad()
def _fill(encoder: Path, sentences: list[tuple[str, str]]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    masked = type(AutoConfig.from_pretrained(encoder)) in AutoModelForMaskedLM._model_mapping
    model = (AutoModelForMaskedLM if masked else AutoModelForCausalLM).from_pretrained(encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    for text, word in sentences:
        text = text.replace("[MASK]", tokenizer.mask_token)
        inputs = tokenizer(text, return_tensors="pt")
        if not masked:  # a decoder's class attends in both directions if it is given a mask that shows everything
            length = inputs["input_ids"].shape[1]
            inputs["attention_mask"] = torch.zeros(1, 1, length, length)
        at = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]
        best = model(**inputs).logits[0, at].softmax(0).topk(5)
        guesses = ", ".join(
            f"{tokenizer.decode([i]).strip()!r} {p:.2f}" for p, i in zip(*(x.tolist() for x in best), strict=True)
        )
        console.print(f"...{text[max(0, text.index(tokenizer.mask_token) - 80) :][:140]}...")
        console.print(f"   hidden: {word!r}; first piece guessed: {guesses}")


if __name__ == "__main__":
    typer.run(demo)
