"""Calls, departures, deadlines, swaps and threads in any order and at any await: every call ends, once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock
from servables import FunctionServable, features

from inference_server.core.errors import (
    DeadlineExceededError,
    OverloadedError,
    ServingError,
    UnavailableError,
)
from inference_server.core.tensor import Array
from inference_server.serving.data_plane import Answer, Call, DataPlane, DataPlaneOptions
from inference_server.serving.registry import Entry, Registry
from inference_server.serving.run_threads import NoThreadError, ThreadsClosedError
from inference_server.serving.turns import TurnsOptions

MODELS = ("slow", "other", "quick")
OPTIONS = st.builds(
    DataPlaneOptions,
    max_calls_in_flight=st.integers(2, 6),
    max_calls_per_model=st.integers(1, 4),
    turns=st.builds(TurnsOptions, per_servable=st.integers(1, 2), at_once=st.integers(1, 2)),
)
ANY = st.integers(0, 9)
EVENTS = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(
                st.just("call"),
                st.lists(st.sampled_from(MODELS), min_size=1, max_size=3),
                st.sampled_from([None, None, 0.0, 0.05, 0.2]),
            ),
            st.tuples(st.just("leave"), ANY),
            st.tuples(st.just("begin"), ANY),
            st.tuples(st.just("begin"), ANY),
            st.tuples(st.just("end"), ANY),
            st.tuples(st.just("end"), ANY),
            st.tuples(st.just("wait"), st.sampled_from([0.05, 0.11])),
            st.tuples(st.just("swap"), st.sampled_from(MODELS)),
            st.tuples(st.just("lack"), st.booleans()),
            st.tuples(st.just("close"), st.none()),
        ),
        st.integers(0, 4),  # of the loop's turns that pass before the next event
    ),
    min_size=12,
    max_size=40,
)


@dataclass(eq=False)
class Work:
    """A run for a thread; it is there until it has ended or is taken back."""

    function: Callable[[], None]
    number: int
    begun: bool = False


@dataclass
class Threads:
    """Implements RunThreads: its threads begin and end when they are told, one step after the other."""

    works: list[Work] = field(default_factory=list)
    lacking: bool = False
    closed: bool = False
    submitted: int = 0
    at_rest: bool = False

    def submit(self, function: Callable[[], None]) -> Work:
        if self.closed:
            raise ThreadsClosedError
        if self.lacking:
            raise NoThreadError
        self.submitted += 1
        self.works.append(Work(function, self.submitted))
        return self.works[-1]

    def cancel(self, work: Work) -> bool:
        if work.begun or work not in self.works:
            return False
        self.works.remove(work)
        return True

    def give_way(self, work: Work) -> None:
        assert work in self.works or not self.at_rest, "what ended long ago is taken for overdue"

    def begin(self, number: int) -> None:
        if waiting := [work for work in self.works if not work.begun]:
            waiting[number % len(waiting)].begun = True

    def end(self, number: int) -> Work | None:
        """Let a run that has begun do all that it does, and be over."""
        if running := [work for work in self.works if work.begun]:
            work = running[number % len(running)]
            self.works.remove(work)
            work.function()
            return work
        return None


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is the manual clock's."""

    def __init__(self, clock: ManualClock) -> None:
        self._manual = clock
        super().__init__()

    def time(self) -> float:
        return self._manual.monotonic_ns() / 1e9


