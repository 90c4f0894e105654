"""The benchmarks' checks can fail: each is fed what it is there to notice."""

import benchmark_path  # noqa: F401 - makes the modules below importable
import grpc
import numpy as np
import pytest
from expectation import Expectation, Known, Told
from process_size import Size, slope
from removed_calls import RemovedCalls
from rich.console import Console
from rows import ASKED, ROWS_A_CALL, rows_of
from stress_client import Client, LateError
from stress_report import Came, exit_code, figures, missed, show, tail, wrongs

ROWS = rows_of(3)
ANSWERS = {version: ASKED.sum(axis=1).astype(float) + 1000 * version for version in (1, 2)}
DIGESTS = {1: "aa", 2: "bb"}


class Looks:
    """What an onlooker saw."""

    def __init__(self, failed=0):
        self.failed = failed
        self.faults = ["ServerReady: says no"] * failed
        self.looks = {"ServerReady": 10}


@pytest.fixture
def expectation():
    """Two versions of one model."""
    return Expectation(
        {"m": [Known(version, frozenset({DIGESTS[version]}), ANSWERS[version]) for version in (1, 2)]}
    )


def told(version=1, digest=None, values=None):
    """Return an answer, right but for what is said."""
    return Told(version, digest or DIGESTS[version], ANSWERS[version][ROWS] if values is None else values)


def one_row_of(version, other):
    """Return a version's answers with the last row's by another version."""
    values = ANSWERS[version][ROWS].copy()
    values[-1] = ANSWERS[other][ROWS][-1]
    return values


def test_a_right_answer_has_no_fault(expectation, tmp_path):
    """An answer of the version that it names is right, also when the expectation went through a file."""
    expectation.write(tmp_path / "facts")
    for known in (expectation, Expectation.read(tmp_path / "facts")):
        assert known.fault("m", ROWS, told(1)) == ""
        assert known.fault("m", ROWS, told(2)) == ""


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (told(1, values=ANSWERS[2][ROWS]), "names version 1, answers "),
        (told(1, values=one_row_of(1, 2)), "names version 1, answers "),
        (told(1, digest="bb"), "with the digest bb of another"),
        (Told(3, "cc", ANSWERS[1][ROWS]), "names version 3, which does not exist"),
        (told(1, values=np.full(ROWS_A_CALL, np.nan)), "answers nan"),
        (told(1, values=ANSWERS[1][ROWS][:-1]), "3 answers to 4 rows"),
        (told(1, values=ANSWERS[1][ROWS] + 0.02), "names version 1"),
    ],
)
def test_an_answer_that_is_not_of_its_version_is_noticed(expectation, answer, text):
    """B1: wrong numbers, one row of another version, another's digest, NaN, too few rows: each is a fault."""
    assert text in expectation.fault("m", ROWS, answer)


class Failure(grpc.RpcError):
    """A call that ended with a status."""

    def __init__(self, code):
        super().__init__()
        self._code = code

    def code(self):
        return self._code


@pytest.mark.parametrize(
    ("outcome", "may_be_late", "counted"),
    [
        (told(1), False, {}),
        (told(1, digest="bb"), False, {"mixed": 1}),
        (Failure(grpc.StatusCode.UNAVAILABLE), True, {"failed": 1}),
        (Failure(grpc.StatusCode.DEADLINE_EXCEEDED), False, {"failed": 1}),
        (Failure(grpc.StatusCode.DEADLINE_EXCEEDED), True, {"late": 1}),
        (LateError("late"), True, {"late": 1}),
        (LateError("late"), False, {"failed": 1}),
        (RuntimeError("a part failed"), True, {"failed": 1}),
        (StopIteration(), False, {"failed": 1}),
    ],
)
def test_a_client_counts_what_came(expectation, outcome, may_be_late, counted):
    """B1, B6: a wrong answer is mixed, an error is a failure, a deadline is late only where it is short."""

    def ask(model, rows):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    client = Client(ask, ("m",), expectation, may_be_late=may_be_late)
    client.call("swaps 0", 3, 0.0)
    phase = client.seen["swaps 0"]
    assert phase.calls == 1
    assert {
        name: getattr(phase, name) for name in ("failed", "late", "mixed") if getattr(phase, name)
    } == counted
    assert bool(phase.faults) == bool(counted.keys() - {"late"})
    assert len(phase.latency_us) == (1 if isinstance(outcome, Told) else 0)


