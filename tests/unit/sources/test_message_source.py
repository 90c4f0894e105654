"""What a source makes of messages, whatever bus they came from."""

import json
import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from eventually import until

from strategy_client.buses.port import BusError, IncomingMessage
from strategy_client.configuration import TicksConfig
from strategy_client.events import Cause
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.sources.bad_line import BadLineError, BadLines
from strategy_client.sources.message_source import MessageSource, SourceCounts

DATA = {"instrument_token": 1, "last_price": "100.50", "timestamp": "2024-08-08T03:45:00Z"}


class ScriptedBus:
    """Implements Inbox: gives what `script` holds, raises what is an error in it, and then ends."""

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.position = 0
        self.closed_by: list[str] = []

    def receive(self, timeout_s: float) -> Sequence[IncomingMessage] | None:
        if not self.script:
            return None
        came = self.script.pop(0)
        if isinstance(came, Exception):
            raise came
        if isinstance(came, IncomingMessage):
            return [came]
        self.position += 1
        value = came if isinstance(came, bytes) else json.dumps(came).encode()
        return [IncomingMessage("market.ticks[3]", self.position, value, self.position * 1_000)]

    def close(self) -> None:
        self.closed_by.append(threading.current_thread().name)


def event(event_id: str, **changes: object) -> dict:
    """Return Alpha Panda's event of a tick."""
    ids = {"id": event_id, "correlation_id": f"c-{event_id}", "trace_id": f"t-{event_id}"}
    return {**ids, "type": "market_tick", "broker": "shared", "data": {**DATA, **changes}}


def make(bus: ScriptedBus, tokens=None, bad: BadLines | None = None, **columns: object) -> MessageSource:
    """Return a source on a bus, whose pauses are short."""
    backoff = Backoff(BackoffOptions(first_ms=1, longest_ms=2))
    columns = TicksConfig(**columns)
    return MessageSource("a bus", bus, columns, tokens, bad or BadLines(), max_queued=10, backoff=backoff)


def test_an_event_of_alpha_panda_is_a_tick_with_its_cause():
    """All fields of an event come as their types, prices exact, and its ids stay with the tick."""
    depth = {"buy": [{"price": "100.45", "quantity": 5, "orders": 1}], "sell": []}
    full = event(
        "e1", symbol="X", volume_traded=7, ohlc={"open": "99.5"}, depth=depth, mode="full", tradable=True,
        oi=3, change="-0.5", last_trade_time="2024-08-08T09:14:59+05:30", exchange_timestamp=None,
    )  # fmt: skip

    (tick,) = make(ScriptedBus(full))

    assert (tick.last_price, tick.timestamp) == (Decimal("100.50"), datetime(2024, 8, 8, 3, 45, tzinfo=UTC))
    assert (tick.symbol, tick.volume_traded, tick.oi, tick.mode, tick.tradable) == ("X", 7, 3, "full", True)
    assert (tick.ohlc, tick.change) == ({"open": Decimal("99.5")}, Decimal("-0.5"))
    assert tick.depth["buy"][0]["price"] == Decimal("100.45")
    assert tick.last_trade_time == datetime(2024, 8, 8, 3, 44, 59, tzinfo=UTC)
    assert (tick.cause, tick.received_ns) == (Cause("e1", "c-e1", "t-e1"), 1_000)


def test_an_event_that_comes_again_is_no_second_tick():
    """An event that its producer or the bus sent twice is given once, by its id, and counted."""
    source = make(ScriptedBus(event("e1"), event("e2"), event("e1"), DATA, DATA))

    ticks = list(source)

    assert [tick.cause and tick.cause.event_id for tick in ticks] == ["e1", "e2", None, None]
    assert source.counts == SourceCounts(received=5, ticks=4, repeated=1)


def at(stream: str, position: int | str, price: object = 1, **changes: bool) -> IncomingMessage:
    """Return a tick of its fields alone at a place on a bus."""
    value = json.dumps({**DATA, "last_price": str(price)}).encode()
    return IncomingMessage(stream, position, value, 1_000, **changes)


def test_a_bare_tick_that_a_bus_gives_again_is_no_second_tick():
    """A tick without an event is known by where it stands on its bus, and by what it says."""
    first = at("a[0]", 7)
    others = [at("a[0]", 8), at("a[1]", 7), at("a[0]", "7")]
    made_anew = at("a[0]", 7, price=2)
    source = make(ScriptedBus(first, *others, first, made_anew, others[1], made_anew, first))

    assert [int(tick.last_price) for tick in source] == [1, 1, 1, 1, 2]
    assert source.counts == SourceCounts(received=9, ticks=5, repeated=4)


