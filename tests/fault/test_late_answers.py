"""Answers that come late, out of order, twice or not at all."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from fake_sidecar import FakeModel, FakeSidecar
from own_threads import own_threads
from sidecars import eventually

from strategy_client.events import Reason
from strategy_client.predictor.backoff import BackoffOptions
from strategy_client.predictor.breaker import BreakerOptions, BreakerState
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.connection import ConnectionOptions
from strategy_client.predictor.port import PendingAnswers, Prediction, Question, Refusal
from strategy_client.predictor.session import MAX_UNANSWERED

pytestmark = pytest.mark.usefixtures("transport")

QUICK = BackoffOptions(first_ms=1, longest_ms=5)
PATIENT_S = 60.0
# Waited out by a question that nobody answers; long enough to be sent before it is over.
IN_VAIN_S = 0.5


def echo(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Answer each row with itself, so that an answer tells its question."""
    return {"y": rows.copy()}


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """Serve a model that echoes."""
    with FakeSidecar({"echo": FakeModel(["x"], 1, echo)}) as fake:
        yield fake


@pytest.fixture
def client(sidecar: FakeSidecar) -> Iterator[InferenceClient]:
    """Connect a client whose breaker does not open by itself."""
    options = ConnectionOptions(BreakerOptions(failures=10**6, misses=10**6), QUICK)
    with InferenceClient(sidecar.target, options) as connected:
        connected.wait_ready(60.0)
        yield connected


def ask(client: InferenceClient, value: float, timeout_s: float = PATIENT_S) -> PendingAnswers:
    """Ask for one value."""
    question = Question("echo", np.array([[value]], np.float32))
    return client.submit([question], time.monotonic_ns() + int(timeout_s * 1e9))


def value_of(pending: PendingAnswers) -> float:
    """Return the value that was answered."""
    (answer,) = pending.result()
    assert isinstance(answer, Prediction), answer
    return float(answer.outputs["y"][0, 0])


def reason_of(pending: PendingAnswers) -> Reason:
    """Return the reason for which there was no answer."""
    (answer,) = pending.result()
    assert isinstance(answer, Refusal), answer
    return answer.reason


def test_answers_out_of_order_reach_their_own_questions(
    sidecar: FakeSidecar, client: InferenceClient
) -> None:
    """H3: responses in the reverse order of their requests are matched by id."""
    sidecar.hold()
    pending = [ask(client, value) for value in range(8)]
    held = [sidecar.held.get(timeout=PATIENT_S) for _ in pending]
    for request in reversed(held):
        sidecar.send(sidecar.answer(request))
    assert [value_of(each) for each in pending] == list(range(8))


