"""Reader of Parquet tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from detour.corpus.readers.base import InputFile, Reader, documents_of, register
from detour.corpus.text import Columns, Document, ReadReport
from detour.errors import DataError


@register("parquet")
@dataclass(frozen=True, kw_only=True)
class Parquet(Reader):
    """Reads ``.parquet`` files, only the columns that the configuration names. Memory: a batch of rows, not a row group.

    Attributes:
        batch_rows: Rows read at a time.
    """

    suffixes = (".parquet",)
    compressed = False
    batch_rows: int = 256

    def read(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[Document]:
        yield from documents_of(self._rows(file, columns, report), file, columns, report)

    def _rows(self, file: InputFile, columns: Columns, report: ReadReport) -> Iterator[tuple[str, dict[str, object]]]:
        try:
            if not file.path.stat().st_size:
                report.skip("empty file", str(file.path))
                return
            with pq.ParquetFile(file.path) as table:
                names = table.schema_arrow.names
                columns.check_header(names, str(file.path))
                wanted = {
                    columns.text,
                    *columns.more_text,
                    columns.id,
                    columns.language,
                    *columns.license,
                    *columns.metadata,
                }
                number = 0
                for batch in table.iter_batches(self.batch_rows, columns=[name for name in names if name in wanted]):
                    for row in _rows_of(batch):
                        number += 1
                        if row is None:
                            report.skip("not valid UTF-8", f"{file.path}:{number}")
                        else:
                            yield str(number), row
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file.path}: cannot be read: {' '.join(str(error).split())}") from error


def _rows_of(batch: pa.RecordBatch) -> list[dict[str, object] | None]:
    """The rows, with None for a row that is not valid UTF-8, which Arrow does not check when it reads."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        return [_rows_of(batch.slice(i, 1))[0] for i in range(len(batch))] if len(batch) > 1 else [None]
