"""A live run on a terminal: what a person sees before a tick, while something fails, and on a low screen."""

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from live_parts import NOWHERE, PushSource, SetStore, buyer, live_run
from rich.console import Console
from sidecars import eventually

from strategy_client.configuration import StrategyConfig
from strategy_client.live.session import LiveRun
from strategy_client.live.table import Rate, live_table, notes
from strategy_client.predictor.breaker import BreakerState

LEARNED = StrategyConfig(
    "learned",
    "ml_momentum",
    {"model": "m", "features": ["return_3", "price"], "lookback_periods": 3, "confidence_threshold": 0.5},
    ("paper",),
    (1,),
)


@pytest.fixture
def source() -> PushSource:
    """Give what a test pushes."""
    return PushSource()


@pytest.fixture
def live(source: PushSource) -> Iterator[LiveRun]:
    """A run of a buyer and of a learned strategy whose sidecar is not there."""
    with live_run(SetStore(buyer(), LEARNED), source, targets=[NOWHERE]) as run:
        yield run


def printed(live: LiveRun, rate: Rate, at_s: float) -> str:
    """Return the table as it stands so many seconds after the start."""
    live.view._now_ns = lambda: live.view._began_ns + int(at_s * 1e9)
    console = Console(file=io.StringIO(), width=80, highlight=False)
    console.print(live_table(live.view, rate))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def counted(live: LiveRun) -> set[int]:
    """Return how many outcomes the strategies have had; a tick is counted before these are."""
    return {each.ticks for each in live.view.parts.account.strategies}


def test_no_latency_is_made_up_before_the_first_tick(live: LiveRun) -> None:
    """Before a tick there is none to have taken any time: not 0."""
    shown = printed(live, Rate(), 1)
    assert "no latency yet  deadline 50 ms" in shown
    assert " us" not in shown


def test_what_fails_now_stands_first(live: LiveRun, source: PushSource) -> None:
    """However often other reasons came before, what has come since the last look is named, and as such."""
    rate = Rate()
    source.push(*range(1, 11))
    eventually(lambda: counted(live) == {10}, "the ticks")
    assert "UNAVAILABLE 8 now" in printed(live, rate, 1)
    assert "UNAVAILABLE 8 now" in printed(live, rate, 1.25)
    assert "now" not in printed(live, rate, 2)
    source.push(11)
    eventually(lambda: counted(live) == {11}, "a tick")
    [row] = [line for line in printed(live, rate, 3).splitlines() if line.startswith("learned")]
    assert "UNAVAILABLE 9 now" in row
    [row] = [line for line in printed(live, rate, 3).splitlines() if line.startswith("buyer")]
    assert "now" not in row


def test_what_is_wrong_is_not_cut_off(live: LiveRun) -> None:
    """A low terminal loses the last lines of what is shown: the strategies', never the sidecar's."""
    shown = printed(live, Rate(), 1)
    assert shown.index("not connected, breaker") < shown.index("ticks waiting") < shown.index("strategy")


def test_a_long_cause_leaves_room_for_the_strategies(live: LiveRun) -> None:
    """What gRPC says of a sidecar that is not there is told by its begin, in few lines; the log has all."""
    live.stop()
    live.view.parts.journal.problem("model", "no way to it, " * 40)
    told = [line for line in notes(live.view) if line.startswith("last problem")]
    assert "model: no way to it" in told[0]
    assert len(told[0]) < 160


@pytest.mark.parametrize(
    ("breaker", "word"),
    [
        (BreakerState.CLOSED, "standing by"),
        (BreakerState.OPEN, "not asked"),
        (BreakerState.HALF_OPEN, "on trial"),
    ],
    ids=["closed", "open", "half-open"],
)
def test_a_sidecar_that_does_not_answer_stands_by_for_nothing(
    live: LiveRun, breaker: BreakerState, word: str
) -> None:
    """A connection that stands, to a paused sidecar, is not one that could be used."""
    live.stop()
    [state] = live.view.endpoints
    live.view.endpoints = (replace(state, connected=True, breaker=breaker, in_use=False),)
    assert next(notes(live.view)).startswith(f"{NOWHERE} {word}, breaker {breaker.value}")
