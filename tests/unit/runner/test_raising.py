"""What a user's code raises that is no ordinary exception: an outcome all the same."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fixtures_features import Touchy
from fixtures_runner import LearnedScripted, Scripted, buys, config, contract, last, learned_runner, reasons
from fixtures_ticks import tick

from strategy_client.events import NoSignal, Reason
from strategy_client.executor import StrategyExecutor
from strategy_client.features import FeatureSet
from strategy_client.runner import StrategyRunner


class PanicError(BaseException):
    """What a library in another language raises."""


class MuteError(ValueError):
    """An error that has no words."""

    def __str__(self) -> str:
        raise PanicError


ERRORS = (SystemExit(3), PanicError(), GeneratorExit(), asyncio.CancelledError(), MuteError())


def raising(error: BaseException) -> Callable[..., Any]:
    """Return what raises it, whatever it is called with."""

    def act(*_: object) -> None:
        raise error

    return act


def in_processor(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Raise where a traditional strategy decides."""
    executors = [
        StrategyExecutor(Scripted(act), config(name)) for name, act in (("l", raising(error)), ("t", buys))
    ]
    return StrategyRunner(executors).process(tick(1))


def in_interpret(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Raise where a learned strategy reads an answer."""
    return learned(LearnedScripted(interpreted=raising(error)))


def in_bind(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Raise where a learned strategy is told what classes mean."""
    monkeypatch.setattr(LearnedScripted, "bind", raising(error))
    return learned(LearnedScripted())


def in_feature(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Raise where a feature of a user's own takes a price."""
    monkeypatch.setattr(Touchy, "update", raising(error))
    return learned(LearnedScripted(features=FeatureSet(("price", "fixtures_features:Touchy"))))


def learned(processor: LearnedScripted) -> list[Any]:
    """Return the last outcomes of a learned strategy and of one that buys."""
    extra = [StrategyExecutor(Scripted(buys), config("t"))]
    served = contract(feature_names=processor.features.names)
    return last(learned_runner({"l": processor}, served=served, extra=extra)[0])


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", [in_processor, in_interpret, in_bind, in_feature])
def test_whatever_is_raised_is_the_outcome_of_that_strategy_alone(
    place: Callable[..., list[Any]], error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H8: an exit, a panic, a cancellation or an error without words is PROCESSOR_ERROR, with its name."""
    outcomes = place(error, monkeypatch)
    assert reasons(outcomes) == [Reason.PROCESSOR_ERROR, "BUY"]
    assert isinstance(outcomes[0], NoSignal)
    assert outcomes[0].detail.startswith(type(error).__name__)


@pytest.mark.parametrize("place", [in_processor, in_interpret, in_bind, in_feature])
def test_interrupt_is_nobodys_outcome(
    place: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a user's code, in the main thread, ends what it is meant to end."""
    with pytest.raises(KeyboardInterrupt):
        place(KeyboardInterrupt(), monkeypatch)
