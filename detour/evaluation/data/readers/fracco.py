"""FRACCO: texts, and a table of their annotated expressions with ICD-O codes; the codes of a document are its labels."""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import dataclass
from pathlib import Path

from detour.errors import DataError
from detour.evaluation.data.examples import Example, Splits
from detour.evaluation.data.readers.base import Reader, existing_folder, folder_of, kind_only, read_text, registry

log = logging.getLogger(__name__)
COLUMNS = ("doc_name", "label", "code")


@registry.register("fracco")
@dataclass(frozen=True, kw_only=True)
class Fracco(Reader):
    """Reads a table with the columns doc_name, label, and code, and the texts that it names, as train.

    The labels of a document are its codes in rows of one label. A cell with several codes, joined by ";", is one label, as
    in the authors' code. ``doc_name`` is that of the annotation, ``NAME.ann``; the text is ``NAME.txt``. Documents without
    text or without a code are left out, counted and logged.

    Attributes:
        path: Folder of the table and the texts.
        table: The table, comma-separated, in that folder.
        texts: Folder of the texts, in that folder.
        label: Rows with another label are ignored.
    """

    path: str
    table: str = "DetectOnco_Final.csv"
    texts: str = "ann_txt_files"
    label: str = "expression_CIM"

    def read(self, root: Path, kind: str) -> Splits:
        kind_only("fracco", "codes of documents", kind, "multilabel")
        folder = existing_folder(folder_of(root, self.path))
        codes = self._codes(folder / self.table)
        files = sorted(existing_folder(folder / self.texts).iterdir())
        texts = {f"{path.stem}.ann": path for path in files if path.suffix.lower() == ".txt"}
        examples = [
            Example(id=name, parts=(read_text(texts[name]),), target=tuple(sorted(codes[name])))
            for name in sorted(codes.keys() & texts.keys())
        ]
        if not examples:
            raise DataError(f"{folder}: no document of {self.table} has a text in {self.texts}")
        if lost := sorted(codes.keys() - texts.keys()):
            log.warning("%s: %d coded documents left out, without a text, the first %s", folder, len(lost), lost[0])
        if bare := sorted(texts.keys() - codes.keys()):
            log.warning("%s: %d texts left out, without a code, the first %s", folder, len(bare), bare[0])
        return {"train": examples}

    def _codes(self, path: Path) -> dict[str, set[str]]:
        """Document -> its codes."""
        rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
        if missing := [column for column in COLUMNS if column not in (rows.fieldnames or [])]:
            raise DataError(f"{path}: no column '{missing[0]}', found {', '.join(rows.fieldnames or ['none'])}")
        codes: dict[str, set[str]] = {}
        others: set[str] = set()
        for row in rows:
            name, label, code = ((row[column] or "").strip() for column in COLUMNS)
            if label != self.label:
                others.add(label)
            elif name and code:
                codes.setdefault(name, set()).add(code)
        if not codes:
            raise DataError(
                f"{path}: no code in rows with the label '{self.label}', found {', '.join(sorted(others)) or 'no rows'}"
            )
        return codes
