"""The parameters of a drop-in that are not its processor's own."""

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from strategy_client.configuration import MAX_DEADLINE_MS, ConfigurationError, Problem, did_you_mean
from strategy_client.drop_in.foreign_tick import Zones
from strategy_client.factory import StrategyFactory
from strategy_client.processors.parameter import number, read_options, text
from strategy_client.store.section import Place, Section
from strategy_client.store.strategy import MAX_NAME, Parameters, StrategyReader, read_name

# The other runner reads these out of the same parameters; they are its business.
RUNNERS_OWN: Final = frozenset({"validator", "max_confidence", "min_quantity", "risk_multiplier"})


@dataclass(frozen=True, slots=True)
class DropInOptions:
    """What stands among a strategy's parameters beside those of its processor.

    `strategy_id` names the strategy in logs and metrics: the other runner does not tell it. `deadline_ms` is
    the time that one call of `process_tick` may wait for the sidecar. `timezone` is the IANA zone of
    timestamps that have none, `utc_means` that of those which say UTC and mean another: a feed that takes
    Kite's local times for UTC is 5 h 30 ahead. `max_tick_age_s` refuses ticks older than that by this
    machine's clock; 0 for no bound.
    """

    strategy_id: str | None = text()
    signal_result: str | None = text()
    deadline_ms: float = number(
        50.0,
        expected=f"a number above 0, {MAX_DEADLINE_MS:.0f} at most",
        fits=lambda value: 0 < value <= MAX_DEADLINE_MS,
    )
    timezone: str | None = text()
    utc_means: str | None = text()
    max_tick_age_s: float = number(0.0, expected="a number from 0", fits=lambda value: value >= 0)

    @property
    def zones(self) -> Zones:
        """The zones that timestamps are in. Raises ConfigurationError for one that is not known."""
        return Zones(_zone("timezone", self.timezone), _zone("utc_means", self.utc_means))


OWN_NAMES: Final = frozenset(field.name for field in fields(DropInOptions))


def split_parameters(config: Mapping[str, Any]) -> tuple[DropInOptions, dict[str, Any]]:
    """Return a drop-in's own options, and the parameters that are left for its processor.

    Raises ConfigurationError.
    """
    own = {name: value for name, value in config.items() if name in OWN_NAMES}
    rest = {
        name: value
        for name, value in config.items()
        if name not in OWN_NAMES and name not in RUNNERS_OWN and name != "strategy_type"
    }
    options = read_options(DropInOptions, own)
    if options.strategy_id is not None:
        try:
            read_name(options.strategy_id)
        except ValueError:
            came = repr(options.strategy_id)[:MAX_NAME]
            text = f"expected one line of at most {MAX_NAME} characters, came {came}"
            raise ConfigurationError(Problem("strategy_id", text)) from None
    return options, rest


class _Origin:
    """Names a place in the parameters."""

    def problem(self, place: Place, text: str) -> Problem:
        """Return the problem."""
        return Problem(".".join(map(str, place)), text)


def read_parameters(parameters: Mapping[str, Any]) -> Parameters:
    """Take the rules of emission and the limits out of the parameters, as in the files of our own runner.

    Raises ConfigurationError.
    """
    problems: list[Problem] = []
    section = Section(_Origin(), (), {"parameters": dict(parameters)}, problems)
    read = StrategyReader(StrategyFactory()).read_parameters(section)
    if problems:
        raise ConfigurationError(*problems)
    return read


def _zone(parameter: str, name: str | None) -> zoneinfo.ZoneInfo | None:
    if name is None:
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = did_you_mean(name, zoneinfo.available_timezones())
        text = f"expected a zone like 'Asia/Kolkata' or 'UTC', came {name!r}{near}"
        raise ConfigurationError(Problem(parameter, text)) from None
