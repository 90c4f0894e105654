"""Edge trigger and cooldown: which signals go out."""

from collections.abc import Sequence
from typing import Any

import pytest
from fixtures_runner import LearnedScripted, Scripted, config, learned_runner, reasons, yes
from fixtures_ticks import tick

from strategy_client.configuration import EmissionConfig
from strategy_client.events import NoSignal, Reason, Signal, SignalResult
from strategy_client.executor import StrategyExecutor
from strategy_client.predictor.port import Answer, Question, Refusal
from strategy_client.runner import StrategyRunner

EDGE = EmissionConfig(edge_trigger=True)
HOLD = Reason.HOLD


def emitted(
    sides: Sequence[str], emission: EmissionConfig, seconds: Sequence[int] | None = None, token: int = 1
) -> list[Any]:
    """Return what goes out of a strategy that wants these sides, a second apart; "" is nothing."""
    wanted = iter(sides)

    def act(now: Any, history: Any) -> SignalResult | None:
        side: Any = next(wanted)
        if side == "!":
            raise ArithmeticError
        return SignalResult(side, 0.5, 1, now.last_price) if side else None

    runner = StrategyRunner([StrategyExecutor(Scripted(act), config("s", (token,), emission=emission))])
    when = seconds or range(len(sides))
    return [reasons(runner.process(tick(1, token, second)))[0] for second in when]


def test_every_signal_goes_out_by_default() -> None:
    """Defect 12 of the runner this grew out of is still the rule that a strategy has to ask to be changed."""
    assert emitted(["BUY", "BUY", "SELL"], EmissionConfig()) == ["BUY", "BUY", "SELL"]


@pytest.mark.parametrize(
    ("sides", "goes_out"),
    [
        (["BUY", "BUY", "BUY"], ["BUY", HOLD, HOLD]),
        (["BUY", "BUY", "", "BUY"], ["BUY", HOLD, HOLD, "BUY"]),
        (["BUY", "SELL", "SELL", "BUY"], ["BUY", "SELL", HOLD, "BUY"]),
        (["BUY", "!", "BUY"], ["BUY", Reason.PROCESSOR_ERROR, HOLD]),
        (["!", "BUY"], [Reason.PROCESSOR_ERROR, "BUY"]),
    ],
)
def test_edge_trigger(sides: list[str], goes_out: list[Any]) -> None:
    """Defect 12 of the runner this grew out of: a side goes out once, until its condition has lapsed."""
    assert emitted(sides, EDGE) == goes_out


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if reason not in (Reason.HOLD, Reason.BELOW_THRESHOLD)]
)
def test_a_failure_does_not_let_a_side_out_again(reason: Reason) -> None:
    """A tick without an answer says nothing of the condition: one late answer is no second BUY."""
    answers: list[Answer | None] = [None, None, Refusal(reason, "why"), None]

    def answer(question: Question) -> Answer:
        return answers.pop(0) or yes(question)

    runner, _, _ = learned_runner({"l": LearnedScripted()}, answer)
    runner.executors[0].reconfigure(config("l", emission=EDGE))
    came = [reasons(runner.process(tick(1, second=second)))[0] for second in range(6)]
    assert came[2:] == ["BUY", HOLD, reason, HOLD]


def test_below_the_threshold_lets_it_out_again() -> None:
    """An answer that is no signal is the end of the condition."""
    interpreted = iter(["BUY", Reason.BELOW_THRESHOLD, "BUY", Reason.HOLD, "BUY"])

    def interpret(now: Any, features: Any, prediction: Any) -> SignalResult | Reason:
        said: Any = next(interpreted)
        return said if isinstance(said, Reason) else SignalResult(said, 0.9, 1, now.last_price)

    runner, _, _ = learned_runner({"l": LearnedScripted(interpreted=interpret)})
    runner.executors[0].reconfigure(config("l", emission=EDGE))
    came = [reasons(runner.process(tick(1, second=second)))[0] for second in range(7)]
    assert came[2:] == ["BUY", Reason.BELOW_THRESHOLD, "BUY", Reason.HOLD, "BUY"]


@pytest.mark.parametrize(
    ("sides", "seconds", "goes_out"),
    [
        # Counted from the signal that went out, not from those held back.
        (["BUY"] * 4, [0, 9, 10, 19], ["BUY", HOLD, "BUY", HOLD]),
        # Of every side.
        (["BUY", "SELL", "SELL"], [0, 5, 10], ["BUY", HOLD, "SELL"]),
    ],
)
def test_cooldown(sides: list[str], seconds: list[int], goes_out: list[Any]) -> None:
    """A cooldown is counted in the ticks' own time, from the last signal that went out."""
    assert emitted(sides, EmissionConfig(cooldown_s=10), seconds) == goes_out


