"""Windows of ticks: what is asked, when, and that nothing comes out otherwise than tick by tick."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures_session import walk
from fixtures_ticks import tick

from strategy_client.bindings import Bindings
from strategy_client.configuration import EmissionConfig, StrategyConfig
from strategy_client.events import MarketTick, Outcome, Reason, ShadowComparison, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.replay import window
from strategy_client.replay.window import WindowOptions, Windows
from strategy_client.runner import RunnerOptions, StrategyRunner
from strategy_client.testing import FakeModel, FakePredictor

DEADLINE_MS = 1_000.0
FEATURES = ["return_3", "price"]
BROKERS = ("paper",)
SHADOW = {"shadow": {"model": "second"}}


def ticks(count: int = 60) -> list[MarketTick]:
    """Two instruments, interleaved; some prices stand still, and one tick is no market data."""
    prices = [walk(count, start, seed) for start, seed in ((100.0, 1), (60_000.0, 2))]
    made = [
        tick(f"{prices[index % 2][index // 8 * 4]:.2f}", 1 + index % 2, second=index)
        for index in range(count)
    ]
    made[count // 2] = replace(made[count // 2], last_price=made[0].last_price * 0)
    return made


def model(sign: int = 1, **changed: Any) -> FakeModel:
    """Return a model whose answer to a row is another when it does not stand alone, by its last bits."""

    def answer(rows: np.ndarray) -> np.ndarray:
        up = 0.5 + 0.4 * np.tanh(sign * 300 * rows[:, :1].astype(np.float64)) + 1e-7 * (len(rows) > 1)
        return np.hstack([1 - up, up])

    return FakeModel(FEATURES, answer, **changed)


def learned(name: str = "learned", **changed: Any) -> StrategyConfig:
    """Return a learned strategy on both instruments."""
    parameters = {"model": "first", "features": FEATURES, "confidence_threshold": 0.55, **changed}
    return StrategyConfig(name, "ml_momentum", parameters, BROKERS, (1, 2))


def rule() -> StrategyConfig:
    """Return a traditional strategy on both instruments."""
    parameters = {"lookback_periods": 3, "momentum_threshold": 0.0001}
    return StrategyConfig("rule", "momentum", parameters, BROKERS, (1, 2))


class Rig:
    """A runner over a fake sidecar."""

    def __init__(self, *configs: StrategyConfig) -> None:
        self.predictor = FakePredictor({"first": model(), "second": model(-1)})
        self.shadows = FakePredictor({"first": model(), "second": model(-1)})
        executors = create_executors(configs or (rule(), learned()), StrategyFactory())
        self.bindings = Bindings(wanted_models(executors), self.predictor.describe)
        self.bindings.refresh()
        self.runner = StrategyRunner(
            executors,
            self.predictor,
            self.bindings,
            RunnerOptions(deadline_ms=DEADLINE_MS),
            shadow_predictor=self.shadows,
        )

    def windows(self, **options: Any) -> Windows:
        return Windows(self.runner, self.predictor, DEADLINE_MS, WindowOptions(**options))

    def process(self, all_ticks: Sequence[MarketTick], **options: Any) -> list[Sequence[Outcome]]:
        windows = self.windows(**options)
        came = [each for index, one in enumerate(all_ticks) for each in windows.take(index, one)]
        came += windows.drain()
        assert [each.index for each in came] == list(range(len(all_ticks)))
        assert [each.tick for each in came] == list(all_ticks)
        return [each.outcomes for each in came]

    def parts(self) -> list[int]:
        return [len(questions) for questions in self.predictor.asked]


def plain(outcomes: Sequence[Sequence[Outcome]]) -> list[list[Outcome]]:
    """Return outcomes without the fields that vary between two runs."""
    return [[each._replace(metadata=_plain(each.metadata)) for each in tick_] for tick_ in outcomes]


def _plain(metadata: Any) -> dict[str, Any]:
    return {name: value for name, value in metadata.items() if name not in ("latency_us", "request_id")}


def sides(outcomes: Sequence[Sequence[Outcome]], strategy: str) -> list[str]:
    """Return what a strategy said, in order."""
    return [
        each.signal_type if isinstance(each, Signal) else each.reason.value
        for tick_ in outcomes
        for each in tick_
        if each.strategy_id == strategy
    ]


@pytest.fixture
def one_by_one() -> list[list[Outcome]]:
    """What comes out tick by tick."""
    rig = Rig()
    return plain([rig.runner.process(each) for each in ticks()])


@pytest.mark.parametrize("size", [1, 2, 7, 60, 1_000])
def test_windows_give_what_tick_by_tick_gives(one_by_one: list[list[Outcome]], size: int) -> None:
    """G2: of every size of window, to the last bit, from a model that answers rows in a batch otherwise."""
    came = plain(Rig().process(ticks(), ticks=size))
    assert came == one_by_one
    assert {"BUY", "SELL"} <= set(sides(came, "learned"))
    assert "OUT_OF_RANGE" in sides(came, "learned")


def test_each_row_is_a_question_of_its_own_and_equal_ones_are_asked_once() -> None:
    """G2: no part holds two rows, and no request holds a row twice."""
    rig = Rig(learned(), learned("again"))
    rig.process(ticks(), ticks=20)
    assert len(rig.predictor.asked) == 3
    for questions in rig.predictor.asked:
        rows = [question.features.tobytes() for question in questions]
        assert {len(question.features) for question in questions} == {1}
        assert len(set(rows)) == len(rows) < 20


@pytest.mark.parametrize("bound", [{"rows": 8}, {"size_bytes": 5 * 8}, {"ticks": 9}])
def test_a_window_ends_at_its_bounds(one_by_one: list[list[Outcome]], bound: dict[str, int]) -> None:
    """At a number of ticks, of rows, or of bytes; the last tick of it may ask all its strategies ask."""
    rig = Rig()
    assert plain(rig.process(ticks(), **{"ticks": 1_000, **bound})) == one_by_one
    assert len(rig.parts()) > 3
    assert max(rig.parts()) <= {"rows": 8, "size_bytes": 5, "ticks": 9}[next(iter(bound))]


@pytest.mark.parametrize(("bound", "most"), [({"rows": 8}, 8), ({"size_bytes": 5 * 8}, 5)])
def test_a_window_ends_at_the_bounds_of_its_shadows_too(bound: dict[str, int], most: int) -> None:
    """Where the live model is not there only shadows are asked, and no request of theirs is longer either."""
    rig = Rig(learned(model="gone", **SHADOW))
    came = rig.process(ticks(), **{"ticks": 1_000, **bound})
    assert "MODEL_NOT_FOUND" in sides(came, "learned")
    assert rig.predictor.asked == deque()
    rig.runner.take_comparisons(wait=True)
    assert 0 < max(map(len, rig.shadows.asked)) <= most


@pytest.mark.parametrize(
    ("deadline_ms", "longest_ms", "expected_ms"),
    [(1_000.0, 60_000.0, 20_000.0), (1_000.0, 5_000.0, 5_000.0), (8_000.0, 5_000.0, 8_000.0)],
)
def test_a_window_may_take_as_long_as_its_ticks(
    monkeypatch: pytest.MonkeyPatch, deadline_ms: float, longest_ms: float, expected_ms: float
) -> None:
    """Its deadline is that of its ticks together, bounded, and never shorter than that of one tick."""
    rig, given = Rig(learned()), []
    submit = rig.predictor.submit

    def kept(questions: Any, deadline_ns: int) -> Any:
        given.append(deadline_ns)
        return submit(questions, deadline_ns)

    monkeypatch.setattr(rig.predictor, "submit", kept)
    monkeypatch.setattr(window.time, "monotonic_ns", lambda: 7)
    options = WindowOptions(ticks=20, longest_ms=longest_ms)
    windows = Windows(rig.runner, rig.predictor, deadline_ms, options)
    for index, one in enumerate(ticks(20)):
        assert list(windows.take(index, one)) == []
    assert given == [7 + expected_ms * 1e6]


def test_a_signal_names_the_request_of_its_window() -> None:
    """Its id leads from a signal to the sidecar's log, as it does tick by tick."""
    came = Rig(learned()).process(ticks(), ticks=30)
    named = {each.metadata["request_id"] for one in came for each in one if isinstance(each, Signal)}
    assert named == {"fake-1", "fake-2"}


