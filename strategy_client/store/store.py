"""Where strategies are configured, as the loop sees it: a file, a folder, a database."""

from dataclasses import dataclass
from typing import Protocol

from strategy_client.configuration import Problem, StrategyConfig, TicksConfig


@dataclass(frozen=True, slots=True)
class StrategySet:
    """What is configured now; `ticks` None where nothing says how to read them.

    `problems` are what is wrong without keeping the others from running. From `read` these are of
    strategies that are disabled and left out: what is asleep in a folder or a table stops no start. `notes`
    are what was taken and means nothing to this runner.
    """

    strategies: tuple[StrategyConfig, ...]
    ticks: TicksConfig | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()


class StrategyStore(Protocol):
    """A place that keeps strategies and may change at any time. One thread uses it; any may close it."""

    def read(self) -> StrategySet:
        """Return all of them. Raises ConfigurationError with a problem for everything that is wrong."""
        ...

    def read_again(self, before: StrategySet) -> StrategySet:
        """Return what is configured by now, for a loop that runs with `before`; never raises.

        A strategy that has become wrong stays as it was before, but stops where it says so: to stop a
        strategy must work whatever else is wrong with it. A place that cannot be read, or is empty, changes
        nothing. What is wrong stands in `problems`.
        """
        ...

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait until something may have changed since the last look; False when nothing has by then."""
        ...

    def close(self) -> None:
        """Stop watching; a wait in another thread ends. May be called twice."""
        ...
