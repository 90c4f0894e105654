"""Which answers send a tick's questions on to the next target."""

import pytest

from strategy_client.events import Reason
from strategy_client.predictor.port import Answer, PendingAnswers, Prediction, Refusal
from strategy_client.predictor.routed_answers import RoutedAnswers
from strategy_client.predictor.settled_answers import SettledAnswers

ANSWERED = Prediction("m", 1, "d", "h", {})
ELSEWHERE = [Prediction("m", 2, "d", "h", {}), Prediction("m", 2, "d", "h", {})]


def refused(reason: Reason) -> Refusal:
    """Return a refusal."""
    return Refusal(reason, "no")


@pytest.mark.parametrize(
    ("first", "goes_on"),
    [
        ([refused(Reason.UNAVAILABLE), refused(Reason.UNAVAILABLE)], True),
        ([refused(Reason.BREAKER_OPEN), refused(Reason.UNAVAILABLE)], True),
        ([ANSWERED, refused(Reason.UNAVAILABLE)], False),
        ([refused(Reason.UNAVAILABLE), refused(Reason.CONTRACT_MISMATCH)], False),
        ([refused(Reason.DEADLINE_EXCEEDED), refused(Reason.DEADLINE_EXCEEDED)], False),
        ([], False),
    ],
)
def test_only_what_nobody_answered_goes_on(first: list[Answer], goes_on: bool) -> None:
    """H2: a request of which anything was answered stays where it is, and so does one that was too late."""
    asked: list[PendingAnswers] = []

    def ask_next() -> PendingAnswers:
        asked.append(SettledAnswers(ELSEWHERE))
        return asked[-1]

    routed = RoutedAnswers(SettledAnswers(first), ask_next)
    assert routed.settled
    assert list(routed.result()) == (ELSEWHERE if goes_on else first)
    assert len(asked) == goes_on


def test_last_refusal_counts_where_nobody_is_left() -> None:
    """Without another target the refusal of the one that was asked is the answer."""
    first = [refused(Reason.UNAVAILABLE)]
    routed = RoutedAnswers(SettledAnswers(first), lambda: None)
    assert list(routed.result()) == first
    assert list(routed.result()) == first
