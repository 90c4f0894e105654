"""Signals to the brokers of their strategies."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from strategy_client.buses.seldom_log import SeldomLog
from strategy_client.configuration import ConfigurationError
from strategy_client.events import ProcessedTick, ShadowComparison, Signal
from strategy_client.sinks.queued_sink import QueuedSink, SinkCounts

PAPER: Final = "paper"

log = logging.getLogger(__name__)


class FanOut:
    """Implements TickListener: each signal goes to paper and to the other brokers of its strategy.

    `sinks` are by broker. `make` gives the sink of a broker that none is given for; without it, or where it
    gives None, such signals are counted in `unrouted` and go nowhere. A shadow's signals are never emitted.
    """

    def __init__(
        self,
        sinks: Mapping[str, QueuedSink],
        make: Callable[[str], QueuedSink | None] = lambda _broker: None,
    ) -> None:
        self.unrouted: Counter[str] = Counter()
        self._sinks = dict(sinks)
        self._make = make
        self._brokers: Mapping[str, tuple[str, ...]] = {}
        self._unrouted_log = SeldomLog(log)
        self._changing = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FanOut {self._sinks} unrouted {dict(self.unrouted)}>"

    @property
    def counts(self) -> Mapping[str, SinkCounts]:
        """What became of the signals so far, by broker."""
        return {broker: sink.counts for broker, sink in self._sinks.items()}

    def set_brokers(self, brokers: Mapping[str, Collection[str]]) -> None:
        """Say which brokers each strategy has, from the next tick on; may be called from any thread.

        Paper gets the signals of every strategy, whether it is named or not. A sink of a broker that nobody
        has any more stays open: its signals may be on their way. Raises ConfigurationError where one
        cannot be opened; then nothing has changed.
        """
        wanted = {
            strategy_id: tuple(dict.fromkeys((PAPER, *named))) for strategy_id, named in brokers.items()
        }
        with self._changing:
            if self._closed:
                return
            new = {name for named in wanted.values() for name in named} - self._sinks.keys()
            self._sinks = {**self._sinks, **self._made(sorted(new))}
            self._brokers = wanted

    def took(self, processed: ProcessedTick) -> None:
        """Send the signals of a tick on their way."""
        for outcome in processed.outcomes:
            if isinstance(outcome, Signal):
                for broker in self._brokers.get(outcome.strategy_id, (PAPER,)):
                    self._send(broker, outcome, processed)

    def compared(self, comparison: ShadowComparison) -> None:
        """Pass over what a shadow said."""

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what is queued, for `timeout_s` at most for all brokers together."""
        with self._changing:
            self._closed = True
            sinks = list(self._sinks.values())
        if sinks:
            with ThreadPoolExecutor(len(sinks)) as pool:
                list(pool.map(lambda sink: sink.close(timeout_s), sinks))

    def _made(self, brokers: Sequence[str]) -> dict[str, QueuedSink]:
        made: dict[str, QueuedSink] = {}
        try:
            for broker in brokers:
                if (sink := self._make(broker)) is not None:
                    made[broker] = sink
        except ConfigurationError:
            for sink in made.values():
                sink.close(0.0)
            raise
        return made

    def _send(self, broker: str, signal: Signal, processed: ProcessedTick) -> None:
        sink = self._sinks.get(broker)
        if sink is not None:
            sink.send(signal, processed.tick.cause)
            return
        self.unrouted[broker] += 1
        self._unrouted_log.warn(
            f"{signal.strategy_id} has the broker {broker!r}, and no sink is given for it"
        )