def test_cooldown_begins_with_a_signal() -> None:
    """Nothing cools down before the first signal, whenever that is: ticks may be of before 1970."""
    assert emitted(["BUY", "BUY"], EmissionConfig(cooldown_s=10), [-2_000_000_000, -1_999_999_999]) == [
        "BUY",
        HOLD,
    ]


@pytest.mark.parametrize(
    ("sides", "goes_out"),
    [
        # A side that the cooldown held back has not gone out: it does when the cooldown is over.
        (["BUY", "SELL", "SELL", "SELL"], ["BUY", HOLD, "SELL", HOLD]),
        (["BUY", "SELL", "BUY", "BUY"], ["BUY", HOLD, "BUY", HOLD]),
        (["BUY", "BUY", "BUY", "BUY"], ["BUY", HOLD, HOLD, HOLD]),
    ],
)
def test_cooldown_with_edge_trigger(sides: list[str], goes_out: list[Any]) -> None:
    """Both rules together: a cooldown delays a new side, and never swallows it."""
    assert emitted(sides, EmissionConfig(edge_trigger=True, cooldown_s=10), [0, 5, 10, 20]) == goes_out


def test_what_is_held_back_says_why() -> None:
    """A signal that does not go out is a HOLD with the rule, the side and what the strategy knew."""
    runner = StrategyRunner(
        [
            StrategyExecutor(
                Scripted(lambda now, history: SignalResult("BUY", 0.5, 1, now.last_price, metadata={"z": 3})),
                config(name, emission=emission),
            )
            for name, emission in (("edge", EDGE), ("cool", EmissionConfig(cooldown_s=60)))
        ]
    )
    runner.process(tick(1))
    edge, cool = runner.process(tick(1, second=20))
    assert isinstance(edge, NoSignal)
    assert isinstance(cool, NoSignal)
    assert edge.detail == "BUY stands since an earlier tick, and goes out once"
    assert cool.detail == "BUY in the cooldown of 60 s, 40 s left"
    assert edge.metadata == {"z": 3, "held_back": "BUY"}
    assert [executor.counts for executor in runner.executors] == [{"BUY": 1, "HOLD": 1}] * 2


def test_instruments_have_rules_of_their_own() -> None:
    """What goes out on one instrument holds nothing back on another."""
    act = Scripted(lambda now, history: SignalResult("BUY", 0.5, 1, now.last_price))
    rules = EmissionConfig(edge_trigger=True, cooldown_s=60)
    runner = StrategyRunner([StrategyExecutor(act, config("s", (1, 2), emission=rules))])
    came = [reasons(runner.process(tick(1, token, second)))[0] for second in (0, 1) for token in (1, 2)]
    assert came == ["BUY", "BUY", HOLD, HOLD]


def test_stopped_and_started_again_does_not_repeat() -> None:
    """A strategy that is stopped for a while and started again has not lapsed: its BUY went out before."""
    act = Scripted(lambda now, history: SignalResult("BUY", 0.5, 1, now.last_price))
    executor = StrategyExecutor(act, config("s", emission=EDGE))
    runner = StrategyRunner([executor])
    came = []
    for second, enabled in enumerate([True, False, True]):
        executor.enabled = enabled
        came += reasons(runner.process(tick(1, second=second)))
    assert came == ["BUY", Reason.DISABLED, HOLD]


def test_rules_that_are_taken_away_are_forgotten() -> None:
    """Rules set anew after a time without them start from nothing."""
    act = Scripted(lambda now, history: SignalResult("BUY", 0.5, 1, now.last_price))
    executor = StrategyExecutor(act, config("s", emission=EDGE))
    runner = StrategyRunner([executor])
    came: list[Any] = []
    for second, emission in enumerate([EDGE, EDGE, EmissionConfig(), EDGE, EDGE]):
        executor.reconfigure(config("s", emission=emission))
        runner.change([executor])
        came += runner.process(tick(1, second=second))
    assert [isinstance(each, Signal) for each in came] == [True, False, True, True, False]


@pytest.mark.parametrize("cooldown_s", [-1, float("nan"), float("inf")])
def test_cooldown_is_checked(cooldown_s: float) -> None:
    """H9: a cooldown that is no finite number from 0 is refused."""
    with pytest.raises(ValueError, match=r"^cooldown_s: expected a number from 0, came"):
        EmissionConfig(cooldown_s=cooldown_s)
