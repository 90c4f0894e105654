"""One strategy out of what a file or a row says; both mean the same by the same words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from strategy_client.configuration import (
    ConfigurationError,
    EmissionConfig,
    Problem,
    StrategyConfig,
    did_you_mean,
)
from strategy_client.factory import StrategyFactory
from strategy_client.store.section import (
    FLAG,
    TEXT,
    TEXTS,
    Kind,
    Section,
    read_decimal,
    read_list,
    read_positive_integer,
    read_seconds,
    read_some,
    read_whole_number,
)

DEFAULT_BROKERS: Final = ("paper",)
KNOWN_BROKERS: Final = ("paper", "zerodha")
BROKER: Final = re.compile(r"[a-z0-9_-]{1,64}")
# A name becomes part of a topic's key and of a file's line.
MAX_NAME: Final = 200
# Parameters of which it is remembered whether they are right.
MAX_TRIED: Final = 10_000


def read_name(value: object) -> str:
    """Take a strategy's name: one line of text without blanks at its ends."""
    if not isinstance(value, str):
        raise TypeError
    if not value.isprintable() or value != value.strip() or not 0 < len(value) <= MAX_NAME:
        raise ValueError
    return value


def _read_broker(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if not BROKER.fullmatch(value):
        raise ValueError
    return value


def read_mapping(value: object) -> Mapping[str, Any]:
    """Take a mapping; nothing at all is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError
    return value


NAME: Final = Kind("a text", read_name)
MAPPING: Final = Kind("a mapping", read_mapping)
TOKENS: Final = Kind(
    "a list of different instrument tokens, integers above 0",
    read_some(read_list(read_positive_integer, "an instrument token, an integer above 0")),
)
BROKERS: Final = Kind(
    "a list of brokers, at least one; without this key it is [paper]",
    read_some(read_list(_read_broker, "a broker's name in small letters, as paper or zerodha")),
)


# What stands under `parameters` for the runner: a table has no other place for it.
OURS: Final = ("emission", "risk_limits")


@dataclass(frozen=True, slots=True)
class Parameters:
    """`parameters`, taken apart."""

    for_factory: Mapping[str, Any]
    limits: dict[str, Any]
    emission: EmissionConfig

    def fields(self) -> dict[str, Any]:
        """Return them as fields of a StrategyConfig."""
        return {"parameters": self.for_factory, "emission": self.emission, **self.limits}


class StrategyReader:
    """Reads strategies and tries their types and parameters out, if there is a factory to do so with.

    `notes` are what means nothing to us.
    """

    def __init__(self, factory: StrategyFactory | None) -> None:
        self._factory = factory
        # A strategy that did not change is not made again: what a user's function does may be much.
        self._made: dict[tuple[str, str], tuple[Problem, ...]] = {}

    def read_file_keys(self, section: Section, notes: list[Problem]) -> StrategyConfig:
        """Take the keys of one strategy in a file; problems are kept in the section."""
        name = section.need("strategy_name", NAME, "")
        strategy_type = self._type(section)
        parameters = self.read_parameters(section)
        limits = _risk_limits(section)
        if limits and parameters.limits:
            section.fault(("risk_limits",), "stands under parameters too; expected it once")
        config = StrategyConfig(
            strategy_id=name,
            strategy_type=strategy_type,
            parameters=parameters.for_factory,
            active_brokers=section.take("brokers", BROKERS, DEFAULT_BROKERS),
            instrument_tokens=_tokens(section),
            **(parameters.limits | limits),
            emission=parameters.emission,
            enabled=section.take("enabled", FLAG, default=True),
            description=section.take("description", TEXT, ""),
            tags=section.take("tags", TEXTS, ()),
        )
        _note_ignored(section, notes)
        self.try_out(section, config)
        return config

    def read_parameters(self, section: Section, kind: Kind[Mapping[str, Any]] | None = None) -> "Parameters":
        """Take `parameters`, and out of it what is the runner's and not the processor's."""
        given = section.take("parameters", kind or MAPPING, {})
        inner = section.below("parameters", given)
        emission = _emission(inner)
        limits = _risk_limits(inner)
        own = {key: value for key, value in given.items() if key not in OURS}
        return Parameters(own, limits, emission)

    def try_out(self, section: Section, config: StrategyConfig) -> None:
        """Make the processor once; what is wrong with its type or parameters is kept in the section."""
        if not config.strategy_type or self._factory is None:
            return
        key = (config.strategy_type, repr(config.parameters))
        if key not in self._made:
            if len(self._made) >= MAX_TRIED:
                self._made.clear()
            self._made[key] = _try(self._factory, config)
        for problem in self._made[key]:
            section.fault(tuple(problem.place.split(".")) if problem.place else (), problem.text)

    def forget_wrong(self) -> None:
        """Try again at the next reading what could not be made: a module may be there by then."""
        self._made = {key: problems for key, problems in self._made.items() if not problems}

    def _type(self, section: Section) -> str:
        # Alpha Panda's files say strategy_class, its documents strategy_type.
        if "strategy_class" not in section:
            return section.need("strategy_type", TEXT, "")
        of_class = section.take("strategy_class", TEXT, "")
        of_type = section.take("strategy_type", TEXT, of_class)
        if of_type != of_class:
            section.fault(
                ("strategy_class",), f"expected {of_type!r} as in strategy_type, or only one of them"
            )
        return of_type


def _try(factory: StrategyFactory, config: StrategyConfig) -> tuple[Problem, ...]:
    try:
        factory.create_processor(config.strategy_type, config.parameters)
    except ConfigurationError as error:
        return error.problems
    return ()


def _tokens(section: Section) -> tuple[int, ...]:
    if "instruments" in section and "instrument_tokens" in section:
        section.fault(("instruments",), "expected one of 'instruments' and 'instrument_tokens'")
    if "instruments" in section:
        tokens = section.take("instruments", TOKENS, ())
        return section.take("instrument_tokens", TOKENS, tokens)
    tokens = section.need("instrument_tokens", TOKENS, ())
    return section.take("instruments", TOKENS, tokens)


def _emission(section: Section) -> EmissionConfig:
    rules = section.section("emission")
    if rules is None:
        return EmissionConfig()
    emission = EmissionConfig(
        edge_trigger=rules.take("edge_trigger", FLAG, default=False),
        cooldown_s=rules.take("cooldown_s", Kind("a number of seconds, 0 or more", read_seconds), 0.0),
    )
    rules.finish()
    return emission


def _risk_limits(section: Section) -> dict[str, Any]:
    limits = section.section("risk_limits")
    if limits is None:
        return {}
    size = Kind("a whole number above 0", read_whole_number)
    read: dict[str, Any] = {
        "max_position_size": limits.take("max_position_size", size, None),
        "risk_multiplier": limits.take("risk_multiplier", Kind("a number above 0", read_decimal), Decimal(1)),
    }
    limits.finish()
    return read


def _note_ignored(section: Section, notes: list[Problem]) -> None:
    section.take("module_name", TEXT, "")
    section.take("use_composition", FLAG, default=True)
    text = "means nothing to this runner, which goes by the type"
    notes += [section.problem((key,), text) for key in ("module_name", "use_composition") if key in section]


def note_brokers(section: Section, key: str, config: StrategyConfig, notes: list[Problem]) -> None:
    """Note each broker that nobody is known to listen to; any name may be one of a user's own."""
    for index, broker in enumerate(config.active_brokers):
        if broker not in KNOWN_BROKERS:
            near = did_you_mean(broker, KNOWN_BROKERS)
            text = f"{broker!r} is neither paper nor zerodha{near}; its signals go where --sink sends them"
            notes.append(section.problem((key, index), text))
