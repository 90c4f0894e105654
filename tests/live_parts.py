"""What the tests of the live run are made of: sources, stores and strategies that do as they are told."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from fixtures_ticks import OPEN

from strategy_client.configuration import Problem, StrategyConfig
from strategy_client.events import MarketTick, ProcessedTick, ShadowComparison, SignalResult
from strategy_client.live.prepared_factory import PreparedFactory
from strategy_client.live.session import LiveOptions, LiveRun, Strategies
from strategy_client.sources.bad_line import BadLines
from strategy_client.store.store import StrategySet

# Nobody listens there.
NOWHERE = "unix:/nonexistent/tickserve.sock"


class PushSource:
    """Gives the ticks that a test pushes, until it is closed or `end`."""

    def __init__(self) -> None:
        self._ticks: queue.Queue[MarketTick | None] = queue.Queue()
        self._second = 0
        self.closed = False

    def __iter__(self) -> Iterator[MarketTick]:
        while (tick := self._ticks.get()) is not None:
            yield tick

    def push(self, *prices: object, token: int = 1) -> None:
        """Give a tick of each price, a second apart."""
        for price in prices:
            self._second += 1
            moment = OPEN + timedelta(seconds=self._second)
            self._ticks.put(MarketTick(token, Decimal(str(price)), moment))

    def end(self) -> None:
        """End after what was pushed."""
        self._ticks.put(None)

    def close(self) -> None:
        """End."""
        self.closed = True
        self._ticks.put(None)


@dataclass
class Told:
    """A listener that remembers."""

    ticks: list[ProcessedTick] = field(default_factory=list)
    comparisons: list[ShadowComparison] = field(default_factory=list)

    def took(self, processed: ProcessedTick) -> None:
        """Remember."""
        self.ticks.append(processed)

    def compared(self, comparison: ShadowComparison) -> None:
        """Remember."""
        self.comparisons.append(comparison)


class SetStore:
    """A store whose content the test sets; `read_again` may be told to raise or to wait."""

    def __init__(self, *strategies: StrategyConfig) -> None:
        self._now = StrategySet(strategies)
        self._changed = threading.Event()
        self._closed = threading.Event()
        self.on_read: Callable[[], None] = lambda: None

    def set(self, *strategies: StrategyConfig, problems: Sequence[Problem] = ()) -> None:
        """Configure something else."""
        self._now = StrategySet(strategies, problems=tuple(problems))
        self._changed.set()

    def read(self) -> StrategySet:
        """Return it."""
        return self._now

    def read_again(self, before: StrategySet) -> StrategySet:
        """Return it."""
        self._changed.clear()
        self.on_read()
        return self._now

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait for `set`."""
        return self._changed.wait(timeout_s) and not self._closed.is_set()

    def close(self) -> None:
        """End a wait."""
        self._closed.set()
        self._changed.set()


class Buyer:
    """Buys on each tick; does what it is told before that."""

    before: Callable[[MarketTick], None] = staticmethod(lambda _tick: None)

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._supports = parameters.get("supports")

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> SignalResult:
        """Buy one."""
        Buyer.before(tick)
        return SignalResult("BUY", 1.0, 1, tick.last_price)

    def get_required_history_length(self) -> int:
        """Need this tick only."""
        return 1

    def supports_instrument(self, token: int) -> bool:
        """Take any, or the one that its parameters name."""
        return self._supports in (None, token)

    def get_strategy_name(self) -> str:
        """Return a name."""
        return "buyer"


def create_buyer_processor(parameters: dict[str, Any]) -> Buyer:
    """Make one, as a user's factory function does."""
    return Buyer(parameters)


BUYER = "live_parts.create_buyer_processor"


def buyer(name: str = "buyer", *tokens: int, enabled: bool = True, **parameters: object) -> StrategyConfig:
    """A strategy that buys on each tick of its instruments."""
    return StrategyConfig(name, BUYER, parameters, ("paper",), tokens or (1,), enabled=enabled)


def live_run(store: Any, source: Any, folder: Path | None = None, **options: Any) -> LiveRun:
    """A run as the command makes it, without a sidecar unless `targets` names one."""
    factory = PreparedFactory()
    fan_out, tokens = options.pop("fan_out", None), options.pop("tokens", set())
    chosen = LiveOptions(**{"targets": [NOWHERE], "max_tick_age_ms": None, "out": folder, **options})
    running = store.read()
    return LiveRun(
        chosen,
        Strategies(store, running, factory),
        source,
        tokens=tokens,
        bad=BadLines(),
        fan_out=fan_out,
    )


def outcomes(ticks: Iterable[ProcessedTick]) -> list[list[str]]:
    """The outcomes of each tick, as a side or a reason."""
    return [
        [getattr(each, "signal_type", None) or each.reason.value for each in processed.outcomes]
        for processed in ticks
    ]
