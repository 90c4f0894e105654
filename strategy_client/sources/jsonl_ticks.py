"""Ticks from JSON lines: Alpha Panda's events or replay format, or the fields of a tick by themselves."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TextIO

from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.sources.bad_line import BadFileError, BadLines, FieldError
from strategy_client.sources.line import check_length, numbered_lines
from strategy_client.sources.tick_message import TickMessageReader


def read_jsonl(
    path: Path, text: TextIO, config: TicksConfig, tokens: Collection[int] | None, bad: BadLines
) -> Iterator[MarketTick]:
    """Read tick by tick; events of another type or topic are passed over."""
    reader = TickMessageReader(config, tokens)
    for number, line in numbered_lines(text):
        if not line.strip():
            continue
        try:
            check_length(line)
            tick = reader.read(line)
        except FieldError as error:
            bad.add(path, number, error)
        except BadFileError as error:
            raise BadFileError(f"{path}:{number}: {error}") from None
        else:
            if tick is not None:
                yield tick
