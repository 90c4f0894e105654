"""Strategies from YAML: one file, or a folder of them."""

import zoneinfo
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from strategy_client.configuration import (
    ConfigurationError,
    Problem,
    StrategyConfig,
    TicksConfig,
    did_you_mean,
)
from strategy_client.factory import StrategyFactory
from strategy_client.store.document import Document, Place, read_document
from strategy_client.store.section import (
    FLAG,
    POSITIVE_INTEGER,
    TEXT,
    TEXTS,
    Kind,
    Section,
    read_list,
    read_positive_integer,
    read_positive_number,
    read_text,
)
from strategy_client.store.store import StrategySet

SUFFIXES: Final = (".yaml", ".yml")
MAX_FILES: Final = 1_000
DEFAULT_BROKERS: Final = ("paper",)


def read_strategies(path: Path, factory: StrategyFactory) -> StrategySet:
    """Read one YAML file, or every `*.yaml` and `*.yml` of a folder in the order of their names.

    A file is one strategy, or a mapping with a `strategies:` list; `ticks:` may stand in one of
    the files. Each strategy's processor is made once by `factory`, so that its type and
    parameters are checked as well. Raises ConfigurationError with a problem for everything that is wrong in
    any of the files, each naming file, line and key.
    """
    reading = _Reading(factory)
    for file in _files(path):
        try:
            document = read_document(file)
        except ConfigurationError as error:
            reading.problems += error.problems
        else:
            reading.document(document)
    return reading.result()


class _Reading:
    def __init__(self, factory: StrategyFactory) -> None:
        self.problems: list[Problem] = []
        self._factory = factory
        self._strategies: list[StrategyConfig] = []
        self._first_seen: dict[str, str] = {}
        self._ticks: TicksConfig | None = None
        self._ticks_in: Path | None = None

    def result(self) -> StrategySet:
        if self.problems:
            raise ConfigurationError(*self.problems)
        return StrategySet(tuple(self._strategies), self._ticks)

    def document(self, document: Document) -> None:
        top = Section(document, (), document.value, self.problems)
        if not isinstance(document.value, dict):
            return
        if "strategies" in top:
            for place, value in self._listed(top):
                section = Section(document, place, value, self.problems)
                if isinstance(value, dict):
                    self._strategy(document, section, place)
                    section.finish()
        else:
            self._strategy(document, top, ())
        self._for_all(document, top)
        top.finish()

    def _listed(self, top: Section) -> Iterable[tuple[Place, Any]]:
        items = top.take("strategies", Kind("a list of at least one strategy", _read_items), [])
        return [(("strategies", index), item) for index, item in enumerate(items)]

    def _strategy(self, document: Document, section: Section, place: Place) -> None:
        before = len(self.problems)
        name = section.need("strategy_name", TEXT, "")
        strategy_type = section.need("strategy_type", TEXT, "")
        parameters = section.take("parameters", Kind("a mapping", _read_mapping), {})
        config = StrategyConfig(
            strategy_id=name,
            strategy_type=strategy_type,
            parameters=parameters,
            active_brokers=section.take("brokers", TEXTS, DEFAULT_BROKERS),
            instrument_tokens=_tokens(section),
            **_risk_limits(section),
            enabled=section.take("enabled", FLAG, default=True),
            description=section.take("description", TEXT, ""),
            tags=section.take("tags", TEXTS, ()),
        )
        self._check_unique(document, section, place, name)
        if strategy_type:
            self._check_processor(section, config)
        if len(self.problems) == before:
            self._strategies.append(config)

    def _check_unique(self, document: Document, section: Section, place: Place, name: str) -> None:
        if not name:
            return
        here = f"{document.path}:{document.lines[(*place, 'strategy_name')]}"
        first = self._first_seen.setdefault(name, here)
        if first != here:
            section.fault(("strategy_name",), f"{name!r} stands twice, the first time in {first}")

    def _check_processor(self, section: Section, config: StrategyConfig) -> None:
        try:
            self._factory.create_processor(config.strategy_type, config.parameters)
        except ConfigurationError as error:
            for problem in error.problems:
                section.fault(tuple(problem.place.split(".", 1)), problem.text)

    def _for_all(self, document: Document, top: Section) -> None:
        ticks = top.section("ticks")
        if ticks is None:
            return
        if self._ticks_in is not None:
            top.fault(("ticks",), f"stands in two files, the first time in {self._ticks_in}")
        self._ticks_in = document.path
        self._ticks = _ticks(ticks)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not 0 < len(files) <= MAX_FILES:
        raise ConfigurationError(
            Problem(str(path), f"expected 1 to {MAX_FILES} files ending in {' or '.join(SUFFIXES)}")
        )
    return files


def _tokens(section: Section) -> tuple[int, ...]:
    kind = Kind("a list of different instrument tokens, integers above 0", _read_tokens)
    if "instruments" in section and "instrument_tokens" in section:
        section.fault(("instruments",), "expected one of 'instruments' and 'instrument_tokens'")
    if "instruments" in section:
        tokens = section.take("instruments", kind, ())
        return section.take("instrument_tokens", kind, tokens)
    tokens = section.need("instrument_tokens", kind, ())
    return section.take("instruments", kind, tokens)


def _risk_limits(section: Section) -> dict[str, Any]:
    limits = section.section("risk_limits")
    if limits is None:
        return {}
    read: dict[str, Any] = {
        "max_position_size": limits.take("max_position_size", POSITIVE_INTEGER, None),
        "risk_multiplier": limits.take(
            "risk_multiplier", Kind("a number above 0", _read_decimal), Decimal(1)
        ),
    }
    limits.finish()
    return read


def _ticks(section: Section) -> TicksConfig:
    defaults = TicksConfig()
    config = TicksConfig(
        time=section.take("time", Kind("a column name", read_text), defaults.time),
        price=section.take("price", Kind("a column name", read_text), defaults.price),
        volume=section.take("volume", Kind("a column name", read_text), None),
        token=section.take("token", Kind("a column name, or an instrument token", _read_token), None),
        symbol=section.take("symbol", Kind("a column name", read_text), None),
        timezone=_timezone(section),
        time_format=section.take(
            "time_format",
            Kind("a strptime format, or iso, s, ms, us, ns", read_text),
            defaults.time_format,
        ),
        instruments=section.take(
            "instruments", Kind("a mapping of symbols to instrument tokens", _read_instruments), {}
        ),
    )
    section.finish()
    return config


def _timezone(section: Section) -> str | None:
    name = section.take("timezone", TEXT, None)
    if name is None:
        return None
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = did_you_mean(name, zoneinfo.available_timezones())
        section.fault(("timezone",), f"expected a zone like 'Asia/Kolkata' or 'UTC', came {name!r}{near}")
        return None
    return name


def _read_items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    if not value:
        raise ValueError
    return value


def _read_mapping(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError
    return value


def _read_tokens(value: object) -> tuple[int, ...]:
    tokens = read_list(read_positive_integer)(value)
    if not tokens:
        raise ValueError
    return tokens


def _read_token(value: object) -> str | int:
    return read_positive_integer(value) if isinstance(value, int) else read_text(value)


def _read_decimal(value: object) -> Decimal:
    read_positive_number(value)
    return Decimal(str(value))


def _read_instruments(value: object) -> dict[str, int]:
    return {symbol: read_positive_integer(token) for symbol, token in _read_mapping(value).items()}
