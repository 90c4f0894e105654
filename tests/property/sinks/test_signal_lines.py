"""A signal's line is the JSON of its record, to the byte."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
from fixtures_ticks import OPEN
from hypothesis import example, given
from hypothesis import strategies as st

from strategy_client.events import Signal
from strategy_client.sinks.jsonl import dumps, signal_record
from strategy_client.sinks.signal_lines import MAX_KNOWN, SignalLines

texts = st.text(max_size=12)
numbers = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e300, 0.1 + 0.2]))
plain = st.one_of(texts, numbers, st.integers())
# What a user's processor may put there besides: none of these is written by hand.
unusual = st.one_of(
    st.none(),
    st.booleans(),
    st.decimals(),
    st.just(np.float32(0.1)),
    st.just(np.arange(2)),
    st.just((1, 2)),
    st.just({1: 2}),
)
values = st.recursive(
    st.one_of(plain, plain, unusual), lambda inner: st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
times = st.datetimes(
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(seconds=7))])
)
signals = st.builds(
    Signal,
    texts,
    st.integers(),
    st.sampled_from(["BUY", "SELL"]),
    numbers,
    st.integers(1),
    st.decimals(allow_nan=False, allow_infinity=False),
    times,
    st.dictionaries(texts, values, max_size=6),
)


def signal(metadata: dict[str, Any]) -> Signal:
    """Return a signal with these metadata."""
    return Signal("s", 1, "BUY", 0.5, 10, Decimal("100.10"), OPEN, metadata)


holds_itself: dict[str, Any] = {"a": 1.0}
holds_itself["self"] = holds_itself


@given(st.lists(signals, max_size=6))
@example([signal({"a": 0.0}), signal({"a": -0.0}), signal({"a": 0.0})])
@example([signal({"a": 1}), signal({"a": 1.0}), signal({"a": True}), signal({"a": 1})])
@example([signal({"a": float("nan")}), signal({"a": 1.0, "b": float("inf")})])
@example([signal({"é\u2028": '"\\'}), signal({"é\u2028": "\ud800"})])
@example([signal({"a": {1: 2}})])
@example([signal(holds_itself)])
def test_a_line_is_the_json_of_its_record(drawn: list[Signal]) -> None:
    """Whatever came before it, and of whatever kinds its metadata are."""
    lines = SignalLines()
    for index, each in enumerate([*drawn, *drawn]):
        assert lines.line(index, each) == dumps(signal_record(index, each))


def test_an_unusual_price_quantity_or_time_is_left_to_json() -> None:
    """A processor of a user's own may give numpy's integers, a feed floats, and a time of its own kind."""

    class Moment(datetime):
        def isoformat(self, *_: Any) -> str:  # type: ignore[override]
            return '"noon"'

    lines = SignalLines()
    for changed in (
        {"quantity": np.int64(3)},
        {"instrument_token": np.int64(3)},
        {"price": 100.5},
        {"confidence": 1},
        {"metadata": {"a": 10**5000}},
        {"timestamp": Moment(2024, 8, 8, tzinfo=UTC)},
    ):
        each = signal({"a": 1.0})._replace(**changed)
        assert lines.line(0, each) == dumps(signal_record(0, each))


def test_more_numbers_than_are_kept_are_written_all_the_same() -> None:
    """Numbers that never come again do not fill the memory, and are written right."""
    lines = SignalLines()
    for index in range(MAX_KNOWN + 10):
        each = signal({"a": index / 7})
        assert json.loads(lines.line(index, each))["metadata"]["a"] == index / 7
    assert len(lines._numbers) <= MAX_KNOWN
