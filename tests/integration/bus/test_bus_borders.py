"""What a place on a bus must be, and what happens where it is something else."""

import uuid

import pytest
from bus_places import NatsPlace, RabbitPlace, make_place
from eventually import until

from strategy_client.buses.opening import open_inbox
from strategy_client.buses.place import read_place
from strategy_client.buses.port import BusError, Inbox


def inbox(url: str) -> Inbox:
    """Return the messages of a place from the earliest on."""
    return open_inbox(read_place(url, "--source", "source"), newest=False)


def test_a_rabbitmq_queue_is_left_to_those_who_live_on_it(tmp_path):
    """A feed that is pointed at a queue instead of a stream says so, and the queue keeps its messages."""
    place = make_place("amqp", tmp_path / "bus")
    assert isinstance(place, RabbitPlace)
    queue = f"{place.name}-paper"
    place._channel.basic_publish("", queue, b"an order")
    feed = inbox(place.source_url.replace(f"{place.name}-in", queue))

    with pytest.raises(BusError, match=f"{queue}: .*invalid arg 'x-stream-offset' for queue"):
        feed.receive(0.2)
    feed.close()

    until(lambda: place.taken() == [b"an order"])
    place.remove()


def test_a_nats_stream_that_is_not_there_is_named(tmp_path):
    """A feed from a stream that does not exist says which one it wants, and waits for it."""
    place = make_place("nats", tmp_path / "bus")
    assert isinstance(place, NatsPlace)
    name = uuid.uuid4().hex
    feed = inbox(place.source_url.replace(f"{place.name}-in", name))

    with pytest.raises(BusError, match=f"expected a stream '{name}', there is none"):
        feed.receive(0.2)
    feed.close()
    place.remove()
