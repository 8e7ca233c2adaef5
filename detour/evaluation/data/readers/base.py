"""What a source is, and what the sources share: reading files whole, records as examples, documents as tagged words."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from detour.corpus.text import ReadReport, UnusableRecordError, decoded, parsed, read_chunks
from detour.errors import ConfigError, DataError
from detour.evaluation.data.examples import Example, Span, Splits, fault_of, tag_text
from detour.options import parse
from detour.registry import Registry, suggestion

log = logging.getLogger(__name__)
SPLITS = ("train", "dev", "test")
COLUMNS = {  # role -> the column that holds it, where a task does not say otherwise
    "id": "id",
    "group": "doc_id",
    "text": "text",
    "pair": "",
    "label": "label",
    "labels": "labels",
    "score": "score",
    "tokens": "tokens",
    "tags": "ner_tags",
}


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A form of labeled data. Subclass as a frozen dataclass; its fields are the YAML `options`."""

    @abstractmethod
    def read(self, root: Path, kind: str) -> Splits:
        """The examples of every split that is there, in the order of the source.

        Args:
            root: The folder that relative paths begin in.
            kind: The task's kind, which says what an example's target is.

        Raises:
            DataError: Something is missing or damaged, or an example has not what its kind needs; naming the place.
        """

    def declared_labels(self, root: Path) -> list[str]:
        """All labels, where the source says them apart from its examples; else empty."""
        return []


registry: Registry[type[Source]] = Registry("task_sources")


def build(kind: str, options: Mapping[str, Any]) -> Source:
    """The source registered as ``kind``. Raises ConfigError for an unknown kind, and options unknown or of a wrong type."""
    return parse(registry.get(kind), options, source=f"'{kind}'")


def check_keys(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises ConfigError for a key that is none of the known ones."""
    known = tuple(known)
    for key in given:
        if key not in known:
            raise ConfigError(f"{option}.{key}: unknown{suggestion(key, known)}; known: {', '.join(known)}")


def existing_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


def read_text(path: Path) -> str:
    """A whole UTF-8 file, decompressed where it is .gz or .zst, with line ends as they are. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        return decoded(b"".join(read_chunks(path, ReadReport())))
    except UnusableRecordError as problem:
        raise DataError(f"{path}: {problem}") from None


def read_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object. Raises DataError naming the place."""
    try:
        value = parsed(data)
    except UnusableRecordError as problem:
        raise DataError(f"{where}: {problem}") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object")
    return value


def examples_of(
    records: Iterable[tuple[str, Mapping[str, Any]]], kind: str, columns: Mapping[str, str]
) -> list[Example]:
    """Examples from (place, record).

    Args:
        kind: "classification", "multilabel", "similarity" or "ner"; which columns are needed.
        columns: Role -> column, where it is not the usual one (`COLUMNS`).

    Raises:
        DataError: A record lacks a column or holds another kind of value there, naming its place.
    """
    names = {**COLUMNS, **({"text": "text_a", "pair": "text_b"} if kind == "similarity" else {}), **columns}
    return [_example(record, kind, names, where) for where, record in records]


def _example(record: Mapping[str, Any], kind: str, names: Mapping[str, str], where: str) -> Example:
    def value(role: str, expected: type | tuple[type, ...], spelt: str) -> Any:
        found = record.get(names[role])
        if not isinstance(found, expected) or (isinstance(found, float) and found != found):
            raise DataError(f"{where}: '{names[role]}' is {str(found)[:60]!r}, expected {spelt}")
        return found

    id, group = str(record.get(names["id"], where)), str(record.get(names["group"]) or "")
    if kind == "ner":
        words, tags = (list(map(str, value(role, (list, tuple), "a list"))) for role in ("tokens", "tags"))
        return tagged(id, words, tags, group, where)
    roles = ("text", "pair") if names["pair"] else ("text",)
    parts = tuple(value(role, str, "a text") for role in roles)
    if not any(part.strip() for part in parts):
        raise DataError(f"{where}: '{names['text']}' is empty")
    if kind == "similarity":
        target: Any = float(value("score", (int, float), "a number"))
    elif kind == "multilabel":
        target = tuple(map(str, value("labels", (list, tuple), "a list of labels")))
    else:
        target = str(value("label", (str, int), "a label"))
    return Example(id=id, parts=parts, target=target, group=group)


def tagged(id: str, words: Sequence[str], tags: Sequence[str], group: str, where: str) -> Example:
    """An example of NER. Raises DataError if words and tags are not equally many, none, or not strict IOB2."""
    if len(words) != len(tags) or not words:
        raise DataError(f"{where}: {len(words)} words and {len(tags)} tags, expected as many, and at least one")
    if fault := fault_of(tags):
        raise DataError(f"{where}: {fault}")
    return Example(id=id, parts=tuple(words), target=tuple(tags), group=group)


class Annotated(NamedTuple):
    """A text with stand-off entities."""

    id: str
    group: str
    text: str
    spans: list[Span]


def checked_span(span: Span, text: str, where: str) -> Span:
    """The span. Raises DataError if it does not lie in the text."""
    if not 0 <= span.start < span.end <= len(text):
        raise DataError(f"{where}: characters {span.start} to {span.end}, the text has {len(text)}")
    return span


def tag_documents(documents: Iterable[Annotated], types: Sequence[str], where: str) -> Iterator[Example]:
    """Examples of annotated documents, those without a word left out; logs how many spans of the types were lost."""
    lost = total = 0
    for document in documents:
        spans = [span for span in document.spans if not types or span.type in types]
        words, tags, fewer = tag_text(document.text, spans)
        lost, total = lost + fewer, total + len(spans)
        if words:
            yield tagged(document.id, words, tags, document.group, where)
    if lost:
        log.warning("%s: %d of %d entities left out, nested in or overlapping longer ones", where, lost, total)


def ner_only(form: str, kind: str) -> None:
    """Raises ConfigError for another kind of task."""
    if kind != "ner":
        raise ConfigError(f"source '{form}': holds entities, the task's kind is '{kind}', expected 'ner'")
