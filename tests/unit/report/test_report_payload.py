"""What the page is told: every number of it follows from the recording."""

import json
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal

import pytest
from fixtures_ticks import OPEN
from recorded_session import DIGESTS, answered, market, no_signal, signal, write_session

from strategy_client.events import MarketTick, Reason
from strategy_client.report.document import payload, write_report
from strategy_client.report.recorded_folder import read_recording

HOSTILE = "</script><script>alert(1)</script>&{{payload}}"


def drawn(folder, ticks, **more):
    """Return the payload of a session."""
    return payload(read_recording(write_session(folder, ticks, **more)), "a session")


def table(page, title):
    """Return a table's rows as mappings."""
    [found] = [each for each in page["tables"] if each["title"] == title]
    return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]


def test_signals_that_follow_one_another_are_one_mark(tmp_path):
    """A mark says how many signals it stands for; a pause or the other side begins a new one."""
    sides = ["BUY", "BUY", None, "BUY", "SELL", "SELL", "SELL"]
    ticks = [
        (tick, [signal("s", tick, side) if side else no_signal("s", tick, Reason.HOLD)])
        for tick, side in zip(market(7), sides, strict=True)
    ]
    [strategy] = drawn(tmp_path, ticks)["instruments"][0]["strategies"]
    buys, sells = strategy["signals"]["BUY"], strategy["signals"]["SELL"]
    assert [(mark["n"], mark["signals"], mark["price"]) for mark in buys] == [(0, 2, 100.0), (3, 1, 103.0)]
    assert [(mark["n"], mark["signals"]) for mark in sells] == [(4, 3)]


def test_marks_are_bounded_and_add_up(tmp_path):
    """However often a strategy changes its mind, the marks are few and stand for all signals."""
    ticks = [
        (tick, [signal("s", tick, "BUY") if number % 2 else no_signal("s", tick, Reason.HOLD)])
        for number, tick in enumerate(market(6_000))
    ]
    [strategy] = drawn(tmp_path, ticks)["instruments"][0]["strategies"]
    marks = strategy["signals"]["BUY"]
    assert len(marks) <= 600
    assert sum(mark["signals"] for mark in marks) == sum(mark["runs"] for mark in marks) == 3_000


def test_outcomes_over_time_add_up_to_the_ticks(tmp_path):
    """Each part's counts are of its ticks only, and all parts together are the strategy's outcomes."""
    ticks = [
        (
            tick,
            [
                no_signal("early", tick, Reason.WARMING_UP if number < 300 else Reason.HOLD),
                signal("late", tick, "SELL"),
            ],
        )
        for number, tick in enumerate(market(1_000))
    ]
    outcomes = drawn(tmp_path, ticks)["instruments"][0]["outcomes"]
    early = outcomes["counts"]["early"]
    assert sum(early["WARMING_UP"]) == 300
    assert sum(early["HOLD"]) == 700
    assert sum(outcomes["counts"]["late"]["SELL"]) == 1_000
    first_hold = next(at for at, count in enumerate(early["HOLD"]) if count)
    assert outcomes["n"][first_hold] <= 300 <= outcomes["end"]["n"][first_hold]


def test_versions_are_bands(tmp_path):
    """A band reaches from a version's first answer to its last one before another's."""
    ticks = [
        (tick, [no_signal("s", tick, Reason.BELOW_THRESHOLD, **answered(1 if number < 6 else 2, 0.5))])
        for number, tick in enumerate(market(10))
    ]
    page = drawn(tmp_path, ticks)
    [strategy] = page["instruments"][0]["strategies"]
    assert [(band["version"], band["digest"], band["n"], band["answers"]) for band in strategy["bands"]] == [
        (1, DIGESTS[0][:12], [0, 5], 6),
        (2, DIGESTS[1][:12], [6, 9], 4),
    ]
    assert strategy["threshold"] == 0.6
    assert strategy["probability"]["y"] == [0.5] * 10
    assert [
        (row["version"], row["answers"], row["first tick"], row["last tick"])
        for row in table(page, "Model versions")
    ] == [
        (1, 6, 0, 5),
        (2, 4, 6, 9),
    ]


