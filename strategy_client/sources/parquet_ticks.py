"""Ticks from Parquet. Needs the extra `tickserve[parquet]`."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.sources.bad_line import BadFileError, BadLines, FieldError
from strategy_client.sources.record import RecordReader

try:
    import pyarrow as pa
    from pyarrow import parquet
except ModuleNotFoundError as error:
    raise BadFileError("a Parquet file needs pyarrow: pip install 'tickserve[parquet]'") from error

BATCH_ROWS: Final = 16_384


class ParquetTickFile:
    """A Parquet file; its rows count from 1."""

    def __init__(
        self, path: Path, config: TicksConfig, tokens: Collection[int] | None, bad: BadLines
    ) -> None:
        self._path = path
        self._bad = bad
        self._read_rows = 0
        try:
            self._file = parquet.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise BadFileError(f"{path}: expected a Parquet file: {error}") from None
        try:
            self._reader = RecordReader(config, tokens, self._file.schema_arrow.names)
        except BadFileError as error:
            self._file.close()
            raise BadFileError(f"{path}: {error}") from None

    def __iter__(self) -> Iterator[MarketTick]:
        self._read_rows = 0
        for values, rows in self._batches():
            for index in range(rows):
                self._read_rows += 1
                try:
                    yield self._reader.read(**{role: column[index] for role, column in values.items()})
                except FieldError as error:
                    self._bad.add(self._path, self._read_rows, error)
                except BadFileError as error:
                    raise BadFileError(f"{self._path}: row {self._read_rows}: {error}") from None

    def _batches(self) -> Iterator[tuple[dict[str, list[Any]], int]]:
        columns = self._reader.columns
        try:
            for batch in self._file.iter_batches(BATCH_ROWS, columns=sorted(set(columns.values()))):
                yield {role: _values(batch.column(name)) for role, name in columns.items()}, batch.num_rows
        except (pa.ArrowException, OSError) as error:
            place = f"after row {self._read_rows}"
            raise BadFileError(f"{self._path}: {place}: expected a Parquet file: {error}") from None

    def progress(self) -> float:
        """Return the part of the file that was read, 0 to 1."""
        return self._read_rows / max(int(self._file.metadata.num_rows), 1)

    def close(self) -> None:
        """Let go of the file, however far it was read; nothing more is read of it. May be called twice."""
        self._file.close()


def _values(column: Any) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # A datetime holds microseconds; what is finer is cut off.
        column = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False)
    return list(column.to_pylist())