def seen(latency_us, **counts):
    """Return what one client saw in one phase."""
    return {
        "calls": len(latency_us),
        "failed": 0,
        "late": 0,
        "mixed": 0,
        "faults": [],
        "latency_us": list(latency_us),
        "wait_us": list(latency_us),
        **counts,
    }


def came(*, swaps_us=1000.0, grows=0, looks=0, removed=None, **counts):
    """Return a run of two rounds, fine but for what is said."""
    phases = {
        name: seen([us] * 100, **(counts if name == "swaps 1" else {}))
        for number in (0, 1)
        for name, us in ((f"swaps {number}", swaps_us), (f"idle {number}", 1000.0))
    }
    sizes = [Size(swaps, 100, 50, 10 + grows * swaps, 20) for swaps in range(0, 110, 10)]
    return Came(
        100, {"renamed": [200.0]}, sizes, {"Predict": phases}, Looks(looks), removed or RemovedCalls()
    )


def test_a_good_run_ends_well():
    """Nothing failed, nothing grew, no tail: exit 0, and the figures say so."""
    assert wrongs(came()) == missed(came()) == []
    assert exit_code(came(), check=True) == 0
    assert figures(came())["tail_latency"]["ratio"] == 1.0


def test_a_client_that_was_never_answered_in_time_has_no_latency(capsys):
    """An impatient client on a busy machine is counted and shown, without percentiles."""
    run = came()
    run.clients["Predict, impatient"] = {"mix": seen([], calls=7, late=7)}
    assert figures(run)["clients"]["Predict, impatient, mix"]["latency_us"] is None
    show(run, Console(width=200))
    [line] = [line for line in capsys.readouterr().out.splitlines() if "impatient" in line]
    assert line.count("7") == 2


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (came(failed=1, faults=["x"]), "Predict, swaps 1: 1 failed, 0 mixed: x"),
        (came(mixed=2, faults=["y"]), "0 failed, 2 mixed: y"),
        (came(looks=3), "looks: 3 failed: ServerReady: says no"),
        (came(removed=RemovedCalls(calls=8, failed=1, outlived=4, faults=["cut"])), "1 failed: cut"),
        (came(removed=RemovedCalls(calls=8)), "no call outlived"),
    ],
)
def test_what_failed_or_lied_fails_the_run(run, text):
    """B1, B2, B5: one failed call, mixed answer, wrong look or cut call is told and exits with 1."""
    [told_] = wrongs(run)
    assert text in told_
    assert exit_code(run, check=False) == 1


def test_missed_targets_fail_only_a_run_that_checks():
    """B3, B4: a tail of three times idle and growing threads are told; with --check they exit with 1."""
    slow, growing = came(swaps_us=3000.0), came(grows=0.1)
    assert tail(slow.clients, "latency_us").by_round == [3.0, 3.0]
    assert "3.00 times that of idle" in missed(slow)[0]
    assert "threads grows by 100.00 per 1,000 swaps" in missed(growing)[0]
    for run in (slow, growing):
        assert exit_code(run, check=False) == 0
        assert exit_code(run, check=True) == 1


def test_a_slope_leaves_out_the_settling():
    """B3: what grows in the first fifth only is flat."""
    sizes = [Size(swaps, min(swaps, 20), 0, 0, 0) for swaps in range(0, 110, 10)]
    assert slope(sizes, "resident_mib") == pytest.approx(0)
    assert slope(
        [Size(swaps, swaps, 0, 0, 0) for swaps in range(0, 110, 10)], "resident_mib"
    ) == pytest.approx(1000)
