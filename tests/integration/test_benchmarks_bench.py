"""The one command that measures everything: short runs prove that it works, and measure nothing."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import benchmark_path
import pytest
from answered import UNANSWERED, answered, told_outcomes
from bench import MEASUREMENTS, Effort
from finding import AT_LEAST, Curve, Finding, Line, compare, table_of, write_findings
from interleaved import Ratio, Series, Subject, interleave, interleave_measures
from measure_replay import TICKS
from pictures import draw

from strategy_client.events import Reason
from strategy_client.predictor.port import Refusal

# The measurements beside other servers have tests of their own.
ELSEWHERE = {"one_row", "load"}


def series(*values):
    """A series of these values."""
    return Series("us", list(values))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(set(MEASUREMENTS) - ELSEWHERE))
def test_a_short_run_writes_what_it_found(name, tmp_path):
    """Each measurement runs by the command, and its lines, curves and pictures are written."""
    if name == "replay" and not TICKS.is_file():
        pytest.skip("the ticks have not been fetched")
    ended = subprocess.run(
        [
            *(sys.executable, str(benchmark_path.BENCHMARKS / "bench.py")),
            *("--only", name, "--short", "--out", str(tmp_path)),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    (finding,) = told["findings"]
    assert finding["measurement"] == name
    assert finding["lines"] or finding["curves"]
    assert all(line["median"] == line["median"] for line in finding["lines"])
    assert {"idle", "stolen", "seconds"} <= finding["machine"].keys()
    assert told["machine"]["cores"] >= 1
    table = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert all(line["name"] in table for line in finding["lines"])
    assert all(curve["name"] in table for curve in finding["curves"])
    assert len(list(tmp_path.glob("*.svg"))) == len(finding["curves"])


def test_subjects_take_turns_and_the_first_round_does_not_count():
    """Every subject is called in each round, one after the other, and told is a number a round."""
    called = []
    subjects = [Subject(name, lambda name=name: called.append(name), 2) for name in "ab"]
    timed = interleave(subjects, 3)
    assert called == list("aabb") * 4
    assert [len(each.values) for each in timed.values()] == [3, 3]
    assert [len(each.tails) for each in timed.values()] == [3, 3]
    numbers = iter(range(6))
    told = interleave_measures({name: lambda: float(next(numbers)) for name in "ab"}, 2, "ms")
    assert {name: each.values for name, each in told.items()} == {"a": [2.0, 4.0], "b": [3.0, 5.0]}


def test_a_refusal_is_no_fast_answer():
    """A question that was refused, or outcomes for want of an answer, end the measurement with the reason."""
    with pytest.raises(RuntimeError, match="MODEL_NOT_READY: it is loading"):
        answered([Refusal(Reason.MODEL_NOT_READY, "it is loading")])
    with pytest.raises(RuntimeError, match="not all questions were answered: DEADLINE_EXCEEDED, UNAVAILABLE"):
        told_outcomes(Counter(HOLD=9, UNAVAILABLE=1, DEADLINE_EXCEEDED=1))
    assert told_outcomes(Counter(HOLD=3, BUY=1, UNAVAILABLE=0)).startswith("HOLD 75%, BUY 25%")


def test_each_reason_for_an_outcome_without_an_answer_is_one():
    """A reason that is renamed cannot pass by unnoticed."""
    assert {reason.value for reason in Reason} >= UNANSWERED


def test_a_ratio_compares_round_by_round():
    """Noise that hits both subjects of a round cancels; told are the median, the lowest and the highest."""
    assert Ratio.of(series(2, 30, 8), series(1, 10, 2)) == Ratio(3, 2, 4)
    with pytest.raises(ValueError, match="zip"):
        Ratio.of(series(1), series(1, 2))


def test_a_bound_is_met_or_not_by_the_median_ratio():
    """At most and at least are told apart; a line without a bound has no verdict."""
    both = {"ours": series(3, 3, 30), "theirs": series(1, 1, 1)}
    assert compare("ours", both, "theirs", bound=3).met is True
    assert compare("ours", both, "theirs", bound=2.9).met is False
    assert compare("ours", both, "theirs", bound=3, sense=AT_LEAST).met is True
    assert compare("ours", both, "theirs", bound=3.1, sense=AT_LEAST).met is False
    assert compare("ours", both, "theirs").met is None
    assert Line("ours", both["ours"], bound=1).met is None


def test_a_curve_has_the_exponent_of_its_larger_half():
    """What is flat first and then grows with the square has the exponent 2; two points are a curve too."""
    grown = {size: series(max(100.0, size**2)) for size in (1, 3, 10, 30, 100, 300)}
    assert Curve.through("c", grown).exponent == pytest.approx(2)
    bends = {1: series(1.0), 10: series(1.0), 100: series(1.0), 1000: series(10.0)}
    assert Curve.through("c", bends).last == pytest.approx(1)
    assert Curve.through("c", {1: series(5.0), 10: series(5.0)}).exponent == pytest.approx(0)


def test_the_table_tells_bounds_verdicts_and_curves():
    """A bound that is not met stands out; a curve is told by its ends and its exponent."""
    both = {"ours": series(3000.0), "theirs": series(1000.0)}
    curve = Curve.through("cost by rows", {1: series(2.0), 10: series(20.0)})
    table = table_of([Finding("m", "t", [compare("ours", both, "theirs", bound=2)], [curve])])
    assert "| ours | 3,000 us | theirs | 3.00 (3.00 to 3.00) | at most 2 | **not met** |" in table
    assert "| cost by rows | 1: 2 us | 10: 20 us | 1.00 |" in table


def test_a_finding_is_written_whole(tmp_path):
    """The file has every number of every round, and why a measurement was skipped."""
    both = {"ours": series(3.0, 5.0), "theirs": series(1.0, 1.0)}
    findings = [
        Finding("m", "t", [compare("ours", both, "theirs", bound=5)]),
        Finding("n", "u", skipped="no peer"),
    ]
    write_findings(findings, {"cores": 2}, tmp_path / "deep" / "bench.json")
    told = json.loads((tmp_path / "deep" / "bench.json").read_text(encoding="utf-8"))
    first, second = told["findings"]
    assert first["lines"][0]["series"]["values"] == [3.0, 5.0]
    assert (first["lines"][0]["median"], first["lines"][0]["met"]) == (4.0, True)
    assert second["skipped"] == "no peer"


def test_a_picture_has_its_curve_in_words(tmp_path):
    """Title, axes and the ends of the curve are text in the SVG; the same curve gives the same file."""
    curve = Curve.through("a tick by strategies", {1: series(7.5), 1000: series(8586.0)})
    (file,) = draw([curve], tmp_path / "one")
    (again,) = draw([curve], tmp_path / "two")
    shown = file.read_text(encoding="utf-8")
    assert file.name == "a-tick-by-strategies.svg"
    for text in ("a tick by strategies", ">strategies<", "median, us", "7.5 us", "8,586 us", "1,000"):
        assert text in shown
    assert again.read_bytes() == file.read_bytes()


def test_a_short_effort_is_small():
    """A short run makes few calls, of few sizes; a long one what was asked for."""
    assert (Effort(1, short=True).calls(300), Effort(1, short=True).sizes([1, 2, 3])) == (5, [1, 2])
    assert (Effort().calls(300), Effort().sizes([1, 2, 3])) == (300, [1, 2, 3])
