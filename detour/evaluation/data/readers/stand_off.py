"""Stand-off entity annotations: entities given by their character offsets in a text that is stored apart from them."""

from __future__ import annotations

import logging
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from detour.errors import ConfigError, DataError
from detour.evaluation.data.examples import Example, Span, Splits, tag_text
from detour.evaluation.data.readers.base import Reader, entities_of, existing_folder, folder_of, kind_only, tagged

log = logging.getLogger(__name__)


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


@dataclass(frozen=True, kw_only=True)
class StandOffReader(Reader):
    """Base class of readers of texts with stand-off entity annotations. A subclass reads the documents of one split.

    Attributes:
        path: Folder of the splits.
        types: Entity types to keep; empty keeps all.
        lines: Whether each line of a document is an example. Entities that reach over its end are left out, counted and
            logged; the lines of a document stay in the same split.
        outermost: Nested NER: whether only entities that lie in no other are kept.
        max_misplaced: Maximum fraction of a split's entities whose surface text is not what the document has at their
            offsets. They are dropped; a larger fraction is an error.
    """

    path: str
    types: list[str] = field(default_factory=list)
    lines: bool = False
    outermost: bool = False
    max_misplaced: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.max_misplaced <= 1:
            raise ConfigError(f"max_misplaced: {self.max_misplaced}, expected a fraction from 0 to 1")

    @property
    @abstractmethod
    def locations(self) -> dict[str, str]:
        """Split -> its file or folder, relative to `path`."""

    @abstractmethod
    def documents(self, location: Path, name: str) -> Iterator[Annotated]:
        """Yields the annotated documents of one split in order.

        Args:
            location: File or folder of the split.
            name: The same as given in `locations`.

        Raises:
            DataError: The file or folder is missing, or a line is malformed; names file and line.
        """

    def read(self, root: Path, kind: str) -> Splits:
        kind_only(type(self).__name__.lower(), "entities", kind, "ner", "nested_ner")
        folder = existing_folder(folder_of(root, self.path))
        return {split: self._examples(folder / name, name, kind) for split, name in self.locations.items()}

    def _examples(self, location: Path, name: str, kind: str) -> list[Example]:
        return examples_of_documents(
            self.documents(location, name),
            self.types,
            str(location),
            kind=kind,
            lines=self.lines,
            outermost=self.outermost,
            max_misplaced=self.max_misplaced,
        )


def examples_of_documents(
    documents: Iterable[Annotated],
    types: Sequence[str],
    where: str,
    *,
    max_misplaced: float,
    kind: str = "ner",
    lines: bool = False,
    outermost: bool = False,
) -> list[Example]:
    """Converts annotated documents to examples. Texts without words are dropped; drops are counted and logged.

    Offsets may have been computed with other line ends or with a byte order mark. Each document is read in the variant
    in which most entities match their surface text. For the kind "ner", among nested or overlapping entities the longest is
    kept. A discontinuous entity becomes one span from its first to its last character.

    Args:
        types: Entity types to keep; empty keeps all.
        where: File or folder named in messages.
        kind: "ner", words with tags; or "nested_ner", texts with entities.
        lines, outermost: See `StandOffReader`.
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
        left.update(documents=1, claims=len(claims), spans=len(spans), reread=text != document.text)
        left.update(unplaced=len(document.claims) - len(claims))
        pieces = _lines(document, text, spans) if lines else [(document.id, document.group, text, spans)]
        left.update(crossing=len(spans) - sum(len(inside) for *_, inside in pieces))
        for id, group, piece, inside in pieces:
            kept = _outermost(inside) if outermost else inside
            words, tags, nested = tag_text(piece, kept)
            left.update(nested=len(inside) - len(kept) + (nested if kind == "ner" else 0))
            left.update(wordless=not words and not lines)
            if words and kind == "ner":
                examples.append(tagged(id, words, tags, group, where))
            elif words:
                examples.append(entities_of(piece, kept, id, group, where))
    if len(misplaced) > max_misplaced * left["claims"]:
        raise DataError(
            f"{where}: {len(misplaced)} of {left['claims']} entities do not cover the text that they name, "
            f"expected at most {max_misplaced:.1%} (max_misplaced); the first: {misplaced[0]}"
        )
    _log_drops(left, where)
    if misplaced:
        log.warning(
            "%s: %d of %d entities left out that do not cover the text that they name; the first: %s",
            where, len(misplaced), left["claims"], misplaced[0],
        )  # fmt: skip
    return examples


def _log_drops(left: Counter[str], where: str) -> None:
    for key, total, message in (
        ("nested", "spans", "entities left out, nested in or overlapping longer ones"),
        ("crossing", "spans", "entities left out that reach over the end of a line"),
        ("unplaced", "", "annotations left out that name no place in the text"),
        ("wordless", "documents", "documents left out that hold no word"),
        ("reread", "documents", "documents read with the line ends or byte order mark that their offsets count"),
    ):
        if left[key]:
            log.warning("%s: %d%s %s", where, left[key], f" of {left[total]}" if total else "", message)


def _lines(document: Annotated, text: str, spans: Sequence[Span]) -> list[tuple[str, str, str, list[Span]]]:
    """Id, group, text, and entities of each line; those that reach over its end are left out."""
    found, start = [], 0
    for number, line in enumerate(text.split("\n"), start=1):
        end = start + len(line)
        inside = [
            span._replace(start=span.start - start, end=span.end - start)
            for span in spans
            if start <= span.start and span.end <= end
        ]
        found.append((f"{document.id}:{number}", document.group or document.id, line.removesuffix("\r"), inside))
        start = end + 1
    return found


def _outermost(spans: Sequence[Span]) -> list[Span]:
    """The spans that lie in no other; of equal ones the first by type."""
    ordered = sorted(set(spans), key=lambda span: (span.start - span.end, span))
    return [
        span
        for i, span in enumerate(ordered)
        if not any(other.start <= span.start and span.end <= other.end for other in ordered[:i])
    ]


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
