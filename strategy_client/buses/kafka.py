"""Kafka, and what speaks its protocol. Needs the extra `tickserve[kafka]`.

librdkafka keeps the connections and takes them up again itself; what it says goes to this module's log.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import confluent_kafka as kafka

from strategy_client.buses.place import Place
from strategy_client.buses.port import BusError, Delivery, IncomingMessage, OutgoingMessage

TOPIC: Final = "market.ticks"
GROUP: Final = "alpha-panda.strategy_runner.ticks"
MAX_BATCH: Final = 500
REPLY_S: Final = 5.0
FLUSH_S: Final = 0.1
PASSING: Final = (kafka.KafkaError._PARTITION_EOF,)  # noqa: SLF001 librdkafka's own codes begin with _

log = logging.getLogger(__name__)


class KafkaInbox:
    """One topic, as a member of a consumer group. At most once: a message is committed before it is given.

    With `newest` the first assignment begins at the end of each partition, whatever was committed before;
    every later one, after a rebalance or an error, where the group is.
    """

    def __init__(self, place: Place, *, newest: bool) -> None:
        self._topic = place.text("topic", TOPIC)
        self._options = {
            **_connection(place),
            "group.id": place.text("group", GROUP),
            "enable.auto.commit": False,
            "auto.offset.reset": "latest" if newest else "earliest",
            "fetch.wait.max.ms": 100,
            "error_cb": self._note,
        }
        self._to_end = newest
        self._consumer: kafka.Consumer | None = None
        self._error = ""

    def receive(self, timeout_s: float) -> Sequence[IncomingMessage]:
        """Return what has come, once the group knows of it."""
        self._error = ""
        consumer = self._consumer or self._connect()
        try:
            first = consumer.poll(timeout_s)
            if first is None:
                if self._error:
                    raise BusError(self._error)
                return ()
            polled = [first, *consumer.consume(MAX_BATCH - 1, 0)]
            received_ns = time.monotonic_ns()
            messages = [message for message in polled if self._is_good(message)]
            if messages:
                self._commit(consumer, messages)
        except kafka.KafkaException as error:
            # What was fetched and not committed is fetched again.
            self.close()
            raise BusError(f"{self._topic}: {error.args[0]}") from error
        return [
            IncomingMessage(
                f"{message.topic()}[{message.partition()}]",
                message.offset() or 0,
                message.value() or b"",
                received_ns,
            )
            for message in messages
        ]

    def close(self) -> None:
        """Leave the group."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _connect(self) -> kafka.Consumer:
        self._consumer = kafka.Consumer(self._options, logger=log)
        self._consumer.subscribe([self._topic], on_assign=self._begin)
        return self._consumer

    def _begin(self, consumer: kafka.Consumer, partitions: list[kafka.TopicPartition]) -> None:
        if not (self._to_end and partitions):
            return
        # The end is looked up and committed, so that an error before the first message loses none.
        for partition in partitions:
            partition.offset = consumer.get_watermark_offsets(partition, timeout=REPLY_S)[1]
        consumer.assign(partitions)
        consumer.commit(offsets=partitions, asynchronous=False)
        self._to_end = False

    def _commit(self, consumer: kafka.Consumer, messages: Sequence[kafka.Message]) -> None:
        ends: dict[int, int] = {}
        for message in messages:
            ends[message.partition() or 0] = (message.offset() or 0) + 1
        offsets = [kafka.TopicPartition(self._topic, partition, end) for partition, end in ends.items()]
        consumer.commit(offsets=offsets, asynchronous=False)

    def _is_good(self, message: kafka.Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() in PASSING:
            return False
        raise kafka.KafkaException(error)

    def _note(self, error: kafka.KafkaError) -> None:
        self._error = error.str()


class KafkaOutbox:
    """One topic. Confirmed by all replicas; librdkafka sends nothing twice while it is not cut off."""

    def __init__(self, place: Place, broker: str) -> None:
        self._topic = place.text("topic", f"{broker}.signals.raw")
        self._options = {
            **_connection(place),
            "enable.idempotence": True,
            "linger.ms": 0,
            # The same partition as from Kafka's Java clients and those that follow them.
            "partitioner": "murmur2_random",
            "error_cb": self._note,
        }
        self._producer: kafka.Producer | None = None
        self._error = ""

    def send(self, batch: Sequence[OutgoingMessage], time_left_s: Callable[[], float]) -> Delivery:
        """Deliver a batch; what is not confirmed in time is taken back where it can be."""
        self._error = ""
        arrived: list[int] = []
        refused: dict[int, str] = {}
        producer = self._producer or self._connect()

        def settle_of(position: int) -> Callable[[kafka.KafkaError | None, kafka.Message], None]:
            return lambda error, _message: settle(position, error)

        def settle(position: int, error: kafka.KafkaError | None) -> None:
            if error is None:
                arrived.append(position)
            elif error.code() == kafka.KafkaError.MSG_SIZE_TOO_LARGE:
                refused[position] = error.str()
            else:
                self._error = error.str()

        try:
            for position, message in enumerate(batch):
                try:
                    producer.produce(
                        self._topic,
                        message.value,
                        message.key,
                        headers=_headers(message.headers),
                        on_delivery=settle_of(position),
                    )
                except kafka.KafkaException as error:
                    settle(position, error.args[0])
            while producer.flush(FLUSH_S) and time_left_s() > 0:
                continue
            if len(producer):
                producer.purge()
                producer.flush(REPLY_S)
        except BufferError:
            self._error = "librdkafka's queue is full"
        return Delivery(arrived, refused, self._error)

    def close(self) -> None:
        """Let go of the connection; nothing is waiting in it."""
        self._producer = None

    def _connect(self) -> kafka.Producer:
        self._producer = kafka.Producer(self._options, logger=log)
        return self._producer

    def _note(self, error: kafka.KafkaError) -> None:
        self._error = error.str()
        if error.fatal():
            # Idempotence is lost for this producer; the next attempt has another.
            self._producer = None


def _connection(place: Place) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap.servers": place.addresses,
        "client.id": "tickserve",
        # What goes wrong comes by the callback; librdkafka would log each of some forty attempts a second.
        "log_level": 2,
        "log.connection.close": False,
        "socket.timeout.ms": int(REPLY_S * 1_000),
        "socket.connection.setup.timeout.ms": 2_000,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
    }
    if place.user is not None:
        options |= {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": place.user,
            "sasl.password": place.password or "",
        }
    return options


def _headers(headers: Mapping[str, str]) -> list[tuple[str, str | bytes | None]]:
    return [(name, value.encode()) for name, value in headers.items()]
