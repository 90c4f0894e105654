"""Questions that were never sent."""

from collections.abc import Sequence

from strategy_client.events import Reason
from strategy_client.predictor.port import Answer, Question, Refusal


class SettledAnswers:
    """Questions that were never sent, and why."""

    __slots__ = ("_answers",)
    request_id = ""
    settled = True

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    def result(self) -> Sequence[Answer]:
        """Return the refusals."""
        return self._answers


def refuse(questions: Sequence[Question], reason: Reason, detail: str) -> SettledAnswers:
    """Refuse each of them for one reason."""
    return SettledAnswers([Refusal(reason, detail)] * len(questions))
