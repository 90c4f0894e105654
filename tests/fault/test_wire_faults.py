"""One outcome for each strategy and tick while the way to a real sidecar, or the sidecar itself, fails."""

import contextlib
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from byte_proxy import ByteProxy
from eventually import until
from fixtures_session import (
    MOMENTUM_LOOKBACK,
    REVERSION_LOOKBACK,
    momentum_features,
    walk,
    write_model,
    write_models,
)
from fixtures_ticks import ticks
from own_threads import own_threads
from sidecars import eventually

from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig
from strategy_client.events import Outcome, Reason, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.breaker import BreakerState
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.connection import ConnectionOptions
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.port import Answer, PendingAnswers, Predictor, Question
from strategy_client.runner import RunnerOptions, StrategyRunner
from strategy_client.sidecar.own_sidecar import OwnSidecar

pytestmark = pytest.mark.usefixtures("transport")

TRADITIONAL = ("momentum", "reversion")
LEARNED = ("learned_momentum", "learned_reversion")
WARM_UP = max(MOMENTUM_LOOKBACK, REVERSION_LOOKBACK) + 1
FAULT_AT, HEALED_AT, TICKS = WARM_UP + 15, WARM_UP + 35, WARM_UP + 150
DEADLINE_MS = 100.0
IN_A_ROW = 5
# What a trial is waited for between two ticks.
TRIAL_S = 0.3
QUICK = ConnectionOptions(backoff=BackoffOptions(first_ms=2, longest_ms=20), probe_timeout_ms=150)
# What the model said, not that it said nothing.
ANSWERED = {Reason.BELOW_THRESHOLD, Reason.HOLD}
LOST = {Reason.DEADLINE_EXCEEDED, Reason.BREAKER_OPEN, Reason.UNAVAILABLE}
# What bytes that were changed on the way may make of a question or an answer; see docs/security.md.
GARBLED = LOST | {
    Reason.CONTRACT_MISMATCH,
    Reason.MODEL_NOT_FOUND,
    Reason.MODEL_NOT_READY,
    Reason.PROCESSOR_ERROR,
    Reason.INVALID_SIGNAL,
    Reason.NON_FINITE,
    Reason.OUT_OF_RANGE,  # the bit may flip in a description, which is believed until the next look at it
}


@dataclass(frozen=True)
class Sides:
    """What a test does its faults with."""

    proxy: ByteProxy
    sidecar: OwnSidecar
    client: InferenceClient
    models: Path


@dataclass(frozen=True)
class Fault:
    """Something that breaks, what mends it, and what it may do to the learned strategies."""

    name: str
    breaks: Callable[[Sides], object]
    mends: Callable[[Sides], object] = lambda sides: sides.proxy.heal()
    reasons: frozenset[Reason] = frozenset(LOST)
    may_lie: bool = False


def restart(sides: Sides) -> None:
    """Start the sidecar that was killed."""
    sides.sidecar.start()
    sides.sidecar.wait_ready(sides.client)


def replace(sides: Sides, model: str) -> None:
    """Put another file in the place of the first model; whether it is taken is the sidecar's."""
    assert sides.sidecar.pid is not None
    with InferenceClient(sides.sidecar.target) as direct:
        sides.sidecar.replace(direct, "up_momentum", sides.models / model)


def stop(sides: Sides) -> None:
    """Pause the sidecar, and wait until it is."""
    assert sides.sidecar.pid is not None
    process = psutil.Process(sides.sidecar.pid)
    process.suspend()
    eventually(lambda: process.status() == psutil.STATUS_STOPPED, "the sidecar is paused")


def resume(sides: Sides) -> None:
    """Let the sidecar go on."""
    assert sides.sidecar.pid is not None
    os.kill(sides.sidecar.pid, signal.SIGCONT)


