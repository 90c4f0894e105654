"""Streams of NATS JetStream. Needs the extra `tickserve[nats]`."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, wait
from typing import Any, Final, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, Error, MaxPayloadError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import NoStreamResponseError, NotFoundError

from strategy_client.buses.place import Place
from strategy_client.buses.port import BusError, Delivery, IncomingMessage, OutgoingMessage

STREAM: Final = "market_ticks"
SUBJECT: Final = "market.ticks"
MAX_BATCH: Final = 500
CONNECT_S: Final = 2
REPLY_S: Final = 5.0
WAIT_S: Final = 0.1
PING_S: Final = 5
# A consumer of ours that nobody asks any more is removed by the server.
INACTIVE_S: Final = 30.0
# A consumer that is gone is as silent as one for which nothing comes, so it is looked for.
LOOK_EVERY_NS: Final = 10**9
KEPT_S: Final = 86_400.0
FAILURES: Final = (Error, OSError, CancelledError, EOFError)

T = TypeVar("T")


class Connection:
    """A connection and the event loop that it lives on, in a thread of its own."""

    def __init__(self, place: Place) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()
        try:
            self.client: Client = self.run(_connect(place), CONNECT_S * (len(place.hosts) + 1))
        except BaseException:
            self._stop()
            raise
        self.jetstream: JetStreamContext = self.client.jetstream(timeout=REPLY_S)

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run a coroutine to its end; TimeoutError after `timeout_s`."""
        return asyncio.run_coroutine_threadsafe(_within(work, timeout_s), self._loop).result()

    def run_while(self, time_left_s: Callable[[], float], work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; TimeoutError when no time is left."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        while wait((running,), WAIT_S).not_done and time_left_s() > 0:
            continue
        if running.cancel():
            raise TimeoutError("not confirmed in time")
        running.result()

    def fetch(self, subscription: JetStreamContext.PullSubscription, timeout_s: float) -> Sequence[Msg]:
        """Return what has come. Raises ConnectionClosedError where nothing can come any more."""
        if not self.client.is_connected:
            raise ConnectionClosedError
        return self.run(_fetch(subscription, timeout_s), timeout_s + REPLY_S)

    def close(self) -> None:
        """Close the connection and end the thread."""
        # It may be lost already.
        with contextlib.suppress(*FAILURES):
            self.run(self.client.close(), CONNECT_S)
        self._stop()

    def _stop(self) -> None:
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class JetStreamInbox:
    """One subject of one stream, read by an ordered position that is kept here; nothing is acknowledged.

    A stream that is removed and made anew is read from its first message on: none of them was given.
    """

    def __init__(self, place: Place, *, newest: bool) -> None:
        self._place = place
        self._stream = place.text("stream", STREAM)
        self._subject = place.text("subject", SUBJECT)
        self._next = None if newest else 1
        self._connection: Connection | None = None
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._made: object = None
        self._look_at_ns = 0

    def receive(self, timeout_s: float) -> Sequence[IncomingMessage]:
        """Return the messages behind the last one."""
        try:
            if self._connection is None:
                self._connection = Connection(self._place)
            if self._subscription is None:
                self._subscription = self._connection.run(
                    self._subscribe(self._connection.jetstream), REPLY_S
                )
            fetched = self._connection.fetch(self._subscription, timeout_s)
            if not fetched and time.monotonic_ns() >= self._look_at_ns:
                self._connection.run(self._subscription.consumer_info(), REPLY_S)
                self._look_at_ns = time.monotonic_ns() + LOOK_EVERY_NS
        except NotFoundError as error:
            lost = self._subscription is not None
            self.close()
            if lost:
                raise BusError(
                    f"{self._stream}: the server has removed the stream or our place in it"
                ) from error
            raise BusError(f"expected a stream {self._stream!r}, there is none") from error
        except FAILURES as error:
            self.close()
            raise BusError(f"{self._stream}: {_told(error)}") from error
        received_ns = time.monotonic_ns()
        messages = [
            IncomingMessage(self._stream, message.metadata.sequence.stream, message.data, received_ns)
            for message in fetched
        ]
        if messages:
            self._next = int(messages[-1].position) + 1
        return messages

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._subscription = self._connection, None, None
        if connection is not None:
            connection.close()

    async def _subscribe(self, jetstream: JetStreamContext) -> JetStreamContext.PullSubscription:
        info = await jetstream.stream_info(self._stream)
        if self._next is None:
            self._next = info.state.last_seq + 1
        elif self._made not in {None, info.created}:
            self._next = 1
        self._made = info.created
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._next,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=INACTIVE_S,
        )
        return await jetstream.pull_subscribe(self._subject, stream=self._stream, config=config)


class JetStreamOutbox:
    """One subject. The server knows an event by its id and keeps it once, though it is sent again.

    Where no stream takes the subject, one is made that keeps a day.
    """

    def __init__(self, place: Place, broker: str) -> None:
        self._place = place
        self._stream = place.text("stream", f"{broker}_signals_raw")
        self._subject = place.text("subject", f"{broker}.signals.raw")
        self._connection: Connection | None = None
        self._arrived: list[int] = []
        self._refused: dict[int, str] = {}

    def send(self, batch: Sequence[OutgoingMessage], time_left_s: Callable[[], float]) -> Delivery:
        """Deliver a batch, one after the other."""
        self._arrived, self._refused = [], {}
        error_text = ""
        try:
            if self._connection is None:
                self._connection = Connection(self._place)
            self._connection.run_while(time_left_s, self._publish(self._connection.jetstream, batch))
        except FAILURES as error:
            self.close()
            error_text = f"{self._subject}: {_told(error)}"
        return Delivery(self._arrived, self._refused, error_text)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def _publish(self, jetstream: JetStreamContext, batch: Sequence[OutgoingMessage]) -> None:
        for position, message in enumerate(batch):
            headers = {**message.headers, "Nats-Msg-Id": message.id, "key": message.key}
            try:
                await self._publish_one(jetstream, message.value, headers)
            except MaxPayloadError as error:
                self._refused[position] = str(error)
            else:
                self._arrived.append(position)

    async def _publish_one(self, jetstream: JetStreamContext, value: bytes, headers: dict[str, str]) -> None:
        try:
            await jetstream.publish(self._subject, value, headers=headers)
        except NoStreamResponseError:
            await jetstream.add_stream(
                StreamConfig(name=self._stream, subjects=[self._subject], max_age=KEPT_S)
            )
            await jetstream.publish(self._subject, value, headers=headers)


async def _connect(place: Place) -> Client:
    async def ignore(_error: Exception | None = None) -> None:
        """Say nothing here: every call says what became of it."""

    return await nats.connect(
        [f"nats://{address}" for address in place.addresses.split(",")],
        user=place.user,
        password=place.password,
        name="tickserve",
        connect_timeout=CONNECT_S,
        allow_reconnect=False,
        # To try again is the caller's: without this a refused connection is tried for two minutes.
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
        ping_interval=PING_S,
        error_cb=ignore,
        disconnected_cb=ignore,
        closed_cb=ignore,
    )


async def _fetch(subscription: JetStreamContext.PullSubscription, timeout_s: float) -> Sequence[Msg]:
    try:
        return await subscription.fetch(MAX_BATCH, timeout_s)
    except TimeoutError:
        return ()


async def _within(work: Coroutine[Any, Any, T], timeout_s: float) -> T:
    async with asyncio.timeout(timeout_s):
        return await work


async def _cancel_others() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
