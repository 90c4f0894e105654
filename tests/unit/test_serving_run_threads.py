"""Threads for runs: made when needed, used again, given way, and closed."""

import contextlib
import os
import threading
from collections.abc import Iterator

import pytest
from sidecars import PATIENCE_S, eventually

from inference_server.serving.run_threads import (
    GIVING_WAY,
    LEAST_PRIORITY,
    NoThreadError,
    RunThreads,
    RunThreadsOptions,
    ThreadsClosedError,
)


@pytest.fixture
def threads() -> Iterator[RunThreads]:
    """At most two threads; all of them are gone after the test."""
    made = RunThreads(RunThreadsOptions(max_threads=2, max_giving_way=2))
    with contextlib.closing(made):
        yield made
    eventually(lambda: made.threads == 0, "the threads have ended")


class Step:
    """A function for a thread that waits until it is told to go on."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.done = threading.Event(), threading.Event(), threading.Event()
        self.thread_id = 0
        self.nice = 0

    def __call__(self) -> None:
        self.thread_id = threading.get_native_id()
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        self.nice = os.getpriority(os.PRIO_PROCESS, self.thread_id)
        self.done.set()


def test_a_thread_that_is_free_is_used_again(threads: RunThreads) -> None:
    """One thread does one thing after the other; a second is made only while the first is busy."""
    seen = set()
    for _ in range(5):
        step = Step()
        step.go_on.set()
        threads.submit(step)
        assert step.done.wait(PATIENCE_S)
        seen.add(step.thread_id)
        eventually(lambda: "1 of them idle" in repr(threads), "it is free")
    assert len(seen) == 1
    busy = [Step(), Step()]
    for step in busy:
        threads.submit(step)
    assert all(step.begun.wait(PATIENCE_S) for step in busy)
    assert threads.threads == 2
    for step in busy:
        step.go_on.set()


def test_beyond_the_bound_work_waits_and_can_be_taken_back(threads: RunThreads) -> None:
    """The third thing waits for a free thread; taken back it is never done, begun it cannot be taken back."""
    steps = [Step() for _ in range(4)]
    works = [threads.submit(step) for step in steps]
    assert all(step.begun.wait(PATIENCE_S) for step in steps[:2])
    assert threads.threads == 2
    assert [threads.cancel(work) for work in works] == [False, False, True, True]
    last = Step()
    threads.submit(last)
    for step in (*steps[:2], last):
        step.go_on.set()
    assert last.done.wait(PATIENCE_S)
    assert not any(step.begun.is_set() for step in steps[2:])


def test_a_thread_that_gives_way_makes_room_and_ends(threads: RunThreads) -> None:
    """E8: told to give way, threads fall in priority and ones of full priority do what waits for them."""
    hangs, waits = [Step(), Step()], Step()
    works = [threads.submit(step) for step in hangs]
    assert all(step.begun.wait(PATIENCE_S) for step in hangs)
    waits.go_on.set()
    threads.submit(waits)
    assert not waits.begun.is_set()
    for work in works:
        threads.give_way(work)
        threads.give_way(work)
    assert waits.done.wait(PATIENCE_S)
    assert waits.nice == os.nice(0)
    assert threads.threads == 1
    for step in hangs:
        step.go_on.set()
        assert step.done.wait(PATIENCE_S)
    assert [step.nice for step in hangs] == [min(os.nice(0) + GIVING_WAY, LEAST_PRIORITY)] * 2
    eventually(
        lambda: not {step.thread_id for step in hangs} & {it.native_id for it in threading.enumerate()},
        "the threads have ended",
    )
    threads.give_way(works[0])  # too late, and no harm


def test_closed_threads_take_nothing_and_drop_what_waits() -> None:
    """F3: after the close nothing is begun, and a thread ends when its work does."""
    threads = RunThreads(RunThreadsOptions(max_threads=1))
    busy, waits = Step(), Step()
    threads.submit(busy)
    assert busy.begun.wait(PATIENCE_S)
    threads.submit(waits)
    threads.close()
    with pytest.raises(ThreadsClosedError):
        threads.submit(waits)
    busy.go_on.set()
    eventually(lambda: threads.threads == 0, "the thread has ended")
    assert not waits.begun.is_set()


def test_those_that_give_way_are_bounded_too(threads: RunThreads) -> None:
    """E8: however much hangs, there are no more threads than the two bounds allow together."""
    steps = [Step() for _ in range(6)]
    works = [threads.submit(step) for step in steps]
    for step, work in zip(steps[:4], works[:4], strict=True):
        assert step.begun.wait(PATIENCE_S)
        threads.give_way(work)
    assert "2, 0 of them idle, 2 giving way" in repr(threads)
    assert not any(step.begun.is_set() for step in steps[4:])
    for step in steps:
        step.go_on.set()
    assert all(step.done.wait(PATIENCE_S) for step in steps), "what waited is done when there is room"
    eventually(lambda: "0 giving way" in repr(threads), "no more give way")


@pytest.fixture
def no_more(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The system gives no more threads, until this is undone."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    return monkeypatch


def test_work_that_gets_no_thread_is_refused_and_never_done(
    threads: RunThreads, no_more: pytest.MonkeyPatch
) -> None:
    """E6: without a thread work is refused; it is not done later, and the next work gets its thread."""
    refused, later = Step(), Step()
    with pytest.raises(NoThreadError):
        threads.submit(refused)
    no_more.undo()
    later.go_on.set()
    threads.submit(later)
    assert later.done.wait(PATIENCE_S)
    eventually(lambda: "1, 1 of them idle" in repr(threads), "one thread has been made")
    assert not refused.begun.is_set()


def test_work_that_gets_no_thread_of_its_own_waits_for_one(
    threads: RunThreads, request: pytest.FixtureRequest
) -> None:
    """E8: where no second thread can be made the first one takes both, so it does not give way either."""
    first, second = Step(), Step()
    work = threads.submit(first)
    assert first.begun.wait(PATIENCE_S)
    request.getfixturevalue("no_more")
    second.go_on.set()
    threads.submit(second)
    threads.give_way(work)
    assert not second.begun.is_set()
    first.go_on.set()
    assert second.done.wait(PATIENCE_S)
    assert first.nice == second.nice == os.nice(0)


@pytest.mark.parametrize("options", [{"max_threads": 0}, {"max_giving_way": -1}])
def test_impossible_bounds_on_threads_are_refused(options: dict[str, int]) -> None:
    """Bounds with which nothing could run are refused when they are made."""
    with pytest.raises(ValueError, match="expected at least 1 thread"):
        RunThreadsOptions(**options)
