"""A processor of ours behind the interface of the other runner's processors, with our runner inside."""

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy_client.binding import Bound
from strategy_client.configuration import EmissionConfig, is_interrupt, name_error
from strategy_client.drop_in.foreign_tick import NO_TOKEN, ForeignTick, read_tick
from strategy_client.drop_in.journal import Journal
from strategy_client.drop_in.options import DropInOptions
from strategy_client.drop_in.shared_bindings import OwnBinding
from strategy_client.drop_in.signal_result import SignalClass, as_result
from strategy_client.emission import Emission
from strategy_client.events import MarketTick, NoSignal, Outcome, Reason, Signal
from strategy_client.pending import PendingTick
from strategy_client.processors.model import ModelReference
from strategy_client.processors.processor import LearnedProcessor, StrategyProcessor
from strategy_client.runner import StrategyRunner

NS_PER_S = 1_000_000_000
_live: "weakref.WeakSet[DropInProcessor]" = weakref.WeakSet()
_live_lock = threading.Lock()


def live_processors() -> list["DropInProcessor"]:
    """Return the drop-ins of this process, for whoever counts them all; from any thread."""
    with _live_lock:
        return sorted(_live, key=lambda processor: processor.strategy_id)


class DropInProcessor:
    """Takes ticks as Alpha Panda's StrategyExecutor hands them over: synchronously, one call at a time.

    Each instrument has a history of its own in here, however many the strategy's executor mixes in the
    one that it hands over. None means no signal; `last_outcome` says why, `outcomes` counts each side and
    each reason, and a log line tells of a reason that begins or ends. `duration_ns` is the time that
    `calls` calls took together. `make_runner` makes the loop of one instrument, by its token. It lets all
    signals out: `emission` is kept here, where it is known whether `signal_class` has taken one.
    """

    def __init__(
        self,
        strategy_id: str,
        processor: StrategyProcessor,
        make_runner: Callable[[int], StrategyRunner],
        options: DropInOptions,
        signal_class: SignalClass,
        *,
        emission: EmissionConfig,
    ) -> None:
        self.strategy_id = strategy_id
        self.last_outcome: Outcome | None = None
        self.outcomes: Counter[str] = Counter()
        self.calls = 0
        self.duration_ns = 0
        self._processor = processor
        self._make_runner = make_runner
        self._max_age_s = options.max_tick_age_s
        self._zones = options.zones
        self._signal_class = signal_class
        self._rules = emission
        self._runners: dict[int, StrategyRunner] = {}
        self._emissions: dict[int, Emission] = {}
        self._journal = Journal(strategy_id)
        with _live_lock:
            _live.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.strategy_id} {dict(self.outcomes)}>"

    def process_tick(self, tick: ForeignTick, history: Sequence[ForeignTick]) -> Any:
        """Return a signal of the runner's own class, or None; never HOLD.

        Waits for the sidecar until the deadline of this call at most.
        """
        began_ns = time.monotonic_ns()
        result = self._conclude(self._begin(tick, history))
        self._timed(began_ns)
        return result

    def get_required_history_length(self) -> int:
        """Return what the runner should keep; the history that is used is the one in here."""
        return max(self._processor.get_required_history_length(), 1)

    def supports_instrument(self, token: int) -> bool:
        """Whether the processor can be used on the instrument."""
        return self._processor.supports_instrument(token)

    def get_strategy_name(self) -> str:
        """Name of the logic, for logs and reports."""
        return self._processor.get_strategy_name()

    def close(self) -> None:
        """Leave the count of `live_processors`; nothing else is held by a strategy that asks no model."""
        with _live_lock:
            _live.discard(self)

    def _begin(self, tick: ForeignTick, history: Sequence[ForeignTick]) -> "_Begun":
        now_ns = time.monotonic_ns()
        ours = read_tick(tick, self._zones, now_ns)
        if ours.instrument_token == NO_TOKEN:
            came = getattr(tick, "instrument_token", None)
            text = f"instrument_token: expected an integer above 0, came {came!r}"
            return _Begun(tick, None, self._no_signal(ours, Reason.OUT_OF_RANGE, text))
        runner = self._runners.get(ours.instrument_token)
        if runner is None:
            runner = self._make_runner(ours.instrument_token)
            self._runners[ours.instrument_token] = runner
            self._prime(runner, tick, history, now_ns)
        problem = self._age_problem(ours)
        if problem:
            # Its price is part of the series all the same: a feed that catches up leaves no gap in it.
            runner.prepare(ours)
            return _Begun(tick, None, self._no_signal(ours, Reason.STALE_TICK, problem))
        pending = runner.begin(ours)
        return _Begun(tick, pending, partial(_only_outcome, runner, pending))

    def _prime(
        self, runner: StrategyRunner, tick: ForeignTick, history: Sequence[ForeignTick], now_ns: int
    ) -> None:
        # What was handed over before the first call of an instrument; from then on each tick comes once.
        # The last one of a history is the tick itself.
        earlier = history[:-1] if history and (history[-1] is tick or history[-1] == tick) else history
        for each in earlier or ():  # the runner passes over those of other instruments
            runner.prepare(read_tick(each, self._zones, now_ns))

    def _age_problem(self, tick: MarketTick) -> str:
        if not self._max_age_s or tick.timestamp.tzinfo is None:
            return ""
        # A time ahead of the clock is the edge's to refuse.
        age_s = (datetime.now(UTC) - tick.timestamp).total_seconds()
        if age_s <= self._max_age_s:
            return ""
        return f"the tick is {age_s:.1f} s old, expected at most {self._max_age_s:g}"

    def _no_signal(self, tick: MarketTick | Signal, reason: Reason, detail: str) -> Callable[[], NoSignal]:
        refused = NoSignal(self.strategy_id, tick.instrument_token, tick.timestamp, reason, detail)
        return lambda: refused

    def _conclude(self, begun: "_Begun") -> Any:
        outcome = begun.finish()
        result = None
        before = self._emissions.get(outcome.instrument_token) or Emission()
        emission = copy(before)
        outcome = emission.pass_on(outcome, self._rules)
        if isinstance(outcome, Signal):
            try:
                result = as_result(outcome, self._signal_class)
            except BaseException as error:
                # A class of theirs may check what it is given, and raise anything: nothing has gone out.
                if is_interrupt(error):
                    raise
                emission = before
                text = f"signal_result raised {name_error(error)}"
                outcome = self._no_signal(outcome, Reason.INVALID_SIGNAL, text)()
        self._emissions[outcome.instrument_token] = emission
        self.last_outcome = outcome
        self.outcomes[outcome.signal_type if isinstance(outcome, Signal) else outcome.reason.value] += 1
        self._journal.note(outcome)
        return result

    def _timed(self, began_ns: int) -> None:
        self.calls += 1
        self.duration_ns += time.monotonic_ns() - began_ns


