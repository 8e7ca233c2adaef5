"""The base class of readers, and what they share: reading files, records to examples."""

from __future__ import annotations

import codecs
import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detour.corpus.text import MAX_RECORD_BYTES, ReadReport, UnusableRecordError, decoded, parsed, read_chunks
from detour.errors import ConfigError, DataError
from detour.evaluation.data.examples import Example, Span, Splits, fault_of
from detour.options import check, parse, sound
from detour.registry import Registry, suggestion

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
    "entities": "entities",
}


@dataclass(frozen=True, kw_only=True)
class Reader(ABC):
    """Reads labeled examples from one file format. Subclass as a frozen dataclass whose fields are the YAML `options`."""

    @abstractmethod
    def read(self, root: Path, kind: str) -> Splits:
        """The examples of every split found, in file order.

        Args:
            root: Folder that relative paths are resolved against.
            kind: The task's kind; it decides the type of an example's target.

        Raises:
            DataError: A file is missing or damaged, or an example lacks a field its kind requires; names file and line.
        """

    def declared_labels(self, root: Path) -> list[str]:
        """All labels, if the data declares them separately from its examples; otherwise empty."""
        return []


registry: Registry[type[Reader]] = Registry("task_readers")


def build(kind: str, options: Mapping[str, Any]) -> Reader:
    """Builds the reader registered as ``kind``. Raises ConfigError for an unknown kind, an unknown option or a wrong type."""
    return parse(registry.get(kind), options, source=f"'{kind}'")


