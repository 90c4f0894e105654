"""Questions that follow from target to target until one of them answers."""

from collections.abc import Callable, Sequence
from typing import Final

from strategy_client.events import Reason
from strategy_client.predictor.port import Answer, PendingAnswers, Refusal

# Refusals that say nothing of the question, only that this target does not answer it now.
NOT_ANSWERED: Final = frozenset({Reason.UNAVAILABLE, Reason.BREAKER_OPEN})


class RoutedAnswers:
    """One tick's questions on their way over one target after the other, under the tick's one deadline.

    `ask_next` sends them to the next target and returns at once; None where there is none left.
    """

    __slots__ = ("_answers", "_ask_next", "_pending")

    def __init__(self, pending: PendingAnswers, ask_next: Callable[[], PendingAnswers | None]) -> None:
        self._pending = pending
        self._ask_next = ask_next
        self._answers: Sequence[Answer] | None = None

    @property
    def request_id(self) -> str:
        """The id of the request at the target that was asked last."""
        return self._pending.request_id

    @property
    def settled(self) -> bool:
        """Whether `result` would return at once."""
        while self._answers is None and self._pending.settled:
            self._take()
        return self._answers is not None

    def result(self) -> Sequence[Answer]:
        """Return one answer for each question; wait until the deadline, no longer."""
        while self._answers is None:
            self._take()
        return self._answers

    def _take(self) -> None:
        answers = self._pending.result()
        again = self._ask_next() if not_answered(answers) is not None else None
        if again is None:
            self._answers = answers
        else:
            self._pending = again


def not_answered(answers: Sequence[Answer]) -> Refusal | None:
    """Return the first refusal where a target answered nothing; None where it answered, or was too late."""
    refusals = [answer for answer in answers if isinstance(answer, Refusal) and answer.reason in NOT_ANSWERED]
    return refusals[0] if refusals and len(refusals) == len(answers) else None
