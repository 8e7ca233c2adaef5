"""The brat format: text files with stand-off annotation files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from detour.corpus.input_files import files_under
from detour.errors import DataError
from detour.evaluation.data.readers.base import SPLITS, check_keys, existing_folder, lines_of, read_text, registry
from detour.evaluation.data.readers.stand_off import Annotated, Claim, StandOffReader

log = logging.getLogger(__name__)
KINDS = "TREAMN#*"  # entities; relations, events, attributes (two letters), normalizations, notes, equivalences
FOLDERS = {split: split for split in SPLITS}


@registry.register("brat")
@dataclass(frozen=True, kw_only=True)
class Brat(StandOffReader):
    """Reads folders of ``.txt`` files with ``.ann`` entity annotations. Each document is one example.

    The surface text in the third column is checked against the document. Among nested or overlapping entities the
    longest is kept; a discontinuous entity becomes one span from its first to its last character. The numbers of dropped
    entities and of texts without ``.ann`` are logged.

    Attributes:
        folders: Subfolders of train, dev and test; empty means those names. Give only train to let the task's `split`
            cut it.
    """

    folders: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_keys(folders=(self.folders, SPLITS))

    @property
    def locations(self) -> dict[str, str]:
        return self.folders or FOLDERS

    def documents(self, location: Path, name: str) -> Iterator[Annotated]:
        for path, annotation in annotated_texts(existing_folder(location)).items():
            yield _document(path, annotation, f"{name}/{path.relative_to(location).with_suffix('').as_posix()}")


def annotated_texts(folder: Path) -> dict[Path, Path]:
    """Texts that have annotations -> their annotations, sorted; logs how many lack them. Suffixes are case-insensitive; hidden
    files are left out.

    Raises:
        DataError: Annotations without a text, or two files whose names differ in the case of the suffix only.
    """
    texts, annotations = _by_stem(folder, ".txt"), _by_stem(folder, ".ann")
    if alone := sorted(annotations.keys() - texts.keys()):
        raise DataError(f"{annotations[alone[0]]}: no .txt file beside it ({len(alone)} files without one)")
    if not annotations:
        raise DataError(f"{folder}: no .txt file with an .ann file beside it")
    if bare := sorted(texts.keys() - annotations.keys()):
        log.warning("%s: %d .txt files without an .ann file left out, the first %s", folder, len(bare), texts[bare[0]])
    return {texts[stem]: annotations[stem] for stem in sorted(annotations)}


def _by_stem(folder: Path, suffix: str) -> dict[Path, Path]:
    found: dict[Path, Path] = {}
    for path in (path for path in files_under(folder) if path.suffix.lower() == suffix):
        if (other := found.setdefault(path.with_suffix(""), path)) != path:
            raise DataError(f"{path}: {other.name} is there, too; expected one of them")
    return found


def _document(path: Path, annotation: Path, id: str) -> Annotated:
    lines = enumerate(lines_of(read_text(annotation)), start=1)
    claims = [_claim(line, f"{annotation}:{number}") for number, line in lines if _is_entity(line, annotation, number)]
    return Annotated(id, "", read_text(path), claims)


def _is_entity(line: str, path: Path, number: int) -> bool:
    """Whether a line annotates an entity, not a relation, event, attribute or note. Raises DataError for an unknown line."""
    if line.strip() and line[0] not in KINDS:
        raise DataError(f"{path}:{number}: begins with {line[:20]!r}, expected one of {' '.join(KINDS)}")
    return line.startswith("T")


def _claim(line: str, where: str) -> Claim:
    try:
        _, place, covered = line.split("\t", 2)
        kind, numbers = place.split(maxsplit=1)
        fragments = [(int(start), int(end)) for start, end in map(str.split, numbers.split(";"))]
    except ValueError:
        raise DataError(f"{where}: {line[:60]!r}, expected 'T1<tab>TYPE START END<tab>text'") from None
    return Claim(fragments, kind, covered, where)
