"""From a feed on a bus through the runner to the brokers' topics, as Alpha Panda's own services see it."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from bus_places import KafkaPlace, Place, make_place
from eventually import until

from strategy_client.configuration import StrategyConfig, TicksConfig
from strategy_client.events import ProcessedTick
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors
from strategy_client.runner import StrategyRunner
from strategy_client.sinks import open_fan_out
from strategy_client.sources import open_source
from strategy_client.sources.bad_line import BadLines

TOKEN = 256265


@pytest.fixture(params=["kafka", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Make a place on a bus."""
    place = make_place(request.param, tmp_path / "bus")
    yield place
    place.remove()


def event(number: int, price: str) -> tuple[str, bytes]:
    """Return Alpha Panda's event of a tick, with its key."""
    data = {"instrument_token": TOKEN, "last_price": price, "timestamp": f"2024-08-08T03:45:{number:02}Z"}
    ids = {"id": f"tick-{number}", "correlation_id": f"correlation-{number}", "trace_id": f"trace-{number}"}
    whole = {**ids, "broker": "shared", "type": "market_tick", "source": "market_feed", "version": 1}
    return str(TOKEN), json.dumps({**whole, "key": str(TOKEN), "data": data}).encode()


def test_ticks_become_signals_that_name_the_tick_that_caused_them(place: Place):
    """A signal reaches its brokers with its tick's correlation and trace, and the tick as its cause."""
    parameters = {"momentum_threshold": "0.01", "lookback_periods": 2}
    config = StrategyConfig("up", "momentum", parameters, ("zerodha",), (TOKEN,))
    runner = StrategyRunner(create_executors([config], StrategyFactory()))
    place.put([event(number, price) for number, price in enumerate(["100", "100", "102.50", "105.00"])])
    source = open_source(f"{place.source_url}&from=earliest", TicksConfig(), {TOKEN}, bad := BadLines())
    with open_fan_out([place.sink_url]) as fan_out:
        fan_out.set_brokers({config.strategy_id: config.active_brokers})
        for index, tick in enumerate(source):
            fan_out.took(ProcessedTick(index, tick, runner.process(tick), 0))
            if index == 3:
                break
        until(lambda: sum(counts.sent for counts in fan_out.counts.values()) == 4)
    source.close()

    signals = [json.loads(value) for value in place.taken()]
    assert bad.count == 0
    assert [(each["causation_id"], each["correlation_id"], each["trace_id"]) for each in signals] == [
        ("tick-2", "correlation-2", "trace-2"),
        ("tick-3", "correlation-3", "trace-3"),
    ]
    assert {each["broker"] for each in signals} == {"paper"}
    assert [each["data"]["signal_type"] for each in signals] == ["BUY", "BUY"]
    assert Decimal(signals[0]["data"]["price"]) == Decimal("102.50")


def test_kafka_has_key_and_trace_beside_the_event(tmp_path: Path):
    """A signal's key keeps its strategy and instrument in one partition; headers carry the trace."""
    import confluent_kafka as kafka
    from fixtures_signals import processed, signal

    place = make_place("kafka", tmp_path / "bus")
    assert isinstance(place, KafkaPlace)
    with open_fan_out([place.sink_url]) as fan_out:
        for number in range(20):
            fan_out.took(processed(signal(token=number % 5, number=number)))
    reader = place._reader("anyone")
    reader.assign([kafka.TopicPartition(f"{place.name}-paper", partition, 0) for partition in range(4)])
    came: list = []
    until(lambda: came.extend(reader.consume(20, 0.5)) or len(came) == 20)
    reader.close()
    place.remove()

    partitions: dict[bytes, set[int]] = {}
    for message in came:
        partitions.setdefault(message.key(), set()).add(message.partition())
        whole = json.loads(message.value())
        assert dict(message.headers()) == {
            "trace_id": whole["trace_id"].encode(),
            "correlation_id": whole["correlation_id"].encode(),
        }
    assert sorted(partitions) == [f"up:{token}".encode() for token in range(5)]
    assert {len(found) for found in partitions.values()} == {1}
