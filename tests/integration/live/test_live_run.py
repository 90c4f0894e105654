"""A live run in this process: its parts together, with a sidecar that answers as a test tells it to."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_sidecar import FakeModel, FakeSidecar
from live_parts import Buyer, PushSource, SetStore, Told, buyer, live_run, outcomes
from sidecars import eventually

from strategy_client.binding import Bound
from strategy_client.configuration import Problem, StrategyConfig
from strategy_client.events import MarketTick
from strategy_client.live.session import LiveRun
from strategy_client.sinks import open_fan_out

FEATURES = ("return_3", "price")
LEARNED = StrategyConfig(
    "learned",
    "ml_momentum",
    {"model": "m", "features": list(FEATURES), "lookback_periods": 3, "confidence_threshold": 0.5},
    ("paper",),
    (1,),
)
MOMENTUM = StrategyConfig("momentum", "momentum", {"lookback_periods": 2}, ("paper",), (1,))


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """A sidecar that is not started yet, with one model."""
    served = FakeSidecar({"m": FakeModel(FEATURES, 3)})
    try:
        yield served
    finally:
        served.__exit__()


def told_of(live: LiveRun) -> Told:
    """Have a listener that remembers told of each tick."""
    told = Told()
    live.loop._listeners = (*live.loop._listeners, told)
    return told


def bound(live: LiveRun) -> bool:
    """Whether every strategy is ready to ask, and the way is open."""
    return not live.view.degraded() and any(each.connected and each.ready for each in live.view.endpoints)


def test_sidecar_that_is_absent_at_the_start_is_bound_when_it_appears(sidecar: FakeSidecar) -> None:
    """H1: without a sidecar the traditional strategy runs, the learned one says UNAVAILABLE; then it asks."""
    source = PushSource()
    with live_run(SetStore(MOMENTUM, LEARNED), source, targets=[sidecar.target], deadline_ms=60_000) as live:
        told = told_of(live)
        source.push(1, 2, 3, 4, 5)
        eventually(lambda: len(told.ticks) == 5, "the loop runs without a sidecar")
        assert outcomes(told.ticks)[-1] == ["BUY", "UNAVAILABLE"]
        sidecar.start()
        eventually(lambda: bound(live), "it is bound")
        source.push(6)
        eventually(lambda: len(told.ticks) == 6, "the next tick")
    assert outcomes(told.ticks)[-1] == ["BUY", "BUY"]


def test_end_of_the_source_ends_the_run_after_its_last_tick() -> None:
    """What a file or standard input gave is taken to the last tick before the run ends by itself."""
    source = PushSource()
    with live_run(SetStore(buyer()), source) as live:
        told = told_of(live)
        source.push(*range(1, 101))
        source.end()
        assert live.wait(60)
    assert len(told.ticks) == 100
    assert not live.failed


def test_stop_finishes_the_tick_in_hand_and_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop takes no further tick; the one in hand has its outcome, and what waited is told."""
    started, go_on = threading.Event(), threading.Event()

    def hold(_tick: MarketTick) -> None:
        started.set()
        go_on.wait(60)

    monkeypatch.setattr(Buyer, "before", staticmethod(hold))
    source = PushSource()
    live = live_run(SetStore(buyer()), source)
    with live:
        told = told_of(live)
        source.push(1, 2, 3)
        assert started.wait(60)
        eventually(lambda: live.intake.waiting == 2, "the others wait")
        stopper = threading.Thread(target=live.stop)
        stopper.start()
        eventually(lambda: source.closed, "it stops")
        go_on.set()
        stopper.join(60)
    assert len(told.ticks) == 1
    assert live.intake.waiting == 2


def test_processor_that_hangs_holds_up_no_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's processor that never returns is told, and the stop goes on without it."""
    started, go_on = threading.Event(), threading.Event()

    def hang(_tick: MarketTick) -> None:
        started.set()
        go_on.wait()

    monkeypatch.setattr(Buyer, "before", staticmethod(hang))
    monkeypatch.setattr("strategy_client.live.session.LAST_TICK_S", 0.05)
    source = PushSource()
    with live_run(SetStore(buyer()), source) as live:
        source.push(1)
        assert started.wait(60)
    assert live.failed
    assert live.journal.last is not None
    assert live.journal.last.text == "the tick in hand took more than 0.05 s"
    go_on.set()


