"""Packing: assigns documents to rows (packed sequences) by length. Pure Python.

Best-fit decreasing (Johnson et al. 1974; for language models arXiv 2404.10830) over a bounded window: in order of
decreasing length, each piece goes into the fullest row that has room for it. Rows that are not full at the end of a
window stay open for the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from random import Random
from typing import Generic, TypeVar

Piece = TypeVar("Piece", bound=Sized)

SHORTEST_ROW, LONGEST_ROW = 8, 1 << 20  # tokens; a packing window holds at least WINDOW_ROWS of them in memory
WINDOW_TOKENS = (
    1 << 24
)  # 32 MiB of uint16 tokens; more does not improve packing efficiency, see tests/data/test_packing.py
WINDOW_ROWS = 2048  # minimum window for long rows: packing efficiency drops with fewer pieces to choose from


def split_document(n: int, T: int) -> list[int]:
    """Lengths of the pieces of a document of ``n`` tokens: pieces of ``T`` tokens, then the remainder. Sums to ``n``.

    With the row length as ``T`` only the last piece is shorter than a row, so two pieces of one document never share a row.
    """
    full, rest = divmod(n, T)
    return [T] * full + [rest] * (rest > 0)


def pack_rows(
    pieces: Iterable[Piece], *, seq_len: int, seed: int, window_tokens: int | None = None
) -> Iterator[list[Piece]]:
    """Groups pieces into rows of at most ``seq_len`` tokens. Each piece is in exactly one row, unchanged.

    Deterministic in the order of the pieces and the seed. Rows are yielded window by window, shuffled within the window;
    otherwise they would be sorted by document length.

    Args:
        pieces: Objects with a length in [1, seq_len], such as arrays of token ids.
        seq_len: Capacity of a row in tokens.
        seed: Seeds the shuffle.
        window_tokens: Tokens packed together. Rows that stay open at the end of a window hold at most as many again, so
            memory is bounded by twice this number.

    Raises:
        ValueError: A piece is empty or longer than a row.

    Cost: O(seq_len / 64) machine words per piece, about 2 microseconds.
    """
    window_tokens = window_tokens or max(WINDOW_TOKENS, WINDOW_ROWS * seq_len)
    rng, open_rows = Random(seed), _OpenRows[Piece](seq_len)
    window: list[Piece] = []
    filled = 0
    for piece in pieces:
        if not 1 <= len(piece) <= seq_len:
            raise ValueError(f"a piece has {len(piece)} tokens, expected 1 to {seq_len}; see split_document")
        window.append(piece)
        filled += len(piece)
        if filled >= window_tokens:
            yield from _pack_window(window, open_rows, rng, keep=window_tokens // seq_len)
            window, filled = [], 0
    yield from _pack_window(window, open_rows, rng, keep=0)


def _pack_window(window: list[Piece], open_rows: _OpenRows[Piece], rng: Random, *, keep: int) -> list[list[Piece]]:
    """Packs a window, then returns the rows that are full enough, in shuffled order."""
    window.sort(key=len, reverse=True)  # stable: equal lengths stay in input order
    for piece in window:
        open_rows.place(piece)
    rows = open_rows.close(keep=keep)
    rng.shuffle(rows)
    return rows


class _OpenRows(Generic[Piece]):
    """Open rows by free tokens. A bit mask of the free sizes finds the best fit by one shift and its lowest set bit."""

    def __init__(self, seq_len: int) -> None:
        self.seq_len = seq_len
        self._clear()

    def _clear(self) -> None:
        self.rows_by_free: list[list[list[Piece]]] = [[] for _ in range(self.seq_len + 1)]
        self.mask = 0  # bit f is set where rows_by_free[f] is not empty

    def _put(self, free: int, row: list[Piece]) -> None:
        self.rows_by_free[free].append(row)
        self.mask |= 1 << free

    def place(self, piece: Piece) -> None:
        """Adds a piece to the fullest row that has room for it, or to a new row."""
        n = len(piece)
        fitting = self.mask >> n
        if fitting:
            free = n + (fitting & -fitting).bit_length() - 1
            row = self.rows_by_free[free].pop()
            if not self.rows_by_free[free]:
                self.mask ^= 1 << free
        else:
            free, row = self.seq_len, []
        row.append(piece)
        self._put(free - n, row)

    def close(self, *, keep: int) -> list[list[Piece]]:
        """Removes and returns rows, keeping open at most the ``keep`` emptiest of those with over 1/512 padding."""
        fullest_first = [(free, row) for free, rows in enumerate(self.rows_by_free) for row in rows]
        full_enough = sum(free * 512 <= self.seq_len for free, _ in fullest_first)
        cut = max(full_enough, len(fullest_first) - keep)
        self._clear()
        for free, row in fullest_first[cut:]:
            self._put(free, row)
        return [row for _, row in fullest_first[:cut]]
