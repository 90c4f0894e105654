"""Ticks from a bus: a thread that receives and keeps the connection, a bounded queue, an iteration."""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from strategy_client.buses.port import BusError, Inbox, IncomingMessage
from strategy_client.buses.seldom_log import SeldomLog
from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.predictor.backoff import Backoff
from strategy_client.sources.bad_line import BadFileError, BadLines, FieldError
from strategy_client.sources.line import MAX_CHARACTERS
from strategy_client.sources.tick_message import TickMessageReader

POLL_S: Final = 0.2
CLOSE_S: Final = 10.0
NS_PER_S: Final = 10**9
# What is sent again comes soon after the first; what is older was read by a run before this one.
MAX_REMEMBERED: Final = 100_000

NO_ZONE: Final = FieldError(
    "timestamp", "a time with a zone, or the zone of the feed as --timezone or ticks.timezone", "none"
)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SourceCounts:
    """`received` messages became `ticks`, or were bad (see `BadLines`), or one of the others here.

    `other` held no tick, or one of an instrument that nobody asked for; `repeated` came before, by the id of
    its event or its place on the bus; `failures` counts how often the connection was lost or not made.
    """

    received: int = 0
    ticks: int = 0
    other: int = 0
    repeated: int = 0
    failures: int = 0


class MessageSource:
    """Implements TickSource on any bus. `max_queued` bounds the messages that wait for the loop.

    When so many wait, no more are fetched until there is room: the bus keeps them.
    """

    def __init__(
        self,
        name: str,
        inbox: Inbox,
        columns: TicksConfig,
        tokens: Collection[int] | None,
        bad: BadLines,
        *,
        max_queued: int,
        backoff: Backoff | None = None,
    ) -> None:
        self.counts = SourceCounts()
        self._name = name
        self._inbox = inbox
        self._reader = TickMessageReader(columns)
        self._tokens = tokens
        self._bad = bad
        self._max_queued = max_queued
        self._backoff = backoff or Backoff()
        self._queue: deque[IncomingMessage] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._bad_log = SeldomLog(log)
        self._failure_log = SeldomLog(log)
        self._thread = threading.Thread(target=self._receive_all, name=f"ticks-{name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ended" if self._ended else "open"
        return f"<MessageSource {self._name} {state} {self.queued} queued {self.counts}>"

    @property
    def queued(self) -> int:
        """How many messages wait to be taken."""
        return len(self._queue)

    def __iter__(self) -> Iterator[MarketTick]:
        """Give ticks as they come, until the source is closed or has come to its end."""
        while (message := self._take()) is not None:
            tick = self._read(message)
            if tick is not None:
                self.counts.ticks += 1
                yield tick

    def close(self) -> None:
        """End the iteration and free the connection; what was received and not taken is let go."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)

    def _take(self) -> IncomingMessage | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed or self._ended)
            if self._closed or not self._queue:
                return None
            self._changed.notify_all()
            return self._queue.popleft()

    def _read(self, message: IncomingMessage) -> MarketTick | None:
        try:
            tick = self._reader.read(_text(message.value))
        except (FieldError, BadFileError) as error:
            fault = error if isinstance(error, FieldError) else NO_ZONE
            self._bad.add(Path(message.stream), message.position, fault)
            self._bad_log.warn(f"{message.stream}:{message.position}: {fault}")
            return None
        # Three cases of a good message that gives no tick: another kind of event, an instrument that nobody
        # asked for, one that was here before.
        if tick is None or (self._tokens is not None and tick.instrument_token not in self._tokens):
            self.counts.other += 1
            return None
        if self._is_repeated(_identity(message, tick)):
            self.counts.repeated += 1
            return None
        return replace(tick, received_ns=message.received_ns)

    def _is_repeated(self, identity: Hashable) -> bool:
        if identity is None:
            return False
        if identity in self._seen:
            return True
        self._seen[identity] = None
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def _receive_all(self) -> None:
        try:
            while not self._closed:
                try:
                    messages = self._inbox.receive(POLL_S)
                except BusError as error:
                    self._pause(f"{self._name}: {error}")
                except Exception as error:
                    log.exception("%s: a bug in its adapter", self._name)
                    self._pause(f"{self._name}: {type(error).__name__}")
                else:
                    self._backoff.reset()
                    if messages is None:
                        return
                    self._keep(messages)
        finally:
            self._inbox.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _keep(self, messages: Sequence[IncomingMessage]) -> None:
        for message in messages:
            with self._changed:
                self._changed.wait_for(lambda: len(self._queue) < self._max_queued or self._closed)
                if self._closed:
                    return
                self.counts.received += 1
                self._queue.append(message)
                self._changed.notify_all()

    def _pause(self, text: str) -> None:
        self.counts.failures += 1
        self._failure_log.warn(f"{text}; tried again until it works")
        with self._changed:
            self._changed.wait_for(lambda: self._closed, self._backoff.next_ns() / NS_PER_S)


def _identity(message: IncomingMessage, tick: MarketTick) -> Hashable:
    # Three cases: an event has its id, whoever sends it again; a tick alone is known to the bus by its place,
    # beside its content, for a stream that is made anew counts from its start; a line of a file is not known.
    if tick.cause is not None:
        return tick.cause.event_id
    return (message.stream, message.position, hash(message.value)) if message.numbered else None


def _text(value: bytes) -> str:
    if len(value) > MAX_CHARACTERS:
        raise FieldError("message", f"at most {MAX_CHARACTERS:,} bytes", value[:MAX_CHARACTERS])
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise FieldError("message", "UTF-8 text", value) from None
