"""One outcome for each strategy and tick, whatever the sidecar does."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from fake_sidecar import FakeModel, FakeSidecar
from fixtures_ticks import ticks
from sidecars import eventually
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig
from strategy_client.events import MarketTick, Outcome, Reason, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.breaker import BreakerOptions
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.connection import ConnectionOptions
from strategy_client.runner import RunnerOptions, StrategyRunner

pytestmark = pytest.mark.usefixtures("transport")

QUICK = BackoffOptions(first_ms=1, longest_ms=4)
FEATURES = ("return_5", "price")
TICKS = 150
LEARNED = ("learned_a", "learned_b")
EXPECTED = {
    Reason.DEADLINE_EXCEEDED,
    Reason.BREAKER_OPEN,
    Reason.UNAVAILABLE,
    Reason.MODEL_NOT_FOUND,
    Reason.MODEL_NOT_READY,
    Reason.CONTRACT_MISMATCH,
    Reason.PROCESSOR_ERROR,
}


def by_price(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Answer a probability that depends on the row's own price, so that an answer tells its tick."""
    buy = (rows[:, 1] % 1 * 0.8 + 0.1).astype(np.float32)
    return {"label": (buy > 0.5).astype(np.int64), "probabilities": np.stack([1 - buy, buy], axis=1)}


def strategies() -> list[StrategyConfig]:
    """Return two traditional and two learned strategies."""

    def make(name: str, kind: str, **parameters: object) -> StrategyConfig:
        return StrategyConfig(name, kind, parameters, ("paper",), (1,))

    learned = {"confidence_threshold": 0.5, "features": list(FEATURES)}
    return [
        make("momentum", "momentum", momentum_threshold="0.0001", lookback_periods=5),
        make("learned_a", "ml_momentum", model="a", **learned),
        make("reversion", "mean_reversion", std_deviation_threshold=0.5),
        make("learned_b", "ml_momentum", model="b", **learned),
    ]


def models() -> dict[str, FakeModel]:
    """Return the models that the strategies ask."""
    return {name: FakeModel(FEATURES, 5, by_price) for name in ("a", "b")}


def garbage(request: pb.PredictRequest) -> pb.PredictResponse:
    """Answer with a part too few, whose tensor does not hold what it says."""
    tensor = pb.Tensor(name="probabilities", datatype="FP32", shape=[1, 2], raw=b"123")
    return pb.PredictResponse(id=request.id, parts=[pb.PartResult(outputs=[tensor])])


def session() -> list[MarketTick]:
    """Return the ticks of a random walk."""
    steps = np.random.default_rng(3).normal(0, 0.2, TICKS).cumsum()
    return ticks(np.round(100 + steps, 4).tolist())


def run(
    disturb: Callable[[FakeSidecar, int], None],
    deadline_ms: float,
    mend: Callable[[FakeSidecar], None] | None = None,
) -> list[list[Outcome]]:
    """Run the session, with something done to the sidecar before each tick.

    With `mend`, which puts everything right, go on until a learned strategy has a signal again.
    """
    executors = create_executors(strategies(), StrategyFactory())
    options = ConnectionOptions(BreakerOptions(failures=3), QUICK)
    with FakeSidecar(models()) as sidecar, InferenceClient(sidecar.target, options) as client:
        client.wait_ready(60.0)
        bindings = Bindings(wanted_models(executors), client.describe, Backoff(QUICK))
        bindings.start()
        runner = StrategyRunner(executors, client, bindings, RunnerOptions(deadline_ms=deadline_ms))
        came = []
        for index, tick in enumerate(session()):
            disturb(sidecar, index)
            came.append(runner.process(tick))
        for executor in executors:
            assert sum(executor.counts.values()) == TICKS
        if mend is not None:
            mend(sidecar)
            eventually(
                lambda: any(
                    isinstance(outcome, Signal) and outcome.strategy_id in LEARNED
                    for outcome in runner.process(tick)
                ),
                "there are signals again",
            )
        bindings.close()
    return came


