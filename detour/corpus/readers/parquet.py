"""Parquet tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from detour.corpus.readers.base import Source, Unit, documents_of, register
from detour.corpus.text import Columns, Document, ReadReport
from detour.errors import DataError


@register("parquet")
@dataclass(frozen=True, kw_only=True)
class Parquet(Source):
    """``.parquet`` files. Only the columns that are named are read. Memory: a batch of rows, not a row group.

    Attributes:
        batch_rows: Rows read at a time.
    """

    suffixes = (".parquet",)
    compressed = False
    batch_rows: int = 256

    def read(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[Document]:
        yield from documents_of(self._rows(unit, columns, report), unit, columns, report)

    def _rows(self, unit: Unit, columns: Columns, report: ReadReport) -> Iterator[tuple[str, dict[str, object]]]:
        try:
            if not unit.path.stat().st_size:
                report.skip("empty file", str(unit.path))
                return
            with pq.ParquetFile(unit.path) as table:
                names = table.schema_arrow.names
                columns.check_header(names, str(unit.path))
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
                            report.skip("not valid UTF-8", f"{unit.path}:{number}")
                        else:
                            yield str(number), row
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{unit.path}: cannot be read: {' '.join(str(error).split())}") from error


def _rows_of(batch: pa.RecordBatch) -> list[dict[str, object] | None]:
    """The rows, None for one that is no text: Arrow itself does not look at what other programs have written."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        return [_rows_of(batch.slice(i, 1))[0] for i in range(len(batch))] if len(batch) > 1 else [None]
