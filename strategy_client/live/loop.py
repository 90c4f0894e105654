"""The live loop: a tick in, its outcomes to everyone who wants to know, and changes between two ticks."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from strategy_client.configuration import name_error
from strategy_client.events import MarketTick, ProcessedTick
from strategy_client.listener import TickListener
from strategy_client.live.intake import Intake
from strategy_client.live.journal import Journal
from strategy_client.live.silence import SilenceWatch
from strategy_client.runner import StrategyRunner

# How long the loop waits for a tick before it looks after the rest.
WAIT_S: Final = 0.25
NS_PER_S: Final = 1_000_000_000
LOOK_EVERY_NS: Final = NS_PER_S // 4


class LiveLoop:
    """Takes one tick after another through the runner. One thread calls `step`; any thread reads the rest.

    A listener that raises, against its promise, is told of the next tick all the same. `ticks` counts all
    ticks taken, `failed` those without outcomes because the runner raised: a bug, told with its traceback.
    Between two ticks `apply_changes` is called, and `look` a few times a second.
    """

    def __init__(
        self,
        runner: StrategyRunner,
        intake: Intake,
        listeners: Sequence[TickListener],
        *,
        silence: SilenceWatch,
        journal: Journal,
        apply_changes: Callable[[], None] = lambda: None,
        look: Callable[[], None] = lambda: None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.ticks = 0
        self.failed = 0
        self.heartbeat_ns = now_ns()
        self._runner = runner
        self._intake = intake
        self._listeners = tuple(listeners)
        self._silence = silence
        self._journal = journal
        self._apply_changes = apply_changes
        self._look = look
        self._now_ns = now_ns
        self._look_at_ns = 0

    def __repr__(self) -> str:
        return f"<LiveLoop {self.ticks} ticks over {self._runner!r}>"

    def run(self) -> None:
        """Take ticks until there are no more."""
        while self.step():
            pass

    def step(self, wait_s: float = WAIT_S) -> bool:
        """Take over what has changed, then the next tick, if one comes within `wait_s`. False at the end."""
        self._guard(self._apply_changes)
        tick = self._intake.take(wait_s)
        now_ns = self._now_ns()
        self.heartbeat_ns = now_ns
        if tick is not None:
            self._silence.heard(tick.instrument_token, now_ns)
            self._process(tick)
        self._compare(wait=False)
        if now_ns >= self._look_at_ns:
            self._look_at_ns = now_ns + LOOK_EVERY_NS
            self._tell_silences(now_ns)
            self._guard(self._look)
        if tick is not None or not self._intake.ended:
            return True
        self._compare(wait=True)
        self._guard(self._look)
        return False

    def _process(self, tick: MarketTick) -> None:
        began_ns = self._now_ns()
        index, self.ticks = self.ticks, self.ticks + 1
        try:
            outcomes = self._runner.process(tick)
        # Whatever it is: what ends this thread ends the session, without a word.
        except BaseException as error:  # noqa: BLE001 told: a tick that fails is one tick, not the session
            self.failed += 1
            text = f"tick {index} has no outcome: {name_error(error)}"
            self._journal.problem("runner", text, error=error)
            return
        # Nobody looks at this instrument; the runner has counted it.
        if not outcomes:
            return
        processed = ProcessedTick(index, tick, outcomes, self._now_ns() - began_ns)
        for listener in self._listeners:
            try:
                listener.took(processed)
            except BaseException as error:  # noqa: BLE001 told: one listener's bug takes nothing from the others
                self._listener_failed(listener, error)

    def _compare(self, *, wait: bool) -> None:
        for comparison in self._runner.take_comparisons(wait=wait):
            for listener in self._listeners:
                try:
                    listener.compared(comparison)
                except BaseException as error:  # noqa: BLE001 told: one listener's bug takes nothing from the others
                    self._listener_failed(listener, error)

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:  # noqa: BLE001 told: a bug beside the ticks is not the end of the session
            self._journal.problem("loop", name_error(error), error=error)

    def _listener_failed(self, listener: TickListener, error: BaseException) -> None:
        text = f"{type(listener).__name__} raised {name_error(error)}"
        self._journal.problem("listener", text, error=error)

    def _tell_silences(self, now_ns: int) -> None:
        for silence in self._silence.look(now_ns):
            if silence.began:
                self._journal.problem("silence", str(silence))
            else:
                self._journal.told(str(silence))