NOISE = bytes(range(256))
FAULTS = (
    Fault("delay", lambda sides: sides.proxy.delay(0.25)),
    Fault("stall", lambda sides: sides.proxy.stall()),
    Fault("swallow", lambda sides: sides.proxy.swallow()),
    Fault("cut in an answer", lambda sides: sides.proxy.cut("down", 12)),
    Fault("cut in a question", lambda sides: sides.proxy.cut("up", 12)),
    Fault("no way there", lambda sides: sides.proxy.shut("up")),
    Fault("no way back", lambda sides: sides.proxy.shut("down")),
    Fault("refuse", lambda sides: sides.proxy.refuse()),
    Fault("noise in answers", lambda sides: sides.proxy.inject("down", NOISE)),
    Fault("noise in questions", lambda sides: sides.proxy.inject("up", NOISE)),
    Fault("bits of answers", lambda s: s.proxy.flip("down", 1), reasons=frozenset(GARBLED), may_lie=True),
    Fault("bits of questions", lambda s: s.proxy.flip("up", 1), reasons=frozenset(GARBLED), may_lie=True),
    Fault("kill -9", lambda sides: sides.sidecar.kill(), restart),
    Fault("SIGSTOP", stop, resume),
    Fault(
        "another contract",
        lambda sides: replace(sides, "other.onnx"),
        lambda sides: replace(sides, "mended.onnx"),
        frozenset({Reason.CONTRACT_MISMATCH}),
    ),
    Fault("a truncated file", lambda sides: replace(sides, "truncated.onnx"), reasons=frozenset()),
)


def strategies() -> list[StrategyConfig]:
    """Return two traditional and two learned strategies on one instrument."""

    def make(name: str, kind: str, **parameters: object) -> StrategyConfig:
        return StrategyConfig(name, kind, parameters, ("paper",), (1,))

    return [
        make("momentum", "momentum", momentum_threshold="0.0002", lookback_periods=5),
        make("learned_momentum", "ml_momentum", model="up_momentum", confidence_threshold=0.5),
        make("reversion", "mean_reversion", std_deviation_threshold=0.5),
        make("learned_reversion", "ml_mean_reversion", model="up_reversion", confidence_threshold=0.5),
    ]


@contextlib.contextmanager
def running(
    client: InferenceClient | Endpoints, deadline_ms: float, through: Predictor | None = None
) -> Iterator[StrategyRunner]:
    """Give a runner whose strategies are bound."""
    executors = create_executors(strategies(), StrategyFactory())
    bindings = Bindings(wanted_models(executors), client.describe, Backoff(QUICK.backoff))
    bindings.start()
    try:
        yield StrategyRunner(executors, through or client, bindings, RunnerOptions(deadline_ms=deadline_ms))
    finally:
        bindings.close()


