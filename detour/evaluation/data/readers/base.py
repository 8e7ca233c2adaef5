"""The base class of readers, and what they share: file reading, records to examples, annotated documents to tagged words."""

from __future__ import annotations

import codecs
import logging
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def check_keys(option: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises ConfigError for an unknown key."""
    known = tuple(known)
    for key in given:
        if key not in known:
            raise ConfigError(f"{option}.{key}: unknown{suggestion(key, known)}; known: {', '.join(known)}")


def folder_of(root: Path, path: str) -> Path:
    """Resolves a reader's path: relative paths against the root, ``~`` to the home folder."""
    return root.expanduser() / Path(path).expanduser()


def existing_folder(folder: Path) -> Path:
    """Returns the folder. Raises DataError if it does not exist."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


def read_text(path: Path) -> str:
    """Reads an entire UTF-8 file, decompressed if .gz or .zst, without a byte order mark. Raises DataError."""
    try:
        return decoded(read_bytes(path))
    except UnusableRecordError as problem:
        raise DataError(f"{path}: {problem}") from None


def read_bytes(path: Path) -> bytes:
    """Reads an entire file, decompressed if .gz or .zst, without a byte order mark, line ends unchanged. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return b"".join(read_chunks(path, ReadReport())).removeprefix(codecs.BOM_UTF8)


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
        kind: "classification", "multilabel", "similarity" or "ner"; decides which columns are required.
        columns: Role -> column name, overriding `COLUMNS`.

    Raises:
        DataError: A record lacks a required column or has a value of the wrong type; names its location.
    """
    names = {**COLUMNS, **({"text": "text_a", "pair": "text_b"} if kind == "similarity" else {}), **columns}
    return [_example(record, kind, names, where) for where, record in records]


def _example(record: Mapping[str, Any], kind: str, names: Mapping[str, str], where: str) -> Example:
    def value(role: str, expected: type | tuple[type, ...], spelled: str) -> Any:
        found = record.get(names[role])
        if not isinstance(found, expected) or (isinstance(found, float) and found != found):
            raise DataError(f"{where}: '{names[role]}' is {str(found)[:60]!r}, expected {spelled}")
        return found

    given, group = record.get(names["id"]), str(record.get(names["group"]) or "")
    id = Path(where).name if given is None else str(given)  # no folder: the data may be moved
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
    """Builds an NER example. Raises DataError if there are no words, word and tag counts differ, or tags are not strict IOB2."""
    if len(words) != len(tags) or not words:
        raise DataError(f"{where}: {len(words)} words and {len(tags)} tags, expected as many, and at least one")
    if fault := fault_of(tags):
        raise DataError(f"{where}: {fault}")
    return Example(id=id, parts=tuple(words), target=tuple(tags), group=group)


class Claim(NamedTuple):
    """An entity as annotated, not yet checked against the text.

    Attributes:
        fragments: Characters [start, end) of the text; several if discontinuous, none if the annotation gives no offsets.
        type: Entity type.
        covered: Surface text given by the annotation; None if not given.
        where: File and line, for messages.
    """

    fragments: list[tuple[int, int]]
    type: str
    covered: str | None
    where: str

    def fits(self, text: str) -> bool:
        """Whether the offsets lie in the text and match the annotated surface text, ignoring white space and after NFC."""
        if not all(0 <= start < end <= len(text) for start, end in self.fragments):
            return False
        if self.covered is None:
            return True
        pieces = "".join(text[start:end] for start, end in self.fragments)
        return _bare(self.covered) in (_bare(pieces), _bare(text[slice(*self.extent)]))

    @property
    def extent(self) -> tuple[int, int]:
        """[start, end) from the first to the last fragment."""
        return min(start for start, _ in self.fragments), max(end for _, end in self.fragments)


class Annotated(NamedTuple):
    """A text with stand-off entity annotations."""

    id: str
    group: str
    text: str
    claims: list[Claim]


def tag_documents(
    documents: Iterable[Annotated], types: Sequence[str], where: str, *, max_misplaced: float
) -> list[Example]:
    """Converts annotated documents to tagged examples. Documents without words are dropped; drops are counted and logged.

    Offsets may have been computed with other line ends or with a byte order mark. Each document is read in the variant
    in which most entities match their surface text. Among nested or overlapping entities the longest is kept. A
    discontinuous entity becomes one span from its first to its last character.

    Args:
        types: Entity types to keep; empty keeps all.
        where: File or folder named in messages.
        max_misplaced: Maximum fraction of entities that do not match their surface text. Those entities are dropped.

    Raises:
        DataError: The fraction of misplaced entities exceeds ``max_misplaced``; names the first one.
    """
    examples: list[Example] = []
    misplaced: list[str] = []
    left = Counter[str]()
    for document in documents:
        claims = [claim for claim in document.claims if claim.fragments]
        text = _best_reading(document.text, claims)
        placed = [claim for claim in claims if claim.fits(text)]
        misplaced += [_misfit(claim, document.text) for claim in claims if not claim.fits(text)]
        spans = [Span(*claim.extent, claim.type) for claim in placed if not types or claim.type in types]
        words, tags, nested = tag_text(text, spans)
        left.update(documents=1, claims=len(claims), spans=len(spans), nested=nested, wordless=not words)
        left.update(unplaced=len(document.claims) - len(claims), reread=text != document.text)
        if words:
            examples.append(tagged(document.id, words, tags, document.group, where))
    if len(misplaced) > max_misplaced * left["claims"]:
        raise DataError(
            f"{where}: {len(misplaced)} of {left['claims']} entities do not cover the text that they name, "
            f"expected at most {max_misplaced:.1%} (max_misplaced); the first: {misplaced[0]}"
        )
    for key, total, message in (
        ("nested", "spans", "entities left out, nested in or overlapping longer ones"),
        ("unplaced", "", "annotations left out that name no place in the text"),
        ("wordless", "documents", "documents left out that hold no word"),
        ("reread", "documents", "documents read with the line ends or byte order mark that their offsets count"),
    ):
        if left[key]:
            log.warning("%s: %d%s %s", where, left[key], f" of {left[total]}" if total else "", message)
    if misplaced:
        log.warning(
            "%s: %d of %d entities left out that do not cover the text that they name; the first: %s",
            where, len(misplaced), left["claims"], misplaced[0],
        )  # fmt: skip
    return examples


def _best_reading(text: str, claims: Sequence[Claim]) -> str:
    """The variant of the text (line ends converted, byte order mark counted) that most claims fit; ties go to the first."""
    lf = text.replace("\r\n", "\n")
    best, most = text, -1
    for reading in (text, lf, lf.replace("\n", "\r\n"), f" {text}", f" {lf}"):
        if (fitting := sum(claim.fits(reading) for claim in claims)) > most:
            best, most = reading, fitting
        if most == len(claims):
            break
    return best


def _bare(text: str) -> str:
    return "".join(unicodedata.normalize("NFC", text).split())


def _misfit(claim: Claim, text: str) -> str:
    start, end = claim.extent
    if not 0 <= start < end <= len(text):
        return f"{claim.where}: characters {start} to {end}, the text has {len(text)}"
    return (
        f"{claim.where}: characters {start} to {end} are {text[start:end][:60]!r}, expected {str(claim.covered)[:60]!r}"
    )


def check_fraction(option: str, value: float) -> None:
    """Raises ConfigError for a value outside [0, 1]."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{option}: {value}, expected a fraction from 0 to 1")


def ner_only(form: str, kind: str) -> None:
    """Raises ConfigError unless the task's kind is "ner"."""
    if kind != "ner":
        raise ConfigError(f"source '{form}': contains entities, so the task's kind must be 'ner', got '{kind}'")
