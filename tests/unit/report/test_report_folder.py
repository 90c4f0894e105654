"""A recorded folder is read as it was written, and what is wrong with it is named."""

import math
from dataclasses import replace

import numpy as np
import pytest
from recorded_session import DIGESTS, answered, market, no_signal, signal, write_session

from strategy_client.events import Reason
from strategy_client.report.recorded_folder import RecordingError, read_recording
from strategy_client.report.recording import NO_MODEL, ModelVersion


@pytest.fixture
def folder(tmp_path):
    """Three ticks; a traditional strategy beside a learned one whose model is replaced before the last."""
    first, second, third = market(3)
    return write_session(
        tmp_path / "out",
        [
            (first, [no_signal("rule", first, Reason.HOLD), no_signal("learned", first, Reason.WARMING_UP)]),
            (
                second,
                [
                    signal("rule", second, "BUY"),
                    no_signal("learned", second, Reason.BELOW_THRESHOLD, **answered(1, 0.55)),
                ],
            ),
            (
                third,
                [
                    no_signal("rule", third, Reason.HOLD),
                    signal("learned", third, "SELL", **answered(2, 0.75)),
                ],
            ),
        ],
        latency_ns=[1_000, 2_000, 3_000],
        summary={"deadline_ms": 50.0},
    )


def test_columns_hold_what_was_written(folder):
    """Ticks, outcomes, probabilities, thresholds, latencies and who answered, each at its tick."""
    recording = read_recording(folder)
    assert recording.index.tolist() == [0, 1, 2]
    assert recording.price.tolist() == [100.0, 101.0, 102.0]
    assert np.diff(recording.time_ns).tolist() == [10**9, 10**9]
    assert recording.latency_us.tolist() == [1.0, 2.0, 3.0]
    assert recording.models == [ModelVersion("momentum", n, DIGESTS[n - 1]) for n in (1, 2)]
    rule, learned = recording.strategies
    names = recording.outcome_names
    assert [names[code] for code in rule.outcomes] == ["HOLD", "BUY", "HOLD"]
    assert [names[code] for code in learned.outcomes] == ["WARMING_UP", "BELOW_THRESHOLD", "SELL"]
    assert math.isnan(learned.probability[0])
    assert learned.probability[1:].tolist() == pytest.approx([0.55, 0.75])
    assert learned.made_by.tolist() == [NO_MODEL, 0, 1]
    assert (rule.threshold, learned.threshold) == (None, 0.6)
    assert (rule.made_by == NO_MODEL).all()


def test_a_tick_that_was_no_market_data_is_drawn_where_it_came(tmp_path):
    """A time that is none is that of the tick before, or of the first that has one; such a token is 0."""
    good = market(3)
    ticks = [replace(good[0], timestamp=None), *good[:2], replace(good[2], timestamp="x"), good[2]]
    ticks[1] = replace(ticks[1], instrument_token="NIFTY")  # noqa: S106 an instrument
    folder = write_session(tmp_path, [(tick, [no_signal("s", tick, Reason.STALE_TICK)]) for tick in ticks])
    recording = read_recording(folder)
    assert (np.diff(recording.time_ns) / 1e9).tolist() == [0, 1, 0, 1]
    assert recording.time_ns[0] == good[0].timestamp.timestamp() * 1e9
    assert recording.token.tolist() == [1, 0, 1, 1, 1]
    alone = write_session(tmp_path / "alone", [(ticks[0], [no_signal("s", ticks[0], Reason.STALE_TICK)])])
    assert read_recording(alone).time_ns.tolist() == [0]


def test_a_run_that_was_killed_is_read_up_to_there(folder):
    """Without latency and summary, and with half a last line, the rest is drawn."""
    (folder / "latency.npy").unlink()
    (folder / "summary.json").unlink()
    path = folder / "outcomes.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    recording = read_recording(folder)
    assert recording.index.tolist() == [0, 1]
    assert np.isnan(recording.latency_us).all()
    assert recording.summary == {}


def test_instruments_come_by_their_ticks(tmp_path):
    """The instrument with the most ticks is the first one."""
    ticks = [*market(2, token=7), *market(3, token=8)]
    folder = write_session(tmp_path, [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in ticks])
    assert read_recording(folder).tokens == [8, 7]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("outcomes.jsonl", b"{}\n", "outcomes.jsonl:1: expected a tick's outcomes"),
        ("outcomes.jsonl", b"[1]\n", "outcomes.jsonl:1: expected a JSON object, came [1]"),
        ("outcomes.jsonl", b"{\n", "outcomes.jsonl:1: expected a JSON object ("),
        ("latency.npy", b"not numpy", "latency.npy: expected an array of numpy"),
        ("summary.json", b"{", "summary.json: expected JSON"),
        ("shadows.jsonl", b'{"tick":0}\n', "shadows.jsonl:1: expected a shadow's outcome"),
    ],
)
def test_what_cannot_be_read_is_named(folder, name, content, text):
    """File and line, what was expected and what came."""
    (folder / name).write_bytes(content)
    with pytest.raises(RecordingError, match="expected") as raised:
        read_recording(folder)
    assert text in str(raised.value)


def test_latencies_of_another_form_are_refused(folder):
    """An array of another kind or rank is not taken for latencies."""
    np.save(folder / "latency.npy", np.ones((2, 2)))
    with pytest.raises(RecordingError, match=r"expected int64 of shape \(ticks,\), came float64 \(2, 2\)"):
        read_recording(folder)


def test_a_folder_without_a_session_is_refused(tmp_path):
    """The text says which folder a report is drawn from."""
    with pytest.raises(RecordingError, match=r"expected the folder of a replay or a live run"):
        read_recording(tmp_path)
