"""Ticks from comma-separated values with a header."""

import csv
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TextIO

from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.sources.bad_line import BadFileError, BadLines, FieldError
from strategy_client.sources.record import RecordReader


def read_csv(
    path: Path, text: TextIO, config: TicksConfig, tokens: Collection[int] | None, bad: BadLines
) -> Iterator[MarketTick]:
    """Read tick by tick. BadFileError for a header without the columns, or times without a zone."""
    rows = csv.reader(text)
    header = [name.strip() for name in next(rows, [])]
    try:
        reader = RecordReader(config, tokens, header)
    except BadFileError as error:
        raise BadFileError(f"{path}:1: {error}") from None
    index = {role: header.index(column) for role, column in reader.columns.items()}
    time, price = index["time"], index["price"]
    token, symbol, volume = (_getter(index.get(role)) for role in ("token", "symbol", "volume"))
    width = len(header)
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return
            if not row:
                continue
            _check_width(row, width)
            tick = reader.read(row[time], row[price], token(row), symbol(row), volume(row))
        except FieldError as error:
            bad.add(path, rows.line_num, error)
        except csv.Error as error:
            bad.add(path, rows.line_num, FieldError("line", "comma-separated values", str(error)))
        except BadFileError as error:
            raise BadFileError(f"{path}:{rows.line_num}: {error}") from None
        else:
            yield tick


def _check_width(row: list[str], width: int) -> None:
    if len(row) != width:
        raise FieldError("line", f"{width} values", ",".join(row))


def _getter(index: int | None) -> Callable[[list[str]], str | None]:
    if index is None:
        return lambda _: None
    return lambda row: row[index]
