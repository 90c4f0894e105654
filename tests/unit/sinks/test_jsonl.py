"""JSON lines on disk."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_ticks import tick

from strategy_client.events import NoSignal, Outcome, Reason, Signal
from strategy_client.sinks.jsonl import MAX_DEPTH, JsonLinesFile, OutcomeLines, signal_record

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


def test_file_is_written_anew_by_one_at_a_time(tmp_path: Path) -> None:
    """What a run before wrote is gone; while one writes another cannot, and harms nothing."""
    path = tmp_path / "f.jsonl"
    path.write_text("left over from a longer run\n")
    with JsonLinesFile(path) as file:
        file.write({"a": 1})
        with pytest.raises(OSError, match=r"f\.jsonl: another process is writing it"):
            JsonLinesFile(path)
    assert path.read_text() == '{"a":1}\n'