SESSION = ticks(walk(TICKS, 100.0, 3).tolist())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what is served, and beside it what is put in its place."""
    folder = tmp_path_factory.mktemp("wire")
    write_models(folder / "models")
    other = write_model(folder / "a", "up_momentum", ("price", "return_20"), version=3)
    mended = write_model(folder / "b", "up_momentum", momentum_features(MOMENTUM_LOOKBACK), version=4)
    (folder / "other.onnx").write_bytes(other.read_bytes())
    (folder / "mended.onnx").write_bytes(mended.read_bytes())
    (folder / "truncated.onnx").write_bytes(mended.read_bytes()[:400])
    return folder


@pytest.fixture(scope="module")
def sidecar(models: Path) -> Iterator[OwnSidecar]:
    """Run a real sidecar for all faults; each leaves it as it found it."""
    with OwnSidecar(models / "models", ["up_momentum"]) as process:
        with InferenceClient(process.target) as client:
            process.wait_ready(client)
        yield process


@pytest.fixture(scope="module")
def undisturbed(sidecar: OwnSidecar) -> list[list[Outcome]]:
    """Run the session with nothing in the way."""
    with InferenceClient(sidecar.target) as client:
        client.wait_ready(60.0)
        with running(client, 30_000) as runner:
            return [runner.process(tick) for tick in SESSION]


def said(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[object]:
    """Return what some strategies said, without what varies."""
    return [
        (each.signal_type, each.confidence, each.price) if isinstance(each, Signal) else each.reason
        for each in outcomes
        if each.strategy_id in names
    ]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_one_outcome_whatever_fails(
    fault: Fault, sidecar: OwnSidecar, models: Path, undisturbed: list[list[Outcome]]
) -> None:
    """H2-H5, E7, E9: under each fault every strategy has one outcome a tick, of a kind that fits the fault.

    Traditional strategies say what they say undisturbed. A learned strategy says what it says undisturbed or
    nothing, with a reason; only where bits are flipped may it be told another number. Nothing raises, the
    learned ones recover when the fault ends, and no thread and no descriptor is left.
    """
    descriptors, threads = psutil.Process().num_fds(), own_threads("byte-proxy")
    came: list[list[Outcome]] = []
    with ByteProxy(sidecar.target) as proxy, InferenceClient(proxy.target, QUICK) as client:
        sides = Sides(proxy, sidecar, client, models)
        client.wait_ready(60.0)
        with running(client, DEADLINE_MS) as runner:
            well = 0
            for index, tick in enumerate(SESSION):
                if index == FAULT_AT:
                    fault.breaks(sides)
                if index == HEALED_AT:
                    fault.mends(sides)
                if index >= HEALED_AT:
                    # It returns by itself, away from the ticks; how soon is the backoff's business.
                    eventually(
                        lambda: client.ready and client.breaker_state is not BreakerState.OPEN,
                        "it is back",
                    )
                    look_again(fault, runner, index)
                came.append(runner.process(tick))
                answered = said(came[-1], LEARNED) == said(undisturbed[index], LEARNED)
                well = well + 1 if answered and index >= HEALED_AT else 0
                if well >= IN_A_ROW:
                    break
            for executor in runner.executors:
                assert sum(executor.counts.values()) == len(came)
    assert well >= IN_A_ROW, f"not recovered after {len(came) - HEALED_AT} ticks: {said(came[-1], LEARNED)}"
    for index, (outcomes, expected) in enumerate(zip(came, undisturbed, strict=False)):
        assert [each.strategy_id for each in outcomes] == [each.strategy_id for each in expected]
        assert said(outcomes, TRADITIONAL) == said(expected, TRADITIONAL)
        for outcome, right in zip(outcomes, expected, strict=True):
            if outcome.strategy_id in LEARNED and said([outcome], LEARNED) != said([right], LEARNED):
                check(fault, outcome, index)
    assert own_threads("byte-proxy") - threads == set()
    eventually(lambda: psutil.Process().num_fds() <= descriptors, "every descriptor is closed")


def look_again(fault: Fault, runner: StrategyRunner, index: int) -> None:
    """Have the look of every ten seconds now: a bit may have flipped in what the strategies are bound to."""
    if index == HEALED_AT and fault.may_lie and runner._bindings is not None:
        runner._bindings.refresh()


def check(fault: Fault, outcome: Outcome, index: int) -> None:
    """Hold an outcome that is not the undisturbed one to what the fault may do."""
    if isinstance(outcome, Signal) or outcome.reason in ANSWERED:
        assert fault.may_lie, f"tick {index}: {outcome}"
        if isinstance(outcome, Signal):
            assert 0 <= outcome.confidence <= 1
            assert math.isfinite(outcome.price)
            assert all(math.isfinite(value) for value in outcome.metadata["features"].values())
    else:
        # A machine that is busy for a moment may cost any tick its deadline, and so the breaker's pause.
        busy = {Reason.DEADLINE_EXCEEDED, Reason.BREAKER_OPEN}
        assert outcome.reason in fault.reasons | busy, f"tick {index}: {outcome}"


def test_faults_do_what_they_say(sidecar: OwnSidecar, models: Path) -> None:
    """Each way of a proxy to lose an answer loses it: this shows that the suite above tests something."""
    for fault in FAULTS[:10]:
        with ByteProxy(sidecar.target) as proxy, InferenceClient(proxy.target, QUICK) as client:
            client.wait_ready(60.0)
            with running(client, DEADLINE_MS) as runner:
                for tick in SESSION[:WARM_UP]:
                    runner.process(tick)
                fault.breaks(Sides(proxy, sidecar, client, models))
                reasons = {
                    each.reason
                    for tick in SESSION[WARM_UP : WARM_UP + 3]
                    for each in runner.process(tick)
                    if not isinstance(each, Signal) and each.strategy_id in LEARNED
                }
        assert reasons & LOST, fault.name


class Waits:
    """A predictor that counts who waits for an answer that never comes."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.in_vain = 0
        self.sent = 0

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Ask, and look at what comes of it."""
        pending = self._predictor.submit(questions, deadline_ns)
        self.sent += bool(pending.request_id)
        return _Watched(pending, self)

    def close(self) -> None:
        """Leave closing to who opened it."""


class _Watched:
    def __init__(self, pending: PendingAnswers, waits: Waits) -> None:
        self._pending = pending
        self._waits = waits

    @property
    def request_id(self) -> str:
        return self._pending.request_id

    @property
    def settled(self) -> bool:
        return self._pending.settled

    def result(self) -> Sequence[Answer]:
        waits = not self._pending.settled
        answers = self._pending.result()
        refused = {getattr(answer, "reason", None) for answer in answers}
        self._waits.in_vain += waits and refused == {Reason.DEADLINE_EXCEEDED}
        return answers


def test_paused_sidecar_costs_one_deadline_then_nothing(
    sidecar: OwnSidecar, models: Path, undisturbed: list[list[Outcome]]
) -> None:
    """E9, H4: of the ticks during SIGSTOP one waits, in vain; for all others nothing is even sent.

    The breaker opens, asks beside the ticks with jittered pauses, lets one tick through when the sidecar goes
    on, and closes. The traditional strategies say throughout what they say undisturbed.
    """
    pauses: list[float] = []

    def uniform() -> float:
        pauses.append(0.5)
        return 0.5

    with InferenceClient(sidecar.target, QUICK, uniform) as client:
        client.wait_ready(60.0)
        sides = Sides(None, sidecar, client, models)  # type: ignore[arg-type] no proxy in between
        waits = Waits(client)
        with running(client, 2_000.0, waits) as runner:
            came = [runner.process(tick) for tick in SESSION[:FAULT_AT]]
            stop(sides)
            drawn = len(pauses)
            sent = waits.sent
            came += [runner.process(tick) for tick in SESSION[FAULT_AT:HEALED_AT]]
            eventually(lambda: len(pauses) > drawn + 2, "probes fail, each with a pause of its own")
            assert client.breaker_state is BreakerState.OPEN
            came += [runner.process(tick) for tick in SESSION[HEALED_AT : HEALED_AT + 20]]
            assert (waits.in_vain, waits.sent - sent) == (1, 1)
            resume(sides)
            eventually(lambda: client.breaker_state is BreakerState.HALF_OPEN, "a probe is answered")
            came += [runner.process(tick) for tick in SESSION[HEALED_AT + 20 : HEALED_AT + 30]]
            assert client.breaker_state is BreakerState.CLOSED
            counts = client.counts
    expected = undisturbed[: len(came)]
    assert [said(each, TRADITIONAL) for each in came] == [said(each, TRADITIONAL) for each in expected]
    learned, well = ([said(each, LEARNED) for each in some] for some in (came, expected))
    paused = HEALED_AT + 20 - FAULT_AT
    lost = [[Reason.DEADLINE_EXCEEDED] * 2] + [[Reason.BREAKER_OPEN] * 2] * (paused - 1)
    assert learned == well[:FAULT_AT] + lost + well[HEALED_AT + 20 :]
    assert (counts.missed, counts.breaker_opened) == (1, 1)


def test_paused_target_is_left_after_one_deadline(
    sidecar: OwnSidecar, models: Path, undisturbed: list[list[Outcome]]
) -> None:
    """E9, H4: with a second sidecar SIGSTOP of the first costs one tick's answers, and its return none."""
    with OwnSidecar(models / "models") as second, InferenceClient(second.target) as direct:
        second.wait_ready(direct)
        with Endpoints([sidecar.target, second.target], QUICK) as endpoints:
            eventually(lambda: all(state.ready for state in endpoints.states), "both are ready")
            sides = Sides(None, sidecar, direct, models)  # type: ignore[arg-type] no proxy in between
            waits = Waits(endpoints)
            with running(endpoints, 2_000.0, waits) as runner:
                came = [runner.process(tick) for tick in SESSION[:FAULT_AT]]
                stop(sides)
                came += [runner.process(tick) for tick in SESSION[FAULT_AT:HEALED_AT]]
                resume(sides)
                for tick in SESSION[HEALED_AT:]:
                    came.append(runner.process(tick))
                    if endpoints.states[0].in_use:
                        break
                    eventually(
                        lambda: endpoints.states[0].breaker is not BreakerState.OPEN, "a probe is answered"
                    )
                    # The tick was its trial, or the next one will be; without a pause ticks would run out.
                    with contextlib.suppress(AssertionError):
                        until(lambda: endpoints.states[0].breaker is BreakerState.CLOSED, TRIAL_S)
            assert endpoints.states[0].in_use
            by_target = endpoints.counts_by_target
    assert endpoints.counts.missed == waits.in_vain == 1
    assert by_target[second.target].answered > 0
    learned = [said(each, LEARNED) for each in came]
    assert learned.pop(FAULT_AT) == [Reason.DEADLINE_EXCEEDED] * 2
    well = [said(each, LEARNED) for each in undisturbed[: len(came)]]
    del well[FAULT_AT]
    assert learned == well
