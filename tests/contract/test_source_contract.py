"""What every source does, whatever its bus: one suite for files, Redis, NATS, RabbitMQ and Kafka."""

import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from bus_places import BUSES, KafkaPlace, NatsPlace, Place, make_place
from eventually import BOUND_S, until

from strategy_client.buses.opening import open_inbox
from strategy_client.buses.place import read_place
from strategy_client.buses.port import IncomingMessage
from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.sources import open_source
from strategy_client.sources.bad_line import BadLines
from strategy_client.sources.message_source import MessageSource

MARKER = 999
numbers = itertools.count(1)


def message(token: int, price: int) -> tuple[str, bytes]:
    """Return a key and a tick."""
    fields = {"instrument_token": token, "last_price": price, "timestamp": "2024-08-08T03:45:00Z"}
    return str(token), json.dumps(fields).encode()


class Feed:
    """A source and the thread that iterates over it, as a loop would."""

    def __init__(self, place: Place, options: str = "") -> None:
        self.place = place
        self.bad = BadLines()
        self.source = open_source(place.source_url + options, TicksConfig(), None, self.bad)
        self.ticks: list[MarketTick] = []
        self.thread = threading.Thread(target=self._iterate)

    def start(self) -> "Feed":
        """Iterate, and return once ticks come through."""
        self.thread.start()
        until(self._is_live, BOUND_S)
        return self

    def put(self, token: int, prices: range) -> None:
        """Put ticks of a token."""
        self.place.put([message(token, price) for price in prices])

    def prices(self, token: int) -> list[int]:
        """Return the prices that have come of a token."""
        return [int(tick.last_price) for tick in self.ticks if tick.instrument_token == token]

    def wait_for(self, token: int, count: int) -> list[int]:
        """Return the prices of a token once there are so many, and one more tick has come behind them."""
        until(lambda: len(self.prices(token)) >= count, BOUND_S)
        return self.prices(token)

    def close(self) -> None:
        self.source.close()
        if self.thread.ident is not None:
            self.thread.join()

    def _is_live(self) -> bool:
        self.put(MARKER, range(1, 2))
        return bool(self.ticks)

    def _iterate(self) -> None:
        for tick in self.source:
            self.ticks.append(tick)


@pytest.fixture(scope="module", params=BUSES)
def bus(request: pytest.FixtureRequest) -> str:
    """Name each bus."""
    return request.param


@pytest.fixture
def place(bus: str, tmp_path: Path) -> Iterator[Place]:
    """Make a place on it."""
    place = make_place(bus, tmp_path / "bus")
    yield place
    place.remove()


@pytest.fixture(scope="module")
def feed(bus: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feed]:
    """Start a feed that the tests which do not end it share, each with instruments of its own."""
    place = make_place(bus, tmp_path_factory.mktemp("feed") / "bus")
    feed = Feed(place).start()
    yield feed
    feed.close()
    place.remove()


@pytest.fixture
def token() -> int:
    """Return an instrument that no other test uses."""
    return next(numbers) * 10


def test_ticks_come_in_the_order_of_their_instrument_and_once(feed: Feed, token: int):
    """Each instrument's ticks come in the order in which they were put, none twice and none left out."""
    for price in range(1, 101):
        feed.place.put([message(token + price % 3, price)])

    for offset in range(3):
        expected = [price for price in range(1, 101) if price % 3 == offset]
        assert feed.wait_for(token + offset, len(expected)) == expected


def test_ticks_are_stamped_when_they_come(feed: Feed, token: int):
    """Each tick says when it was received, by the monotonic clock, and none before the one in front of it."""
    feed.put(token, range(1, 20))
    feed.wait_for(token, 19)

    stamps = [tick.received_ns for tick in feed.ticks]
    assert None not in stamps
    assert stamps == sorted(stamps)


def test_garbage_is_counted_with_its_place_and_stops_nothing(feed: Feed, token: int):
    """What is no tick is counted, with the stream and the position that it stood at; the next tick comes."""
    before = feed.bad.count
    garbage = [b"\xff\xfe", b"{", b"[]", b'{"data": 5}', b"null", b"x" * 900_000]
    feed.place.put([("", value) for value in garbage])
    feed.put(token, range(1, 2))
    feed.wait_for(token, 1)

    until(lambda: feed.bad.count == before + len(garbage))
    kept = feed.bad.first[-1]
    assert str(kept.path)
    assert str(kept.line).replace("-", "").isdigit()
    assert len(str(kept)) < 300


def test_a_connection_that_is_cut_is_made_again_where_it_was(feed: Feed, token: int):
    """What was put before, while and after the connection was lost comes once, in order."""
    feed.put(token, range(1, 11))
    feed.wait_for(token, 10)
    feed.place.cut()
    feed.put(token, range(11, 21))
    feed.wait_for(token, 20)
    feed.place.cut()
    feed.put(token, range(21, 31))

    assert feed.wait_for(token, 30) == list(range(1, 31))


