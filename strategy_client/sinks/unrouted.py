"""Brokers of strategies whose signals no sink takes."""

from collections.abc import Collection, Iterable
from typing import Final

from strategy_client.configuration import Problem, StrategyConfig, did_you_mean
from strategy_client.sinks.fan_out import PAPER

MAX_NAMED: Final = 5


def brokers_of_all(strategies: Iterable[StrategyConfig]) -> dict[str, list[str]]:
    """Return the enabled strategies of each broker, by its name; paper is every strategy's."""
    found: dict[str, list[str]] = {}
    for each in strategies:
        for broker in dict.fromkeys((PAPER, *each.active_brokers)) if each.enabled else ():
            found.setdefault(broker, []).append(each.strategy_id)
    return found


def unrouted(strategies: Iterable[StrategyConfig], sinks: Collection[str]) -> tuple[Problem, ...]:
    """Return a problem for each broker of an enabled strategy that is none of those with a sink."""
    return tuple(
        Problem("brokers", _text(broker, names, sinks))
        for broker, names in brokers_of_all(strategies).items()
        if broker not in sinks
    )


def _text(broker: str, names: list[str], sinks: Collection[str]) -> str:
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    leave = "" if broker == PAPER else f", or take {broker} out of their brokers"
    return (
        f"{broker!r}, a broker of {', '.join(names[:MAX_NAMED])}{more}, has no sink"
        f"{did_you_mean(broker, sinks)}: its signals are counted and go nowhere; "
        f"write --sink {broker}=URL, or --sink URL for every other broker{leave}"
    )
