"""The tick loop's inside: a tick in, exactly one outcome for each strategy of its instrument out."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from strategy_client.binding import BindingsView
from strategy_client.drift import DriftCounts
from strategy_client.edge import Edge, TickCounts
from strategy_client.emission import Emission
from strategy_client.events import MarketTick, Outcome, Reason, ShadowComparison
from strategy_client.executor import StrategyExecutor
from strategy_client.instrument import Instrument, LineUp
from strategy_client.peers import Peers
from strategy_client.pending import PendingTick
from strategy_client.predictor.port import Answer, Predictor
from strategy_client.questions import QuestionSheet
from strategy_client.shadow import PendingShadows, Shadows

NS_PER_MS: Final = 1_000_000
NS_PER_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """`deadline_ms` is the time that all learned strategies of one tick have together.

    No signal comes of a live tick that was received more than `max_tick_age_ms` ago, or whose time is more
    than `max_behind_s` behind this machine's clock; one that is more than `max_ahead_s` ahead of it is
    refused. For each, None asks for nothing.
    """

    deadline_ms: float = 50.0
    max_tick_age_ms: float | None = None
    max_behind_s: float | None = None
    max_ahead_s: float | None = 300.0

    def __post_init__(self) -> None:
        for name in ("deadline_ms", "max_tick_age_ms", "max_behind_s", "max_ahead_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: expected more than 0, came {value}")


class StrategyRunner:
    """Runs strategies over ticks, one tick at a time, from one thread.

    `predictor` and `bindings` serve the learned strategies; without them these get UNAVAILABLE. Their shadows
    are asked through the `shadow_predictor`, which must be another one: so they can neither delay nor break
    the live questions. `now_ns` is a monotonic clock, `wall_ns` the time since the epoch. Raises
    ConfigurationError for two strategies of one id, an instrument that stands twice or that a processor does
    not support.
    """

    def __init__(
        self,
        executors: Sequence[StrategyExecutor],
        predictor: Predictor | None = None,
        bindings: BindingsView | None = None,
        options: RunnerOptions | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
        *,
        shadow_predictor: Predictor | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        options = options or RunnerOptions()
        self._predictor = predictor
        self._bindings = bindings if predictor is not None else None
        self._shadow_bindings = bindings if shadow_predictor is not None else None
        self._deadline_ns = int(options.deadline_ms * NS_PER_MS)
        self._now_ns = now_ns
        self._edge = Edge(options.max_tick_age_ms, options.max_behind_s, options.max_ahead_s, now_ns, wall_ns)
        self._shadows = Shadows(shadow_predictor, self._deadline_ns, now_ns)
        self._ticks = 0
        # The last request was not sent: the breaker is open, or there is nobody to ask.
        self._unsent = False
        self._line_up = LineUp(executors, self._bindings, self._shadow_bindings)
        self._instruments = self._line_up.instruments

    def __repr__(self) -> str:
        return f"<StrategyRunner {len(self.executors)} strategies, {len(self._instruments)} instruments>"

    @property
    def executors(self) -> Sequence[StrategyExecutor]:
        """The strategies, in the order of their outcomes."""
        return self._line_up.executors

    @property
    def counts(self) -> TickCounts:
        """What was noticed of the ticks."""
        return self._edge.counts

    @property
    def answered_by(self) -> Mapping[str, Counter[tuple[str, int, str]]]:
        """How often each model, version and digest answered each learned strategy, and each shadow."""
        return self._line_up.answered_by

    @property
    def drift(self) -> Mapping[str, DriftCounts]:
        """What lay outside of the training range, for each learned strategy and each shadow."""
        return self._line_up.drift

    @property
    def instruments(self) -> Mapping[int, int]:
        """How many strategies look at each instrument."""
        return {token: len(instrument.strategies) for token, instrument in self._instruments.items()}

    @property
    def shadows_dropped(self) -> int:
        """Comparisons that nobody took in time."""
        return self._shadows.dropped

    def change(self, executors: Sequence[StrategyExecutor]) -> None:
        """Run these strategies from the next tick on.

        An executor that is the same object keeps its histories and counts, and features that are still looked
        at stay warm. Ticks that were begun are finished by the strategies that they began with. Raises
        ConfigurationError, as on construction, and changes nothing then. What the learned ones ask of their
        models is told to the bindings by `Bindings.change`, before this.
        """
        self._line_up = LineUp(executors, self._bindings, self._shadow_bindings, self._line_up)
        self._instruments = self._line_up.instruments

    def take_comparisons(self, *, wait: bool = False) -> list[ShadowComparison]:
        """Return what has become known of the shadows, in order of ticks; a comparison is given once.

        A tick's shadows are asked here, once the loop has passed on what the tick gave. Never waits, unless
        `wait`: then it returns all that are left, by their deadlines at the latest. There
        is one for each tick that passed the edge and each strategy that has a shadow and is enabled; its
        `live` outcome is what the strategy wanted before the rules of emission. What is not taken is dropped
        after `shadow.MAX_PENDING` ticks.
        """
        return self._shadows.take(wait=wait)

    def process(self, tick: MarketTick) -> list[Outcome]:
        """Return one outcome for each strategy of the tick's instrument, in the order of the strategies.

        Never raises for what a tick, a processor or the sidecar does. Waits for the sidecar until the tick's
        deadline at most.
        """
        return self.finish(self.begin(tick))

    def begin(self, tick: MarketTick) -> PendingTick:
        """Take a tick up to the point where only the sidecar's answers are missing.

        The learned strategies' questions leave as one request before the traditional strategies run; while
        requests are not even sent, these run first and wait for nothing. A second tick may be begun before
        the first is finished: nothing of a tick depends on an answer.
        """
        pending = self._admit(tick)
        self._take(pending, QuestionSheet(), None)
        if self._unsent:
            self.decide(pending)
        self._ask(pending)
        self._send(pending)
        self.decide(pending)
        if pending.shadows is not None:
            pending.shadows.due = True
        return pending

    def prepare(self, tick: MarketTick) -> PendingTick:
        """Check a tick, take it into histories and features, and write down what is to be asked."""
        pending = self._admit(tick)
        self.write(pending, QuestionSheet(), None)
        return pending

    def admit(self, ticks: Sequence[MarketTick]) -> list[PendingTick]:
        """Check several ticks, and work out their features together; each is for `write` then, in order."""
        admitted = [self._admit(tick) for tick in ticks]
        prices: dict[int, tuple[Instrument, list[float]]] = {}
        for pending in admitted:
            instrument = pending.instrument
            if instrument is not None:
                prices.setdefault(id(instrument), (instrument, []))[1].append(pending.price)
        for instrument, of_instrument in prices.values():
            instrument.look_ahead(of_instrument)
        return admitted

    def write(self, pending: PendingTick, sheet: QuestionSheet, shadow_sheet: QuestionSheet | None) -> None:
        """Take an admitted tick into histories and features, and write down what is to be asked.

        Several ticks may write on one `sheet`, their shadows on another; without one the shadows have theirs.
        """
        self._take(pending, sheet, shadow_sheet)
        self._ask(pending)

    def decide(self, pending: PendingTick) -> None:
        """Run the traditional strategies on a prepared tick, before the next one is prepared."""
        if pending.instrument is None:
            return
        tick, slots = pending.tick, pending.slots
        for slot, strategy in pending.instrument.traditional:
            if slots[slot] is None:
                slots[slot] = strategy.decide(tick)

    def send_shadows(self, pending: Sequence[PendingTick], shadow_sheet: QuestionSheet) -> None:
        """Send what the shadows of several ticks ask, which they wrote on one sheet, as one request."""
        self._shadows.send([each.shadows for each in pending if each.shadows is not None], shadow_sheet)

    def finish(self, pending: PendingTick) -> list[Outcome]:
        """Collect the answers, until the deadline at most, and return the outcomes. Call it once a tick."""
        if pending.answers is None:
            return self.conclude(pending, (), {})
        answers = pending.answers.result()
        latency_us = (self._now_ns() - pending.sent_ns) // NS_PER_US
        provenance = {"latency_us": latency_us, "request_id": pending.answers.request_id}
        return self.conclude(pending, answers, provenance)

    def ask_again(self, pending: PendingTick) -> None:
        """Send what a tick asks as a request of its own, where the one that it shared was not answered."""
        pending.sheet = QuestionSheet()
        for peers in self._learned(pending):
            peers.ask_again(pending.slots, pending.sheet)
        self._send(pending)

    def conclude(
        self, pending: PendingTick, answers: Sequence[Answer], provenance: Mapping[str, Any]
    ) -> list[Outcome]:
        """Return the outcomes of a tick from the answers to its sheet; once a tick, in their order.

        `provenance` goes into the metadata of what the answers became.
        """
        tick, slots = pending.tick, pending.slots
        for peers in self._learned(pending):
            peers.conclude(tick, slots, answers, provenance)
        outcomes = cast("list[Outcome]", slots)
        if pending.shadows is not None:
            self._shadows.keep(pending.shadows, tuple(outcomes))
        for slot, strategy in enumerate(pending.strategies):
            executor, outcome = strategy.executor, outcomes[slot]
            if executor.emission is not None:
                if strategy.emission is None:
                    strategy.emission = Emission()
                outcome = outcomes[slot] = strategy.emission.pass_on(outcome, executor.emission)
            executor.count(outcome)
        return outcomes

    def _admit(self, tick: MarketTick) -> PendingTick:
        index = self._ticks
        self._ticks += 1
        instrument = self._find(tick)
        if instrument is None:
            self._edge.counts.unknown_instrument += 1
            return PendingTick(index, tick, ())
        self._edge.counts.taken += 1
        pending = PendingTick(index, tick, instrument.strategies)
        time_s = self._edge.admit(tick, instrument.newest_s)
        if isinstance(time_s, tuple):
            self._refuse(pending, *time_s)
            return pending
        pending.instrument = instrument
        pending.price = float(tick.last_price)
        instrument.newest_s = time_s
        return pending

    def _take(self, pending: PendingTick, sheet: QuestionSheet, shadow_sheet: QuestionSheet | None) -> None:
        pending.sheet = sheet
        instrument, tick = pending.instrument, pending.tick
        if instrument is None:
            return
        instrument.take(tick, pending.price)
        stale = self._edge.find_staleness(tick)
        if stale is not None:
            self._refuse(pending, *stale)
            return
        for slot, strategy in enumerate(pending.strategies):
            if not strategy.executor.enabled:
                pending.slots[slot] = strategy.executor.no_signal(tick, Reason.DISABLED)
        if instrument.shadows:
            pending.shadows = PendingShadows(pending.index, tick, shadow_sheet)

    def _ask(self, pending: PendingTick) -> None:
        instrument = pending.instrument
        if instrument is None:
            return
        instrument.work_out(pending.price)
        tick, slots, sheet = pending.tick, pending.slots, pending.sheet
        for peers in instrument.learned.values():
            peers.ask(tick, slots, sheet)
        if pending.shadows is not None:
            for shadow in instrument.shadows:
                if pending.strategies[shadow.slot].executor.enabled:
                    pending.shadows.ask(shadow)

    def _learned(self, pending: PendingTick) -> Iterable[Peers]:
        return () if pending.instrument is None else pending.instrument.learned.values()

    def _find(self, tick: MarketTick) -> Instrument | None:
        try:
            return self._instruments.get(tick.instrument_token)
        except TypeError:  # a token that is no integer, and nothing that can be looked up
            return None

    def _refuse(self, pending: PendingTick, reason: Reason, detail: str) -> None:
        pending.slots = [
            strategy.executor.no_signal(pending.tick, reason, detail) for strategy in pending.strategies
        ]

    def _send(self, pending: PendingTick) -> None:
        if pending.sheet and self._predictor is not None:
            pending.sent_ns = self._now_ns()
            pending.answers = self._predictor.submit(
                pending.sheet.questions(), pending.sent_ns + self._deadline_ns
            )
            self._unsent = not pending.answers.request_id