def test_strategy_that_is_switched_off_is_disabled_at_the_next_tick() -> None:
    """A change is taken between two ticks, also while no tick comes, and nothing else is disturbed."""
    store, source = SetStore(buyer(), MOMENTUM), PushSource()
    with live_run(store, source) as live:
        told = told_of(live)
        source.push(1, 2)
        eventually(lambda: len(told.ticks) == 2, "two ticks")
        store.set(buyer(enabled=False), MOMENTUM)
        eventually(lambda: not live.runner.executors[0].enabled, "it is off though the feed is silent")
        source.push(3)
        eventually(lambda: len(told.ticks) == 3, "the next tick")
        store.set(buyer(), MOMENTUM)
        eventually(lambda: live.runner.executors[0].enabled, "it is on again")
        source.push(4)
        eventually(lambda: len(told.ticks) == 4, "the last tick")
    # The other strategy keeps its history: it never warms up again.
    assert outcomes(told.ticks) == [
        ["BUY", "WARMING_UP"],
        ["BUY", "BUY"],
        ["DISABLED", "BUY"],
        ["BUY", "BUY"],
    ]


def test_strategies_come_and_go_with_their_instruments() -> None:
    """A new strategy brings its instrument into the source's filter, the watchdog and the account."""
    store, source = SetStore(buyer()), PushSource()
    with live_run(store, source) as live:
        told = told_of(live)
        source.push(1)
        store.set(buyer(), buyer("other", 2))
        eventually(lambda: 2 in live.runner.instruments, "the second instrument")
        source.push(5, token=2)
        eventually(lambda: len(told.ticks) == 2, "its tick")
        store.set(buyer("other", 2))
        eventually(lambda: 1 not in live.runner.instruments, "the first is gone")
        source.push(6, token=1)
        source.push(7, token=2)
        eventually(lambda: len(told.ticks) == 3, "the last tick")
        assert set(live.view.parts.silence._heard_ns) == {2}
    assert [processed.tick.instrument_token for processed in told.ticks] == [1, 2, 2]
    accounts = {each.strategy_id: (each.ticks, each.running) for each in live.account.strategies}
    assert accounts == {"buyer": (1, False), "other": (2, True)}


def test_change_reaches_source_brokers_and_audit_log(tmp_path: Path) -> None:
    """The source's filter, the brokers of each strategy and the log's line-up are those of the new one."""
    tokens: set[int] = set()
    fan_out = open_fan_out([f"file:{tmp_path}/{{broker}}.jsonl"])
    store, source = SetStore(buyer()), PushSource()
    with live_run(store, source, tokens=tokens, fan_out=fan_out, audit=tmp_path / "audit") as live:
        assert tokens == {1}
        store.set(replace(buyer("other", 2), active_brokers=("paper", "zerodha")))
        eventually(lambda: tokens == {2}, "the source's filter follows")
        source.push(5, token=2)
        eventually(lambda: live.loop.ticks == 1, "its tick")
    assert live.view.sinks["zerodha"].sent == 1
    log = b"".join(path.read_bytes() for path in (tmp_path / "audit").glob("*.jsonl"))
    assert b'"other"' in log.split(b'{"tick":')[0]


def test_line_up_that_is_refused_changes_nothing_but_what_stops() -> None:
    """H9: a strategy that does not support its instrument is told; another that was switched off stops."""
    store, source = SetStore(buyer(), buyer("second"), buyer("third")), PushSource()
    with live_run(store, source) as live:
        told = told_of(live)
        store.set(buyer(enabled=False), buyer("second", 2, supports=1))
        eventually(lambda: live.view.parts.watch.problems, "it is told")
        (problem,) = live.view.parts.watch.problems
        assert "'second' does not support instrument 2" in str(problem)
        assert live.journal.counts["configuration"] == 1
        source.push(1)
        eventually(lambda: len(told.ticks) == 1, "the next tick")
        assert outcomes(told.ticks) == [["DISABLED", "BUY", "DISABLED"]]
        # Once it is mended it is taken over.
        store.set(buyer(), buyer("second", 2))
        eventually(lambda: 2 in live.runner.instruments, "the mended one")
        assert live.view.parts.watch.problems == ()


def test_wrong_configuration_is_told_and_what_runs_goes_on() -> None:
    """H9: what the store finds wrong is in the status and the journal, and costs nothing that runs."""
    store, source = SetStore(buyer()), PushSource()
    with live_run(store, source) as live:
        told = told_of(live)
        store.set(buyer(), problems=[Problem("s.yaml:3", "expected a list")])
        eventually(live.view.degraded, "it is told")
        assert live.view.degraded() == ["configuration: s.yaml:3: expected a list"]
        source.push(1)
        eventually(lambda: told.ticks, "the next tick")
    assert outcomes(told.ticks) == [["BUY"]]


