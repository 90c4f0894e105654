"""RabbitMQ: ticks from a stream, signals to a queue. Needs the extra `tickserve[rabbitmq]`."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError, ChannelClosedByBroker, ConsumerCancelled, NackError, UnroutableError

from strategy_client.buses.place import Place
from strategy_client.buses.port import BusError, Delivery, IncomingMessage, OutgoingMessage

STREAM: Final = "market.ticks"
PREFETCH: Final = 500
CONNECT_S: Final = 2.0
REPLY_S: Final = 5.0
HEARTBEAT_S: Final = 10
NOT_FOUND: Final = 404

# Each failure is told by whoever asked, seldom; pika itself would log every try. A level that somebody has
# set is left as it is.
_of_pika = logging.getLogger("pika")
if _of_pika.level == logging.NOTSET:
    _of_pika.setLevel(logging.CRITICAL)


class RabbitInbox:
    """One stream, read from a position that is kept here; nothing in it is used up by being read."""

    def __init__(self, place: Place, *, newest: bool) -> None:
        self._place = place
        self._stream = place.text("stream", STREAM)
        self._from: str | int = "next" if newest else "first"
        self._connection: pika.BlockingConnection | None = None
        self._came: list[IncomingMessage] = []
        self._is_cancelled = False

    def receive(self, timeout_s: float) -> Sequence[IncomingMessage]:
        """Return the messages behind the last one."""
        try:
            connection = self._connection or self._connect()
            connection.process_data_events(timeout_s)
            if self._is_cancelled and not self._came:
                raise ConsumerCancelled("the server has removed the stream or our place in it")
        except (AMQPError, OSError) as error:
            self.close()
            raise BusError(f"{self._stream}: {_told(error)}") from error
        came, self._came = self._came, []
        if came:
            self._from = int(came[-1].position) + 1
        return came

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        # What was not given comes again: the position is behind the last one that was.
        self._came = []
        _close(connection)

    def _connect(self) -> pika.BlockingConnection:
        self._connection = pika.BlockingConnection(_parameters(self._place))
        self._is_cancelled = False
        channel = self._connection.channel()
        channel.add_on_cancel_callback(self._cancel)
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(self._stream, self._take, arguments={"x-stream-offset": self._from})
        return self._connection

    def _cancel(self, _frame: object) -> None:
        # Without this a stream that is removed, or moved to another server, would be silent for ever.
        self._is_cancelled = True

    def _take(self, channel: BlockingChannel, method: Any, properties: Any, body: bytes) -> None:
        # The server has refused the offset for any other kind of queue, which this would empty.
        offset = int(properties.headers["x-stream-offset"])
        channel.basic_ack(method.delivery_tag)
        self._came.append(IncomingMessage(self._stream, offset, body, time.monotonic_ns()))


class RabbitOutbox:
    """One queue, durable; made where there is none of its name. Each message is confirmed by the server."""

    def __init__(self, place: Place, broker: str) -> None:
        self._place = place
        self._queue = place.text("queue", f"{broker}.signals.raw")
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel | None = None

    def send(self, batch: Sequence[OutgoingMessage], time_left_s: Callable[[], float]) -> Delivery:
        """Deliver a batch, one after the other."""
        arrived: list[int] = []
        try:
            channel = self._channel or self._connect()
            for position, message in enumerate(batch):
                properties = pika.BasicProperties(
                    content_type="application/json",
                    delivery_mode=pika.DeliveryMode.Persistent.value,
                    message_id=message.id,
                    headers={"key": message.key, **message.headers},
                )
                channel.basic_publish("", self._queue, message.value, properties, mandatory=True)
                arrived.append(position)
                if time_left_s() <= 0:
                    break
        except (NackError, UnroutableError) as error:
            self.close()
            return Delivery(arrived, error=f"{self._queue}: not taken: {_told(error)}")
        except (AMQPError, OSError) as error:
            self.close()
            return Delivery(arrived, error=f"{self._queue}: {_told(error)}")
        return Delivery(arrived)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._channel = self._connection, None, None
        _close(connection)

    def _connect(self) -> BlockingChannel:
        self._connection = pika.BlockingConnection(_parameters(self._place))
        channel = self._connection.channel()
        try:
            channel.queue_declare(self._queue, passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code != NOT_FOUND:
                raise
            channel = self._connection.channel()
            channel.queue_declare(self._queue, durable=True)
        channel.confirm_delivery()
        self._channel = channel
        return channel


def _parameters(place: Place) -> pika.ConnectionParameters:
    ((host, port),) = place.hosts
    login: dict[str, Any] = {}
    if place.user is not None:
        login["credentials"] = pika.PlainCredentials(place.user, place.password or "")
    return pika.ConnectionParameters(
        host,
        port,
        place.path,
        heartbeat=HEARTBEAT_S,
        socket_timeout=CONNECT_S,
        stack_timeout=CONNECT_S,
        blocked_connection_timeout=REPLY_S,
        client_properties={"connection_name": "tickserve"},
        **login,
    )


def _close(connection: pika.BlockingConnection | None) -> None:
    if connection is not None and connection.is_open:
        try:
            connection.close()
        except (AMQPError, OSError):
            # It was lost in between.
            return


def _told(error: BaseException) -> str:
    return str(error) or type(error).__name__