def test_one_window_is_filled_while_another_is_answered() -> None:
    """What has become of a window is told when the next one is on its way, and all of it by `drain`."""
    rig = Rig()
    windows = rig.windows(ticks=10)
    given = [len(list(windows.take(index, each))) for index, each in enumerate(ticks(35))]
    assert given == [0] * 19 + [10] + [0] * 9 + [10] + [0] * 5
    assert [each.index for each in windows.drain()] == list(range(20, 35))
    assert list(windows.drain()) == []


@pytest.mark.parametrize("reason", [Reason.UNAVAILABLE, Reason.DEADLINE_EXCEEDED, Reason.MODEL_NOT_READY])
def test_a_window_that_fails_is_asked_again_tick_by_tick(
    one_by_one: list[list[Outcome]], reason: Reason
) -> None:
    """E7: a request that fails costs no tick its answer that it would not have cost it alone."""
    rig = Rig()
    rig.predictor.fail(reason, times=1, model="first")
    assert plain(rig.process(ticks(), ticks=20)) == one_by_one
    assert len(rig.parts()) > 3


def test_a_sidecar_that_is_gone_is_each_ticks_own_reason(one_by_one: list[list[Outcome]]) -> None:
    """E7: while nobody answers, learned strategies say why and traditional ones go on."""
    rig = Rig()
    rig.predictor.fail(Reason.UNAVAILABLE)
    came = rig.process(ticks(), ticks=20)
    assert sides(came, "rule") == sides(one_by_one, "rule")
    asked = [
        there
        for there, before in zip(sides(came, "learned"), sides(one_by_one, "learned"), strict=True)
        if before in {"BUY", "SELL", "BELOW_THRESHOLD"}
    ]
    assert set(asked) == {"UNAVAILABLE"}


