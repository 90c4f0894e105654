"""The recent ticks of one instrument, as strategies that look back equally far see them."""

import logging
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar, cast, overload

from strategy_client.configuration import is_interrupt
from strategy_client.events import MarketTick
from strategy_client.features import FeatureStream, feature_by_name

log = logging.getLogger(__name__)


class Follower(Protocol):
    """Something that is told each price: a feature's or a feature set's stream."""

    def update(self, price: float) -> None:
        """Take the next price."""
        ...


FollowerT = TypeVar("FollowerT", bound=Follower)
FollowerT_co = TypeVar("FollowerT_co", bound=Follower, covariant=True)


class Definition(Hashable, Protocol[FollowerT_co]):
    """What a follower is made from: a feature or a feature set. Equal ones start equal followers."""

    @property
    def window(self) -> int:
        """Ticks that one value looks at, the current one among them."""
        ...

    def stream(self) -> FollowerT_co:
        """Start a new series."""
        ...


class History(Sequence[MarketTick]):
    """The last `capacity` ticks, the oldest first; the last one is the tick being processed.

    To a processor it reads as the list that Alpha Panda hands over: `len`, `[-1]`, `[-L]`, iteration, slices
    (a slice is a copy). `append` is O(1) and copies nothing. Streams that follow a history are told each
    tick's price as it comes, so a feature costs O(1) a tick, however long its window; those of equal
    definitions are one, whichever strategies look at it.
    """

    __slots__ = ("_followers", "_ticks")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity: expected at least 1 tick, came {capacity}")
        self._ticks: deque[MarketTick] = deque(maxlen=capacity)
        self._followers: dict[Hashable, Follower] = {}

    def append(self, tick: MarketTick, price: float | None = None) -> None:
        """Take the next tick; its price is finite and above 0, the edge has seen to that.

        `price` is the tick's as a float, for who has it already.

        Never raises, Ctrl-C apart: a follower that does, a feature of a user's own, is let go, and started
        anew over the ticks held for who asks for it next.
        """
        self._ticks.append(tick)
        if not self._followers:
            return
        if price is None:
            price = float(tick.last_price)
        raised = []
        for key, follower in self._followers.items():
            try:
                follower.update(price)
            except BaseException as error:
                # A user's feature may raise anything; the tick goes on without it.
                if is_interrupt(error):
                    raise
                log.exception("%s raised on %s and begins anew", key, tick)
                raised.append(key)
        for key in raised:
            del self._followers[key]

    def follow(self, definition: Definition[FollowerT]) -> FollowerT:
        """Return its stream here; started, and told the ticks held, when it is first asked for."""
        return self._follow(definition, definition.stream)

    def _follow(self, key: Hashable, start: Callable[[], FollowerT]) -> FollowerT:
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

        return self._follow(name, start).value()

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


def follow(history: Sequence[MarketTick], definition: Definition[FollowerT]) -> FollowerT:
    """Return a stream that stands at the last tick of `history`.

    On a `History` it is the one that follows it; on a plain list a new one that was told the last ticks of
    its window, O(window).
    """
    if isinstance(history, History):
        return history.follow(definition)
    return _told(definition.stream(), history[-definition.window :])


class Following(Generic[FollowerT]):
    """As `follow`, for who asks at each tick: the stream of the `History` asked for last is remembered.

    The stream must not raise: a history lets go of one that does, which would not be noticed here.
    """

    __slots__ = ("_definition", "_history", "_stream")

    def __init__(self, definition: Definition[FollowerT]) -> None:
        self._definition = definition
        self._history: History | None = None
        self._stream: FollowerT | None = None

    def on(self, history: Sequence[MarketTick]) -> FollowerT:
        """Return the stream that stands at the last tick of `history`."""
        if history is not self._history or self._stream is None:
            stream = follow(history, self._definition)
            if not isinstance(history, History):
                return stream
            self._history, self._stream = history, stream
        return self._stream


def _told(follower: FollowerT, ticks: Sequence[MarketTick] | deque[MarketTick]) -> FollowerT:
    for tick in ticks:
        follower.update(float(tick.last_price))
    return follower
