"""A replay led by hand, for notebooks and tests: a context manager to iterate over."""

import itertools
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from strategy_client.binding import Unbound
from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig, TicksConfig
from strategy_client.events import MarketTick, ProcessedTick
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.channel import check_target
from strategy_client.predictor.description import Description
from strategy_client.predictor.port import Predictor
from strategy_client.predictor.security import Security
from strategy_client.processors.limits import shadow_of
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.replay.arguments import check_arguments
from strategy_client.replay.given import (
    StrategiesGiven,
    TicksGiven,
    columns_of,
    read_given_strategies,
    read_given_ticks,
)
from strategy_client.replay.results import ReplayRecord, ReplayResult
from strategy_client.replay.sidecar import open_sidecar
from strategy_client.replay.window import WINDOW_TICKS, TicksUntilError, WindowOptions, Windows
from strategy_client.runner import RunnerOptions, StrategyRunner
from strategy_client.sources.bad_line import BadFileError, BadLines

# Long, so that a machine that is busy for a moment does not change what comes out.
DEADLINE_MS: Final = 5_000.0
COMPARE_EVERY_TICKS: Final = 256


class DescribingPredictor(Predictor, Protocol):
    """A predictor that says what it serves: an InferenceClient, or a FakePredictor of a test."""

    def describe(self, models: Sequence[str] = ()) -> Description:
        """Return what is served, of all models or of those named."""
        ...


class OpenedReplay:
    """A recorded session and the strategies that run over it; see `open_replay`.

    Entering the `with` block starts what is needed; leaving it, in whatever way, stops and removes it.
    Iterating gives a ProcessedTick for each tick: the tick, and one outcome for each strategy of its
    instrument. An iteration that was left half-way goes on where it stopped; one that an exception or
    Ctrl-C broke does not. `strategies` are those that run, `bad` the lines that held no tick.
    """

    def __init__(
        self,
        ticks: TicksGiven,
        strategies: Sequence[StrategyConfig],
        columns: TicksConfig,
        factory: StrategyFactory,
        *,
        models: Path,
        targets: Sequence[str],
        security: Security | None,
        predictor: DescribingPredictor | None,
        skip: int,
        limit: int | None,
        deadline_ms: float,
        window: int,
    ) -> None:
        self.strategies = tuple(strategies)
        self.bad = BadLines()
        self._executors = create_executors(self.strategies, factory)
        # What is wrong with the strategies together is told before anything is started.
        StrategyRunner(self._executors)
        self._wanted = wanted_models(self._executors, targets)
        self._has_shadows = any(
            isinstance(each.processor, LearnedProcessor) and shadow_of(each.processor) is not None
            for each in self._executors
        )
        tokens = {token for each in self.strategies for token in each.instrument_tokens}
        all_ticks = read_given_ticks(ticks, columns, tokens, self.bad)
        wanted = itertools.islice(all_ticks, skip, None if limit is None else min(skip + limit, sys.maxsize))
        self._ticks: Iterator[MarketTick] = self._with_first(wanted)
        self._models = models
        self._targets = tuple(targets)
        self._security = security
        self._predictor = predictor
        self._deadline_ms = deadline_ms
        self._options = RunnerOptions(deadline_ms=deadline_ms)
        self._window = window
        self._record = ReplayRecord()
        self._stack = ExitStack()
        self._bindings: Bindings | None = None
        self._steps: Generator[ProcessedTick, None, None] | None = None
        self._state = "not entered"

    def __repr__(self) -> str:
        return f"<OpenedReplay {self._state}, {len(self.strategies)} strategies, {len(self._record)} ticks>"

    def __enter__(self) -> Self:
        if self._state != "not entered":
            raise RuntimeError(f"this replay is {self._state}: open another with open_replay")
        self._state = "open"
        try:
            predictor, shadow_predictor = self._open_predictor()
        except BaseException:
            self.close()
            raise
        runner = StrategyRunner(
            self._executors, predictor, self._bindings, self._options, shadow_predictor=shadow_predictor
        )
        self._steps = self._process(runner, predictor)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[ProcessedTick]:
        """Give the ticks that have not been given yet. Raises RuntimeError outside the `with` block."""
        if self._steps is None:
            raise RuntimeError(f"this replay is {self._state}: iterate inside `with open_replay(...)`")
        return self._steps

    def run(self) -> ReplayResult:
        """Process all ticks that are left, and return the result."""
        for _ in self:
            pass
        return self.result()

    def result(self) -> ReplayResult:
        """Return what came of the ticks given so far; also after the `with` block."""
        return self._record.result()

    def unbound(self) -> Mapping[str, str]:
        """Return why a learned strategy cannot ask its model now, by its id; empty when all can."""
        bindings = {} if self._bindings is None else self._bindings.all
        return {
            name: f"{each.reason.value}: {each.detail}"
            for name, each in bindings.items()
            if isinstance(each, Unbound)
        }

    def close(self) -> None:
        """Stop what was started; what came so far is kept. May be called twice."""
        if self._steps is not None:
            self._steps.close()
        self._state, self._steps = "closed", None
        # The file that they come from is closed with them.
        self._ticks = iter(())
        self._stack.close()

    def _open_predictor(self) -> tuple[Predictor | None, Predictor | None]:
        if self._predictor is None:
            sidecar = open_sidecar(
                self._stack,
                self._wanted,
                targets=self._targets,
                security=self._security,
                models=self._models,
                allow_contract_change=(),
                has_shadows=self._has_shadows,
            )
            self._bindings = sidecar.bindings
            return sidecar.client, sidecar.shadows
        if self._wanted:
            self._bindings = Bindings(self._wanted, self._predictor.describe)
            self._stack.callback(self._bindings.close)
            self._bindings.start()
        return self._predictor, self._predictor if self._has_shadows else None

    def _with_first(self, ticks: Iterator[MarketTick]) -> Iterator[MarketTick]:
        # What is wrong with all of it is told before anything is started.
        first = next(ticks, None)
        if first is None:
            why = f"; the first bad line: {self.bad.first[0]}" if self.bad.first else ""
            raise BadFileError(f"ticks: expected at least one{why}")
        return itertools.chain([first], ticks)

    def _process(
        self, runner: StrategyRunner, predictor: Predictor | None
    ) -> Generator[ProcessedTick, None, None]:
        if predictor is None or self._window == 1 or not self._wanted:
            steps = self._one_by_one(runner)
        else:
            windows = Windows(runner, predictor, self._deadline_ms, WindowOptions(self._window))
            steps = self._in_windows(windows)
        try:
            for processed in steps:
                self._record.took(processed)
                # Now and then all that are left are waited for: of too many the first would be dropped.
                self._compare(runner, wait=processed.index % COMPARE_EVERY_TICKS == 0)
                yield processed
            self._compare(runner, wait=True)
        except BaseException:
            # A tick may have been taken and not concluded: to go on would leave it out.
            self._state, self._steps = f"broken off after {len(self._record)} ticks", None
            raise
        self._state = "at its end"

    def _compare(self, runner: StrategyRunner, *, wait: bool) -> None:
        if self._has_shadows:
            for comparison in runner.take_comparisons(wait=wait):
                self._record.compared(comparison)

    def _one_by_one(self, runner: StrategyRunner) -> Iterator[ProcessedTick]:
        for index, tick in enumerate(self._ticks):
            began_ns = time.monotonic_ns()
            outcomes = runner.process(tick)
            yield ProcessedTick(index, tick, outcomes, time.monotonic_ns() - began_ns)

    def _in_windows(self, windows: Windows) -> Iterator[ProcessedTick]:
        given = TicksUntilError(self._ticks)
        for index, tick in given:
            yield from windows.take(index, tick)
        yield from windows.drain()
        given.check()


