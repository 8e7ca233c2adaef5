"""Nested NER: entities of a text that may lie in each other; its examples as words with tags, for heads that tag words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from detour.evaluation.data.dataset import Dataset
from detour.evaluation.data.examples import Example, Span, spans_of_tags, tag_text
from detour.evaluation.data.task import Task


def as_words(task: Task, data: Dataset) -> tuple[Task, Dataset]:
    """A nested NER task as one of tags: of nested or overlapping entities the longest is kept.

    A head that is trained on it is scored against all entities (`spans_of_words`): what tags cannot express is a miss.
    """
    splits = {split: [_tagged(example) for example in examples] for split, examples in data.splits.items()}
    labels = ["O", *(f"{prefix}-{label}" for label in data.labels for prefix in "BI")]
    return replace(task, kind="ner"), replace(data, splits=splits, labels=labels)


def spans_of_words(examples: Sequence[Example], tags: Sequence[Sequence[str]]) -> list[list[Span]]:
    """The entities of texts from tags of their words, in characters."""
    return [spans_of_tags(example.parts[0], each) for example, each in zip(examples, tags, strict=True)]


def without_overlaps(found: Sequence[tuple[Span, float]]) -> list[Span]:
    """Of overlapping entities of one type the more probable one, on ties the longer one, then the first; in order of place.

    Entities of different types may overlap.
    """
    taken: dict[str, list[Span]] = {}
    for span, _ in sorted(found, key=lambda each: (-each[1], each[0].start - each[0].end, each[0])):
        others = taken.setdefault(span.type, [])
        if not any(span.start < other.end and other.start < span.end for other in others):
            others.append(span)
    return sorted(span for spans in taken.values() for span in spans)


def _tagged(example: Example) -> Example:
    words, tags, _ = tag_text(example.parts[0], example.target)  # type: ignore[arg-type]
    return replace(example, parts=tuple(words), target=tuple(tags))
