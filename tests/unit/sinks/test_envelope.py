"""The event around a signal, held to what Alpha Panda's own runner writes."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum

import numpy as np
import pytest

from strategy_client.events import Cause, Signal
from strategy_client.sinks.envelope import MAX_MESSAGE_BYTES, Envelope, envelop

WALL_NS = 1_723_088_701_123_456_789
CAUSE = Cause("tick-1", "correlation-1", "trace-1")


class Side(Enum):
    LONG = "long"


def signal(**changes: object) -> Signal:
    """Return a signal; `changes` are fields."""
    fields = {
        "strategy_id": "up",
        "instrument_token": 256265,
        "signal_type": "BUY",
        "confidence": 0.75,
        "quantity": 10,
        "price": Decimal("24150.050"),
        "timestamp": datetime(2024, 8, 8, 3, 45, 0, 123000, tzinfo=UTC),
        **changes,
    }
    return Signal(**fields)


def written(envelope: Envelope) -> dict:
    """Return what is in the message."""
    return json.loads(envelope.message().value)


def test_the_event_has_the_fields_that_alpha_panda_writes_in_their_order_and_forms():
    """A signal's event holds every field of theirs: prices as written, times with a Z, no id left out."""
    event = written(envelop(signal(metadata={"z": Decimal("1.10")}), "zerodha", CAUSE, WALL_NS))

    assert list(event) == [
        "id", "correlation_id", "causation_id", "trace_id", "parent_trace_id", "broker",
        "type", "ts", "key", "source", "version", "data",
    ]  # fmt: skip
    assert {name: event[name] for name in event if name not in {"id", "data"}} == {
        "correlation_id": "correlation-1",
        "causation_id": "tick-1",
        "trace_id": "trace-1",
        "parent_trace_id": "tick-1",
        "broker": "zerodha",
        "type": "trading_signal",
        "ts": "2024-08-08T03:45:01.123456Z",
        "key": "up:256265",
        "source": "strategy_runner",
        "version": 1,
    }
    assert event["data"] == {
        "strategy_id": "up",
        "instrument_token": 256265,
        "signal_type": "BUY",
        "quantity": 10,
        "price": "24150.050",
        "timestamp": "2024-08-08T03:45:00.123000Z",
        "confidence": 0.75,
        "metadata": {"z": "1.10"},
    }


def test_an_event_without_a_cause_has_ids_of_its_own():
    """Where the tick came in no event, the correlation and the trace begin here and nothing is its cause."""
    event = written(envelop(signal(), "paper", None, WALL_NS))

    assert (event["causation_id"], event["parent_trace_id"]) == (None, None)
    assert len({event["id"], event["correlation_id"], event["trace_id"]}) == 3


def test_ids_are_uuids_of_version_7_that_sort_by_time():
    """An id is a UUID of RFC 9562, version 7: the first 48 bits are milliseconds, later ones sort later."""
    ids = [envelop(signal(), "paper", None, WALL_NS + step * 1_000).event_id for step in range(1_000)]

    assert ids == sorted(ids)
    first = uuid.UUID(ids[0])
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    assert first.int >> 80 == WALL_NS // 1_000_000


def test_the_same_envelope_is_written_the_same_twice():
    """What is sent again carries the id of the first time, so that a reader can tell."""
    envelope = envelop(signal(), "paper", None, WALL_NS)

    assert envelope.message() == envelope.message()


def test_the_message_carries_key_and_trace_beside_the_event():
    """Key and headers are those of Alpha Panda's producer: the trace and the correlation."""
    message = envelop(signal(), "paper", CAUSE, WALL_NS).message()

    assert message.key == "up:256265"
    assert message.headers == {"trace_id": "trace-1", "correlation_id": "correlation-1"}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (np.float64("nan"), None),
        (np.float32(0.5), 0.5),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (Decimal("1.10"), "1.10"),
        (Side.LONG, "long"),
        (datetime(2024, 8, 8, tzinfo=timezone(timedelta(hours=5, minutes=30))), "2024-08-08T00:00:00+05:30"),
        (datetime(2024, 8, 8, tzinfo=UTC), "2024-08-08T00:00:00Z"),
        ({1: ("a", None, True)}, {"1": ["a", None, True]}),
        (re, str(re)),
    ],
)
def test_whatever_a_processor_puts_into_metadata_is_valid_json(value: object, form: object):
    """Metadata of any kind becomes plain JSON, in which NaN and infinity have no place."""
    event = written(envelop(signal(metadata={"of": {"it": value}}), "paper", None, WALL_NS))

    assert event["data"]["metadata"] == {"of": {"it": form}}


def test_metadata_that_holds_itself_ends():
    """A dictionary that contains itself is cut off, not followed for ever."""
    endless: dict = {}
    endless["again"] = endless

    text = envelop(signal(metadata=endless), "paper", None, WALL_NS).message().value

    assert len(text) < 2_000


def test_an_event_too_large_for_a_bus_is_refused_with_its_size():
    """An event beyond what buses take by default is refused before it stands in the way of others."""
    envelope = envelop(signal(metadata={"x": "y" * MAX_MESSAGE_BYTES}), "paper", None, WALL_NS)

    with pytest.raises(ValueError, match="expected at most 900,000 bytes, came 900,"):
        envelope.message()