def open_replay(
    ticks: TicksGiven,
    strategies: StrategiesGiven,
    *,
    models: str | Path | None = None,
    target: str | Sequence[str] | None = None,
    predictor: DescribingPredictor | None = None,
    security: Security | None = None,
    columns: TicksConfig | Mapping[str, Any] | None = None,
    factory: StrategyFactory | None = None,
    skip: int = 0,
    limit: int | None = None,
    deadline_ms: float = DEADLINE_MS,
    window: int | None = None,
) -> OpenedReplay:
    """Return a replay to enter, iterate over and ask for its result.

        with open_replay("ticks.csv", "strategies.yaml", models="models") as replay:
            for processed in replay:
                ...
        frame = replay.result().to_frame()

    `ticks`: a file as `strategy-client replay` takes it, a list of files, MarketTicks, or a pandas DataFrame.
    `columns` says how a file or frame is read, a TicksConfig or a mapping of single fields of one, as
    `{"token": 13620, "timezone": "UTC"}`; by default what the strategies' file says. Of a frame, an index
    may be the time.

    `strategies`: a YAML file, a folder or a database's URL, a StrategySet, or mappings with the keys of the
    YAML files. `factory` knows processors of one's own by name.

    Learned strategies ask one of three: a sidecar that is started over a private copy of `models`, by default
    the folder of that name, and stopped at the end; the one at `target`, or at the first of several that
    is well, spoken to by `security`; or `predictor`, which stays the caller's to close, and is asked for
    shadows too.

    `skip` ticks are left out at the start and `limit` taken after them. `deadline_ms` is the budget of one
    tick. `window` ticks are asked in one request with the same outcomes; 1 tells how long a tick takes, and
    is the default with a `predictor`.

    Raises ConfigurationError for strategies, columns or arguments that are wrong, TargetError for an address,
    BadFileError for ticks that are none. Entering raises SidecarError or InferenceError where no sidecar
    answers.
    """
    check_arguments(
        models=models,
        target=target,
        predictor=predictor,
        security=security,
        factory=factory,
        skip=skip,
        limit=limit,
        deadline_ms=deadline_ms,
        window=window,
    )
    factory = factory or StrategyFactory()
    known = read_given_strategies(strategies, factory)
    return OpenedReplay(
        ticks,
        known.strategies,
        columns_of(columns, known),
        factory,
        models=Path("models" if models is None else models),
        targets=[check_target(each) for each in ([target] if isinstance(target, str) else target or ())],
        security=security,
        predictor=predictor,
        skip=int(skip),
        limit=None if limit is None else int(limit),
        deadline_ms=float(deadline_ms),
        window=int(window or (WINDOW_TICKS if predictor is None else 1)),
    )
