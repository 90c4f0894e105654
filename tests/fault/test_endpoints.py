"""Several sidecars asked as one, while one after the other fails."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_sidecar import FakeModel, FakeSidecar
from fixtures_ticks import ticks
from own_threads import own_threads
from sidecars import eventually
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.binding import Bound
from strategy_client.bindings import Bindings
from strategy_client.configuration import StrategyConfig
from strategy_client.events import Outcome, Reason, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor import endpoints as module
from strategy_client.predictor import preference
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.breaker import BreakerOptions, BreakerState
from strategy_client.predictor.channel import TargetError
from strategy_client.predictor.connection import ConnectionOptions
from strategy_client.predictor.description import Description
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.port import PendingAnswers, Prediction, Question, Refusal
from strategy_client.predictor.status import InferenceError
from strategy_client.runner import RunnerOptions, StrategyRunner

pytestmark = pytest.mark.usefixtures("transport")

QUICK = BackoffOptions(first_ms=1, longest_ms=5)
PATIENT_S = 60.0
# Waited out by a question that nobody answers; long enough to be sent before it is over.
IN_VAIN_S = 0.5
FIRST, SECOND = 1, 2


def echo(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Answer each row with itself, so that an answer tells its question."""
    return {"y": rows.copy()}


@pytest.fixture
def sidecars() -> Iterator[list[FakeSidecar]]:
    """Serve one contract twice; the version tells who answered."""
    with (
        FakeSidecar({"echo": FakeModel(["x"], 1, echo, version=FIRST)}) as first,
        FakeSidecar({"echo": FakeModel(["x"], 1, echo, version=SECOND)}) as second,
    ):
        yield [first, second]


def connect(sidecars: list[FakeSidecar], breaker: BreakerOptions | None = None) -> Endpoints:
    """Return endpoints of them all, once all are connected."""
    options = ConnectionOptions(breaker or BreakerOptions(), QUICK)
    endpoints = Endpoints([sidecar.target for sidecar in sidecars], options)
    eventually(lambda: all(state.ready and state.connected for state in endpoints.states), "all are ready")
    return endpoints


@pytest.fixture
def endpoints(sidecars: list[FakeSidecar]) -> Iterator[Endpoints]:
    """Connect to both."""
    with connect(sidecars) as connected:
        yield connected


def ask(endpoints: Endpoints, value: float, timeout_s: float = PATIENT_S) -> PendingAnswers:
    """Ask for one value."""
    question = Question("echo", np.array([[value]], np.float32))
    return endpoints.submit([question], time.monotonic_ns() + int(timeout_s * 1e9))


def told(pending: PendingAnswers) -> tuple[float, int] | Reason:
    """Return the value and the version that answered, or the reason."""
    (answer,) = pending.result()
    if isinstance(answer, Refusal):
        return answer.reason
    return float(answer.outputs["y"][0, 0]), answer.version


def hang(sidecar: FakeSidecar) -> None:
    """Answer nothing from now on, probes included."""
    sidecar.hold()
    sidecar.mute()


def wake(sidecar: FakeSidecar) -> None:
    """Answer again; what was held stays held."""
    sidecar.release()
    sidecar.unmute()


def breaker(endpoints: Endpoints, number: int = 0) -> BreakerState:
    """Return the state of one target's breaker."""
    return endpoints.states[number].breaker


def test_preferred_target_is_asked_while_it_is_well(
    sidecars: list[FakeSidecar], endpoints: Endpoints
) -> None:
    """All questions go to the first target; the second is connected and hears nothing."""
    assert [told(ask(endpoints, value)) for value in range(20)] == [(value, FIRST) for value in range(20)]
    assert (len(sidecars[0].requests), len(sidecars[1].requests)) == (20, 0)
    assert [state.in_use for state in endpoints.states] == [True, False]


