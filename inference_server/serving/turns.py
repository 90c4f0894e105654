"""Which of the runs that wait for a thread may have one now."""

import asyncio
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from inference_server.serving.registry import Entry


class _Lane:
    """The runs of one entry. `hangs`: its last run that ended or was looked at took too long."""

    __slots__ = ("hangs", "running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: dict[Turn, None] = {}
        self.hangs = False


class Turn:
    """One run's turn: it waits until `granted` is done, and is given back once."""

    __slots__ = ("granted", "lane", "overdue", "shared")

    def __init__(self, lane: _Lane) -> None:
        self.lane = lane
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.shared = False
        self.overdue = False

    def __repr__(self) -> str:
        return f"<Turn {'overdue' if self.overdue else 'granted' if self.granted.done() else 'waiting'}>"


@dataclass(frozen=True, slots=True)
class TurnsOptions:
    """Bounds on runs in threads.

    At most `per_servable` runs of one servable go on at a time, and `at_once` of all that are not overdue; a
    run is overdue after `overdue_s`.
    """

    per_servable: int = 2
    at_once: int = 4
    overdue_s: float = 0.1

    def __post_init__(self) -> None:
        if self.per_servable < 1 or self.at_once < 1 or self.overdue_s <= 0:
            raise ValueError(f"expected bounds of at least 1 run and more than 0 s, came {self}")


class Turns:
    """Grants turns. On the event loop's thread; it never waits and knows no time: others say what is overdue.

    There are two bounds: a servable's own, which nothing lifts, and one on all runs together, so that many
    models at once do not share the processors too thinly. An overdue run counts for the first only. So a
    model that hangs takes shared places for `overdue_s`; what comes for it after that needs none, until a run
    of it ends in time. Models that wait for a shared place get it in turn, whatever the length of each queue.
    """

    def __init__(self, options: TurnsOptions) -> None:
        self.options: Final = options
        self._shared = 0
        self._lanes: WeakKeyDictionary[Entry, _Lane] = WeakKeyDictionary()
        # Lanes that wait for nothing but a shared place, in the order in which they get the next ones.
        self._next: dict[_Lane, None] = {}

    def __repr__(self) -> str:
        running = sum(lane.running for lane in self._lanes.values())
        waiting = sum(len(lane.waiting) for lane in self._lanes.values())
        return f"<Turns {running} running, {self._shared} of them not overdue, {waiting} waiting>"

    def ask(self, entry: Entry) -> Turn:
        """Return a turn for a run of this entry, granted at once where there is room."""
        lane = self._lanes.get(entry)
        if lane is None:
            lane = self._lanes[entry] = _Lane()
        turn = Turn(lane)
        lane.waiting[turn] = None
        self._settle(lane)
        return turn

    def set_overdue(self, turn: Turn) -> None:
        """Say that a run which has its turn takes too long."""
        turn.overdue = turn.lane.hangs = True
        self._free_shared(turn)
        self._settle(turn.lane)

    def give_back(self, turn: Turn, *, ran: bool = True) -> None:
        """Take a turn back: its run has ended, or did not begin and never will."""
        lane = turn.lane
        if turn in lane.waiting:
            del lane.waiting[turn]
        else:
            lane.running -= 1
            if ran:  # only what ends in time proves that the model does not hang
                lane.hangs = turn.overdue
            self._free_shared(turn)
        self._settle(lane)

    def _free_shared(self, turn: Turn) -> None:
        if turn.shared:
            turn.shared = False
            self._shared -= 1

    def _settle(self, lane: _Lane) -> None:
        """Grant what may begin now that something of this lane has changed, there and elsewhere."""
        while lane.hangs and self._may_begin(lane):
            self._grant(lane)
        if self._may_begin(lane):
            self._next.setdefault(lane)
        else:
            self._next.pop(lane, None)
        while self._next and self._shared < self.options.at_once:
            lane = next(iter(self._next))
            del self._next[lane]
            self._grant(lane)
            if self._may_begin(lane):
                self._next[lane] = None

    def _may_begin(self, lane: _Lane) -> bool:
        return bool(lane.waiting) and lane.running < self.options.per_servable

    def _grant(self, lane: _Lane) -> None:
        turn = next(iter(lane.waiting))
        del lane.waiting[turn]
        lane.running += 1
        if not lane.hangs:
            turn.shared = True
            self._shared += 1
        if not turn.granted.done():  # cancelled a moment ago; it is about to be given back
            turn.granted.set_result(None)
