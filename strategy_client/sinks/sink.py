"""Where signals go, one broker each, as the loop sees it."""

from typing import Protocol

from strategy_client.events import Cause, Signal


class SignalSink(Protocol):
    """Takes the signals of one broker and never holds the tick loop up.

    `send` puts a signal in a bounded queue, or drops and counts it where that is full; what happens from
    there on is retried, counted and logged by the sink.
    """

    def send(self, signal: Signal, cause: Cause | None = None) -> None:
        """Take a signal, and the event that brought its tick; returns at once and never raises."""
        ...

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what is queued, for `timeout_s` at most, and free the connection. May be called twice."""
        ...