class World:
    """A data plane, its callers, and those who drain what was replaced."""

    def __init__(self, clock: ManualClock, options: DataPlaneOptions) -> None:
        self.clock = clock
        self.options = options
        self.registry = Registry()
        self.threads = Threads()
        self.plane = DataPlane(self.registry, self.clock, options, self.threads)  # type: ignore[arg-type]  # a twin
        self.asked: list[tuple[int, asyncio.Task[list[Answer | ServingError]]]] = []
        self.deadlines_ns: dict[int, int | None] = {}  # of each call, by its number
        self.hurried: set[asyncio.Task[Any]] = set()  # those of the calls that have a deadline
        self.late: list[int] = []  # calls that began to run at their deadline or after it
        self.waited = False
        self.servables: list[FunctionServable] = []
        self.entries: list[Entry] = []
        self.draining: list[asyncio.Task[None]] = []
        self.running = 0  # the call that ran last
        self.ran: list[
            tuple[FunctionServable, int, int]
        ] = []  # in threads: who, the work's number, the call's
        for model in MODELS:
            self.swap(model)

    def swap(self, model: str) -> None:
        """Publish other bytes in place of what answers, and drain that."""

        def function(rows: Array) -> Array:
            self.running = int(rows[0, 0])
            self.answering = servable
            deadline_ns = self.deadlines_ns[self.running]
            if deadline_ns is not None and self.clock.monotonic_ns() >= deadline_ns:
                self.late.append(self.running)
            return rows[:, :1]

        servable = FunctionServable(
            model,
            function=function,
            warm_up_ns=1000 if model == "quick" else 10**9,
            digest=f"{len(self.servables):064x}",
        )
        self.servables.append(servable)
        replaced = self.registry.publish(servable, 1)
        self.entries.append(self.registry.resolve(model))
        if replaced is not None:
            self.draining.append(asyncio.create_task(self._drain(replaced)))

    async def _drain(self, entry: Entry) -> None:
        (await entry.drain()).close()

    def call(self, models: list[str], timeout_s: float | None) -> None:
        deadline_ns = None if timeout_s is None else self.clock.monotonic_ns() + int(timeout_s * 1e9)
        calls = []
        for model in models:
            number = len(self.deadlines_ns) + 1
            self.deadlines_ns[number] = deadline_ns
            calls.append(Call(model, features((number, 2, 3))))
        answering = asyncio.create_task(self.plane.answer(calls, deadline_ns))
        self.asked.append((len(calls), answering))
        if deadline_ns is not None:
            self.hurried.add(answering)

    def end(self, number: int) -> None:
        """Let a run in a thread be over, and note what it ran."""
        before = self.running
        work = self.threads.end(number)
        if work is not None and self.running != before:
            self.ran.append((self.answering, work.number, self.running))

    def check(self) -> None:
        """What holds at every moment."""
        assert self.plane.calls_in_flight <= self.options.max_calls_in_flight
        flights = [self.plane.calls_to(model)[0] for model in MODELS]
        assert sum(flights) == self.plane.calls_in_flight
        assert max(flights) <= self.options.max_calls_per_model
        assert all(entry.in_flight >= 0 for entry in self.entries)
        assert sum(entry.in_flight for entry in self.entries) >= len(self.threads.works)
        assert self.waited or len(self.threads.works) <= self.options.turns.at_once
        assert len(self.threads.works) <= len(self.servables) * self.options.turns.per_servable

    def step(self, kind: str, *what: Any) -> None:
        match kind, what:
            case "call", (list() as models, float() | None as timeout_s):
                self.call(models, timeout_s)
            case "leave", (int() as number,) if self.asked:
                self.asked[number % len(self.asked)][1].cancel()
            case "begin", (int() as number,):
                self.threads.begin(number)
            case "end", (int() as number,):
                self.end(number)
            case "wait", (float() as seconds,):
                self.waited = True
                self.clock.advance(seconds)
            case "swap", (str() as model,):
                self.swap(model)
            case "lack", (bool() as lacking,):
                self.threads.lacking = lacking
            case "close", _:
                # As RunThreads does: what waits is dropped, what runs goes on.
                self.threads.closed = True

    async def turn(self, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)
            self.check()

    async def rest(self) -> None:
        """Let everything end that can; what has not ended then never would."""
        self.threads.lacking = False
        self.waited = True
        self.clock.advance(1)
        await self.turn(6)
        # Whatever the threads do: who has a deadline has been told, and who has left takes no place.
        waiting = [(count, answering) for count, answering in self.asked if not answering.done()]
        assert not any(answering in self.hurried for _, answering in waiting)
        assert self.plane.calls_in_flight <= sum(count for count, _ in waiting)
        for _ in range(len(self.deadlines_ns) + 2):
            self.threads.begin(0)
            self.end(0)
            await self.turn(5)
        self.threads.at_rest = True
        self.clock.advance(1)
        await self.turn(2)

    def check_ends(self) -> None:
        """What holds when nothing can happen any more."""
        for count, answering in self.asked:
            assert answering.done(), "a call never ended"
            if not answering.cancelled():
                assert len(answering.result()) == count
                for result in answering.result():
                    assert isinstance(
                        result, Answer | OverloadedError | DeadlineExceededError | UnavailableError
                    )
        assert not self.late
        assert self.plane.calls_in_flight == 0
        assert [entry.in_flight for entry in self.entries] == [0] * len(self.entries)
        assert "<Turns 0 running, 0 of them not overdue, 0 waiting>" in repr(self.plane._turns)
        assert all(draining.done() and not draining.exception() for draining in self.draining)
        serving = {self.registry.resolve(model).servable for model in MODELS}
        assert [servable.closed for servable in self.servables] == [
            int(servable not in serving) for servable in self.servables
        ]


def run(events: list[tuple[tuple[Any, ...], int]], options: DataPlaneOptions) -> World:
    """Let a world go through a history, and to its rest."""
    clock, wrong = ManualClock(), []

    async def live() -> World:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        world = World(clock, options)
        for event, turns in events:
            world.step(*event)
            world.check()
            await world.turn(turns)
        await world.rest()
        world.check_ends()
        return world

    with asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner:
        world = runner.run(live())
    assert not wrong
    return world


# A thread that comes to its run only after the deadline, and a caller who leaves before a thread has come.
LATE = [(("call", ["slow"], 0.05), 4), (("begin", 0), 0), (("wait", 0.11), 0), (("end", 0), 0)]
LEFT = [(("call", ["slow"], None), 4), (("leave", 0), 4)]
# Two runs of one version that wait for the only shared place until the first of them is overdue.
OVERDUE = [(("call", ["slow", "slow"], None), 4)]


@example(LATE, DataPlaneOptions())
@example(LEFT, DataPlaneOptions())
@example(OVERDUE, DataPlaneOptions(turns=TurnsOptions(per_servable=2, at_once=1)))
@settings(max_examples=150, deadline=None)
@given(EVENTS, OPTIONS)
def test_whatever_comes_every_call_ends_once_and_nothing_is_left(
    events: list[tuple[tuple[Any, ...], int]], options: DataPlaneOptions
) -> None:
    """E1, E4, E6, B5: always within the bounds, in order, closed after the last run, and nothing is lost."""
    world = run(events, options)
    for servable in world.servables:
        begun = sorted((number, call) for who, number, call in world.ran if who is servable)
        calls = [call for _, call in begun]
        assert calls == sorted(calls), "one overtook another that waited for the same servable"
