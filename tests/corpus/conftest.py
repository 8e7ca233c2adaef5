"""Small folders of packed rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detour.data.manifest import TokenizerInfo
from detour.data.shards import RowWriter


@pytest.fixture
def write_rows_of(tmp_path: Path) -> Callable[[str, int], Path]:
    """A function that writes a folder of so many rows of 16 tokens."""
    tokenizer = TokenizerInfo(name="toy", sha256="ab" * 32, vocab_size=1000, mask_id=3, pad_id=0)

    def write(name: str, rows: int) -> Path:
        with RowWriter(tmp_path / name, seq_len=16, tokenizer=tokenizer, seed=0) as writer:
            for i in range(rows):
                writer.write([(10 + (i + np.arange(16)) % 900).astype(np.uint16)])
            writer.finish(sources=[], documents=rows, empty_skipped=0, documents_split=0)
        return tmp_path / name

    return write
