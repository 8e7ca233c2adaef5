"""Hashes of words and of word n-grams (shingles), on which overlap between documents is measured."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import xxhash

UNSPACED = (  # scripts without spaces between words: each character counts as a word
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
HAS_UNSPACED = re.compile(f"[{UNSPACED}]")
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio; odd, so multiplication is invertible


def word_hashes(text: str) -> np.ndarray:
    """uint64 [words]: hashes of the lower-cased words. Only letters and digits count, not punctuation or layout.

    In scripts without spaces between words (Chinese, Japanese, Thai, ...) each character is a word.

    Cost: about 15 MB/s.
    """
    return np.array([_hash_of(word) for word in WORD.findall(text.lower())], np.uint64)


def word_count(text: str) -> int:
    """Words, separated by white space. In scripts without spaces between words each character is a word."""
    return sum(len(WORD.findall(part)) if HAS_UNSPACED.search(part) else 1 for part in text.split())


def shingles(words: np.ndarray, n: int) -> np.ndarray:
    """uint64 [max(words - n + 1, 0)]: a hash of each word n-gram. Collision probability: 2**-64 per pair."""
    count = len(words) - n + 1
    if count < 1:
        return np.empty(0, np.uint64)
    hashed = np.zeros(count, np.uint64)
    for i in range(n):
        hashed = hashed * FACTOR + words[i : i + count]  # wraps around on purpose
    hashed ^= hashed >> np.uint64(31)
    return hashed * FACTOR


@lru_cache(maxsize=1 << 17)
def _hash_of(word: str) -> int:
    return xxhash.xxh64_intdigest(word)
