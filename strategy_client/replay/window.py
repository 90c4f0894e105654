"""Ticks scored in windows: a request for many of them, and the outcomes that each would have by itself.

Nothing of a tick depends on an answer, so all of a window is known before anything is asked. Each row is a
part of its own in the request and so a run of its own in the sidecar: what a model answers to the rows of a
batch may differ in the last bits from what it answers to each alone. Equal rows of a window are asked once.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from strategy_client.events import MarketTick, Outcome, ProcessedTick
from strategy_client.pending import PendingTick
from strategy_client.predictor.port import PendingAnswers, Predictor, Refusal
from strategy_client.questions import QuestionSheet
from strategy_client.runner import NS_PER_MS, StrategyRunner

WINDOW_TICKS: Final = 250
# While the sidecar answers one window, the next one is filled.
MAX_WINDOWS_ON_THE_WAY: Final = 2


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """When a window is full, whichever comes first.

    A sidecar takes 1,000 parts a message, and 1,024 calls of one model at once: two windows are on the way. A
    window may take as long as its ticks one after another, `longest_ms` at most.
    """

    ticks: int = WINDOW_TICKS
    rows: int = 500
    size_bytes: int = 16 * 1024 * 1024
    longest_ms: float = 60_000.0


class TicksUntilError:
    """Numbers ticks from 0, and ends where their source raises; `check` raises that then.

    So the ticks before the place that is bad get their outcomes, as they do one by one.
    """

    def __init__(self, ticks: Iterable[MarketTick]) -> None:
        self._ticks = ticks
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[int, MarketTick]]:
        try:
            yield from enumerate(self._ticks)
        except Exception as error:  # noqa: BLE001 kept, and raised by `check`
            self._error = error

    def check(self) -> None:
        """Raise what the source has raised, once all ticks before are concluded."""
        if self._error is not None:
            raise self._error


class Window:
    """Ticks that are taken and not concluded; the first one's index, and their answers once asked for."""

    __slots__ = ("answers", "first", "shadow_sheet", "sheet", "ticks")

    def __init__(self, first: int) -> None:
        self.first = first
        self.ticks: list[PendingTick] = []
        self.sheet = QuestionSheet(apart=True)
        self.shadow_sheet = QuestionSheet(apart=True)
        self.answers: PendingAnswers | None = None


class Windows:
    """Leads ticks through a runner, in order. `deadline_ms` is the budget of one tick.

    A window of which anything was refused is asked again tick by tick, so that a sidecar that is gone costs
    the ticks, and the breaker, what it costs them without windows.
    """

    def __init__(
        self,
        runner: StrategyRunner,
        predictor: Predictor,
        deadline_ms: float,
        options: WindowOptions | None = None,
    ) -> None:
        self._runner = runner
        self._predictor = predictor
        self._deadline_ms = deadline_ms
        self._options = options or WindowOptions()
        # What one more tick may add.
        self._rows = self._options.rows - len(runner.executors)
        self._waiting: list[MarketTick] = []
        self._first_waiting = 0
        self._filling: Window | None = None
        self._asked: deque[Window] = deque()

    def __repr__(self) -> str:
        filling = len(self._waiting) + (len(self._filling.ticks) if self._filling else 0)
        return f"<Windows {filling} ticks taken, {len(self._asked)} windows on the way>"

    def take(self, index: int, tick: MarketTick) -> Iterable[ProcessedTick]:
        """Take a tick; return what has become of earlier ones, in order, when that is known."""
        if not self._waiting:
            self._first_waiting = index
        self._waiting.append(tick)
        return self._fill() if len(self._waiting) >= self._options.ticks else ()

    def _fill(self) -> Iterator[ProcessedTick]:
        # As many ticks as a window may have take each step together; it may be full before.
        runner, options = self._runner, self._options
        waiting, self._waiting = self._waiting, []
        for index, pending in enumerate(runner.admit(waiting), self._first_waiting):
            window = self._filling
            if window is None:
                window = self._filling = Window(index)
            sheet, shadow_sheet = window.sheet, window.shadow_sheet
            runner.write(pending, sheet, shadow_sheet)
            runner.decide(pending)
            window.ticks.append(pending)
            if (
                len(window.ticks) >= options.ticks
                or len(sheet) > self._rows
                or len(shadow_sheet) > self._rows
                or sheet.size_bytes >= options.size_bytes
                or shadow_sheet.size_bytes >= options.size_bytes
            ):
                self._ask(window)
                if len(self._asked) >= MAX_WINDOWS_ON_THE_WAY:
                    yield from self._conclude(self._asked.popleft())

    def drain(self) -> Iterator[ProcessedTick]:
        """Yield what becomes of all ticks taken; at the end, and before something happens between two."""
        yield from self._fill()
        if self._filling is not None:
            self._ask(self._filling)
        while self._asked:
            yield from self._conclude(self._asked.popleft())

    def _ask(self, window: Window) -> None:
        if window.sheet:
            budget_ms = min(self._deadline_ms * len(window.ticks), self._options.longest_ms)
            deadline_ns = time.monotonic_ns() + int(max(budget_ms, self._deadline_ms) * NS_PER_MS)
            window.answers = self._predictor.submit(window.sheet.questions(), deadline_ns)
        if window.shadow_sheet:
            self._runner.send_shadows(window.ticks, window.shadow_sheet)
        self._asked.append(window)
        self._filling = None

    def _conclude(self, window: Window) -> Iterator[ProcessedTick]:
        for index, (pending, outcomes) in enumerate(self._outcomes(window), window.first):
            yield ProcessedTick(index, pending.tick, outcomes, duration_ns=0)

    def _outcomes(self, window: Window) -> Iterator[tuple[PendingTick, list[Outcome]]]:
        runner = self._runner
        answers = window.answers.result() if window.answers else ()
        if any(isinstance(answer, Refusal) for answer in answers):
            for pending in window.ticks:
                runner.ask_again(pending)
                yield pending, runner.finish(pending)
            return
        provenance = {"request_id": window.answers.request_id} if window.answers else {}
        for pending in window.ticks:
            yield pending, runner.conclude(pending, answers, provenance)
