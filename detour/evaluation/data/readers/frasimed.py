"""FRASIMED: brat documents whose entities have codes in note lines; the codes of a document are its labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

from detour.errors import DataError
from detour.evaluation.data.examples import Example, Splits
from detour.evaluation.data.readers.base import (
    Reader,
    existing_folder,
    folder_of,
    kind_only,
    lines_of,
    read_text,
    registry,
)
from detour.evaluation.data.readers.brat import annotated_texts

log = logging.getLogger(__name__)


@registry.register("frasimed")
@dataclass(frozen=True, kw_only=True)
class Frasimed(Reader):
    """Reads a flat folder of ``.txt`` and ``.ann`` files whose note lines are ``#1<tab>CODING T1<tab>code``, as train.

    The labels of a document are the codes of its entities, in the first coding of `codings` that any document has. Of several
    codes of one entity in that coding the last counts, as in the authors' code. Documents without a code are left out.
    Notes of other kinds are ignored. What is left out is counted and logged.

    Attributes:
        path: Folder of the files.
        codings: Names of codings, the preferred one first.
    """

    path: str
    codings: list[str] = field(default_factory=lambda: ["ICD-O-3.1", "SNOMED"])

    def read(self, root: Path, kind: str) -> Splits:
        kind_only("frasimed", "codes of documents", kind, "multilabel")
        folder = existing_folder(folder_of(root, self.path))
        texts = annotated_texts(folder)
        notes = {path: _notes(annotation, self.codings) for path, annotation in texts.items()}
        present = {coding for found in notes.values() for coding, _ in found}
        coding = next((coding for coding in self.codings if coding in present), None)
        if coding is None:
            known = " or ".join(self.codings)
            raise DataError(f"{folder}: no note line with a code in {known}, such as '#1<tab>SNOMED T1<tab>22298006'")
        examples = []
        for path in texts:
            codes = {code for (name, _), code in notes[path].items() if name == coding}
            if codes:
                id = path.relative_to(folder).with_suffix("").as_posix()
                examples.append(Example(id=id, parts=(read_text(path),), target=tuple(sorted(codes))))
        if bare := len(texts) - len(examples):
            log.warning("%s: %d of %d documents left out, without a code in %s", folder, bare, len(texts), coding)
        return {"train": examples}


def _notes(path: Path, codings: list[str]) -> dict[tuple[str, str], str]:
    """(coding, entity) -> code. Raises DataError for a code without an entity."""
    codes: dict[tuple[str, str], str] = {}
    entities: set[str] = set()
    twice = 0
    for number, line in enumerate(lines_of(read_text(path)), start=1):
        cells = line.split("\t")
        if line.startswith("T"):
            entities.add(cells[0])
        coding, _, entity = cells[1].partition(" ") if len(cells) > 1 else ("", "", "")
        if not line.startswith("#") or coding not in codings:
            continue
        if len(cells) < 3 or not cells[2].strip() or not entity.strip():
            raise DataError(f"{path}:{number}: {line[:60]!r}, expected '#1<tab>{coding} T1<tab>code'")
        twice += (coding, entity.strip()) in codes
        codes[coding, entity.strip()] = cells[2].strip()
    if lost := sorted({entity for _, entity in codes} - entities):
        raise DataError(f"{path}: a code of entity {lost[0]}, which the file does not have")
    if twice:
        log.warning("%s: %d codes replaced by a later one of the same entity and coding", path, twice)
    return codes