def test_late_answer_never_reaches_a_later_tick(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """H3: an answer after the deadline is dropped and counted; the next question gets its own answer."""
    sidecar.hold()
    first = ask(client, 1.0, timeout_s=IN_VAIN_S)
    assert reason_of(first) is Reason.DEADLINE_EXCEEDED
    late = sidecar.held.get(timeout=PATIENT_S)
    second = ask(client, 2.0)
    on_time = sidecar.held.get(timeout=PATIENT_S)
    sidecar.send(sidecar.answer(late))
    sidecar.send(sidecar.answer(on_time))
    assert value_of(second) == 2.0
    assert reason_of(first) is Reason.DEADLINE_EXCEEDED
    assert (client.counts.late, client.counts.missed, client.counts.answered) == (1, 1, 1)


def test_late_answer_is_dropped_even_if_nobody_waited(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """H3: what arrives after the deadline, before anyone asked for the result, is late all the same."""
    sidecar.hold()
    pending = ask(client, 1.0, timeout_s=IN_VAIN_S)
    late = sidecar.held.get(timeout=PATIENT_S)
    deadline_s = time.monotonic() + IN_VAIN_S
    eventually(lambda: time.monotonic() > deadline_s, "the deadline passes")
    sidecar.send(sidecar.answer(late))
    eventually(lambda: client.counts.late == 1, "the answer arrives")
    assert reason_of(pending) is Reason.DEADLINE_EXCEEDED


def test_answer_in_time_is_kept_for_who_asks_late(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """An answer that came before the deadline is still there when the result is asked for after it."""
    pending = ask(client, 1.0, timeout_s=2.0)
    eventually(lambda: client.counts.answered == 1, "the answer arrives")
    deadline_s = time.monotonic() + 2.0
    eventually(lambda: time.monotonic() > deadline_s, "the deadline passes")
    assert value_of(pending) == 1.0


def test_answers_that_nobody_asked_for_are_dropped(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """An answer that comes twice, or to an id that was never sent, changes nothing."""
    sidecar.hold()
    pending = ask(client, 1.0)
    request = sidecar.held.get(timeout=PATIENT_S)
    answer = sidecar.answer(request)
    stranger = sidecar.answer(request)
    stranger.id = "stranger"
    for response in (stranger, answer, answer):
        sidecar.send(response)
    assert value_of(pending) == 1.0
    eventually(lambda: client.counts.late == 2, "both are counted")


def test_deadline_is_kept(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """`result` waits until the deadline, no longer, and sends it to the sidecar in microseconds."""
    sidecar.hold()
    began_s = time.monotonic()
    assert reason_of(ask(client, 1.0, timeout_s=IN_VAIN_S)) is Reason.DEADLINE_EXCEEDED
    assert IN_VAIN_S <= time.monotonic() - began_s < PATIENT_S / 2
    assert 0 < sidecar.held.get(timeout=PATIENT_S).timeout_us <= IN_VAIN_S * 1e6


def test_nothing_is_sent_after_the_deadline(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """A question whose deadline has passed already is not sent."""
    assert reason_of(ask(client, 1.0, timeout_s=-1.0)) is Reason.DEADLINE_EXCEEDED
    assert (sidecar.requests, client.counts.requests) == ([], 0)


def test_broken_stream_fails_all_that_is_out_at_once(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """H2: when the sidecar dies, every outstanding question is UNAVAILABLE long before its deadline."""
    sidecar.hold()
    pending = [ask(client, value) for value in range(4)]
    for _ in pending:
        sidecar.held.get(timeout=PATIENT_S)
    began_s = time.monotonic()
    sidecar.stop()
    assert {reason_of(each) for each in pending} == {Reason.UNAVAILABLE}
    assert time.monotonic() - began_s < PATIENT_S / 2


def test_sidecar_that_returns_is_found_again(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """H2: a sidecar that comes back on the same address answers again without a new client."""
    sidecar.stop()
    assert reason_of(ask(client, 1.0)) is Reason.UNAVAILABLE
    sidecar.start()
    client.wait_ready(60.0)
    assert value_of(ask(client, 2.0)) == 2.0
    assert client.counts.streams == 2


def test_sidecar_that_appears_later_is_found() -> None:
    """H1: a client made before its sidecar refuses at once, and answers once there is one."""
    fake = FakeSidecar({"echo": FakeModel(["x"], 1, echo)})
    with InferenceClient(fake.target) as client:
        began_s = time.monotonic()
        assert reason_of(ask(client, 1.0)) is Reason.UNAVAILABLE
        assert time.monotonic() - began_s < PATIENT_S / 2
        with fake:
            client.wait_ready(60.0)
            assert value_of(ask(client, 2.0)) == 2.0


def test_dead_sidecar_is_not_stormed() -> None:
    """Attempts to reach a sidecar that refuses each stream come at growing pauses."""
    fake = FakeSidecar()
    fake.mute()
    pauses: list[float] = []

    def uniform() -> float:
        pauses.append(1.0)
        return 1.0

    options = ConnectionOptions(backoff=BackoffOptions(first_ms=40, longest_ms=10_000))
    with fake, InferenceClient(fake.target, options, uniform) as client:
        began_s = time.monotonic()
        eventually(lambda: len(pauses) >= 4, "four attempts are made")
        assert time.monotonic() - began_s >= (40 + 80 + 160) / 1_000
        assert client.counts.streams == 0


def test_breaker_opens_costs_nothing_and_closes(sidecar: FakeSidecar) -> None:
    """H4: a sidecar that hangs costs one deadline; then questions cost nothing until it answers a probe."""
    with InferenceClient(sidecar.target, ConnectionOptions(backoff=QUICK)) as client:
        client.wait_ready(60.0)
        sidecar.hold()
        sidecar.mute()
        assert reason_of(ask(client, 1.0, timeout_s=IN_VAIN_S)) is Reason.DEADLINE_EXCEEDED
        assert client.breaker_state is BreakerState.OPEN
        began_s = time.monotonic()
        assert {reason_of(ask(client, 1.0)) for _ in range(100)} == {Reason.BREAKER_OPEN}
        assert time.monotonic() - began_s < PATIENT_S / 2
        sidecar.release()
        sidecar.unmute()
        eventually(lambda: client.breaker_state is BreakerState.HALF_OPEN, "a probe is answered")
        assert value_of(ask(client, 2.0)) == 2.0
        assert client.breaker_state is BreakerState.CLOSED


def test_requests_in_flight_are_bounded(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """What is unanswered never grows beyond its bound; the excess is UNAVAILABLE at once."""
    sidecar.hold()
    refused = 0
    for value in range(MAX_UNANSWERED + 8):
        pending = ask(client, value, timeout_s=60)
        if not pending.request_id:
            refused += 1
            assert reason_of(pending) is Reason.UNAVAILABLE
    assert refused >= 8


def test_close_fails_what_is_out(sidecar: FakeSidecar) -> None:
    """Closing the client settles who still waits, in another thread too, and leaves no thread behind."""
    before = own_threads()
    sidecar.hold()
    client = InferenceClient(sidecar.target)
    client.wait_ready(60.0)
    pending = ask(client, 1.0)
    reasons: list[Reason] = []
    waiter = threading.Thread(target=lambda: reasons.append(reason_of(pending)))
    waiter.start()
    client.close()
    client.close()
    waiter.join(PATIENT_S)
    assert reasons == [Reason.UNAVAILABLE]
    assert own_threads() - before == set()