@pytest.fixture(scope="module")
def undisturbed() -> list[list[Outcome]]:
    """Run the session with nothing in the way."""
    return run(lambda _sidecar, _index: None, 60_000)


class Chaos:
    """Does something at random before each tick; the sidecar's own state tells what it does to requests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 a seed makes the run repeatable
        self._up = True

    def __call__(self, sidecar: FakeSidecar, index: int) -> None:
        """Do one thing."""
        act = self._random.choice(
            [self.well, self.well, self.hold, self.late, self.garble, self.cut, self.swap]
        )
        act(sidecar)

    def well(self, sidecar: FakeSidecar) -> None:
        """Put everything right."""
        sidecar.release()
        sidecar.unmute()
        sidecar.models.update(models())
        if not self._up:
            sidecar.start()
            self._up = True

    def hold(self, sidecar: FakeSidecar) -> None:
        """Answer nothing from now on."""
        sidecar.hold()

    def late(self, sidecar: FakeSidecar) -> None:
        """Answer what was held, late, in another order and twice."""
        held = [sidecar.held.get_nowait() for _ in range(sidecar.held.qsize())]
        for request in [*reversed(held), *held]:
            sidecar.send(sidecar.answer(request))

    def garble(self, sidecar: FakeSidecar) -> None:
        """Answer what is held with garbage and with an error."""
        for _ in range(sidecar.held.qsize()):
            request = sidecar.held.get_nowait()
            sidecar.send(garbage(request))
        error = pb.PartStatus(code=13, message="internal")
        sidecar.send(pb.PredictResponse(id="nobody", error=error))

    def cut(self, sidecar: FakeSidecar) -> None:
        """Cut every connection."""
        if self._up:
            sidecar.stop()
            self._up = False

    def swap(self, sidecar: FakeSidecar) -> None:
        """Serve another contract, lose a model."""
        sidecar.swap("a", feature_names=FEATURES[::-1], version=2)
        sidecar.models.pop("b", None)


def sides(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[object]:
    """Return what some strategies said, without what varies."""
    return [
        (o.signal_type, o.confidence, o.price) if isinstance(o, Signal) else o.reason
        for o in outcomes
        if o.strategy_id in names
    ]


@pytest.mark.parametrize("seed", range(3))
def test_faults_of_every_kind(undisturbed: list[list[Outcome]], seed: int) -> None:
    """H2-H5: each strategy has one outcome a tick, in order; the traditional ones are never disturbed.

    A learned signal is always that of its own tick in an undisturbed run, and no signal has its reason.
    """
    chaos = Chaos(seed)
    came = run(chaos, 50, chaos.well)
    seen = set()
    for outcomes, expected in zip(came, undisturbed, strict=True):
        assert [o.strategy_id for o in outcomes] == [o.strategy_id for o in expected]
        traditional = ("momentum", "reversion")
        assert sides(outcomes, traditional) == sides(expected, traditional)
        for outcome, right in zip(outcomes, expected, strict=True):
            if outcome.strategy_id not in LEARNED:
                continue
            if isinstance(outcome, Signal):
                assert sides([outcome], LEARNED) == sides([right], LEARNED)
            elif outcome.reason not in (Reason.WARMING_UP, Reason.BELOW_THRESHOLD):
                assert outcome.reason in EXPECTED
                seen.add(outcome.reason)
    # Which ones these are, and whether a signal came in between, is the machine's business.
    assert seen


def test_garbage_in_time_is_no_signal(undisturbed: list[list[Outcome]]) -> None:
    """An answer in time that does not hold what it says is UNAVAILABLE, and the loop goes on."""

    def answer_garbage(sidecar: FakeSidecar, index: int) -> None:
        sidecar.answer = garbage if 50 <= index < 60 else FakeSidecar.answer.__get__(sidecar)  # type: ignore[method-assign]

    came = run(answer_garbage, 60_000)
    for index, (outcomes, expected) in enumerate(zip(came, undisturbed, strict=True)):
        if 50 <= index < 60:
            assert sides(outcomes, LEARNED) == [Reason.UNAVAILABLE] * 2
        else:
            assert sides(outcomes, LEARNED) == sides(expected, LEARNED)
