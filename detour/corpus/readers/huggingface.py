"""Datasets of the Hugging Face hub, streamed, or saved on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detour.corpus.readers.base import Source, Unit, documents_of, register
from detour.corpus.text import Columns, Document, ReadReport
from detour.errors import DataError, UnreachableError


@register("huggingface")
@dataclass(frozen=True, kw_only=True)
class HuggingFace(Source):
    """Paths are dataset names on the hub (streamed, never stored whole) or folders of `Dataset.save_to_disk`.

    Each shard of a streamed dataset is read by a process of its own. Code in a repository is never run.

    Attributes:
        subset: The dataset's configuration, where it has several.
        split: Which split; left out, that of a saved dataset that is a single one, else "train".
        revision: Commit of the repository. Without it a later run may read other data.
    """

    suffixes = ()
    subset: str | None = None
    split: str | None = None
    revision: str | None = None

    def units(self, paths: Sequence[str]) -> list[Unit]:
        units = []
        for path in paths:
            shards = getattr(self._open(Path(path)), "num_shards", 1) if not Path(path).is_dir() else 1
            name = Path(path).name if Path(path).is_dir() else path
            names = [name] if shards == 1 else [f"{name}#{i}" for i in range(shards)]
            units += [Unit(path=Path(path), name=n, index=i) for i, n in enumerate(names)]
        return units

    def passed_over(self, paths: Sequence[str]) -> list[str]:
        return []  # a dataset is read as a whole

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        try:
            dataset = self._open(unit.path)
        except DataError as error:
            raise UnreachableError(str(error)) from error
        if dataset.column_names:  # a streamed dataset may not know them
            columns.check_header(dataset.column_names, str(unit.path))
        if not unit.path.is_dir() and dataset.num_shards > 1:
            dataset = dataset.shard(num_shards=dataset.num_shards, index=unit.index)
        yield from documents_of(_rows(dataset, unit), unit, columns, report)

    def _open(self, path: Path) -> Any:
        import datasets  # takes a second, which other kinds need not pay

        split = self.split or "train"
        try:
            if not path.is_dir():
                return datasets.load_dataset(
                    path.as_posix(), self.subset, split=split, revision=self.revision, streaming=True
                )
            saved = datasets.load_from_disk(path.as_posix())
            if isinstance(saved, datasets.DatasetDict):
                if split not in saved:
                    raise DataError(f"{path}: no split '{split}', found {', '.join(map(str, saved))}")
                return saved[split]
            if self.split and str(saved.split or "train") != self.split:
                raise DataError(f"{path}: is the split '{saved.split or 'train'}' alone, expected '{self.split}'")
            return saved
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            first_line = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(f"{path}: cannot be opened as a dataset: {first_line}") from error


def _rows(dataset: Any, unit: Unit) -> Iterator[tuple[str, Any]]:
    number = 0
    rows = iter(dataset)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (OSError, RuntimeError, ValueError) as error:  # those of the hub's client are OSErrors
            raise UnreachableError(
                f"{unit.path}: reading broke off after row {number}: {error}; run again to go on"
            ) from error
        number += 1
        yield str(number), row