@pytest.mark.parametrize(
    ("reason", "tone", "words"),
    [
        (Reason.HOLD, "good", "every question was answered"),
        (Reason.OUT_OF_RANGE, "warn", "some ticks could not be used"),
        (Reason.DEADLINE_EXCEEDED, "bad", "some ticks went without an answer"),
        (Reason.PROCESSOR_ERROR, "bad", "some ticks went without an answer"),
    ],
)
def test_the_verdict_is_the_worst_that_came(tmp_path, reason, tone, words):
    """A person is told first whether to look closer, and at which strategy."""
    ticks = [
        (tick, [no_signal("calm", tick, Reason.HOLD), no_signal("s", tick, reason)]) for tick in market(3)
    ]
    verdict = drawn(tmp_path, ticks)["verdict"]
    assert verdict["tone"] == tone
    assert words in verdict["text"]
    named = [point for point in verdict["points"] if point.startswith(f"{reason.value}, 3 times")]
    assert len(named) == (tone != "good")
    assert all("(s)" in point for point in named)


def test_every_reason_is_known_to_the_verdict_or_nobodys_failure():
    """A reason that is added to the list must be placed, else the page would call its ticks answered."""
    from strategy_client.report.account import CAUTIONS, FAILURES

    quiet = {"HOLD", "BELOW_THRESHOLD", "WARMING_UP", "DISABLED"}
    assert {reason.value for reason in Reason} == quiet | FAILURES.keys() | CAUTIONS.keys()


def test_each_instrument_has_its_own_charts(tmp_path):
    """A strategy on two instruments is drawn on each with that one's ticks only."""
    ticks = [*market(4, token=5), *market(2, token=6)]
    page = drawn(tmp_path, [(tick, [signal("s", tick, "BUY")]) for tick in ticks])
    assert [(each["token"], each["ticks"], each["price"]["n"]) for each in page["instruments"]] == [
        (5, 4, [0, 1, 2, 3]),
        (6, 2, [4, 5]),
    ]
    assert [mark["signals"] for mark in page["instruments"][1]["strategies"][0]["signals"]["BUY"]] == [2]
    assert table(page, "Outcomes")[0]["ticks"] == 6


def test_latency_is_of_the_ticks_it_was_measured_on(tmp_path):
    """Median, 99th percentile and longest of each part, in microseconds."""
    page = drawn(tmp_path, [(tick, []) for tick in market(4)], latency_ns=[1_000, 5_000, 3_000, 9_000])
    latency = page["instruments"][0]["latency"]
    assert latency["longest"] == [1.0, 5.0, 3.0, 9.0]


def test_the_page_stands_by_itself_and_holds_no_script_of_a_users(tmp_path):
    """One file without a reference to another, in which a hostile name is text only."""
    tick = market(1)[0]
    folder = write_session(tmp_path / "out", [(tick, [signal(HOSTILE, tick, "BUY")])])
    write_report(read_recording(folder), folder / "report.html", HOSTILE)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page
    head, _, rest = page.partition('<script id="payload" type="application/json">')
    told = json.loads(rest.partition("</script>")[0])
    assert told["title"] == HOSTILE
    assert "src=" not in head
    assert "<link" not in head


def test_a_tick_that_was_refused_is_drawn_as_a_gap(tmp_path):
    """A price that is no number leaves a gap and breaks nothing."""
    ticks = market(3)
    bad = MarketTick(1, Decimal("NaN"), ticks[1].timestamp)
    page = drawn(
        tmp_path,
        [(tick, [no_signal("s", tick, Reason.NON_FINITE)]) for tick in (ticks[0], bad, ticks[2])],
    )
    assert page["instruments"][0]["price"]["y"] == [100.0, None, 102.0]


def test_a_session_without_a_tick_is_a_page_too(tmp_path):
    """Nothing came: the page says so."""
    page = drawn(tmp_path, [])
    assert page["span"] == "No tick."
    assert page["instruments"] == []


def test_shadow_agrees_as_the_run_counted(tmp_path):
    """Two reasons for no signal are the same, two sides are not; the difference is the run's own."""
    ticks = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in market(4)]
    counted = {"probability_difference": {"compared": 4, "mean": 0.25, "largest": 0.5}}
    folder = write_session(tmp_path, ticks, summary={"strategies": {"s": {"shadow": counted}}})
    pairs = [("HOLD", "MODEL_STALE"), ("BUY", "BUY"), ("BUY", "SELL"), ("WARMING_UP", "BUY")]
    lines = [
        {"tick": n, "strategy_id": "s", "live": {"outcome": live}, "shadow": {"outcome": shadow}}
        for n, (live, shadow) in enumerate(pairs)
    ]
    (folder / "shadows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    [row] = table(payload(read_recording(folder), "a session"), "Shadow against live")
    assert (row["ticks"], row["did the same"]) == (4, "50.0 %")
    assert (row["mean difference"], row["largest difference"]) == ("0.2500", "0.5000")
    (folder / "summary.json").unlink()
    [row] = table(payload(read_recording(folder), "a session"), "Shadow against live")
    assert (row["did the same"], row["mean difference"]) == ("50.0 %", "")


def test_features_outside_of_their_range_are_named(tmp_path):
    """Each feature that left its training range has a row, with the rows seen and those on each side."""
    ticks = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in market(2)]
    drift = {"rows": 9, "below": {"a": 1}, "above": {"a": 2, "b": 3}}
    page = drawn(tmp_path, ticks, summary={"strategies": {"s": {"drift": drift}, "t": {}}})
    rows = [tuple(row.values()) for row in table(page, "Features outside of the training range")]
    assert rows == [("s", "a", 9, 1, 2), ("s", "b", 9, 0, 3)]


