"""Reader of Hugging Face datasets, streamed from the hub or saved on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detour.corpus.readers.base import InputFile, Reader, documents_of, register
from detour.corpus.text import Columns, Document, ReadReport
from detour.errors import DataError, UnreachableError, first_line
from detour.hub import check_hub


@register("huggingface")
@dataclass(frozen=True, kw_only=True)
class HuggingFace(Reader):
    """Reads datasets. Paths are dataset names on the hub, which are streamed, or folders of `Dataset.save_to_disk`.

    The shards of a streamed dataset are read in parallel. Code in a repository is never run.

    Attributes:
        subset: Name of the dataset's configuration, if it has several.
        split: Name of the split. Default: the only split of a saved dataset, else "train".
        revision: Commit of the repository. Without it a later run may read different data.
    """

    suffixes = ()
    subset: str | None = None
    split: str | None = None
    revision: str | None = None

    def input_files(self, paths: Sequence[str]) -> list[InputFile]:
        files = []
        for path in paths:
            if not Path(path).is_dir() and set(path) & {*"*?["}:
                raise DataError(f"{path}: datasets cannot be given by a pattern, expected the name of each")
            shards = getattr(self._open(Path(path)), "num_shards", 1) if not Path(path).is_dir() else 1
            name = Path(path).name if Path(path).is_dir() else path
            names = [name] if shards == 1 else [f"{name}#{i}" for i in range(shards)]
            files += [InputFile(path=Path(path), name=n, index=i) for i, n in enumerate(names)]
        return files

    def ignored_files(self, paths: Sequence[str]) -> list[str]:
        return []  # a dataset is read entirely

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        try:
            dataset = self._open(file.path)
        except DataError as error:
            raise UnreachableError(str(error)) from error
        if dataset.column_names:  # unknown for some streamed datasets
            columns.check_header(dataset.column_names, str(file.path))
        if not file.path.is_dir() and dataset.num_shards > 1:
            dataset = dataset.shard(num_shards=dataset.num_shards, index=file.index)
        yield from documents_of(_rows(dataset, file), file, columns, report)

    def _open(self, path: Path) -> Any:
        import datasets  # takes a second

        split = self.split or "train"
        try:
            if not path.is_dir():
                check_hub()
                return datasets.load_dataset(
                    path.as_posix(), self.subset, split=split, revision=self.revision, streaming=True
                )
            saved = datasets.load_from_disk(path.as_posix())
            if isinstance(saved, datasets.DatasetDict):
                if split not in saved:
                    raise DataError(f"{path}: no split '{split}', found {', '.join(map(str, saved))}")
                return saved[split]
            if self.split and str(saved.split or "train") != self.split:
                raise DataError(f"{path}: is the single split '{saved.split or 'train'}', expected '{self.split}'")
            return saved
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise DataError(f"{path}: cannot be opened as a dataset: {first_line(error)}") from error


def _rows(dataset: Any, file: InputFile) -> Iterator[tuple[str, Any]]:
    number = 0
    rows = iter(dataset)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (OSError, RuntimeError, ValueError) as error:  # errors of the hub client are OSErrors
            raise UnreachableError(
                f"{file.path}: reading failed after row {number}: {error}; run again to resume"
            ) from error
        number += 1
        yield str(number), row