def _only_outcome(runner: StrategyRunner, pending: PendingTick) -> Outcome:
    [outcome] = runner.finish(pending)
    return outcome


class _Begun:
    """A tick whose outcome `finish` is still to conclude; `pending` is None where it was refused already."""

    __slots__ = ("finish", "pending", "tick")

    def __init__(self, tick: ForeignTick, pending: PendingTick | None, finish: Callable[[], Outcome]) -> None:
        self.tick = tick
        self.pending = pending
        self.finish = finish


class LearnedDropInProcessor(DropInProcessor):
    """A drop-in that asks a model; the other runner takes it as ML-capable by its three further methods.

    `release` gives back `binding` and what the runners ask through; it is called once, by `close`, or on a
    thread of its own when this object is no longer used.
    """

    def __init__(
        self,
        strategy_id: str,
        processor: LearnedProcessor,
        make_runner: Callable[[int], StrategyRunner],
        options: DropInOptions,
        signal_class: SignalClass,
        *,
        emission: EmissionConfig,
        binding: OwnBinding,
        release: Callable[[], None],
    ) -> None:
        super().__init__(strategy_id, processor, make_runner, options, signal_class, emission=emission)
        self._learned = processor
        self._binding = binding
        self._begun: _Begun | None = None
        self._row: NDArray[np.float32] | None = None
        self._release = release
        self._finalize = weakref.finalize(self, _release_elsewhere, release)
        # Until then the client is open; at the end of the process it is closed with all others.
        self._finalize.atexit = False

    @property
    def model(self) -> ModelReference | None:
        """The model, while it is there and its contract is this strategy's; None otherwise."""
        return self._learned.model if isinstance(self._binding.now, Bound) else None

    def load_model(self) -> bool:
        """Look once more for the model; False where it is not there now, which is no reason to give up."""
        if self.model is None:
            self._binding.refresh()
        return self.model is not None

    def process_tick(self, tick: ForeignTick, history: Sequence[ForeignTick]) -> Any:
        """Return a signal of the runner's own class, or None; see `DropInProcessor`.

        A tick that `extract_features` has taken already is concluded, and not counted twice.
        """
        began_ns = time.monotonic_ns()
        result = self._conclude(self._taken(tick, history))
        self._begun = None
        self._timed(began_ns)
        return result

    def extract_features(self, tick: ForeignTick, history: Sequence[ForeignTick]) -> NDArray[np.float32]:
        """Take a tick and send its question; return the row that is asked, float32, shape (n_features,).

        The row is NaN throughout where nothing is asked: while the features warm up, or when the tick or
        the model cannot be used. Call `predict_signal` or `process_tick` next. The deadline counts from here.
        """
        begun = self._begun = self._taken(tick, history)
        questions = begun.pending.sheet.questions() if begun.pending is not None else []
        if questions:
            self._row = questions[0].features[0]
        else:
            self._row = np.full(len(self._learned.features), np.nan, dtype=np.float32)
        return self._row.copy()

    def predict_signal(self, features: NDArray[np.float32]) -> Any:
        """Return the signal of the tick of the last `extract_features`, or None; the price is the tick's.

        `features` must be what that call returned: any other row is CONTRACT_MISMATCH, since nobody vouches
        for it. Raises RuntimeError where there is no such tick.
        """
        begun = self._begun
        if begun is None:
            raise RuntimeError("predict_signal: expected extract_features of the tick before it")
        began_ns = time.monotonic_ns()
        self._begun = None
        row = np.asarray(features, dtype=np.float32)
        if self._row is None or not np.array_equal(row, self._row, equal_nan=True):
            ours = read_tick(begun.tick, self._zones, began_ns)
            text = f"expected the row of extract_features, came {row.tolist()}"
            if begun.pending is not None and begun.pending.answers is not None:
                begun.pending.answers.result()  # settles the question; there is no signal that could go out
            begun = _Begun(begun.tick, None, self._no_signal(ours, Reason.CONTRACT_MISMATCH, text))
        result = self._conclude(begun)
        self._timed(began_ns)
        return result

    def close(self) -> None:
        """Give the client back; the last strategy of an endpoint closes it. May be called twice."""
        super().close()
        if self._finalize.detach() is not None:
            self._release()

    def _taken(self, tick: ForeignTick, history: Sequence[ForeignTick]) -> _Begun:
        if self._begun is not None:
            if self._begun.tick is tick:
                return self._begun
            # Nobody asked for its signal; it has an outcome all the same.
            self._conclude(self._begun)
            self._begun = None
        return self._begin(tick, history)


def _release_elsewhere(release: Callable[[], None]) -> None:
    # Whatever thread dropped the last reference or collects garbage may hold a lock that is wanted for this,
    # or be one that is waited for.
    threading.Thread(target=release, name="tickserve-drop-in-close").start()