def test_page_says_why_there_is_no_latency(tmp_path):
    """Where ticks were asked together the run's own words stand there; else that it wrote none."""
    ticks = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in market(2)]
    folder = write_session(tmp_path, ticks, summary={"latency_note": "asked together"})
    assert payload(read_recording(folder), "")["latency_note"] == "From a tick's begin to its last outcome."
    (folder / "latency.npy").unlink()
    assert payload(read_recording(folder), "")["latency_note"] == "asked together"
    (folder / "summary.json").unlink()
    assert payload(read_recording(folder), "")["latency_note"] == "The run wrote no latencies."


def test_page_that_cannot_be_written_leaves_nothing(tmp_path):
    """Where the page cannot be put in its place no part of it stays behind."""
    ticks = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in market(2)]
    folder = write_session(tmp_path / "run", ticks)
    (folder / "report.html").mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(IsADirectoryError):
        write_report(read_recording(folder), folder / "report.html", "a session")
    assert sorted(folder.iterdir()) == before


def test_verdict_says_when(tmp_path):
    """A person who reads that ticks went without an answer reads from when to when, and whose."""
    reasons = [
        Reason.HOLD,
        Reason.DEADLINE_EXCEEDED,
        Reason.HOLD,
        Reason.DEADLINE_EXCEEDED,
        Reason.NON_FINITE,
    ]
    ticks = market(5)
    page = drawn(
        tmp_path,
        [(tick, [no_signal("s", tick, reason)]) for tick, reason in zip(ticks, reasons, strict=True)],
    )
    first, last = (f"{ticks[at].timestamp:%H:%M:%S}" for at in (1, 3))
    late, broken = page["verdict"]["points"]
    assert late.endswith(f"(s), from {first} to {last} UTC")
    assert broken.endswith(f"(s), at {ticks[4].timestamp:%H:%M:%S} UTC")


def test_verdict_over_days_names_the_day(tmp_path):
    """In a session that goes over midnight a time alone would not say when."""
    ticks = [replace(tick, timestamp=OPEN + timedelta(days=day)) for day, tick in enumerate(market(3))]
    page = drawn(tmp_path, [(tick, [no_signal("s", tick, Reason.UNAVAILABLE)]) for tick in ticks])
    [point] = page["verdict"]["points"]
    assert point.endswith(
        f"from {ticks[0].timestamp:%Y-%m-%d %H:%M:%S} to {ticks[2].timestamp:%Y-%m-%d %H:%M:%S} UTC"
    )


def test_verdict_names_the_instruments(tmp_path):
    """Charts are of one instrument at a time, so the verdict says which to look at; of many, the first."""
    ticks = [tick for token in range(1, 7) for tick in market(2, token=token)]
    came = [
        (tick, [no_signal("s", tick, Reason.UNAVAILABLE if tick.instrument_token > 1 else reason)])
        for tick, reason in zip(ticks, [Reason.MODEL_STALE, *[Reason.HOLD] * 11], strict=True)
    ]
    gone, stale = drawn(tmp_path, came)["verdict"]["points"]
    assert gone.endswith(" UTC, on 2, 3, 4 and 2 more")
    assert stale.endswith(" UTC, on 1")


def test_band_ends_where_nothing_was_answered(tmp_path):
    """Over ticks without an answer no model has a band, though the same one answers before and after."""
    ticks = [
        (
            tick,
            [
                no_signal("s", tick, Reason.BREAKER_OPEN)
                if 4 <= number < 7
                else no_signal("s", tick, Reason.BELOW_THRESHOLD, **answered(1, 0.5))
            ],
        )
        for number, tick in enumerate(market(10))
    ]
    page = drawn(tmp_path, ticks)
    [strategy] = page["instruments"][0]["strategies"]
    assert [(band["n"], band["answers"]) for band in strategy["bands"]] == [([0, 3], 4), ([7, 9], 3)]
    assert [row["answers"] for row in table(page, "Model versions")] == [7]


