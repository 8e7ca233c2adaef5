"""Small folders of packed rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detour.data.manifest import SourceFile, TokenizerInfo
from detour.data.shards import RowWriter

TOKENIZER = TokenizerInfo(name="toy", sha256="ab" * 32, vocab_size=1000, mask_id=3, pad_id=0)


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a folder of rows; row i holds the ids 10 + (i + position) % 900 in two documents."""

    def write(name: str = "rows", *, rows: int = 24, seq_len: int = 16, shard_bytes: int = 600, **changes) -> Path:
        tokenizer = TokenizerInfo(**{**TOKENIZER.__dict__, **changes})
        out = tmp_path / name
        with RowWriter(out, seq_len=seq_len, tokenizer=tokenizer, seed=0, shard_bytes=shard_bytes) as writer:
            for i in range(rows):
                ids = (10 + (i + np.arange(seq_len)) % 900).astype(writer.dtype)
                writer.write([ids[:6], ids[6 : seq_len - 2]])
            source = SourceFile(path="a.jsonl", sha256="cd" * 32, bytes=9, documents=2 * rows, license=None)
            writer.finish(sources=[source], documents=2 * rows, empty_skipped=0, documents_split=0)
        return out

    return write
