"""A file of ticks, whatever its form, and several of them as one stream in the order of time."""

import gzip
import heapq
import io
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol, cast

from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.sources.bad_line import BadFileError, BadLines
from strategy_client.sources.csv_ticks import read_csv
from strategy_client.sources.jsonl_ticks import read_jsonl

TEXT_SUFFIXES: Final = (".csv", ".txt", ".jsonl", ".ndjson")
PARQUET_SUFFIXES: Final = (".parquet", ".pq")
KNOWN: Final = ".csv, .jsonl (also .gz and .zip of them) or .parquet"
BUFFER_BYTES: Final = 1_048_576
# Buffers are filled ahead of the ticks that are given.
NOT_DONE: Final = 0.99


class TickFile(Protocol):
    """Ticks, and how far through the file they are."""

    def __iter__(self) -> Iterator[MarketTick]:
        """Read from the start; bad lines go to the list that the file was made with."""
        ...

    def progress(self) -> float:
        """Return the part of the file that was read, 0 to 1."""
        ...

    def close(self) -> None:
        """Let go of the file, however far it was read; nothing more is read of it. May be called twice."""
        ...


class TextTickFile:
    """CSV or JSON lines, plain or compressed."""

    def __init__(
        self, path: Path, config: TicksConfig, tokens: Collection[int] | None, bad: BadLines
    ) -> None:
        self._path = path
        self._config = config
        self._tokens = tokens
        self._bad = bad
        self._size = max(path.stat().st_size, 1)
        self._raw: BinaryIO | None = None
        self._done = False

    def __iter__(self) -> Iterator[MarketTick]:
        with self._path.open("rb") as raw:
            self._raw = raw
            name, stream = _decompressed(self._path, raw)
            # A byte that is no UTF-8 spoils its own line only.
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
            read = read_jsonl if name.endswith((".jsonl", ".ndjson")) else read_csv
            try:
                yield from read(self._path, text, self._config, self._tokens, self._bad)
            except (EOFError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile) as error:
                raise BadFileError(f"{self._path}: expected a whole compressed file: {error}") from None
            finally:
                self._raw = None
                self._done = True

    def progress(self) -> float:
        """Return the part of the file that was read, 0 to 1."""
        if self._raw is None:
            return float(self._done)
        return min(self._raw.tell() / self._size, NOT_DONE)

    def close(self) -> None:
        """Let go of the file, however far it was read; nothing more is read of it. May be called twice."""
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()


def open_ticks(path: Path, config: TicksConfig, tokens: Collection[int] | None, bad: BadLines) -> TickFile:
    """Return the ticks of a file by its suffix. Raises BadFileError where there is no such file or form."""
    if not path.is_file():
        raise BadFileError(f"{path}: expected a file of ticks, there is none")
    if path.suffix in PARQUET_SUFFIXES:
        from strategy_client.sources.parquet_ticks import ParquetTickFile  # noqa: PLC0415 an optional extra

        return ParquetTickFile(path, config, tokens, bad)
    if path.suffix not in (*TEXT_SUFFIXES, ".gz", ".zip"):
        raise BadFileError(f"{path}: expected a file ending in {KNOWN}")
    return TextTickFile(path, config, tokens, bad)


def merged(files: Sequence[TickFile]) -> Iterator[MarketTick]:
    """Give the ticks of all files in the order of time; those of one file stay in its own order."""
    if len(files) == 1:
        return iter(files[0])
    return heapq.merge(*files, key=lambda tick: tick.timestamp)


def _decompressed(path: Path, raw: BinaryIO) -> tuple[str, BinaryIO]:
    if path.suffix == ".gz":
        return path.stem, cast("BinaryIO", io.BufferedReader(gzip.GzipFile(fileobj=raw), BUFFER_BYTES))
    if path.suffix == ".zip":
        try:
            archive = zipfile.ZipFile(raw)
        except zipfile.BadZipFile as error:
            raise BadFileError(f"{path}: expected a zip archive: {error}") from None
        names = [name for name in archive.namelist() if name.endswith(TEXT_SUFFIXES)]
        if len(names) != 1:
            raise BadFileError(f"{path}: expected one .csv or .jsonl file in it, found {len(names)}")
        try:
            return names[0], cast("BinaryIO", archive.open(names[0]))
        except (RuntimeError, NotImplementedError) as error:
            raise BadFileError(f"{path}: expected an archive that can be read: {error}") from None
    return path.name, raw
