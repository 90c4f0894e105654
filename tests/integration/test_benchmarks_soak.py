"""A soak of some seconds takes part in everything, finds nothing wrong with a good sidecar, sees faults."""

import json
import math
import random
import subprocess
import sys
from dataclasses import replace

import benchmark_path
import pytest
from process_size import Size
from soak_memory import Memory
from soak_report import Soaked, State, problems

BEFORE = Size(0, 100.0, 50.0, 8, 20)


@pytest.mark.slow
def test_a_short_soak_finds_nothing_wrong(tmp_path):
    """Every caller and every way of misbehaving takes part, and the process ends with 0 and a verdict."""
    out = tmp_path / "soak.json"
    command = [
        sys.executable,
        str(benchmark_path.BENCHMARKS / "soak.py"),
        "--minutes",
        "0.25",
        "--out",
        str(out),
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "verdict: good, after 0.25 min"
    seen = json.loads(out.read_text())
    last = seen["states"][-1]
    assert len(last["answered"]) >= 8
    assert min(*last["answered"].values(), *last["hostile"].values(), last["swaps"]) > 0
    assert seen["left"]["descriptors"] <= seen["before"]["descriptors"] + 4


def soaked(minutes=10, **changed):
    """A run of ten minutes that saw nothing wrong, but for what is changed."""
    state = {
        "seconds": 0,
        "answered": {"a": 1},
        "failed": 0,
        "wrong": 0,
        "slowest_ms": 1.0,
        "faults": [],
        "hostile": {"stall": 1},
        "swaps": 1,
        "killed": 1,
        "bugs": 0,
    }
    grows = changed.pop("grows", 0.0)
    run = {name: changed.pop(name) for name in ("crashed", "in_flight", "left") if name in changed}
    sizes = [
        Size(second, 100.0 + grows * second, 50.0, 8, int(20 + grows * second))
        for second in range(0, minutes * 60 + 2, 2)
    ]
    memory = Memory(60.0, 25.0, 260.0)
    states = [
        State(**(state | {"seconds": size.swaps, "size": size, "memory": memory} | changed)) for size in sizes
    ]
    return Soaked(minutes, BEFORE, states, **({"left": BEFORE} | run))


def an_hour(resident_mib, heap_mib, kblocks):
    """A run of an hour whose memory is so at each minute, a number for each, between noise and floods."""
    run = soaked(minutes=60)
    noise = random.Random(1)  # noqa: S311 - for variety
    run.states = [
        replace(
            state,
            size=replace(state.size, resident_mib=resident_mib(state.seconds / 60) + noise.gauss(0, 2)),
            memory=Memory(
                60.0,
                heap_mib(state.seconds / 60) + noise.expovariate(0.5),
                kblocks(state.seconds / 60) + noise.expovariate(0.1),
            ),
        )
        for state in run.states
    ]
    return run


def test_a_run_without_a_fault_has_no_problems():
    """Nothing is said of what is as it should be."""
    assert problems(soaked()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"failed": 1}, "1 calls of well-behaved callers failed"),
        ({"wrong": 2}, "2 answers were wrong"),
        ({"bugs": 1}, "1 bugs are in the sidecar's log"),
        ({"crashed": True}, "crashed"),
        ({"in_flight": 3}, "3 calls are in flight"),
        ({"answered": {"a": 0}}, "not all of it took part: a"),
        ({"hostile": {"stall": 0}}, "not all of it took part: stall"),
        ({"swaps": 0}, "not all of it took part"),
        ({"left": Size(0, 100.0, 50.0, 8, 30)}, "10 more descriptors"),
        ({"left": Size(0, 100.0, 50.0, 30, 20)}, "22 more threads"),
        ({"grows": 0.2}, "resident_mib grew"),
        ({"grows": 0.2}, "descriptors grew"),
    ],
)
def test_each_fault_is_named(changed, said):
    """What is not as it should be is a problem, in words."""
    assert any(said in text for text in problems(soaked(**changed))), problems(soaked(**changed))


def test_a_flood_that_comes_and_goes_is_no_growth():
    """What is high at times and comes back is not called a leak."""
    run = soaked()
    run.states = [
        replace(each, size=replace(each.size, descriptors=900 if each.seconds % 60 else 20))
        for each in run.states
    ]
    assert problems(run) == []


def test_a_leak_of_20_mib_an_hour_is_found_wherever_it_is():
    """In the heap, in Python's objects, or in memory that only the kernel knows of."""
    leaks = {
        "heap_mib": an_hour(lambda _: 110, lambda minute: 25 + minute / 3, lambda _: 260),
        "python_kblocks": an_hour(lambda _: 110, lambda _: 25, lambda minute: 260 + 300 * minute / 60),
        "resident_mib": an_hour(lambda minute: 110 + minute / 3, lambda _: 25, lambda _: 260),
    }
    for name, run in leaks.items():
        assert [text.split()[0] for text in problems(run)] == [name]


def test_what_an_allocator_keeps_is_no_leak():
    """Resident memory that creeps ever more slowly, with steps and noise, above what is in use."""
    run = an_hour(
        lambda minute: 100 + 8 * math.log10(1 + minute) + 3 * (minute > 40), lambda _: 25, lambda _: 260
    )
    assert problems(run) == []


def test_growth_that_nobody_told_of_is_not_taken_for_none():
    """A sidecar that does not say what is in use is not said to be good."""
    run = soaked(memory=None)
    assert problems(run) == [
        f"{name} was not told, so that its growth is not known" for name in ("heap_mib", "python_kblocks")
    ]
