"""JSON lines on disk."""

import json
import math
import time
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fixtures_ticks import tick

from strategy_client.edge import Edge
from strategy_client.events import NoSignal, Outcome, Reason, ShadowComparison, Signal
from strategy_client.sinks.jsonl import MAX_DEPTH, JsonLinesFile, OutcomeLines, ShadowRecords, signal_record

NOW = tick("100.10")
SIGNAL = Signal("s", 1, "BUY", 0.5, 10, NOW.last_price, NOW.timestamp, {"b": 1, "a": 2})


def test_signal_keeps_price_digits_and_key_order(tmp_path: Path) -> None:
    """A signal is one line whose price is text with all its digits, and whose keys are in a fixed order."""
    with JsonLinesFile(tmp_path / "s.jsonl") as file:
        file.write(signal_record(7, SIGNAL))
    assert (tmp_path / "s.jsonl").read_text() == (
        '{"tick":7,"strategy_id":"s","instrument_token":1,"signal_type":"BUY","quantity":10,"price":"100.10",'
        '"timestamp":"2024-08-08T09:15:00+00:00","confidence":0.5,"metadata":{"b":1,"a":2}}\n'
    )


def answer(strategy: str, reason: Reason = Reason.BELOW_THRESHOLD, **changed: Any) -> NoSignal:
    """Return the outcome of a strategy that a model answered."""
    metadata = {"model": "m", "version": 1, "digest": "ab", "contract_hash": "c", "confidence_threshold": 0.6}
    return NoSignal(strategy, 1, NOW.timestamp, reason, metadata={**metadata, "features": {}, **changed})


def test_outcomes_of_a_tick_are_one_line() -> None:
    """A tick's line holds its price as text and each strategy's side or reason, and is compact."""
    silent = NoSignal('"t', 1, NOW.timestamp, Reason.WARMING_UP, "detail")
    assert OutcomeLines().line(0, NOW, [SIGNAL, silent]) == (
        '{"tick":0,"instrument_token":1,"timestamp":"2024-08-08T09:15:00+00:00","price":"100.10",'
        '"outcomes":{"s":"BUY","\\"t":"WARMING_UP"}}'
    )


def test_what_a_model_answered_is_told_and_who_it_was_once() -> None:
    """A line holds each probability to the last bit; model, digest and threshold stand where they change."""
    lines = OutcomeLines()
    probability = float(np.nextafter(np.float32(0.7), np.float32(1)))

    def told(*outcomes: Outcome) -> tuple[Any, Any]:
        record = json.loads(lines.line(0, NOW, outcomes))
        return record.get("probabilities"), record.get("answered_by")

    first = {"model": "m", "version": 1, "digest": "ab", "contract_hash": "c", "confidence_threshold": 0.6}
    values, sources = told(answer("s", probability=probability), answer("t"), SIGNAL)
    assert sources == {"s": first, "t": first}
    assert list(values) == ["s"]
    assert np.float32(values["s"]) == np.float32(probability)
    assert told(answer("s", probability=0.5), answer("t")) == ({"s": 0.5}, None)
    assert told(answer("s", digest="cd"), answer("t", confidence_threshold=0.7)) == (
        None,
        {"s": {**first, "digest": "cd"}, "t": {**first, "confidence_threshold": 0.7}},
    )
    assert told(answer("s"), NoSignal("t", 1, NOW.timestamp, Reason.UNAVAILABLE)) == (None, {"s": first})


def test_what_a_processor_calls_a_digest_names_no_model() -> None:
    """Metadata of a user's own processor under names of ours are not taken for an answer of a model."""
    lines = OutcomeLines()
    for digest in (np.arange(2), np.arange(3), 5, None):
        metadata = {"digest": digest, "version": 1, "probability": 0.5}
        record = json.loads(
            lines.line(0, tick(100), [NoSignal("s", 1, tick(100).timestamp, Reason.HOLD, "", metadata)])
        )
        assert record.keys() == {"tick", "instrument_token", "timestamp", "price", "outcomes"}
    metadata = {"digest": "d", "version": "one", "probability": 0.5}
    (own,) = [NoSignal("s", 1, tick(100).timestamp, Reason.HOLD, "", metadata)]
    assert "answered_by" not in lines.line(0, tick(100), [own])
    shown = ShadowRecords().record(ShadowComparison(0, tick(100), own, own))
    assert "answered_by" not in shown


class NoZone(tzinfo):
    """A zone of a user's own that raises."""

    def utcoffset(self, _when: object) -> timedelta:
        """Raise."""
        raise LookupError


class NoText:
    """What cannot even be written."""

    def __str__(self) -> str:
        """Raise."""
        raise LookupError


