"""What RabbitMQ's library logs by itself, beside the errors that we are given and tell once a minute."""

import logging
import socket

import pytest

from strategy_client.buses.opening import open_inbox, open_outbox
from strategy_client.buses.place import read_place
from strategy_client.buses.port import BusError


def test_a_server_that_is_not_there_is_told_by_us_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Each try is an error with its reason for whoever tries; nothing of pika's own stands in the log."""
    with socket.socket() as refusing, caplog.at_level(logging.DEBUG):
        # Nobody listens, and nobody else may while it is bound.
        refusing.bind(("127.0.0.1", 0))
        place = read_place(f"amqp://127.0.0.1:{refusing.getsockname()[1]}", "--source", "source")
        inbox, outbox = open_inbox(place, newest=True), open_outbox(place, "paper")
        for _ in range(3):
            with pytest.raises(BusError, match=r"^market\.ticks: "):
                inbox.receive(0.0)
        assert outbox.send([], lambda: 1.0).error
    assert [record.name for record in caplog.records if record.name.startswith("pika")] == []
