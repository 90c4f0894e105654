"""What a caller in Python gives a replay: strategies and ticks, in whatever form they are at hand."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from strategy_client.configuration import ConfigurationError, Problem, StrategyConfig, TicksConfig
from strategy_client.events import MarketTick
from strategy_client.factory import StrategyFactory
from strategy_client.sources.bad_line import BadFileError, BadLines, FieldError
from strategy_client.sources.record import RecordReader
from strategy_client.sources.tick_file import merged, open_ticks
from strategy_client.store.columns import read_columns
from strategy_client.store.section import Place, Section
from strategy_client.store.store import StrategySet
from strategy_client.store.strategy import StrategyReader

FRAME: Final = Path("frame")
MAY_BE_NONE: Final = frozenset(field.name for field in fields(TicksConfig) if field.default is None)

# A file or folder, a database's URL, what a store read, or strategies with the keys of the YAML files.
StrategiesGiven = str | Path | StrategySet | Mapping[str, Any] | Sequence[Mapping[str, Any] | StrategyConfig]
# A file, several of them as one stream in the order of time, ticks themselves, or a pandas DataFrame.
TicksGiven = Any


class _Given:
    """Names a place in an argument that a caller gave, as the path of keys in it."""

    def __init__(self, argument: str) -> None:
        self._argument = argument

    def problem(self, place: Place, text: str) -> Problem:
        """Return the problem."""
        return Problem(".".join([self._argument, *map(str, place)]), text)


def read_given_strategies(given: StrategiesGiven, factory: StrategyFactory) -> StrategySet:
    """Return the strategies. Raises ConfigurationError with a problem for everything that is wrong."""
    if isinstance(given, StrategySet):
        return given
    if isinstance(given, str | Path):
        # The stores need extras that dictionaries do not.
        from strategy_client.store.place import open_store  # noqa: PLC0415

        store = open_store(str(given), factory)
        try:
            return store.read()
        finally:
            store.close()
    if not _is_any(given, Mapping, Iterable):
        text = f"expected a file, a URL, or mappings, came {type(given).__name__}"
        raise ConfigurationError(Problem("strategies", text))
    items = [given] if isinstance(given, Mapping) else list(given)
    reader = StrategyReader(factory)
    problems: list[Problem] = []
    notes: list[Problem] = []
    strategies: list[StrategyConfig] = []
    for index, item in enumerate(items):
        if isinstance(item, StrategyConfig):
            strategies.append(item)
            continue
        section = Section(_Given("strategies"), (index,), _plain(item), problems)
        if isinstance(item, Mapping):
            strategies.append(reader.read_file_keys(section, notes))
            section.finish()
    if not items:
        problems.append(Problem("strategies", "expected at least one"))
    if problems:
        raise ConfigurationError(*problems)
    return StrategySet(tuple(strategies), notes=tuple(notes))


def read_given_ticks(
    given: TicksGiven, columns: TicksConfig, tokens: Collection[int], bad: BadLines
) -> Iterator[MarketTick]:
    """Return the ticks. Raises BadFileError for what holds none: a file of another form, a missing column.

    Of a file or a frame only the instruments in `tokens` are taken; `bad` takes the lines that hold no tick.
    """
    if isinstance(given, str | Path):
        return iter(open_ticks(Path(given), columns, tokens, bad))
    if hasattr(given, "columns") and hasattr(given, "itertuples"):
        return _read_frame(given, columns, tokens, bad)
    if isinstance(given, Sequence) and all(isinstance(each, str | Path) for each in given):
        return merged([open_ticks(Path(each), columns, tokens, bad) for each in given])
    if isinstance(given, Iterable):
        return _checked(given)
    raise BadFileError(f"ticks: expected a file, MarketTicks or a DataFrame, came {type(given).__name__}")


def _read_frame(
    frame: Any, columns: TicksConfig, tokens: Collection[int], bad: BadLines
) -> Iterator[MarketTick]:
    names = [str(name) for name in frame.columns]
    # A frame whose index is the time is as common as one with a column of it.
    if columns.time not in names and columns.time in frame.index.names:
        # Of an index of several levels the others may be needed too, the instrument for one.
        frame = frame.reset_index()
        names = [str(name) for name in frame.columns]
    elif columns.time not in names and frame.index.names == [None] and columns.time == TicksConfig().time:
        frame = frame.rename_axis(columns.time).reset_index()
        names = [str(name) for name in frame.columns]
    reader = RecordReader(columns, tokens, names)
    read = {role: frame[name] for role, name in reader.columns.items()}
    if getattr(read["time"].dtype, "kind", "") == "M" or hasattr(read["time"].dtype, "tz"):
        # A datetime holds microseconds; what is finer is cut off.
        moments = zip(read["time"], read["time"].isna(), strict=True)
        read["time"] = [None if missing else moment.to_pydatetime(warn=False) for moment, missing in moments]
    return _read_rows(reader, read, bad)


def _read_rows(
    reader: RecordReader, columns: Mapping[str, Iterable[Any]], bad: BadLines
) -> Iterator[MarketTick]:
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        try:
            yield reader.read(**dict(zip(columns, values, strict=True)))
        except FieldError as error:
            bad.add(FRAME, index, error)


def _checked(ticks: Iterable[Any]) -> Iterator[MarketTick]:
    for index, tick in enumerate(ticks):
        if not isinstance(tick, MarketTick):
            raise BadFileError(f"ticks[{index}]: expected a MarketTick, came {type(tick).__name__}")
        yield tick


def _is_any(given: object, *kinds: type[Any]) -> bool:
    # What a notebook gives was looked at by no type checker.
    return isinstance(given, kinds)


def _plain(item: object) -> object:
    # The readers of files take lists and integers; in Python a tuple, a range or numpy's are as good.
    if not isinstance(item, Mapping):
        return item
    return {str(key): _plain_value(value) for key, value in item.items()}


def _plain_value(value: object) -> object:
    if isinstance(value, tuple | range | set | frozenset):
        return list(value)
    if isinstance(value, np.integer):
        return int(value)
    return dict(value) if isinstance(value, Mapping) else value


def columns_of(given: TicksConfig | Mapping[str, Any] | None, strategies: StrategySet) -> TicksConfig:
    """Return how ticks are read: as the caller says, else as beside the strategies, else by default.

    A mapping changes single fields. Raises ConfigurationError for one that there is not, or that is wrong.
    """
    base = strategies.ticks or TicksConfig()
    if given is None:
        return base
    if isinstance(given, TicksConfig):
        return given
    if not _is_any(given, Mapping):
        text = f"expected a TicksConfig or a mapping, came {type(given).__name__}"
        raise ConfigurationError(Problem("columns", text))
    problems: list[Problem] = []
    # What may be left out may also be said to be None.
    said = {name: value for name, value in given.items() if value is not None or name not in MAY_BE_NONE}
    read = read_columns(Section(_Given("columns"), (), _plain(said), problems))
    if problems:
        raise ConfigurationError(*problems)
    return replace(base, **{str(name): getattr(read, str(name)) for name in given})
