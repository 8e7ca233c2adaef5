"""``detour data tokenizer``: training, extending and exchanging tokenizers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from detour.cli.groups import TokenizerCommands, group
from detour.errors import DataError
from detour.files import naming

log = logging.getLogger(__name__)
app = group(
    "tokenizer",
    "Train a tokenizer, extend one by the words of a domain, or give a model another.",
    cls=TokenizerCommands,
)
Texts = Annotated[
    list[Path],
    typer.Argument(help="JSON or text files (plain, .gz, .bz2, .xz, .zst), or folders of them.", metavar="FILE"),
]
TextColumn = Annotated[str, typer.Option(help="Key of the text in JSON objects.")]


@app.command()
def train(
    corpus: Texts,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    vocab_size: Annotated[int, typer.Option(help="Vocabulary size, special tokens included.", min=300)] = 32_768,
    text_column: TextColumn = "text",
) -> None:
    """Train a byte-level BPE tokenizer on a corpus, for a model from scratch."""
    from detour.console import Heartbeat
    from detour.corpus.text import ReadReport, find_files, read_documents
    from detour.corpus.vocabulary import empty_folder
    from detour.data.tokenizer import train_bpe

    empty_folder(out)
    files, report, alive, count, characters = find_files(corpus), ReadReport(), Heartbeat(log), 0, 0

    def texts() -> Iterator[str]:
        nonlocal count, characters
        for document in read_documents(files, text_column=text_column, report=report):
            alive.beat("reading: %s documents, %.1f million characters so far", f"{count:,}", characters / 1e6)
            count, characters = count + 1, characters + len(document.text)
            yield document.text
        log.info("%s documents, %.1f million characters read; now merging", f"{count:,}", characters / 1e6)

    trained = train_bpe(texts(), vocab_size=vocab_size)
    if not count:
        why = [
            f"skipped {n:,}, {reason}; first at {report.examples[reason][0]}" for reason, n in report.skipped.items()
        ]
        raise DataError("\n  ".join([f"{', '.join(map(str, corpus))}: no document with text", *why]))
    with naming(out):
        trained.save_pretrained(out)
    print(f"{out} ({len(trained):,} tokens)")


@app.command()
def extend(
    base: Annotated[str, typer.Argument(help="Tokenizer to extend: Hugging Face folder or hub name.", metavar="BASE")],
    corpus: Texts,
    add: Annotated[int, typer.Option(help="Number of new tokens.", min=1)],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            help="File on which tokens per word are measured; repeatable. Default: one document in 50 of the corpus."
        ),
    ] = None,
    multiple: Annotated[
        int, typer.Option(help="Round the number of embedding rows up to a multiple of this.", min=1)
    ] = 64,
    text_column: TextColumn = "text",
) -> None:
    """Add the tokens that save most pieces in a corpus, and measure tokens per word. Ids of the base stay."""
    from detour.console import show
    from detour.corpus.vocabulary import REPORT, extend_tokenizer

    report = extend_tokenizer(
        base, corpus, add=add, out=out, held_out=held_out or (), text_column=text_column, multiple=multiple
    )
    measured, new = report["held_out"], report["new_tokens"]
    lines = [
        f"{out}: {len(new):,} new tokens, {report['vocab_size']:,} in all; listed in {out / REPORT}",
        f"  first: {' '.join(entry['token'] for entry in new[:8])}",
    ]
    if measured["before"]["words"]:
        lines += _rates("held-out text", measured)
        lines.append(f"  new tokens that occur: {measured['new_tokens_used']:,}")
    else:
        lines.append("held-out text: no document of the corpus is held out; name files with --held-out")
    show(*lines, *_run_lines(out, report))


@app.command()
def swap(
    base: Annotated[
        str, typer.Argument(help="The model's tokenizer: Hugging Face folder or hub name.", metavar="BASE")
    ],
    other: Annotated[str, typer.Argument(help="The tokenizer to train it with.", metavar="OTHER")],
    texts: Texts,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    multiple: Annotated[
        int, typer.Option(help="Round the number of embedding rows up to a multiple of this.", min=1)
    ] = 64,
    text_column: TextColumn = "text",
) -> None:
    """Give a model another tokenizer: count the embeddings that it keeps, and measure tokens per word with both."""
    from detour.console import show
    from detour.corpus.vocabulary import REPORT, swap_tokenizer

    report = swap_tokenizer(base, other, texts, out=out, text_column=text_column, multiple=multiple)
    rows = report["embeddings"]
    lines = [
        f"{out}: {report['vocab_size']:,} tokens in place of {report['base_vocab_size']:,}; counts in {out / REPORT}",
        f"  embeddings: {rows['copied']:,} copied, {rows['averaged']:,} means of their old pieces, "
        f"{rows['without_pieces']:,} without pieces, which get the mean of all",
    ]
    if report["text"]["before"]["words"]:
        lines += _rates("text", report["text"])
    show(*lines, *_run_lines(out, report))


def _rates(title: str, measured: dict[str, Any]) -> list[str]:
    """Tokens per word before and after, on the same text."""
    before, after = measured["before"], measured["after"]
    change = after["tokens"] / before["tokens"] - 1
    return [
        f"{title}: {before['documents']:,} documents, {before['words']:,} words",
        f"  tokens per word: {before['tokens_per_word']:.3f} before, {after['tokens_per_word']:.3f} after ({change:+.1%})",
        f"  unknown tokens per 1,000 words: {1000 * before['unknown'] / before['words']:.2f} before, "
        f"{1000 * after['unknown'] / before['words']:.2f} after",
    ]


def _run_lines(out: Path, report: dict[str, Any]) -> list[str]:
    """What to write into the YAML of a run."""
    return [
        "in the YAML of a run (rows packed with this tokenizer):",
        f"  model: {{tokenizer: {out}, new_tokens: mean, architecture: {{vocab_size: {report['embedding_rows']}}}}}",
    ]