def test_a_line_that_stands_there_again_is_a_tick_again():
    """The number of a line is counted by who reads it, and says nothing of which line it is."""
    line = at("ticks.jsonl", 1, numbered=False)

    assert len(list(make(ScriptedBus(line, line)))) == 2


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch):
    """Of a run without an end the last ones are remembered: an older one that comes again is a tick again."""
    monkeypatch.setattr("strategy_client.sources.message_source.MAX_REMEMBERED", 2)
    script = [at("a", position) for position in (1, 2, 2, 3, 1, 3)]
    source = make(ScriptedBus(*script))

    assert len(list(source)) == 4
    assert source.counts.repeated == 2


def test_an_event_without_the_other_ids_is_its_own_beginning():
    """Where an event has an id alone, correlation and trace begin with it; without one it is no cause."""
    bare = {"type": "market_tick", "data": DATA}

    ticks = list(make(ScriptedBus({**bare, "id": "e1"}, bare, {**bare, "id": 5})))

    assert [tick.cause for tick in ticks] == [Cause("e1", "e1", "e1"), None, None]


def test_events_have_their_own_names_whatever_is_configured_for_bare_ticks():
    """An event's fields are Alpha Panda's; bare fields have the configured names."""
    bare = {"t": "2024-08-08T03:45:00Z", "p": 7, "id_": 2}

    ticks = list(make(ScriptedBus(event("e1"), bare), time="t", price="p", token="id_"))  # noqa: S106 a column

    assert [(tick.instrument_token, tick.last_price) for tick in ticks] == [(1, Decimal("100.50")), (2, 7)]


@pytest.mark.parametrize("kind", ["market_tick", "MARKET_TICK"])
def test_other_events_and_instruments_are_passed_over(kind: str):
    """What is no tick, or of an instrument that nobody asked for, is counted and is not bad."""
    wanted = {1}
    other = {"id": "s", "type": "trading_signal", "data": {}}
    source = make(ScriptedBus({**event("e1"), "type": kind}, other, event("e2", instrument_token=2)), wanted)

    assert [tick.instrument_token for tick in source] == [1]
    assert source.counts == SourceCounts(received=3, ticks=1, other=2)


def test_a_set_of_instruments_that_changes_is_followed():
    """An instrument that a changed configuration adds is given from the next tick on."""
    wanted = {1}
    source = make(ScriptedBus(*(event(f"e{n}", instrument_token=1 + n % 2) for n in range(6))), wanted)
    ticks = iter(source)

    first = next(ticks)
    wanted.add(2)

    assert [first.instrument_token, *(tick.instrument_token for tick in ticks)] == [1, 2, 1, 2, 1, 2]


def test_a_time_without_a_zone_is_counted_as_bad_and_told():
    """Alpha Panda's defect 11: without a configured zone a live tick's naive time is bad, never guessed."""
    bad = BadLines()
    naive = event("e1", timestamp="2024-08-08T09:15:00")

    assert [tick.cause.event_id for tick in make(ScriptedBus(naive, event("e2")), bad=bad)] == ["e2"]
    assert str(bad.first[0]).startswith("market.ticks[3]:1: timestamp: expected a time with a zone")
    (tick,) = make(ScriptedBus(naive), timezone="Asia/Kolkata")
    assert tick.timestamp == datetime(2024, 8, 8, 3, 45, tzinfo=UTC)


def test_bad_messages_are_told_once_and_all_counted(caplog: pytest.LogCaptureFixture):
    """A feed of garbage does not fill the log: the first is told with its place, all are counted."""
    bad = BadLines()
    garbage = [b"\xff", b"{", b"5", event("e1", last_price="-1"), event("e2", last_price=float("nan"))]

    assert list(make(ScriptedBus(*garbage, b"x" * 1_048_577), bad=bad)) == []

    assert bad.count == 6
    assert [(kept.line, kept.field) for kept in bad.first] == [
        (1, "message"), (2, "line"), (3, "line"), (4, "last_price"), (5, "last_price"), (6, "message"),
    ]  # fmt: skip
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_a_strict_reader_stops_at_the_first_bad_message():
    """Where no bad line is allowed the iteration ends with it, and the source can still be closed."""
    source = make(ScriptedBus(b"{", DATA), bad=BadLines(strict=True))

    with pytest.raises(BadLineError, match=r"market.ticks\[3\]:1: line: expected a JSON object"):
        list(source)
    source.close()


def test_a_bus_that_fails_is_tried_again_and_so_is_one_with_a_bug(caplog: pytest.LogCaptureFixture):
    """Neither a lost connection nor a bug in an adapter ends the feed; both are counted, and told once."""
    source = make(ScriptedBus(BusError("gone"), DATA, BusError("gone"), ZeroDivisionError(), DATA))

    assert len(list(source)) == 2
    assert source.counts.failures == 3
    assert caplog.messages.count("a bus: gone; tried again until it works") == 1


def test_the_connection_is_closed_by_the_thread_that_used_it():
    """Clients that belong to one thread are closed there, at the end and when the source is closed."""
    bus = ScriptedBus(DATA)
    source = make(bus)
    list(source)
    source.close()
    until(lambda: bus.closed_by)

    assert bus.closed_by == ["ticks-a bus"]
