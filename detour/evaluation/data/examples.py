"""An example of a task, and entity annotation brought to the form that taggers learn: words with IOB2 tags."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WORD = re.compile(r"\w+|[^\w\s]")
SCHEMES = ("iob2", "iob1", "bioes")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One labeled item.

    Attributes:
        id: Unique within the task.
        parts: The text, or both texts of a pair; for NER the words.
        target: The label; the labels; the score; for NER a tag for each word.
        group: What must not be torn apart by a split, such as the document; empty for the item alone.
    """

    id: str
    parts: tuple[str, ...]
    target: str | tuple[str, ...] | float
    group: str = ""


Splits = dict[str, list[Example]]  # "train", "dev", "test"


class Span(NamedTuple):
    """Characters [start, end) of a text that are an entity."""

    start: int
    end: int
    type: str


def tag_text(text: str, spans: Iterable[Span]) -> tuple[list[str], list[str], int]:
    """Words and their IOB2 tags of a text with stand-off annotation.

    Words are runs of letters and digits, and single other signs: no boundary comes from the annotation, which a test
    text would not have. Of nested and overlapping spans the longest stays; a span that begins or ends inside a word
    is widened to it.

    Returns:
        Words, tags, and how many spans were left out.
    """
    found = list(WORD.finditer(text))
    starts, ends = [word.start() for word in found], [word.end() for word in found]
    tags, lost = ["O"] * len(found), 0
    for span in sorted(spans, key=lambda span: (span.start - span.end, span)):
        inside = range(bisect_right(ends, span.start), bisect_left(starts, span.end))
        if not inside or any(tags[i] != "O" for i in inside):
            lost += 1
            continue
        for i in inside:
            tags[i] = f"I-{span.type}"
        tags[inside[0]] = f"B-{span.type}"
    return [word.group() for word in found], tags, lost


def fault_of(tags: Sequence[str]) -> str | None:
    """What keeps tags from being strict IOB2, or None."""
    previous = "O"
    for tag in tags:
        prefix, dash, kind = tag.partition("-")
        if tag != "O" and (prefix not in ("B", "I") or not dash or not kind):
            return f"tag '{tag}', expected O, B-TYPE or I-TYPE"
        if prefix == "I" and previous[2:] != kind:
            return f"tag '{tag}' after '{previous}', expected a B-{kind} before it (IOB2)"
        previous = tag
    return None


def longest_entity(examples: Iterable[Example]) -> int:
    """Words of the longest entity of tagged examples; 1 if there is none."""
    longest = 1
    for example in examples:
        words = 0
        for tag in example.target:  # type: ignore[union-attr]
            words = words + 1 if tag.startswith("I-") else 1
            longest = max(longest, words)
    return longest


def to_iob2(tags: Sequence[str], scheme: str) -> list[str]:
    """Tags of IOB1 or BIOES as IOB2; those of IOB2 as they are."""
    if scheme == "iob2":
        return list(tags)
    renamed, previous = [], "O"
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        begins = prefix in ("B", "S") or (prefix in ("I", "E") and previous[2:] != kind)
        renamed.append("O" if tag == "O" else f"B-{kind}" if begins else f"I-{kind}")
        previous = tag
    return renamed