def test_rules_of_emission_are_applied_in_the_order_of_ticks() -> None:
    """A signal that goes out only on the edge, and not within a cooldown, is the same in windows."""
    rules = EmissionConfig(edge_trigger=True, cooldown_s=5.0)
    config = replace(learned(), emission=rules)
    rig = Rig(config)
    one_by_one = plain([rig.runner.process(each) for each in ticks()])
    assert plain(Rig(config).process(ticks(), ticks=13)) == one_by_one
    unruled = Rig(learned())
    every = [unruled.runner.process(each) for each in ticks()]
    assert sides(one_by_one, "learned") != sides(every, "learned")


def test_shadows_of_a_window_are_asked_together_and_compared_tick_by_tick() -> None:
    """Comparisons in windows are those of a tick-by-tick run, from one request a window."""

    def told(rig: Rig) -> list[tuple[int, Outcome, Outcome]]:
        found: list[ShadowComparison] = rig.runner.take_comparisons(wait=True)
        return [(each.index, *plain([[each.live, each.shadow]])[0]) for each in found]

    alone, together = Rig(learned(**SHADOW)), Rig(learned(**SHADOW))
    for each in ticks():
        alone.runner.process(each)
    together.process(ticks(), ticks=20)
    comparisons = told(together)
    assert comparisons == told(alone)
    assert {live.strategy_id == "learned" for _, live, _ in comparisons} == {True}
    assert any(isinstance(shadow, Signal) for _, _, shadow in comparisons)
    assert len(together.shadows.asked) == 3
    assert {len(question.features) for asked in together.shadows.asked for question in asked} == {1}


def test_an_answer_is_read_as_the_contract_says_under_which_it_was_asked() -> None:
    """H5: classes that mean something else from the next window on change nothing of the one before."""
    rig = Rig(learned())
    first, second = ticks(20), ticks(40)[20:]
    windows = rig.windows(ticks=20)
    came = [each for index, one in enumerate(first) for each in windows.take(index, one)]
    assert came == []
    rig.predictor.models["first"] = model(meanings=("BUY", "SELL"), version=2)
    rig.bindings.refresh()
    for index, one in enumerate(second, 20):
        came += windows.take(index, one)
    came += windows.drain()
    alone = Rig(learned())
    expected = plain([alone.runner.process(each) for each in first])
    alone.predictor.models["first"] = model(meanings=("BUY", "SELL"), version=2)
    alone.bindings.refresh()
    expected += plain([alone.runner.process(each) for each in second])
    assert plain([each.outcomes for each in came]) == expected