def test_a_feed_begins_at_the_newest_and_a_restart_repeats_nothing(place: Place):
    """What was put before the start never comes, nor what an earlier run was given or left behind."""
    place.put([message(1, price) for price in range(1, 11)])
    first = Feed(place).start()
    first.put(2, range(1, 11))
    assert first.wait_for(2, 10) == list(range(1, 11))
    first.close()
    first.put(2, range(11, 21))
    place.run_again()
    second = Feed(place).start()
    second.put(3, range(1, 11))

    assert second.wait_for(3, 10) == list(range(1, 11))
    assert (first.prices(1), second.prices(1), second.prices(2)) == ([], [], [])
    second.close()


def test_a_bus_that_is_absent_is_waited_for(place: Place):
    """A feed that is opened before its bus is there gives ticks once it is."""
    place.shut()
    feed = Feed(place)
    until(lambda: feed.source.counts.failures > 0)
    place.open()
    feed.start()
    feed.put(1, range(1, 11))

    assert feed.wait_for(1, 10) == list(range(1, 11))
    feed.close()


def test_what_the_loop_does_not_take_stays_on_the_bus(place: Place):
    """While nobody takes ticks only so many are held, and all come when somebody does."""
    earliest = "&from=earliest" if "from=" not in place.source_url else ""
    place.source_url = place.source_url.replace("newest", "earliest") + earliest
    place.put([message(1, price) for price in range(1, 1_501)])
    feed = Feed(place, "&max_queued=7")
    until(lambda: feed.source.queued == 7, BOUND_S)
    assert feed.source.counts.received == 7
    feed.thread.start()

    assert feed.wait_for(1, 1_500) == list(range(1, 1_501))
    feed.close()


def test_a_stream_that_is_made_anew_is_followed(place: Place):
    """A stream that is removed and made again under a feed is read on, and not silent from then on."""
    if not hasattr(place, "make_anew"):
        pytest.skip("a file that is replaced is a connection that is cut; the small Kafka keeps its topics")
    feed = Feed(place).start()
    place.make_anew()
    feed.put(1, range(1, 21))

    def follows() -> bool:
        feed.put(2, range(1, 2))
        return bool(feed.prices(2))

    until(follows, BOUND_S)
    if isinstance(place, NatsPlace):
        assert feed.prices(1) == list(range(1, 21))
    feed.close()


def test_a_place_that_the_server_forgot_is_taken_again(place: Place):
    """A reader that the server gave up, as it paused too long, goes on where it was."""
    if not isinstance(place, NatsPlace):
        pytest.skip("the other buses keep nothing of who reads, or tell that it is gone")
    feed = Feed(place).start()
    feed.put(1, range(1, 11))
    feed.wait_for(1, 10)
    place.forget_readers()
    feed.put(1, range(11, 21))

    assert feed.wait_for(1, 20) == list(range(1, 21))
    feed.close()


class Twice:
    """Implements Inbox: all messages of a place from the earliest on, as two readers are given them."""

    def __init__(self, url: str) -> None:
        urls = [url, url.replace("group=", "group=second-")]
        self._readers = [open_inbox(read_place(each, "", "source"), newest=False) for each in urls]

    def receive(self, timeout_s: float) -> Sequence[IncomingMessage]:
        """Return what has come to each of them."""
        return [message for reader in self._readers for message in reader.receive(timeout_s) or ()]

    def close(self) -> None:
        """Close both."""
        for reader in self._readers:
            reader.close()


def test_a_tick_that_the_bus_gives_twice_is_given_once(bus: str, place: Place):
    """H6: a message has one place on its bus, whoever reads it, and a tick is known by it."""
    if bus == "file":
        pytest.skip("nobody gives a line twice")
    # The second half says the same over and over: two messages all the same.
    prices = [*range(1, 11), *[5] * 10]
    place.put([message(1, price) for price in prices])
    inbox = Twice(place.source_url)
    source = MessageSource("twice", inbox, TicksConfig(), None, BadLines(), max_queued=100)
    until(lambda: source.counts.received == 2 * len(prices), BOUND_S)
    ticks = iter(source)
    came = [int(next(ticks).last_price) for _ in prices]
    source.close()

    assert came == prices
    assert list(ticks) == []


def test_close_ends_an_iteration_that_waits(place: Place):
    """A thread that waits for the next tick is let go when another one closes the source, also twice."""
    feed = Feed(place)
    feed.thread.start()
    feed.source.close()
    feed.source.close()
    feed.thread.join(BOUND_S)

    assert not feed.thread.is_alive()
    until(lambda: not feed.source._thread.is_alive())


def test_kafka_is_told_of_a_tick_before_the_loop_is(tmp_path: Path):
    """At most once: when a tick is given its offset is committed, so that nobody trades on it again."""
    place = make_place("kafka", tmp_path / "bus")
    assert isinstance(place, KafkaPlace)
    feed = Feed(place)
    committed: list[int] = []

    def iterate() -> None:
        committed.extend(place.committed() for _ in feed.source)

    feed.ticks = committed
    feed.thread = threading.Thread(target=iterate)
    feed.start()
    feed.close()

    assert committed[0] >= 1
    place.remove()
