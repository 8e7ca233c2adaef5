"""Rows for benchmarks: random tokens in documents of log-normal length, packed by the library."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from data_prep.synthetic import generate
from detour.data.packing import pack_rows, split_document
from detour.data.shards import RowWriter
from detour.data.tokenizer import tokenizer_info, train_bpe


def prepare_rows(root: Path, *, seq_len: int, rows: int, median: float = 300, sigma: float = 1.0) -> Path:
    """Writes ``rows`` rows to ``root / "rows"``; returns the folder of their tokenizer.

    Token ids are uniform: neither side's speed depends on them. Document lengths are log-normal, as in web and
    biomedical text.
    """
    tokenizer = train_bpe((record["text"] for record in generate(documents=200, seed=0)), vocab_size=2000)
    tokenizer.save_pretrained(root / "tokenizer")
    rng = np.random.default_rng(0)

    def pieces():
        while True:
            ids = rng.integers(10, 2000, max(8, int(rng.lognormal(np.log(median), sigma)))).astype(np.uint16)
            at = 0
            for length in split_document(len(ids), seq_len):
                yield ids[at : at + length]
                at += length

    enough = itertools.islice(pieces(), int(rows * seq_len / 100) + 200)
    with RowWriter(root / "rows", seq_len=seq_len, tokenizer=tokenizer_info(tokenizer), seed=0) as writer:
        for row in itertools.islice(pack_rows(enough, seq_len=seq_len, seed=0), rows):
            writer.write(row)
        writer.finish(sources=[], documents=rows, empty_skipped=0, documents_split=0)
    return root / "tokenizer"
