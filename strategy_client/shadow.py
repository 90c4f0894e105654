"""Second models, scored beside the first, never emitted, and unable to delay or change a live outcome."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from strategy_client.asked import Asked
from strategy_client.events import MarketTick, Outcome, Reason, ShadowComparison, Signal
from strategy_client.learned import LearnedStrategy
from strategy_client.predictor.port import Answer, PendingAnswers, Predictor, Refusal
from strategy_client.questions import QuestionSheet

# Ticks whose shadows are waited for. At a deadline of 50 ms that is 20,000 ticks a second.
MAX_PENDING: Final = 1_024
# The bound on the deadlines of several ticks that ask together.
LONGEST_NS: Final = 60_000_000_000
MAX_LOGGED: Final = 10
SHADOW: Final = " (shadow)"

log = logging.getLogger(__name__)


def shadow_id(strategy_id: str) -> str:
    """Return the name of a strategy's shadow: of its binding, of its outcomes and in the log."""
    return strategy_id + SHADOW


class ShadowStrategy:
    """The shadow of the strategy at `slot` of its instrument."""

    __slots__ = ("slot", "strategy")

    def __init__(self, slot: int, strategy: LearnedStrategy) -> None:
        self.slot = slot
        self.strategy = strategy


class PendingShadows:
    """The shadows of one tick; `live` are the outcomes of its strategies once they are known.

    Several ticks may write on one `sheet`; without one the tick has its own. One that is `due` is asked when
    comparisons are taken.
    """

    __slots__ = ("answers", "asked", "deadline_ns", "due", "index", "live", "sheet", "tick")

    def __init__(self, index: int, tick: MarketTick, sheet: QuestionSheet | None = None) -> None:
        self.index = index
        self.tick = tick
        self.sheet = QuestionSheet() if sheet is None else sheet
        self.asked: list[tuple[ShadowStrategy, Asked | Outcome]] = []
        self.answers: PendingAnswers | None = None
        self.deadline_ns = 0
        self.due = False
        self.live: Sequence[Outcome] = ()

    def ask(self, shadow: ShadowStrategy) -> None:
        """Write what a shadow asks at this tick on the sheet, or why it asks nothing."""
        self.asked.append((shadow, shadow.strategy.ask(self.tick, self.sheet)))


class Shadows:
    """Asks for shadows through a predictor of their own, and keeps what waits for its answer.

    No method raises or waits, `take` with `wait` apart. At most `MAX_PENDING` ticks are kept; `dropped`
    counts the comparisons that were never taken.
    """

    def __init__(self, predictor: Predictor | None, timeout_ns: int, now_ns: Callable[[], int]) -> None:
        self.dropped = 0
        self._predictor = predictor
        self._timeout_ns = timeout_ns
        self._now_ns = now_ns
        self._pending: deque[PendingShadows] = deque()
        self._due: deque[PendingShadows] = deque()
        self._logged = 0

    def __repr__(self) -> str:
        return f"<Shadows {len(self._pending)} ticks pending, {self.dropped} comparisons dropped>"

    def send(self, pending: Sequence[PendingShadows], sheet: QuestionSheet) -> None:
        """Ask what stands on the sheet of these ticks, as one request, within their deadlines together."""
        if not sheet or self._predictor is None:
            return
        deadline_ns = self._now_ns() + min(self._timeout_ns * len(pending), max(self._timeout_ns, LONGEST_NS))
        try:
            answers = self._predictor.submit(sheet.questions(), deadline_ns)
        except Exception as error:  # noqa: BLE001 whatever it is, the live strategies go on
            self._report(error)
            return
        for each in pending:
            each.answers, each.deadline_ns = answers, deadline_ns

    def keep(self, pending: PendingShadows, live: Sequence[Outcome]) -> None:
        """Keep the shadows of a tick whose live outcomes are known; ticks come in order."""
        pending.live = live
        if len(self._pending) >= MAX_PENDING:
            oldest = self._pending.popleft()
            self.dropped += len(oldest.asked)
            if self._due and self._due[0] is oldest:
                self._due.popleft()
            elif self._settled(oldest):
                self._answers(oldest)  # lets the predictor forget the request
        self._pending.append(pending)
        if pending.due:
            self._due.append(pending)

    def take(self, *, wait: bool) -> list[ShadowComparison]:
        """Ask what is due, and return what has become known, in order of ticks.

        With `wait` that is all that is left, by its deadline at the latest. By now the live outcomes are on
        their way, so that not even the writing of a shadow's request delays them.
        """
        comparisons: list[ShadowComparison] = []
        while self._due:
            due = self._due.popleft()
            self.send([due], due.sheet)
        while self._pending and (wait or self._settled(self._pending[0])):
            self._conclude(self._pending.popleft(), comparisons)
        return comparisons

    def _settled(self, pending: PendingShadows) -> bool:
        if pending.answers is None:
            return True
        try:
            return pending.answers.settled or self._now_ns() >= pending.deadline_ns
        except Exception as error:  # noqa: BLE001 as above
            self._report(error)
            return True

    def _answers(self, pending: PendingShadows) -> Sequence[Answer]:
        if pending.answers is None:
            return ()
        try:
            return pending.answers.result()
        except Exception as error:  # noqa: BLE001 as above
            self._report(error)
            return ()

    def _conclude(self, pending: PendingShadows, comparisons: list[ShadowComparison]) -> None:
        answers = self._answers(pending)
        for shadow, asked in pending.asked:
            outcome = asked
            if isinstance(outcome, Asked):
                outcome = self._outcome(pending, shadow.strategy, outcome, answers)
            live = pending.live[shadow.slot]
            comparisons.append(ShadowComparison(pending.index, pending.tick, live, outcome))

    def _outcome(
        self,
        pending: PendingShadows,
        strategy: LearnedStrategy,
        asked: Asked,
        answers: Sequence[Answer],
    ) -> Outcome:
        place = asked.place.question
        answer: Answer = Refusal(Reason.UNAVAILABLE, "the shadow's predictor gave no answer")
        if place < len(answers):
            answer = answers[place]
        return strategy.conclude(pending.tick, asked, answer, {})

    def _report(self, error: Exception) -> None:
        if self._logged < MAX_LOGGED:
            self._logged += 1
            log.error("the shadows' predictor raised", exc_info=error)


