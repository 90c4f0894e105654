"""The parameters of a drop-in that are not its processor's own."""

import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from strategy_client.configuration import ConfigurationError, Problem, did_you_mean
from strategy_client.processors.parameter import integer, number, read_options, text

MAX_FEATURES: Final = 100_000
# The other runner reads these out of the same parameters; they are its business.
RUNNERS_OWN: Final = frozenset({"validator", "max_confidence", "min_quantity", "risk_multiplier"})


@dataclass(frozen=True, slots=True)
class DropInOptions:
    """What stands among a strategy's parameters beside those of its processor.

    `strategy_id` names the strategy in logs and metrics: the other runner does not tell it. `deadline_ms` is
    the time that one call of `process_tick` may wait for the sidecar. `timezone` is the IANA zone of
    timestamps that have none. `max_tick_age_s` refuses ticks whose timestamp is further than that from this
    machine's clock; 0 for no bound. `expected_feature_count` is compared with the features there are; 0 for
    any number.
    """

    strategy_id: str | None = text()
    signal_result: str | None = text()
    deadline_ms: float = number(50.0, expected="a number above 0", fits=lambda value: value > 0)
    timezone: str | None = text()
    max_tick_age_s: float = number(0.0, expected="a number from 0", fits=lambda value: value >= 0)
    expected_feature_count: int = integer(0, least=0, most=MAX_FEATURES)

    @property
    def zone(self) -> zoneinfo.ZoneInfo | None:
        """The zone of timestamps without one. Raises ConfigurationError for one that is not known."""
        if self.timezone is None:
            return None
        try:
            return zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            near = did_you_mean(self.timezone, zoneinfo.available_timezones())
            text = f"expected a zone like 'Asia/Kolkata' or 'UTC', came {self.timezone!r}{near}"
            raise ConfigurationError(Problem("timezone", text)) from None


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
    return read_options(DropInOptions, own), rest
