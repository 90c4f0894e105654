"""JSON lines on disk."""

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from fixtures_ticks import tick

from strategy_client.events import NoSignal, Reason, Signal
from strategy_client.sinks.jsonl import JsonLinesFile, outcomes_record, signal_record

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


def test_outcomes_of_a_tick_are_one_line(tmp_path: Path) -> None:
    """A tick's outcomes are each strategy's side or reason."""
    silent = NoSignal("t", 1, NOW.timestamp, Reason.WARMING_UP, "detail")
    with JsonLinesFile(tmp_path / "o.jsonl") as file:
        file.write(outcomes_record(0, NOW, [SIGNAL, silent]))
    (line,) = (tmp_path / "o.jsonl").read_text().splitlines()
    assert json.loads(line)["outcomes"] == {"s": "BUY", "t": "WARMING_UP"}


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


def test_file_is_written_anew_by_one_at_a_time(tmp_path: Path) -> None:
    """What a run before wrote is gone; while one writes another cannot, and harms nothing."""
    path = tmp_path / "f.jsonl"
    path.write_text("left over from a longer run\n")
    with JsonLinesFile(path) as file:
        file.write({"a": 1})
        with pytest.raises(OSError, match=r"f\.jsonl: another process is writing it"):
            JsonLinesFile(path)
    assert path.read_text() == '{"a":1}\n'
