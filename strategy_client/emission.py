"""Which signals of one strategy on one instrument go out: edge trigger and cooldown."""

import math

from strategy_client.configuration import EmissionConfig
from strategy_client.edge import read_time
from strategy_client.events import NoSignal, Outcome, Reason, Signal

# What says that the condition of a signal has lapsed. Nothing else does: a strategy that was late, refused,
# stale or stopped has said nothing, and must not buy a second time because of that.
LAPSED = frozenset({Reason.HOLD, Reason.BELOW_THRESHOLD})


class Emission:
    """What one strategy last did on one instrument. Told of every outcome there, in the order of ticks."""

    __slots__ = ("_cooling_until_s", "_holding")

    def __init__(self) -> None:
        self._holding = ""
        self._cooling_until_s = -math.inf

    def __repr__(self) -> str:
        return f"<Emission holding {self._holding or 'nothing'}>"

    def pass_on(self, outcome: Outcome, rules: EmissionConfig) -> Outcome:
        """Return the outcome, or a HOLD that says why its signal does not go out.

        A side that a cooldown holds back has not gone out: should its condition outlast the cooldown, it
        does then.
        """
        if not isinstance(outcome, Signal):
            if outcome.reason in LAPSED:
                self._holding = ""
            return outcome
        side = outcome.signal_type
        if rules.edge_trigger and side == self._holding:
            return _held_back(outcome, f"{side} stands since an earlier tick, and goes out once")
        self._holding = ""
        time_s = read_time(outcome.timestamp)
        if rules.cooldown_s and time_s < self._cooling_until_s:
            left_s = self._cooling_until_s - time_s
            return _held_back(outcome, f"{side} in the cooldown of {rules.cooldown_s:g} s, {left_s:g} s left")
        self._holding = side
        self._cooling_until_s = time_s + rules.cooldown_s
        return outcome


def _held_back(signal: Signal, why: str) -> NoSignal:
    return NoSignal(
        signal.strategy_id,
        signal.instrument_token,
        signal.timestamp,
        Reason.HOLD,
        why,
        {**signal.metadata, "held_back": signal.signal_type},
    )