def test_slow_processor_of_a_change_holds_up_no_tick() -> None:
    """A strategy that takes long to make is made beside the loop, which runs what it has meanwhile."""
    making, go_on = threading.Event(), threading.Event()
    store, source = SetStore(buyer()), PushSource()
    with live_run(store, source) as live:
        told = told_of(live)
        prepare = live.view.parts.watch._prepare

        def slow(before: object, after: object) -> None:
            making.set()
            go_on.wait(60)
            prepare(before, after)

        live.view.parts.watch._prepare = slow
        store.set(buyer(), buyer("second"))
        assert making.wait(60)
        source.push(1)
        eventually(lambda: told.ticks, "a tick while it is made")
        go_on.set()
        eventually(lambda: len(live.runner.executors) == 2, "the change")
        source.push(2)
        eventually(lambda: len(told.ticks) == 2, "the next tick")
    assert outcomes(told.ticks) == [["BUY"], ["BUY", "BUY"]]


def test_contract_that_changes_while_it_runs_is_never_guessed(sidecar: FakeSidecar) -> None:
    """H5: after a swap to another contract the strategy says CONTRACT_MISMATCH, and is bound when it fits."""
    source = PushSource()
    with (
        sidecar,
        live_run(SetStore(LEARNED), source, targets=[sidecar.target], deadline_ms=60_000) as live,
    ):
        told = told_of(live)
        eventually(lambda: bound(live), "it is bound")
        source.push(1, 2, 3, 4, 5)
        eventually(lambda: len(told.ticks) == 5, "the first answers")
        assert outcomes(told.ticks)[-1] == ["BUY"]
        sidecar.swap("m", feature_names=("price", "return_3"), version=2)
        source.push(6)
        eventually(lambda: len(told.ticks) == 6, "the tick after the swap")
        assert outcomes(told.ticks)[-1] == ["CONTRACT_MISMATCH"]
        eventually(lambda: live.view.loads["learned", False], "the new contract is seen to be another")
        sidecar.swap("m", feature_names=FEATURES, version=3)
        eventually(lambda: bound(live), "it is bound again")
        source.push(7)
        eventually(lambda: len(told.ticks) == 7, "the tick after")
    assert outcomes(told.ticks)[-1] == ["BUY"]
    # Once at the start, once after the mismatch; the swap itself is a failure to use the model.
    assert live.view.loads == {("learned", True): 2, ("learned", False): 1}


def test_shadow_that_is_configured_while_it_runs_is_compared(sidecar: FakeSidecar) -> None:
    """A second model of a strategy is asked over a way of its own; one that is missing degrades nothing."""
    source, store = PushSource(), SetStore(LEARNED)
    shadowed = replace(LEARNED, parameters={**LEARNED.parameters, "shadow": {"model": "n"}})
    with (
        sidecar,
        live_run(store, source, targets=[sidecar.target], deadline_ms=60_000) as live,
    ):
        told = told_of(live)
        eventually(lambda: bound(live), "it is bound")
        store.set(shadowed)
        eventually(
            lambda: sidecar.describes > 1 and "learned (shadow)" in live.view.bindings, "it is looked for"
        )
        assert live.view.degraded() == []
        sidecar.models["n"] = FakeModel(FEATURES, 3)
        eventually(lambda: isinstance(live.view.bindings["learned (shadow)"], Bound), "the shadow")
        eventually(lambda: sidecar.streams == 2, "its way is open")
        source.push(1, 2, 3, 4, 5, 6)
        eventually(lambda: told.comparisons and len(told.ticks) == 6, "a comparison")
    assert [each.live.strategy_id for each in told.comparisons] == ["learned"] * len(told.comparisons)
    shadow = live.account.strategies[0].shadow
    assert shadow is not None
    assert shadow.same_side >= 1
    assert shadow.differ == 0


def test_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """A folder that cannot be written refuses the start, and what was built until then is stopped."""
    (tmp_path / "file").write_text("")
    before = {thread.name for thread in threading.enumerate()}
    with pytest.raises(OSError, match="file"):
        live_run(SetStore(buyer()), PushSource(), tmp_path / "file")
    eventually(lambda: {thread.name for thread in threading.enumerate()} <= before, "its threads have ended")