def test_target_that_hangs_costs_one_deadline(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """H4: one tick is DEADLINE_EXCEEDED; from the next on the other target answers."""
    hang(sidecars[0])
    assert told(ask(endpoints, 0.0, timeout_s=IN_VAIN_S)) is Reason.DEADLINE_EXCEEDED
    assert [told(ask(endpoints, value)) for value in range(20)] == [(value, SECOND) for value in range(20)]
    assert endpoints.counts.missed == 1
    assert [state.in_use for state in endpoints.states] == [False, True]


def test_no_tick_pays_for_the_trial(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """H4: the trial of a half-open target is a copy beside a tick that the other one answers.

    A trial that hangs costs no tick anything, opens that breaker again, and nothing of it piles up.
    """
    hang(sidecars[0])
    assert told(ask(endpoints, 0.0, timeout_s=IN_VAIN_S)) is Reason.DEADLINE_EXCEEDED
    sidecars[0].unmute()
    eventually(lambda: breaker(endpoints) is BreakerState.HALF_OPEN, "a probe is answered")
    sidecars[0].mute()
    assert told(ask(endpoints, 1.0, timeout_s=5.0)) == (1.0, SECOND)
    assert sidecars[0].held.get(timeout=PATIENT_S).parts[0].features == np.float32(0).tobytes()
    assert sidecars[0].held.get(timeout=PATIENT_S).parts[0].features == np.float32(1).tobytes()
    eventually(
        lambda: (told(ask(endpoints, 9.0)), breaker(endpoints))[1] is BreakerState.OPEN,
        "the trial is given up at its deadline",
    )
    missed = endpoints.counts_by_target
    assert [missed[sidecar.target].missed for sidecar in sidecars] == [2, 0]
    assert sidecars[0].held.empty(), "one trial at a time"


def test_trial_answered_brings_the_preferred_back(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """H4: the answer to a trial is used by nobody; the tick after it is asked of the preferred target."""
    hang(sidecars[0])
    ask(endpoints, 0.0, timeout_s=IN_VAIN_S).result()
    wake(sidecars[0])
    eventually(lambda: breaker(endpoints) is BreakerState.HALF_OPEN, "a probe is answered")
    asked = len(sidecars[1].requests)
    assert told(ask(endpoints, 1.0)) == (1.0, SECOND)
    assert len(sidecars[1].requests) == asked + 1
    eventually(lambda: breaker(endpoints) is BreakerState.CLOSED, "the trial is answered")
    assert told(ask(endpoints, 2.0)) == (2.0, FIRST)


def test_target_that_keeps_failing_is_held_back(
    sidecars: list[FakeSidecar], monkeypatch: pytest.MonkeyPatch
) -> None:
    """H4: after a second fall soon after its return, a closed breaker alone does not bring a target back."""
    monkeypatch.setattr(preference, "HOLD", BackoffOptions(first_ms=3_600_000, longest_ms=3_600_000))
    with connect(sidecars) as endpoints:
        for _ in range(2):
            hang(sidecars[0])
            assert told(ask(endpoints, 0.0, timeout_s=IN_VAIN_S)) is Reason.DEADLINE_EXCEEDED
            wake(sidecars[0])
            eventually(
                lambda: (told(ask(endpoints, 1.0)), breaker(endpoints))[1] is BreakerState.CLOSED,
                "it is back",
            )
            last = told(ask(endpoints, 2.0))
    assert last == (2.0, SECOND)


def test_target_that_dies_in_mid_tick_is_replaced_in_that_tick(
    sidecars: list[FakeSidecar], endpoints: Endpoints
) -> None:
    """H2: a tick whose stream breaks is asked of the other target at once, and has its answer."""
    sidecars[0].hold()
    pending = ask(endpoints, 1.0)
    first_id = sidecars[0].held.get(timeout=PATIENT_S).id
    assert pending.request_id == first_id
    sidecars[0].stop()
    assert told(pending) == (1.0, SECOND)
    assert pending.request_id == sidecars[1].requests[-1].id != first_id


def test_lost_tick_is_no_trial_of_another_target(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """H2: what one target lost is not asked of one that is not well; it is refused at once."""
    sidecars[1].stop()
    eventually(lambda: not endpoints.states[1].connected, "the second is gone")
    sidecars[0].hold()
    pending = ask(endpoints, 1.0)
    sidecars[0].held.get(timeout=PATIENT_S)
    sidecars[0].stop()
    assert told(pending) is Reason.UNAVAILABLE
    assert endpoints.counts_by_target[sidecars[1].target].requests == 0


def test_tick_has_one_deadline_however_many_are_asked(
    sidecars: list[FakeSidecar], endpoints: Endpoints
) -> None:
    """The second target is given what is left of the tick's deadline, not a deadline of its own."""
    sidecars[0].hold()
    sidecars[1].hold()
    deadline_ns = time.monotonic_ns() + 3 * 10**9
    pending = endpoints.submit([Question("echo", np.ones((1, 1), np.float32))], deadline_ns)
    sidecars[0].held.get(timeout=PATIENT_S)
    sidecars[0].stop()
    assert told(pending) is Reason.DEADLINE_EXCEEDED
    assert time.monotonic_ns() >= deadline_ns
    assert 0 < sidecars[1].requests[-1].timeout_us < sidecars[0].requests[-1].timeout_us


def test_settled_follows_the_questions_to_the_next_target(
    sidecars: list[FakeSidecar], endpoints: Endpoints
) -> None:
    """`settled` never waits: it asks the next target when the first is lost, and is true with its answer."""
    for sidecar in sidecars:
        sidecar.hold()
    pending = ask(endpoints, 1.0)
    sidecars[0].held.get(timeout=PATIENT_S)
    sidecars[0].stop()
    eventually(lambda: not pending.settled and sidecars[1].requests, "the other one is asked")
    assert not pending.settled
    sidecars[1].send(sidecars[1].answer(sidecars[1].held.get(timeout=PATIENT_S)))
    eventually(lambda: pending.settled, "it is answered")
    assert told(pending) == (1.0, SECOND)


def test_late_answer_of_a_target_never_reaches_a_tick_of_another(
    sidecars: list[FakeSidecar], endpoints: Endpoints
) -> None:
    """H3: what the preferred target answers after the fail-over is dropped and counted."""
    hang(sidecars[0])
    first = ask(endpoints, 1.0, timeout_s=IN_VAIN_S)
    late = sidecars[0].held.get(timeout=PATIENT_S)
    assert told(first) is Reason.DEADLINE_EXCEEDED
    sidecars[1].hold()
    second = ask(endpoints, 2.0)
    on_time = sidecars[1].held.get(timeout=PATIENT_S)
    sidecars[0].send(sidecars[0].answer(late))
    eventually(lambda: endpoints.counts.late == 1, "the late one arrives")
    assert not second.settled
    sidecars[1].send(sidecars[1].answer(on_time))
    assert (told(second), told(first)) == ((2.0, SECOND), Reason.DEADLINE_EXCEEDED)


def test_window_of_ticks_over_a_fail_over(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """H3: several ticks begun before the first is finished keep their own answers when a target dies."""
    sidecars[0].hold()
    window = [ask(endpoints, value) for value in range(8)]
    held = [sidecars[0].held.get(timeout=PATIENT_S) for _ in window]
    for request in reversed(held[:3]):
        sidecars[0].send(sidecars[0].answer(request))
    eventually(lambda: endpoints.counts.answered == 3, "three are answered")
    sidecars[0].stop()
    assert [told(pending) for pending in window] == [
        (value, FIRST if value < 3 else SECOND) for value in range(8)
    ]


def test_window_of_ticks_over_a_target_that_hangs(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """H3: all that was begun under one deadline is over with it; late answers reach none of the window."""
    hang(sidecars[0])
    deadline_ns = time.monotonic_ns() + 10**9
    question = Question("echo", np.zeros((1, 1), np.float32))
    window = [endpoints.submit([question], deadline_ns) for _ in range(8)]
    held = [sidecars[0].held.get(timeout=PATIENT_S) for _ in window]
    assert {told(pending) for pending in window} == {Reason.DEADLINE_EXCEEDED}
    after = [ask(endpoints, value) for value in range(1, 9)]
    for request in held:
        sidecars[0].send(sidecars[0].answer(request))
    assert [told(pending) for pending in after] == [(value, SECOND) for value in range(1, 9)]
    assert {told(pending) for pending in window} == {Reason.DEADLINE_EXCEEDED}


def test_reason_says_what_is_wrong_with_each(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """Where no target is well the refusal comes at once and names each with its trouble."""
    hang(sidecars[0])
    ask(endpoints, 0.0, timeout_s=IN_VAIN_S).result()
    sidecars[1].stop()
    eventually(lambda: not endpoints.states[1].connected, "the second is gone")
    (answer,) = ask(endpoints, 1.0).result()
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BREAKER_OPEN
    for sidecar in sidecars:
        assert sidecar.target in answer.detail
    assert all(state.cause and not state.in_use for state in endpoints.states)
    assert [(state.connected, state.ready) for state in endpoints.states] == [(True, True), (False, False)]


def test_restarted_target_is_not_asked_before_it_is_ready(
    sidecars: list[FakeSidecar], endpoints: Endpoints
) -> None:
    """H2: a sidecar that is back and still loads its models gets no questions while another is ready."""
    sidecars[0].stop()
    assert told(ask(endpoints, 0.0)) == (0.0, SECOND)
    sidecars[0].ready = False
    sidecars[0].start()
    eventually(lambda: endpoints.states[0].connected, "it is connected again")
    assert told(ask(endpoints, 1.0)) == (1.0, SECOND)
    sidecars[0].ready = True
    eventually(lambda: endpoints.states[0].ready, "it is asked whether it is ready")
    assert told(ask(endpoints, 2.0)) == (2.0, FIRST)


def test_target_that_is_not_ready_is_better_than_none(
    sidecars: list[FakeSidecar], endpoints: Endpoints
) -> None:
    """Where no target is ready the first that is connected is asked: other models of it may answer."""
    for sidecar in sidecars:
        sidecar.stop()
        sidecar.ready = False
    eventually(lambda: not any(state.connected for state in endpoints.states), "both are gone")
    sidecars[1].start()
    eventually(lambda: endpoints.states[1].connected, "the second is back")
    assert told(ask(endpoints, 1.0)) == (1.0, SECOND)


def test_description_is_of_the_target_in_use(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """`describe` and `wait_ready` tell what the target serves that questions go to."""

    def version() -> int:
        return endpoints.describe(["echo"]).models["echo"].default_version

    assert (endpoints.wait_ready(60.0).models["echo"].default_version, version()) == (FIRST, FIRST)
    sidecars[0].hold()  # it goes on describing what it serves
    assert told(ask(endpoints, 0.0, timeout_s=IN_VAIN_S)) is Reason.DEADLINE_EXCEEDED
    assert (endpoints.wait_ready(60.0).models["echo"].default_version, version()) == (SECOND, SECOND)


def test_start_waits_a_moment_for_the_preferred(
    sidecars: list[FakeSidecar], monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: another target's readiness is not taken at once: the preferred one may only need a moment more."""
    monkeypatch.setattr(module, "PREFERRED_FIRST_S", 60.0)
    sidecars[0].stop()
    with Endpoints([sidecar.target for sidecar in sidecars], ConnectionOptions(backoff=QUICK)) as endpoints:
        eventually(lambda: endpoints.states[1].in_use, "the second is there")
        came: list[int] = []
        waiting = threading.Thread(
            target=lambda: came.append(endpoints.wait_ready(60.0).models["echo"].default_version)
        )
        waiting.start()
        sidecars[0].start()
        waiting.join()
    assert came == [FIRST]


def test_a_start_does_not_wait_for_one_that_dies_as_it_is_asked(
    sidecars: list[FakeSidecar], endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H1: the preferred target goes between being seen and being asked; the other is there all the time."""
    preferred = endpoints.clients[0]
    describe = preferred.describe

    def die(**options: float) -> Description:
        sidecars[0].stop()
        return describe(**options)

    monkeypatch.setattr(preferred, "describe", die)
    assert endpoints.wait_ready(20.0).models["echo"].default_version == SECOND


def test_nobody_there_is_said_of_each(tmp_path: Path) -> None:
    """`describe` and `wait_ready` raise an error that names every target."""
    with Endpoints([f"unix:{tmp_path}/a", f"unix:{tmp_path}/b"]) as alone:
        for wait in (lambda: alone.wait_ready(0.1), lambda: alone.describe(timeout_s=0.2)):
            with pytest.raises(InferenceError) as raised:
                wait()
            assert f"{tmp_path}/a" in str(raised.value)
            assert f"{tmp_path}/b" in str(raised.value)


@pytest.mark.parametrize("targets", [[], ["unix:/a", "unix:/a"], ["unix:/a", "nonsense"]])
def test_wrong_targets_are_refused(targets: list[str]) -> None:
    """No target, one that stands twice and one that is no address are errors, and leave no thread."""
    before = own_threads()
    with pytest.raises(TargetError):
        Endpoints(targets)
    assert own_threads() - before == set()


def test_close_ends_every_client(sidecars: list[FakeSidecar]) -> None:
    """After `close` all that waits is settled and no thread is left."""
    before = own_threads()
    sidecars[0].hold()
    endpoints = connect(sidecars)
    pending = ask(endpoints, 1.0)
    endpoints.close()
    endpoints.close()
    assert told(pending) is Reason.UNAVAILABLE
    assert told(ask(endpoints, 2.0)) is Reason.UNAVAILABLE
    assert own_threads() - before == set()


FEATURES = ("return_5", "price")
TICKS = 60


def up(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Answer BUY by all means."""
    buy = np.full(len(rows), 0.9, np.float32)
    return {"label": np.ones(len(rows), np.int64), "probabilities": np.stack([1 - buy, buy], axis=1)}


def run_over_fail_over(second: FakeModel) -> list[Outcome]:
    """Run a learned strategy; the first target dies at tick 20 and is back at tick 40."""
    config = StrategyConfig(
        "learned", "ml_momentum", {"model": "m", "features": list(FEATURES)}, ("paper",), (1,)
    )
    executors = create_executors([config], StrategyFactory())
    with (
        FakeSidecar({"m": FakeModel(FEATURES, 5, up, version=FIRST)}) as one,
        FakeSidecar({"m": second}) as two,
        connect([one, two]) as endpoints,
    ):
        bindings = Bindings(wanted_models(executors), endpoints.describe, Backoff(QUICK))
        bindings.start()
        runner = StrategyRunner(executors, endpoints, bindings, RunnerOptions(deadline_ms=PATIENT_S * 1e3))
        outcomes: list[Outcome] = []

        def rebound(model: FakeModel) -> bool:
            binding = bindings.of("learned")
            if not isinstance(binding, Bound):
                return tuple(model.feature_names) != FEATURES
            return binding.contract_hash == model.contract_hash

        for index, tick in enumerate(ticks(100 + index for index in range(TICKS))):
            if index == 20:
                one.stop()
                eventually(lambda: endpoints.states[1].in_use, "the second is in use")
            if index in (22, 42):
                wanted = second if index == 22 else one.models["m"]
                eventually(lambda wanted=wanted: rebound(wanted), "bound to what is served")
            if index == 40:
                one.start()
                eventually(lambda: endpoints.states[0].in_use, "the first is back")
            (outcome,) = runner.process(tick)
            outcomes.append(outcome)
        bindings.close()
    return outcomes


def who(outcome: Outcome) -> object:
    """Return the version that made a signal, or the reason that there is none."""
    return outcome.metadata["version"] if isinstance(outcome, Signal) else outcome.reason


def test_window_of_a_runner_over_a_fail_over() -> None:
    """H3: ticks begun before the first is finished have each its own answer, whoever gives it in the end."""
    config = StrategyConfig(
        "learned", "ml_momentum", {"model": "m", "features": list(FEATURES)}, ("paper",), (1,)
    )
    executors = create_executors([config], StrategyFactory())

    def by_price(rows: np.ndarray) -> dict[str, np.ndarray]:
        buy = (0.7 + rows[:, 1] / 1_000).astype(np.float32)
        return {"label": np.ones(len(rows), np.int64), "probabilities": np.stack([1 - buy, buy], axis=1)}

    with (
        FakeSidecar({"m": FakeModel(FEATURES, 5, by_price, version=FIRST)}) as one,
        FakeSidecar({"m": FakeModel(FEATURES, 5, by_price, version=SECOND)}) as two,
        connect([one, two]) as endpoints,
    ):
        bindings = Bindings(wanted_models(executors), endpoints.describe, Backoff(QUICK))
        bindings.start()
        runner = StrategyRunner(executors, endpoints, bindings, RunnerOptions(deadline_ms=PATIENT_S * 1e3))
        session = ticks(100 + index for index in range(14))
        for each in session[:4]:
            runner.process(each)
        one.hold()
        window = [runner.begin(each) for each in session[4:]]
        held = [one.held.get(timeout=PATIENT_S) for _ in window]
        for request in reversed(held[:4]):
            one.send(one.answer(request))
        eventually(lambda: endpoints.counts.answered == 4, "four are answered")
        one.stop()
        came = [outcome for pending in window for outcome in runner.finish(pending)]
        bindings.close()
    assert [who(each) for each in came] == [FIRST] * 4 + [SECOND] * 6
    for outcome, each in zip(came, session[4:], strict=True):
        assert isinstance(outcome, Signal)
        assert outcome.metadata["features"]["price"] == float(each.last_price)
        assert outcome.confidence == pytest.approx(0.7 + float(each.last_price) / 1_000)


def test_replica_of_the_same_contract_takes_over() -> None:
    """Over a fail-over and back each tick has its signal, by the version that answered."""
    came = run_over_fail_over(FakeModel(FEATURES, 5, up, version=SECOND))
    assert [who(each) for each in came[5:]] == [FIRST] * 15 + [SECOND] * 20 + [FIRST] * 20


def test_replica_of_another_contract_is_bound_anew() -> None:
    """H5: a replica under another contract is a CONTRACT_MISMATCH first, then bound to, and back again."""
    came = run_over_fail_over(FakeModel(FEATURES, 5, up, version=SECOND, nan_policy=pb.Contract.ACCEPT))
    names = [who(each) for each in came]
    assert names[20] is names[40] is Reason.CONTRACT_MISMATCH
    assert names[5:20] + names[22:40] + names[42:] == [FIRST] * 15 + [SECOND] * 18 + [FIRST] * 18


def test_replica_of_other_features_gives_no_signal() -> None:
    """H5: a replica that takes other features is CONTRACT_MISMATCH for as long as it is in use."""
    came = run_over_fail_over(FakeModel(FEATURES[::-1], 5, up, version=SECOND))
    names = [who(each) for each in came]
    assert set(names[20:40]) == {Reason.CONTRACT_MISMATCH}
    assert names[5:20] + names[42:] == [FIRST] * 33


def test_prediction_is_of_one_target(sidecars: list[FakeSidecar], endpoints: Endpoints) -> None:
    """Counts are told for each target and summed."""
    assert isinstance(ask(endpoints, 1.0).result()[0], Prediction)
    sidecars[0].stop()
    eventually(lambda: not endpoints.states[0].connected, "the first is gone")
    assert isinstance(ask(endpoints, 2.0).result()[0], Prediction)
    each = [endpoints.counts_by_target[sidecar.target].answered for sidecar in sidecars]
    assert (each, endpoints.counts.answered) == ([1, 1], 2)
