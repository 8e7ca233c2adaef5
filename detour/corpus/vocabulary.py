"""Extends a tokenizer by the words of corpus files, or compares it with another one; measures tokens per word."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detour.console import Heartbeat
from detour.corpus.text import find_files, read_documents
from detour.data.token_rate import token_rates
from detour.data.tokenizer import load_tokenizer
from detour.data.tokenizer_extension import check_extensible, count_words, extend
from detour.data.vocabulary_transfer import row_sources
from detour.errors import DataError
from detour.files import naming, write_json

log = logging.getLogger(__name__)
REPORT = "vocabulary.json"
HELD_OUT_ONE_IN = 50  # documents, drawn by their text
HELD_OUT_CHARACTERS = 20_000_000  # most that is held out; the rest of the corpus is counted


def empty_folder(out: Path) -> None:
    """Makes a folder for output, and checks that it is empty and can be written. Raises DataError."""
    with naming(out):
        if out.exists() and any(out.iterdir()):
            raise DataError(f"{out}: exists and is not empty")
        out.mkdir(parents=True, exist_ok=True)  # found out now, not after minutes of work
        if not os.access(out, os.W_OK):
            raise DataError(f"{out}: {os.strerror(errno.EACCES)}")


def extend_tokenizer(
    base: str,
    inputs: Sequence[Path],
    *,
    add: int,
    out: Path,
    held_out: Sequence[Path] = (),
    text_column: str = "text",
    multiple: int = 64,
) -> dict[str, Any]:
    """Writes a folder with the extended tokenizer, and what it saves as ``vocabulary.json``.

    Args:
        base: Hugging Face folder or hub name of the tokenizer.
        inputs: Files of the corpus, or folders of them.
        add: Number of new tokens.
        out: The new folder; must not exist, or be empty.
        held_out: Files on which tokens per word are measured. If there are none, one document in fifty of the corpus is held
            out, drawn by the hash of its text, up to 20 million characters.
        text_column: Key of the text in JSON objects.
        multiple: The suggested number of embedding rows is a multiple of this.

    Returns:
        Content of ``vocabulary.json``: the base, the size of the vocabulary, the rate before and after, the new tokens.

    Raises:
        DataError: The tokenizer cannot be extended, or a file cannot be read or written.
    """
    for name, value in {"add": add, "multiple": multiple}.items():
        if value < 1:
            raise DataError(f"{name} is {value}, expected at least 1")
    tokenizer = load_tokenizer(base)
    check_extensible(tokenizer)
    files, kept = find_files(inputs), find_files(held_out) if held_out else []
    empty_folder(out)
    aside: list[str] = []
    counted = _counted(files, None if kept else aside, text_column=text_column)
    extension = extend(tokenizer, count_words(tokenizer, counted), add=add)
    if len(extension.added) < add:
        log.warning("the corpus gives %s new tokens of %s", f"{len(extension.added):,}", f"{add:,}")
    texts = (document.text for document in read_documents(kept, text_column=text_column)) if kept else aside
    before, after = token_rates([tokenizer, extension.tokenizer], texts)
    size = extension.first_id + len(extension.added)
    report = {
        "base": _named(base),
        "base_vocab_size": extension.first_id,
        "vocab_size": size,
        "embedding_rows": -(-size // multiple) * multiple,
        "held_out": {
            "files": sorted(file.name for file in kept),
            "before": before.counts(),
            "after": after.counts(),
            "new_tokens_used": sum(id >= extension.first_id for id in after.used),
        },
        "new_tokens": [{"token": new.token, "pieces": new.pieces, "count": new.count} for new in extension.added],
    }
    with naming(out):
        extension.tokenizer.save_pretrained(out)
        write_json(out / REPORT, report)
    return report


def swap_tokenizer(
    base: str, other: str, inputs: Sequence[Path], *, out: Path, text_column: str = "text", multiple: int = 64
) -> dict[str, Any]:
    """Writes a folder with another tokenizer for a model, and what the model keeps and saves as ``vocabulary.json``.

    Args:
        base: Hugging Face folder or hub name of the model's tokenizer.
        other: That of the other one.
        inputs: Files on which tokens per word are measured, or folders of them.
        out: The new folder; must not exist, or be empty.
        text_column: Key of the text in JSON objects.
        multiple: The suggested number of embedding rows is a multiple of this.

    Returns:
        Content of ``vocabulary.json``: both names and sizes, how many embeddings `row_sources` copies and averages, and the
        rates before and after.

    Raises:
        DataError: A tokenizer or file cannot be read, or nothing can be written.
    """
    if multiple < 1:
        raise DataError(f"multiple is {multiple}, expected at least 1")
    before, after = load_tokenizer(base), load_tokenizer(other)
    files = find_files(inputs)
    empty_folder(out)
    sizes = [1 + max(tokenizer.get_vocab().values()) for tokenizer in (before, after)]
    transfer = row_sources(before, after, start_rows=sizes[0], rows=sizes[1])
    texts = (document.text for document in read_documents(files, text_column=text_column))
    rates = token_rates([before, after], texts)
    report = {
        "base": _named(base),
        "base_vocab_size": sizes[0],
        "other": _named(other),
        "vocab_size": sizes[1],
        "embedding_rows": -(-sizes[1] // multiple) * multiple,
        "embeddings": transfer.record(),
        "text": {
            "files": sorted(file.name for file in files),
            "before": rates[0].counts(),
            "after": rates[1].counts(),
        },
    }
    with naming(out):
        after.save_pretrained(out)
        write_json(out / REPORT, report)
    return report


def _named(tokenizer: str) -> str:
    """A hub name as it is; of a folder only its name."""
    return Path(tokenizer).name if Path(tokenizer).exists() else tokenizer


def _counted(files: Sequence[Path], aside: list[str] | None, *, text_column: str) -> Iterator[str]:
    """The texts that are counted; those that are held out are put into ``aside``, or counted too if that is None."""
    alive, documents, characters, held = Heartbeat(log), 0, 0, 0
    for document in read_documents(files, text_column=text_column):
        alive.beat("reading: %s documents, %.1f million characters so far", f"{documents:,}", characters / 1e6)
        documents, characters = documents + 1, characters + len(document.text)
        if aside is not None and held < HELD_OUT_CHARACTERS and _is_held_out(document.text):
            aside.append(document.text)
            held += len(document.text)
        else:
            yield document.text


def _is_held_out(text: str) -> bool:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_ONE_IN == 0
