"""Ticks from comma-separated values with a header, a record a line."""

import csv
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TextIO

from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.sources.bad_line import BadFileError, BadLines, FieldError
from strategy_client.sources.line import check_length, numbered_lines
from strategy_client.sources.record import RecordReader


def read_csv(
    path: Path, text: TextIO, config: TicksConfig, tokens: Collection[int] | None, bad: BadLines
) -> Iterator[MarketTick]:
    """Read tick by tick. BadFileError for a header without the columns, or times without a zone."""
    lines = numbered_lines(text)
    try:
        header = [name.strip() for name in _values(next(lines, (1, ""))[1])]
        reader = RecordReader(config, tokens, header)
    except (BadFileError, FieldError) as error:
        raise BadFileError(f"{path}:1: {error}") from None
    index = {role: header.index(column) for role, column in reader.columns.items()}
    time, price = index["time"], index["price"]
    token, symbol, volume = (index.get(role) for role in ("token", "symbol", "volume"))
    width = len(header)
    for number, line in lines:
        if not line or line.isspace():
            continue
        try:
            row = _values(line)
            _check_width(line, row, width)
            tick = reader.read(
                row[time],
                row[price],
                None if token is None else row[token],
                None if symbol is None else row[symbol],
                None if volume is None else row[volume],
            )
        except FieldError as error:
            bad.add(path, number, error)
        except BadFileError as error:
            raise BadFileError(f"{path}:{number}: {error}") from None
        else:
            yield tick


def _values(line: str) -> list[str]:
    check_length(line)
    if '"' not in line:
        return line.split(",")
    # One line at a time: a quote that is never closed spoils its own line, not those after it.
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise FieldError("line", f"comma-separated values ({error})", line) from None


def _check_width(line: str, row: list[str], width: int) -> None:
    if len(row) != width:
        raise FieldError("line", f"{width} values", line)
