"""Places on every bus, for the suites that hold all of them to the same contract.

Each has names of its own and removes what it made. What a client does goes through a proxy; what the test
puts in and takes out goes to the server itself.
"""

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pytest
from tcp_proxy import TcpProxy

BUSES = ("file", "redis", "nats", "amqp", "kafka")
PARTITIONS = 4


class Place(Protocol):
    """One place on a bus: a URL for a source and one for a sink, and the other end of both."""

    source_url: str
    sink_url: str

    def put(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Put messages, each with its key, where the source reads."""
        ...

    def taken(self) -> list[bytes]:
        """Return all messages that the sink has delivered to paper."""
        ...

    def shut(self) -> None:
        """Make the bus absent."""
        ...

    def open(self) -> None:
        """Make it present again."""
        ...

    def cut(self) -> None:
        """End the connections."""
        ...

    def run_again(self) -> None:
        """Let another run of the same client follow one that has ended."""
        ...

    def remove(self) -> None:
        """Remove everything."""
        ...


class FilePlace:
    """Files. One that is cut is replaced, as log rotation does."""

    def __init__(self, folder: Path) -> None:
        self._source = folder / "ticks.jsonl"
        self._sink = folder / "paper.jsonl"
        self._aside = folder / "aside.jsonl"
        self.source_url = f"file:{self._source}?follow=yes&from=newest"
        self.sink_url = f"file:{folder}/{{broker}}.jsonl?"
        self._source.touch()

    def put(self, messages: Sequence[tuple[str, bytes]]) -> None:
        with self._source.open("ab") as file:
            file.write(b"".join(value + b"\n" for _, value in messages))

    def taken(self) -> list[bytes]:
        return self._sink.read_bytes().splitlines()

    def shut(self) -> None:
        self._source.rename(self._aside)

    def open(self) -> None:
        self._aside.rename(self._source)

    def cut(self) -> None:
        self.shut()
        self._source.touch()

    def run_again(self) -> None:
        """Keep everything as it is."""

    def remove(self) -> None:
        """Leave it to pytest."""


class ProxiedPlace:
    """A server on a port of this machine, behind a proxy."""

    def __init__(self, port: int) -> None:
        self.name = f"tickserve-test-{uuid.uuid4().hex[:12]}"
        self.proxy = TcpProxy(port)
        self.shut = self.proxy.shut
        self.open = self.proxy.open
        self.cut = self.proxy.cut

    def run_again(self) -> None:
        """Keep everything as it is."""


class RedisPlace(ProxiedPlace):
    def __init__(self, port: int = 6379) -> None:
        super().__init__(port)
        import redis

        self._client = redis.Redis(port=port)
        self.source_url = f"redis://127.0.0.1:{self.proxy.port}/0?stream={self.name}-in"
        self.sink_url = f"redis://127.0.0.1:{self.proxy.port}?stream={self.name}-{{broker}}"

    def put(self, messages: Sequence[tuple[str, bytes]]) -> None:
        with self._client.pipeline() as pipeline:
            for key, value in messages:
                pipeline.xadd(f"{self.name}-in", {"key": key, "value": value})
            pipeline.execute()

    def taken(self) -> list[bytes]:
        return [fields[b"value"] for _, fields in self._client.xrange(f"{self.name}-paper")]

    def make_anew(self) -> None:
        """Remove the stream; the next message makes it again."""
        self._client.delete(f"{self.name}-in")

    def remove(self) -> None:
        self.proxy.close()
        self._client.delete(*self._client.keys(f"{self.name}-*"), "none")
        self._client.close()


class NatsPlace(ProxiedPlace):
    def __init__(self, port: int = 4222) -> None:
        super().__init__(port)
        import nats

        self._loop = asyncio.new_event_loop()
        self._client = self._do(nats.connect(f"nats://127.0.0.1:{port}"))
        self._stream = self._client.jetstream()
        self._add_stream()
        address = f"nats://127.0.0.1:{self.proxy.port}"
        self.source_url = f"{address}?stream={self.name}-in&subject={self.name}.in"
        self.sink_url = f"{address}?stream={self.name}-{{broker}}&subject={self.name}.{{broker}}"

    def put(self, messages: Sequence[tuple[str, bytes]]) -> None:
        async def put() -> None:
            for _, value in messages:
                await self._stream.publish(f"{self.name}.in", value)

        self._do(put())

    def taken(self) -> list[bytes]:
        from nats.js.errors import NotFoundError

        async def taken() -> list[bytes]:
            try:
                last = (await self._stream.stream_info(f"{self.name}-paper")).state.last_seq
            except NotFoundError:
                return []
            messages = [await self._stream.get_msg(f"{self.name}-paper", seq) for seq in range(1, last + 1)]
            return [message.data for message in messages]

        return self._do(taken())

    def make_anew(self) -> None:
        """Remove the stream and make it again."""
        self._do(self._stream.delete_stream(f"{self.name}-in"))
        self._add_stream()

    def forget_readers(self) -> None:
        """Remove what the server knows of who reads the stream, as it does of those who pause too long."""

        async def forget() -> None:
            for consumer in await self._stream.consumers_info(f"{self.name}-in"):
                await self._stream.delete_consumer(f"{self.name}-in", consumer.name)

        self._do(forget())

    def _add_stream(self) -> None:
        self._do(self._stream.add_stream(name=f"{self.name}-in", subjects=[f"{self.name}.in"]))

    def remove(self) -> None:
        from nats.js.errors import NotFoundError

        async def remove() -> None:
            for end in ("in", "paper"):
                try:
                    await self._stream.delete_stream(f"{self.name}-{end}")
                except NotFoundError:
                    continue
            await self._client.close()

        self.proxy.close()
        self._do(remove())
        self._loop.close()

    def _do(self, work):
        return self._loop.run_until_complete(work)


class RabbitPlace(ProxiedPlace):
    def __init__(self, port: int = 5672) -> None:
        super().__init__(port)
        import pika

        self._connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port, heartbeat=0))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()
        self._declare_stream()
        self._channel.queue_declare(f"{self.name}-paper", durable=True)
        self._taken: list[bytes] = []
        address = f"amqp://guest:guest@127.0.0.1:{self.proxy.port}/%2F"
        self.source_url = f"{address}?stream={self.name}-in"
        self.sink_url = f"{address}?queue={self.name}-{{broker}}"

    def put(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for _, value in messages:
            self._channel.basic_publish("", f"{self.name}-in", value)

    def taken(self) -> list[bytes]:
        while (came := self._channel.basic_get(f"{self.name}-paper", auto_ack=True))[0] is not None:
            self._taken.append(came[2])
        return list(self._taken)

    def make_anew(self) -> None:
        """Remove the stream and make it again."""
        self._channel.queue_delete(f"{self.name}-in")
        self._declare_stream()

    def _declare_stream(self) -> None:
        stream = {"x-queue-type": "stream"}
        self._channel.queue_declare(f"{self.name}-in", durable=True, arguments=stream)

    def remove(self) -> None:
        self.proxy.close()
        for end in ("in", "paper"):
            self._channel.queue_delete(f"{self.name}-{end}")
        self._connection.close()


class KafkaPlace:
    """A cluster of one broker inside librdkafka. Where it tells its address the proxy puts its own."""

    def __init__(self) -> None:
        import confluent_kafka as kafka

        self.name = f"tickserve-test-{uuid.uuid4().hex[:12]}"
        log = logging.getLogger("kafka mock")
        options = {"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1}
        self._cluster = kafka.Producer(options, logger=log)
        (broker,) = self._cluster.list_topics(timeout=60).brokers.values()
        self.address = f"{broker.host}:{broker.port}"
        self.proxy = TcpProxy(broker.port)
        self.shut, self.open, self.cut = self.proxy.shut, self.proxy.open, self.proxy.cut
        host = broker.host.encode()
        here = host + broker.port.to_bytes(4, "big")
        there = host + self.proxy.port.to_bytes(4, "big")
        self.proxy.rewrite = lambda data: data.replace(here, there)
        self._producer = kafka.Producer({"bootstrap.servers": self.address}, logger=log)
        self._log = log
        self.group = f"{self.name}-group"
        address = f"kafka://127.0.0.1:{self.proxy.port}/"
        self.source_url = f"{address}?topic={self.name}-in&group={self.group}"
        self.sink_url = f"{address}?topic={self.name}-{{broker}}"

    def put(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for key, value in messages:
            self._producer.produce(f"{self.name}-in", value, key)
        assert self._producer.flush(60) == 0

    def taken(self) -> list[bytes]:
        import confluent_kafka as kafka

        reader = self._reader(uuid.uuid4().hex)
        try:
            topic = f"{self.name}-paper"
            places = [kafka.TopicPartition(topic, number, 0) for number in range(PARTITIONS)]
            ends = [reader.get_watermark_offsets(place, timeout=60)[1] for place in places]
            reader.assign(places)
            values: list[bytes] = []
            while len(values) < sum(ends):
                values += [message.value() for message in reader.consume(sum(ends) - len(values), 1)]
            return values
        finally:
            reader.close()

    def committed(self) -> int:
        """Return how many messages of the source's topic the group has done with."""
        return sum(max(place.offset, 0) for place in self._commits())

    def run_again(self) -> None:
        # The mock lets nobody into a group that all have left before their session ends, 45 s later. So the
        # next run is of another group that has committed the same.
        commits = self._commits()
        former, self.group = self.group, f"{self.group}-again"
        self.source_url = self.source_url.replace(former, self.group)
        reader = self._reader(self.group)
        reader.commit(offsets=commits, asynchronous=False)
        reader.close()

    def _commits(self) -> list:
        import confluent_kafka as kafka

        reader = self._reader(self.group)
        places = [kafka.TopicPartition(f"{self.name}-in", number) for number in range(PARTITIONS)]
        commits = reader.committed(places, timeout=60)
        reader.close()
        return commits

    def _reader(self, group: str):
        import confluent_kafka as kafka

        options = {"bootstrap.servers": self.address, "log_level": 2, "group.id": group}
        return kafka.Consumer({**options, "fetch.wait.max.ms": 10}, logger=self._log)

    def remove(self) -> None:
        self.proxy.close()
        self._producer.flush(1)


def make_place(bus: str, folder: Path) -> Place:
    """Return a new place; skips the test where there is no such server."""
    folder.mkdir()
    if bus == "file":
        return FilePlace(folder)
    if bus == "kafka":
        pytest.importorskip("confluent_kafka")
        return KafkaPlace()
    library, port, place = {
        "redis": ("redis", 6379, RedisPlace),
        "nats": ("nats", 4222, NatsPlace),
        "amqp": ("pika", 5672, RabbitPlace),
    }[bus]
    pytest.importorskip(library)
    port = int(os.environ.get(f"TICKSERVE_TEST_{bus.upper()}_PORT", port))
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except OSError:
        pytest.skip(f"no {bus} server at 127.0.0.1:{port}; docs/live-feeds.md says how to start one")
    return place(port)
