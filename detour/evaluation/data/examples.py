"""Examples of labeled tasks, and conversion of entity annotations to words with IOB2 tags."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WORD = re.compile(r"\w+|[^\w\s]")
SCHEMES = ("iob2", "iob1", "bioes")


class Span(NamedTuple):
    """An entity: characters [start, end) of a text, and its type."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, kw_only=True)
class Example:
    """A labeled example.

    Attributes:
        id: Identifier, unique within the task.
        parts: The text, or both texts of a pair; for NER the words.
        target: The label, labels, or score; for NER one tag per word; for nested NER the entities, in order and each once.
        group: Examples with the same group, such as those of one document, stay in the same split. Empty: ungrouped.
    """

    id: str
    parts: tuple[str, ...]
    target: str | tuple[str, ...] | tuple[Span, ...] | float
    group: str = ""


Splits = dict[str, list[Example]]  # "train", "dev", "test"


def tag_text(text: str, spans: Iterable[Span]) -> tuple[list[str], list[str], int]:
    """Converts a text with entity spans to words and IOB2 tags.

    Words are runs of letters and digits, and single other characters. Word boundaries do not depend on the annotation,
    which is unknown for a test text. Among nested or overlapping spans the longest is kept. A span that begins or ends
    inside a word is extended to the entire word.

    Returns:
        Words, tags, and the number of dropped spans.
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


def spans_of_tags(text: str, tags: Sequence[str]) -> list[Span]:
    """The entities of a text from IOB2 tags of its words, which are found as in `tag_text`.

    Read strictly, as scores read them: an I- tag that continues nothing is no entity.
    """
    spans: list[Span] = []
    previous = "O"
    for word, tag in zip(WORD.finditer(text), tags, strict=True):
        if tag.startswith("B-"):
            spans.append(Span(word.start(), word.end(), tag[2:]))
        elif tag.startswith("I-") and previous[2:] == tag[2:]:
            spans[-1] = spans[-1]._replace(end=word.end())
        else:
            tag = "O"
        previous = tag
    return spans


def fault_of(tags: Sequence[str]) -> str | None:
    """Why tags are not strict IOB2, as a message; None if they are."""
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
    """Length in words of the longest entity in NER examples; 1 if there is none."""
    longest = 1
    for example in examples:
        words = 0
        for tag in example.target:  # type: ignore[union-attr]
            words = words + 1 if tag.startswith("I-") else 1
            longest = max(longest, words)
    return longest


def to_iob2(tags: Sequence[str], scheme: str) -> list[str]:
    """Converts tags from a scheme ("iob2", "iob1", "bioes") to IOB2."""
    if scheme == "iob2":
        return list(tags)
    renamed, previous = [], "O"
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        begins = prefix in ("B", "S") or (prefix in ("I", "E") and previous[2:] != kind)
        renamed.append("O" if tag == "O" else f"B-{kind}" if begins else f"I-{kind}")
        previous = tag
    return renamed