def problems_of_options(kind: str, options: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """A line for everything that `build` refuses, naming the full key. Raises ConfigError for an unknown kind."""
    cls = registry.get(kind)
    problems = check(cls, options, prefix=prefix)
    yield from problems
    try:
        sound(cls, options)
    except (ConfigError, TypeError, ValueError) as error:  # raised by a __post_init__
        if not problems or isinstance(error, ConfigError):
            yield f"{prefix}.{error}"


def check_keys(**options: tuple[Iterable[str], Iterable[str]]) -> None:
    """Raises ConfigError that names every unknown key; of each option, the given keys and the known ones."""
    unknown = [
        f"{option}.{key}: unknown{suggestion(key, known)}; known: {', '.join(known)}"
        for option, (given, names) in options.items()
        for known in [tuple(names)]
        for key in given
        if key not in known
    ]
    if unknown:
        raise ConfigError(" | ".join(unknown))


def folder_of(root: Path, path: str) -> Path:
    """Resolves a reader's path: relative paths against the root, ``~`` to the home folder."""
    return root.expanduser() / Path(path).expanduser()


def existing_folder(folder: Path) -> Path:
    """Returns the folder. Raises DataError if it does not exist."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


def read_text(path: Path) -> str:
    """Reads an entire UTF-8 file, decompressed by its suffix, without a byte order mark. Raises DataError."""
    try:
        return decoded(read_bytes(path))
    except UnusableRecordError as problem:
        raise DataError(f"{path}: {problem}") from None


def read_bytes(path: Path) -> bytes:
    """Reads an entire file, decompressed by its suffix, without a byte order mark, line ends unchanged. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return b"".join(read_chunks(path, ReadReport())).removeprefix(codecs.BOM_UTF8)


def rows_of_table(path: Path, delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(location, row) of a table with a header, ``.csv`` or ``.tsv``; quoted cells may hold line breaks.

    Raises:
        DataError: The file is missing or no table, two columns have one name, or a row has more or fewer cells than the header.
    """
    csv.field_size_limit(MAX_RECORD_BYTES)
    table = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        header = next(table, [])
        if len(set(header)) < len(header) or not header:
            raise DataError(
                f"{path}: the header is {', '.join(header) or 'empty'}, expected a name for each column, each once"
            )
        if len(header) == 1 and (other := next((mark for mark in ";\t|," if mark in header[0]), None)):
            raise DataError(
                f"{path}: its cells are separated by {other!r}; set source.options: {{delimiter: {other!r}}}"
            )
        for number, row in enumerate(table, start=1):
            if row and len(row) != len(header):
                raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}")
            if row:
                yield f"{path}: row {number}", dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: row {number + 1}: {error}") from error


def lines_of(text: str) -> list[str]:
    """Splits at LF or CR LF, or at CR if the text has no LF. No other character ends a line: words may contain U+2028."""
    if "\n" not in text:
        return text.split("\r")
    return [line.removesuffix("\r") for line in text.split("\n")]


def read_json(data: bytes, where: str) -> dict[str, Any]:
    """Parses a JSON object. Raises DataError that names ``where``."""
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
    """Converts (location, record) pairs to examples.

    Args:
        kind: "classification", "multilabel", "similarity", "ner" or "nested_ner"; decides which columns are required. Nested NER
            takes a text with entities, or else words with tags.
        columns: Role -> column name, overriding `COLUMNS`.

    Raises:
        DataError: A record lacks a required column or has a value of the wrong type; names its location.
    """
    names = {**COLUMNS, **({"text": "text_a", "pair": "text_b"} if kind == "similarity" else {}), **columns}
    return [_example(record, kind, names, where) for where, record in records]


def _example(record: Mapping[str, Any], kind: str, names: Mapping[str, str], where: str) -> Example:
    def value(role: str, expected: type | tuple[type, ...], spelled: str) -> Any:
        found = record[names[role]]
        if not isinstance(found, expected) or (isinstance(found, float) and found != found):
            shown = "null" if found is None else repr(str(found)[:60])
            raise DataError(f"{where}: '{names[role]}' is {shown}, expected {spelled}")
        return found

    _check_columns(record, kind, names, where)
    given, group = record.get(names["id"]), str(record.get(names["group"]) or "")
    id = Path(where).name if given is None else str(given)  # no folder: the data may be moved
    if kind == "nested_ner" and names["entities"] in record:
        text, entities = value("text", str, "a text"), value("entities", (list, tuple), "a list of entities")
        return entities_of(text, (_entity(entity, where) for entity in entities), id, group, where)
    if kind in ("ner", "nested_ner"):
        words, tags = (list(map(str, value(role, (list, tuple), "a list"))) for role in ("tokens", "tags"))
        example = tagged(id, words, tags, group, where)
        return example if kind == "ner" else _as_text(example, where)
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
        if not target.strip():
            raise DataError(f"{where}: '{names['label']}' is empty")
    return Example(id=id, parts=parts, target=target, group=group)


TARGETS = {"classification": "label", "multilabel": "labels", "similarity": "score"}


def _check_columns(record: Mapping[str, Any], kind: str, names: Mapping[str, str], where: str) -> None:
    """Raises DataError that names every column that the kind requires and the record lacks."""
    if kind == "nested_ner" and (names["entities"] in record or names["tokens"] not in record):
        roles = ["text", "entities"]
    elif kind in ("ner", "nested_ner"):
        roles = ["tokens", "tags"]
    else:
        roles = ["text", *(["pair"] if names["pair"] else []), TARGETS[kind]]
    if missing := [role for role in roles if names[role] not in record]:
        lacking = ", ".join(f"no '{names[role]}'{suggestion(names[role], record)}" for role in missing)
        found = ", ".join(map(str, record)) or "nothing"
        raise DataError(
            f"{where}: {lacking}; found {found[:300]}. Name yours in source.options: "
            f"{{columns: {{{', '.join(f'{role}: ...' for role in missing)}}}}}"
        )


def _entity(value: Any, where: str) -> Span:
    """An entity of ``{"type", "start", "end"}`` or ``{"type", "frags": [[start, end], ..]}``, which is read as one span."""
    try:
        pieces = value["frags"] if "frags" in value else [(value["start"], value["end"])]
        starts, ends = zip(*pieces, strict=True)
        if not all(type(place) is int for place in (*starts, *ends)):
            raise TypeError
        return Span(min(starts), max(ends), str(value["type"]))
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f'{where}: entity {str(value)[:80]}, expected {{"type", "start", "end"}} or {{"type", "frags": [[start, end], ..]}}'
        ) from None


def _as_text(example: Example, where: str) -> Example:
    """Tagged words as a text: the words joined by single spaces, and the characters of the entities."""
    spans: list[Span] = []
    at = 0
    for word, tag in zip(example.parts, example.target, strict=True):  # type: ignore[arg-type]
        if str(tag).startswith("B-"):
            spans.append(Span(at, at + len(word), str(tag)[2:]))
        elif str(tag).startswith("I-"):
            spans[-1] = spans[-1]._replace(end=at + len(word))
        at += len(word) + 1
    return entities_of(" ".join(example.parts), spans, example.id, example.group, where)


def tagged(id: str, words: Sequence[str], tags: Sequence[str], group: str, where: str) -> Example:
    """Builds an NER example. Raises DataError if there are no words, word and tag counts differ, or tags are not strict IOB2."""
    if len(words) != len(tags) or not words:
        raise DataError(f"{where}: {len(words)} words and {len(tags)} tags, expected as many, and at least one")
    if fault := fault_of(tags):
        raise DataError(f"{where}: {fault}")
    return Example(id=id, parts=tuple(words), target=tuple(tags), group=group)


def kind_only(form: str, contents: str, kind: str, *kinds: str) -> None:
    """Raises ConfigError unless the task's kind is one of those that can be read from such contents."""
    if kind not in kinds:
        known = " or ".join(f"'{known}'" for known in kinds)
        raise ConfigError(f"source '{form}': contains {contents}, so the task's kind must be {known}, got '{kind}'")


def entities_of(text: str, spans: Iterable[Span], id: str, group: str, where: str) -> Example:
    """Builds a nested NER example. Raises DataError if an entity is empty or does not lie in the text."""
    for span in (found := sorted(set(spans))):
        if not 0 <= span.start < span.end <= len(text):
            raise DataError(
                f"{where}: entity {span.type} at {span.start} to {span.end}, the text has {len(text)} characters"
            )
    return Example(id=id, parts=(text,), target=tuple(found), group=group)