def test_time_without_ticks_is_told(tmp_path):
    """A silence that is wide enough to be seen is named with its ends; ticks at one pace have none."""
    ticks = market(400)
    quiet = [*ticks[:200], *(replace(each, timestamp=each.timestamp + timedelta(60)) for each in ticks[200:])]
    came = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in quiet]
    [[begin, end]] = drawn(tmp_path / "a", came)["instruments"][0]["silences"]
    assert (begin, end) == tuple(quiet[at].timestamp.timestamp() * 1_000 for at in (199, 200))
    even = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in ticks]
    assert drawn(tmp_path / "b", even)["instruments"][0]["silences"] == []
    assert drawn(tmp_path / "c", even[:3])["instruments"][0]["silences"] == []
    late = [*even[:300], even[0], *even[300:]]
    assert drawn(tmp_path / "d", late)["instruments"][0]["silences"] == []


def test_ticks_on_which_a_shadow_wanted_otherwise_are_marked(tmp_path):
    """A mark names what both wanted; two reasons for no signal are no difference."""
    ticks = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in market(4)]
    folder = write_session(tmp_path, ticks)
    pairs = [("HOLD", "MODEL_STALE"), ("BUY", "BUY"), ("BUY", "SELL"), ("BELOW_THRESHOLD", "BUY")]
    lines = [
        {
            "tick": n,
            "strategy_id": "s",
            "live": {"outcome": live, "probability": 0.75},
            "shadow": {"outcome": shadow, "probability": 0.5 + n / 10},
        }
        for n, (live, shadow) in enumerate(pairs)
    ]
    (folder / "shadows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    [shadow] = payload(read_recording(folder), "a session")["instruments"][0]["shadows"]
    assert [(each["n"], each["live"], each["shadow"], each["y"]) for each in shadow["apart"]] == [
        (2, "BUY", "SELL", 0.75),
        (3, "BELOW_THRESHOLD", "BUY", 0.8),
    ]
    assert shadow["ticks"] == 4


def test_differences_of_a_shadow_are_bounded_and_add_up(tmp_path):
    """However often the two want otherwise, the marks are few and stand for all such ticks."""
    ticks = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in market(3_000)]
    folder = write_session(tmp_path, ticks)
    lines = [
        {"tick": n, "strategy_id": "s", "live": {"outcome": "HOLD"}, "shadow": {"outcome": "BUY"}}
        for n in range(3_000)
    ]
    (folder / "shadows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    [shadow] = payload(read_recording(folder), "a session")["instruments"][0]["shadows"]
    assert len(shadow["apart"]) <= 600
    assert sum(each["ticks"] for each in shadow["apart"]) == 3_000
    assert shadow["apart"][0]["y"] is None


def test_counts_are_told_in_words(tmp_path):
    """What the edge and the connection counted stands in words, without what came to nothing."""
    ticks = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in market(2)]
    counted = {
        "edge": {"taken": 2, "stale": 0},
        "calls": {"missed": 1},
        "bad_lines": {"count": 3, "first": []},
    }
    rows = [
        tuple(row.values()) for row in table(drawn(tmp_path, ticks, summary=counted), "Ticks and requests")
    ]
    assert rows == [
        ("ticks taken", 2),
        ("lines that are no ticks", 3),
        ("requests not answered by the deadline", 1),
    ]


def test_whatever_a_run_counts_has_words():
    """A count that is added to a run must be placed, else the page would leave it out."""
    from strategy_client.edge import TickCounts
    from strategy_client.predictor.connection import PredictorCounts
    from strategy_client.report.account import FACTS

    counted = {("edge", each.name) for each in fields(TickCounts)}
    counted |= {("calls", each.name) for each in fields(PredictorCounts)}
    assert {(key, name) for key, name, _ in FACTS} == counted | {("bad_lines", "count")}


@pytest.mark.parametrize("side", ["live", "shadow"])
def test_no_extreme_of_either_model_is_thinned_away(tmp_path, side):
    """However long the session, the one tick on which one of the two was sure is drawn."""
    ticks = [(tick, [no_signal("s", tick, Reason.HOLD)]) for tick in market(6_000)]
    folder = write_session(tmp_path, ticks)
    lines = [
        {
            "tick": n,
            "strategy_id": "s",
            **{
                each: {"outcome": "HOLD", "probability": 0.99 if (n, each) == (4_321, side) else 0.5}
                for each in ("live", "shadow")
            },
        }
        for n in range(6_000)
    ]
    (folder / "shadows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    [shadow] = payload(read_recording(folder), "a session")["instruments"][0]["shadows"]
    assert max(shadow[side]) == 0.99
    assert len(shadow["n"]) < 6_000