class ShadowSummary:
    """How a strategy's shadow compared with it, over all comparisons told.

    Every comparison is one of `same_side`, `both_none` and `differ`. `differences` counts those in which both
    models gave probabilities; the difference is the largest over the classes that both have. `reasons` counts
    why the shadow had no signal.
    """

    def __init__(self) -> None:
        self.compared = 0
        self.same_side = 0
        self.both_none = 0
        self.differ = 0
        self.differences = 0
        self.largest_difference = 0.0
        self.reasons: Counter[str] = Counter()
        self._sum = 0.0

    def __repr__(self) -> str:
        return f"<ShadowSummary {self.compared} compared, {self.differ} differ>"

    @property
    def agreement(self) -> float:
        """The part of the comparisons in which both said the same, 0 to 1; 1 without any."""
        return 1.0 - self.differ / self.compared if self.compared else 1.0

    @property
    def mean_difference(self) -> float:
        """The mean difference of probability; 0 where there is none."""
        return self._sum / self.differences if self.differences else 0.0

    def took(self, comparison: ShadowComparison) -> None:
        """Count a comparison."""
        live, shadow = comparison.live, comparison.shadow
        side = live.signal_type if isinstance(live, Signal) else None
        other = shadow.signal_type if isinstance(shadow, Signal) else None
        self.compared += 1
        if side != other:
            self.differ += 1
        elif side is None:
            self.both_none += 1
        else:
            self.same_side += 1
        if not isinstance(shadow, Signal):
            self.reasons[shadow.reason.value] += 1
        ours, theirs = live.metadata.get("probabilities"), shadow.metadata.get("probabilities")
        if not (isinstance(ours, dict) and isinstance(theirs, dict)):
            return
        differences = [abs(ours[name] - theirs[name]) for name in ours if name in theirs]
        if differences:
            self.differences += 1
            self._sum += max(differences)
            self.largest_difference = max(self.largest_difference, *differences)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "compared": self.compared,
            "same_side": self.same_side,
            "both_none": self.both_none,
            "differ": self.differ,
            "agreement": round(self.agreement, 6),
            "probability_difference": {
                "compared": self.differences,
                "mean": round(self.mean_difference, 9),
                "largest": round(self.largest_difference, 9),
            },
            "reasons": dict(sorted(self.reasons.items())),
        }
