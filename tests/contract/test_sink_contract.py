"""What every sink does, whatever its bus: one suite for files, Redis, NATS, RabbitMQ and Kafka."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_places import BUSES, Place, make_place
from eventually import BOUND_S, until
from fixtures_signals import processed, signal

from strategy_client.sinks import open_fan_out
from strategy_client.sinks.fan_out import FanOut
from strategy_client.sinks.queued_sink import SinkCounts

PROXIED = tuple(bus for bus in BUSES if bus != "file")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Make a place on the bus that the test is for."""
    place = make_place(request.param, tmp_path / "bus")
    yield place
    place.remove()


on_every_bus = pytest.mark.parametrize("place", BUSES, indirect=True)
on_every_server = pytest.mark.parametrize("place", PROXIED, indirect=True)


def send(fan_out: FanOut, numbers: range) -> None:
    """Send signals of three instruments in turn, numbered."""
    for number in numbers:
        fan_out.took(processed(signal(token=number % 3, number=number)))


def counts(fan_out: FanOut) -> SinkCounts:
    """Return paper's."""
    return fan_out.counts["paper"]


def arrived(place: Place) -> dict[int, list[int]]:
    """Return the numbers of the signals by instrument, in order; one that came twice is told by its id."""
    numbers: dict[int, list[int]] = {0: [], 1: [], 2: []}
    ids = set()
    for value in place.taken():
        event = json.loads(value)
        if event["id"] not in ids:
            ids.add(event["id"])
            numbers[event["data"]["instrument_token"]].append(event["data"]["metadata"]["number"])
    return numbers


def expected(count: int) -> dict[int, list[int]]:
    """Return the numbers below `count` by instrument."""
    return {token: list(range(token, count, 3)) for token in range(3)}


@on_every_bus
def test_signals_arrive_in_the_order_of_their_key_and_once(place: Place):
    """Without a failure each signal arrives once, those of a strategy and instrument in order."""
    with open_fan_out([place.sink_url]) as fan_out:
        send(fan_out, range(300))

    assert arrived(place) == expected(300)
    assert len(place.taken()) == 300
    assert counts(fan_out) == SinkCounts(taken=300, sent=300)


@on_every_server
def test_a_bus_that_is_absent_is_waited_for_and_gets_all(place: Place):
    """What is sent before the bus is there arrives once it is, in order."""
    place.shut()
    with open_fan_out([place.sink_url]) as fan_out:
        send(fan_out, range(30))
        until(lambda: counts(fan_out).retries > 0)
        place.open()
        until(lambda: counts(fan_out).sent == 30, BOUND_S)

    assert arrived(place) == expected(30)


@on_every_server
def test_a_connection_that_is_cut_loses_nothing(place: Place):
    """What is sent while the connection is lost and after arrives, in order; what came twice has one id."""
    with open_fan_out([place.sink_url]) as fan_out:
        send(fan_out, range(30))
        until(lambda: counts(fan_out).sent == 30, BOUND_S)
        place.cut()
        send(fan_out, range(30, 60))
        until(lambda: counts(fan_out).sent == 60, BOUND_S)

    assert arrived(place) == expected(60)


@on_every_server
def test_a_slow_bus_is_bounded_and_what_is_dropped_is_counted(place: Place):
    """Behind a bus that takes nothing so many signals wait; the next are dropped and counted at once."""
    with open_fan_out([f"{place.sink_url}&max_queued=10"]) as fan_out:
        send(fan_out, range(3))
        until(lambda: counts(fan_out).sent == 3, BOUND_S)
        place.proxy.hold_up()
        send(fan_out, range(3, 103))
        held_up = counts(fan_out)
        place.proxy.let_go()
        until(lambda: counts(fan_out).sent == 13, BOUND_S)

    assert (held_up.queued, held_up.dropped) == (10, 90)
    assert arrived(place) == expected(13)


@on_every_server
def test_what_cannot_be_delivered_by_the_end_is_counted(place: Place):
    """A bus that stays absent does not hold the end up beyond its bound, and what is lost is counted."""
    place.shut()
    fan_out = open_fan_out([place.sink_url])
    send(fan_out, range(20))
    fan_out.close(0.2)

    ended = counts(fan_out)
    assert (ended.taken, ended.sent, ended.dropped, ended.queued) == (20, 0, 20, 0)


@on_every_bus
def test_a_huge_signal_is_refused_and_holds_up_no_other(place: Place):
    """A signal too large for any bus is counted as failed; those before and behind it arrive."""
    with open_fan_out([place.sink_url]) as fan_out:
        fan_out.took(processed(signal(token=0, number=0)))
        fan_out.took(processed(signal(token=0, number=-1, huge="x" * 2_000_000)))
        fan_out.took(processed(signal(token=0, number=3)))

    assert arrived(place)[0] == [0, 3]
    assert counts(fan_out) == SinkCounts(taken=3, sent=2, failed=1)
