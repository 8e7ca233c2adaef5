"""What a source is, and what the sources share: reading files whole, records as examples, documents as tagged words."""

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


def folder_of(root: Path, path: str) -> Path:
    """Where a source's path leads: relative ones begin in the root; ``~`` is the home folder."""
    return root.expanduser() / Path(path).expanduser()


def existing_folder(folder: Path) -> Path:
    """The folder. Raises DataError if there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return folder


def read_text(path: Path) -> str:
    """A whole UTF-8 file as `read_bytes` gives it. Raises DataError."""
    try:
        return decoded(read_bytes(path))
    except UnusableRecordError as problem:
        raise DataError(f"{path}: {problem}") from None


def read_bytes(path: Path) -> bytes:
    """A whole file, decompressed where it is .gz or .zst, without a byte order mark, line ends as they are. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return b"".join(read_chunks(path, ReadReport())).removeprefix(codecs.BOM_UTF8)


def lines_of(text: str) -> list[str]:
    """The lines of a file, which end in LF, CR LF or, throughout, CR. No other character ends one: words may hold U+2028."""
    if "\n" not in text:
        return text.split("\r")
    return [line.removesuffix("\r") for line in text.split("\n")]


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
    """An example of NER. Raises DataError if words and tags are not equally many, none, or not strict IOB2."""
    if len(words) != len(tags) or not words:
        raise DataError(f"{where}: {len(words)} words and {len(tags)} tags, expected as many, and at least one")
    if fault := fault_of(tags):
        raise DataError(f"{where}: {fault}")
    return Example(id=id, parts=tuple(words), target=tuple(tags), group=group)


class Claim(NamedTuple):
    """An entity as its source states it: not yet compared with the text.

    Attributes:
        fragments: Characters [start, end) of the text; several where it is discontinuous, none where it has no place.
        type: Of the entity.
        covered: The text that it covers by its source; None where the source does not say.
        where: Its place in the source.
    """

    fragments: list[tuple[int, int]]
    type: str
    covered: str | None
    where: str

    def fits(self, text: str) -> bool:
        """Whether it lies in the text and covers what its source says, white space and Unicode's compositions apart."""
        if not all(0 <= start < end <= len(text) for start, end in self.fragments):
            return False
        if self.covered is None:
            return True
        pieces = "".join(text[start:end] for start, end in self.fragments)
        return _bare(self.covered) in (_bare(pieces), _bare(text[slice(*self.extent)]))

    @property
    def extent(self) -> tuple[int, int]:
        """From its first to its last character."""
        return min(start for start, _ in self.fragments), max(end for _, end in self.fragments)


class Annotated(NamedTuple):
    """A text with stand-off entities."""

    id: str
    group: str
    text: str
    claims: list[Claim]


def tag_documents(
    documents: Iterable[Annotated], types: Sequence[str], where: str, *, max_misplaced: float
) -> list[Example]:
    """Examples of annotated documents, those without a word left out. What is left out is counted and logged.

    Offsets may count the line ends that a file had before it was converted, or its byte order mark: of each document
    the reading is taken in which most entities cover the text that they name. Of nested and overlapping entities the
    longest stays, and a discontinuous one becomes one span from its first to its last character.

    Args:
        types: Entity types to keep; empty keeps all.
        where: What messages name.
        max_misplaced: Fraction of the entities that may cover other text than they name; these are left out.

    Raises:
        DataError: More are misplaced, naming the first.
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
    for key, whole, said in (
        ("nested", "spans", "entities left out, nested in or overlapping longer ones"),
        ("unplaced", "", "annotations left out that name no place in the text"),
        ("wordless", "documents", "documents left out that hold no word"),
        ("reread", "documents", "documents read with the line ends or byte order mark that their offsets count"),
    ):
        if left[key]:
            log.warning("%s: %d%s %s", where, left[key], f" of {left[whole]}" if whole else "", said)
    if misplaced:
        log.warning(
            "%s: %d of %d entities left out that do not cover the text that they name; the first: %s",
            where, len(misplaced), left["claims"], misplaced[0],
        )  # fmt: skip
    return examples


def _best_reading(text: str, claims: Sequence[Claim]) -> str:
    """The text as it is, or as it was if line ends were converted or a byte order mark counts: the first most claims fit."""
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
    """Raises ConfigError for another kind of task."""
    if kind != "ner":
        raise ConfigError(f"source '{form}': holds entities, the task's kind is '{kind}', expected 'ner'")
