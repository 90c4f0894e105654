"""What may be measured: questions that were answered. A refusal comes faster than any answer."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from strategy_client.predictor.port import Answer, Refusal
from strategy_client.runner import StrategyRunner

# Why a strategy that asks a model got no answer that it could use.
UNANSWERED: Final = frozenset(
    {
        "BREAKER_OPEN",
        "CONTRACT_MISMATCH",
        "DEADLINE_EXCEEDED",
        "DISABLED",
        "MODEL_NOT_FOUND",
        "MODEL_NOT_READY",
        "PROCESSOR_ERROR",
        "UNAVAILABLE",
    }
)


def answered(answers: Sequence[Answer]) -> Sequence[Answer]:
    """Return the answers; RuntimeError where one is a refusal."""
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    if refusals:
        raise RuntimeError(f"a question was refused, {refusals[0].reason.value}: {refusals[0].detail}")
    return answers


def outcomes_of(runner: StrategyRunner) -> str:
    """Tell what the outcomes were, all strategies together; RuntimeError where a question had no answer."""
    counts: Counter[str] = Counter()
    for executor in runner.executors:
        counts.update(executor.counts)
    return told_outcomes(counts)


def told_outcomes(counts: Counter[str]) -> str:
    """Tell each part of the outcomes; RuntimeError where a question had no answer."""
    if lost := sorted(name for name in UNANSWERED if counts[name]):
        raise RuntimeError(f"not all questions were answered: {', '.join(lost)}")
    whole = counts.total()
    return ", ".join(f"{name} {count / whole:.0%}" for name, count in counts.most_common())
