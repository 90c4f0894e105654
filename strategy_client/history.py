"""The recent ticks of one instrument, as one strategy sees them."""

import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Protocol, TypeVar, cast, overload

from strategy_client.events import MarketTick
from strategy_client.features import FeatureStream, feature_by_name

log = logging.getLogger(__name__)


class Follower(Protocol):
    """Something that is told each price: a feature's or a feature set's stream."""

    def update(self, price: float) -> None:
        """Take the next price."""
        ...


FollowerT = TypeVar("FollowerT", bound=Follower)


class History(Sequence[MarketTick]):
    """The last `capacity` ticks, the oldest first; the last one is the tick being processed.

    To a processor it reads as the list that Alpha Panda hands over: `len`, `[-1]`, `[-L]`, iteration, slices
    (a slice is a copy). `append` is O(1) and copies nothing. Streams that follow a history are told each
    tick's price as it comes, so a feature costs O(1) a tick, however long its window.
    """

    __slots__ = ("_followers", "_ticks")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 tick, came {capacity}")
        self._ticks: deque[MarketTick] = deque(maxlen=capacity)
        self._followers: dict[Hashable, Follower] = {}

    def append(self, tick: MarketTick) -> None:
        """Take the next tick; its price is finite and above 0, the edge has seen to that.

        Never raises: a follower that does, a feature of a user's own, is let go, and started anew over the
        ticks held for who asks for it next.
        """
        self._ticks.append(tick)
        if not self._followers:
            return
        price = float(tick.last_price)
        raised = []
        for key, follower in self._followers.items():
            try:
                follower.update(price)
            except Exception:  # a user's feature may raise anything; the tick goes on without it
                log.exception("%s raised on %s and begins anew", key, tick)
                raised.append(key)
        for key in raised:
            del self._followers[key]

    def follow(self, key: Hashable, start: Callable[[], FollowerT]) -> FollowerT:
        """Return the stream kept under `key`; started, and told the ticks held, when it is first asked for.

        One key stands for one way of starting: a feature's name, or the names of a set.
        """
        follower = self._followers.get(key)
        if follower is None:
            follower = _told(start(), self._ticks)
            self._followers[key] = follower
        return cast("FollowerT", follower)

    def feature(self, name: str) -> float:
        """Return a named feature at the last tick; NaN while it warms up.

        Raises ConfigurationError for a name that is not known.
        """

        def start() -> FeatureStream:
            return feature_by_name(name).stream()

        return self.follow(name, start).value()

    def __len__(self) -> int:
        return len(self._ticks)

    @overload
    def __getitem__(self, index: int) -> MarketTick: ...
    @overload
    def __getitem__(self, index: slice) -> list[MarketTick]: ...
    def __getitem__(self, index: int | slice) -> MarketTick | list[MarketTick]:
        if isinstance(index, slice):
            return list(self._ticks)[index]
        return self._ticks[index]

    def __iter__(self) -> Iterator[MarketTick]:
        return iter(self._ticks)

    def __repr__(self) -> str:
        return f"History({len(self._ticks)} of {self._ticks.maxlen} ticks, {len(self._followers)} followers)"


def follow(
    history: Sequence[MarketTick], key: Hashable, start: Callable[[], FollowerT], window: int
) -> FollowerT:
    """Return a stream that stands at the last tick of `history`.

    On a `History` it is the one that follows it; on a plain list a new one that was told the last `window`
    ticks, O(window).
    """
    if isinstance(history, History):
        return history.follow(key, start)
    return _told(start(), history[-window:])


def _told(follower: FollowerT, ticks: Sequence[MarketTick] | deque[MarketTick]) -> FollowerT:
    for tick in ticks:
        follower.update(float(tick.last_price))
    return follower