def test_a_tick_that_is_no_market_data_has_its_line() -> None:
    """H6: a time, price or token that is none is refused by the edge with a reason, and the record goes on.

    Every line is JSON; where there is no time it says null.
    """
    naive, stamp = datetime(2024, 8, 8), pd.Timestamp("2024-08-08", tz="UTC")  # noqa: DTZ001 that is the case
    given: list[tuple[str, Any, object, bool]] = [
        ("timestamp", None, None, True),
        ("timestamp", 1_723_000_000, None, True),
        ("timestamp", "2024-08-08", None, True),
        ("timestamp", pd.NaT, None, True),
        ("timestamp", naive.replace(tzinfo=NoZone()), None, True),
        ("timestamp", naive, "2024-08-08T00:00:00", True),
        ("timestamp", stamp, "2024-08-08T00:00:00+00:00", False),
        ("last_price", 'a "price"', 'a "price"', True),
        ("last_price", 10**5_000, "ValueError", True),
        ("last_price", NoText(), "LookupError", True),
        ("last_price", 100.5, "100.5", False),
        ("instrument_token", "NIFTY", "NIFTY", False),
        ("instrument_token", True, True, False),
        ("instrument_token", np.int64(7), 7, False),
        ("instrument_token", float("nan"), None, False),
    ]
    lines = OutcomeLines()
    for field, value, written, refused in given:
        one = replace(tick(100), **{field: value})
        problem = Edge(None, None, None, time.monotonic_ns, time.time_ns).admit(one, -math.inf)
        assert isinstance(problem, tuple) == refused, value
        record = json.loads(lines.line(3, one, [NoSignal("s", 1, one.timestamp, Reason.STALE_TICK)]))
        assert record["outcomes"] == {"s": "STALE_TICK"}
        came = record[field.removeprefix("last_")]
        assert written in came if "Error" in str(written) else came == written


@pytest.mark.parametrize("probability", [float("nan"), float("inf"), None, "0.5"])
def test_probability_that_is_no_number_is_left_out(probability: object) -> None:
    """A model that answers no number spoils no line."""
    line = OutcomeLines().line(0, NOW, [answer("s", Reason.NON_FINITE, probability=probability)])
    assert "probabilities" not in json.loads(line)


def test_metadata_of_any_type_is_written_as_json(tmp_path: Path) -> None:
    """What a user's processor puts into metadata never stops the sink; NaN and infinity become null."""
    odd = {
        "nan": float("nan"),
        "deep": [float("inf"), {"x": -float("inf")}],
        "price": Decimal("1.10"),
        "numpy": np.float32(0.5),
        "array": np.arange(2),
        "time": NOW.timestamp,
    }
    with JsonLinesFile(tmp_path / "s.jsonl") as file:
        file.write({"metadata": odd})
    written = json.loads((tmp_path / "s.jsonl").read_text())["metadata"]
    assert written == {
        "nan": None,
        "deep": [None, {"x": None}],
        "price": "1.10",
        "numpy": 0.5,
        "array": [0, 1],
        "time": "2024-08-08 09:15:00+00:00",
    }


def test_metadata_that_is_no_json_at_all_is_written_as_far_as_it_goes(tmp_path: Path) -> None:
    """Keys that are no text become text, and what holds itself ends somewhere."""
    circle: dict[str, object] = {}
    circle["circle"] = circle
    with JsonLinesFile(tmp_path / "s.jsonl") as file:
        file.write({"metadata": {(1, 2): 3, float("nan"): 4}})
        file.write(circle)
    first, second = map(json.loads, (tmp_path / "s.jsonl").read_text().splitlines())
    assert first["metadata"] == {"(1, 2)": 3, "nan": 4}
    for _ in range(MAX_DEPTH):
        second = second["circle"]
    assert second == "..."


class Silent:
    """What says nothing of itself, whoever asks."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error


class MuteError(Exception):
    """An error without words."""

    def __str__(self) -> str:
        raise SystemExit(3)


def test_metadata_that_raises_is_written_with_the_reason(tmp_path: Path) -> None:
    """In the place of what cannot be written stands why; what stands beside it is written as it is."""

    class Unlisted(dict):
        def items(self) -> Any:
            raise ArithmeticError("no items")

    odd = {
        "good": 1,
        "silent": Silent(ZeroDivisionError("by zero")),
        "leaving": [Silent(SystemExit(3)), 2],
        "mute": Silent(MuteError()),
        "unlisted": Unlisted(a=1),
        "huge": 10**5_000,
        "numpy": [np.float32("nan"), np.array([1.0, np.inf])],
        Silent(ValueError("no name")): 5,
        10**5_000: True,
        7: None,
    }
    with JsonLinesFile(tmp_path / "s.jsonl") as file:
        file.write({"metadata": odd})
    written = json.loads((tmp_path / "s.jsonl").read_text())["metadata"]
    refused = "(not written: ValueError: Exceeds the limit (4300 digits) for integer string conversion"
    assert written.pop("huge").startswith(refused)
    assert [written.pop(key) for key in list(written) if key.startswith(refused)] == [True]
    assert written == {
        "good": 1,
        "silent": "(not written: ZeroDivisionError: by zero)",
        "leaving": ["(not written: SystemExit: 3)", 2],
        "mute": "(not written: MuteError, whose text raises SystemExit)",
        "unlisted": "(not written: ArithmeticError: no items)",
        "numpy": [None, [1.0, None]],
        "(not written: ValueError: no name)": 5,
        "7": None,
    }


def test_interrupt_is_no_fault_of_the_metadata(tmp_path: Path) -> None:
    """Ctrl-C while metadata is written ends what it is meant to end."""
    with JsonLinesFile(tmp_path / "s.jsonl") as file, pytest.raises(KeyboardInterrupt):
        file.write({"metadata": Silent(KeyboardInterrupt())})


def test_file_is_written_anew_by_one_at_a_time(tmp_path: Path) -> None:
    """What a run before wrote is gone; while one writes another cannot, and harms nothing."""
    path = tmp_path / "f.jsonl"
    path.write_text("left over from a longer run\n")
    with JsonLinesFile(path) as file:
        file.write({"a": 1})
        with pytest.raises(OSError, match=r"f\.jsonl: another process is writing it"):
            JsonLinesFile(path)
    assert path.read_text() == '{"a":1}\n'
