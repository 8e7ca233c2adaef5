"""Datasets from the Hugging Face Hub, or local folders that `datasets` can load."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detour.errors import DataError, first_line
from detour.evaluation.data.examples import Splits
from detour.evaluation.data.readers.base import COLUMNS, SPLITS, Reader, check_keys, examples_of, folder_of, registry
from detour.hub import check_hub

log = logging.getLogger(__name__)


@registry.register("hub")
@dataclass(frozen=True, kw_only=True)
class Hub(Reader):
    """Reads a dataset from the Hub, or a folder under the root that `datasets` can load. No repository code is executed.

    Class indices (`ClassLabel` columns) are replaced by class names.

    Attributes:
        name: Dataset name on the Hub, or folder.
        subset: Dataset configuration, if there are several.
        revision: Commit or branch; ``refs/convert/parquet`` is the Hub's Parquet copy of script-based datasets.
        splits: Dataset's names of train, dev and test, where they differ.
        columns: Role -> column name, as ``{label: my_column}``; roles are the keys of `COLUMNS`.
        skip_unlabeled: Whether rows without a text or without a label are left out, counted and logged, and not an error.
    """

    name: str
    subset: str | None = None
    revision: str | None = None
    splits: dict[str, str] = field(default_factory=lambda: {"dev": "validation"})
    columns: dict[str, str] = field(default_factory=dict)
    skip_unlabeled: bool = False

    def __post_init__(self) -> None:
        check_keys(splits=(self.splits, SPLITS), columns=(self.columns, COLUMNS))

    def read(self, root: Path, kind: str) -> Splits:
        import datasets  # a slow import that other readers do not need

        folder = folder_of(root, self.name)
        try:
            if not folder.is_dir():
                check_hub()
            found: Any = datasets.load_dataset(
                folder.as_posix() if folder.is_dir() else self.name, self.subset, revision=self.revision
            )
        except Exception as error:  # the library and the hub's client raise many exception types
            raise DataError(f"dataset '{self.name}': cannot be loaded: {first_line(error)}") from error
        splits = {}
        for split in SPLITS:
            theirs = self.splits.get(split, split)
            if theirs in found:
                rows = map(
                    _names_of_classes(found[theirs].features, f"{self.name} {theirs}"), self._labeled(found[theirs])
                )
                records = ((f"{self.name} {theirs}:{number}", row) for number, row in enumerate(rows))
                splits[split] = examples_of(records, kind, self.columns)
        if not splits:
            raise DataError(
                f"dataset '{self.name}': has the splits {', '.join(found)}, expected train; name them in `splits`"
            )
        return splits

    def _labeled(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows, without those that `skip_unlabeled` leaves out."""
        if not self.skip_unlabeled:
            yield from rows
            return
        text, label = (self.columns.get(role, COLUMNS[role]) for role in ("text", "label"))
        left_out = 0
        for row in rows:
            bare = [row.get(text), row.get(label)]
            if any(value is None or value == -1 or (isinstance(value, str) and not value.strip()) for value in bare):
                left_out += 1
            else:
                yield row
        if left_out:
            log.warning("dataset '%s': %d rows left out, without a text or without a label", self.name, left_out)


def _names_of_classes(features: Mapping[str, Any], where: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Returns a function that replaces class indices in a row, including those in lists, by class names.

    It raises DataError for an index below 0, which stands for a hidden label.
    """
    single = {key: f.names for key, f in features.items() if hasattr(f, "names")}
    lists = {key: f.feature.names for key, f in features.items() if hasattr(getattr(f, "feature", None), "names")}

    def name(key: str, names: list[str], number: int) -> str:
        if number < 0:
            raise DataError(
                f"{where}: '{key}' is {number}, which stands for a hidden label; this split has none to score"
            )
        return names[number]

    def named(row: dict[str, Any]) -> dict[str, Any]:
        return {
            **row,
            **{key: name(key, names, row[key]) for key, names in single.items()},
            **{key: [name(key, names, number) for number in row[key]] for key, names in lists.items()},
        }

    return named
