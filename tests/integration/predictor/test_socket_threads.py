"""The local transport from several threads at once, and what it leaves behind."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from fake_sidecar import FakeModel, FakeSidecar
from odd_server import PATIENCE_S
from sidecars import eventually

from strategy_client.events import Reason
from strategy_client.predictor.backoff import BackoffOptions
from strategy_client.predictor.breaker import BreakerOptions
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.connection import ConnectionOptions
from strategy_client.predictor.port import PendingAnswers, Prediction, Question, Refusal

NEVER_OPEN = ConnectionOptions(BreakerOptions(10**6, 10**6), BackoffOptions(first_ms=1, longest_ms=5))
PATIENT_NS = int(PATIENCE_S * 1e9)
THREADS = 12


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """Serve a model that says the row itself, by grpcio."""
    with FakeSidecar({"echo": FakeModel(["x"], 1, lambda rows: {"y": rows.copy()})}) as fake:
        yield fake


@pytest.fixture
def client(sidecar: FakeSidecar) -> Iterator[InferenceClient]:
    """Connect by the local transport."""
    with InferenceClient(sidecar.target, NEVER_OPEN, transport="h2") as connected:
        connected.wait_ready(PATIENCE_S)
        yield connected


def submit(client: InferenceClient, value: float, timeout_ns: int = PATIENT_NS) -> PendingAnswers:
    """Ask for one value."""
    question = Question("echo", np.array([[value]], np.float32))
    return client.submit([question], time.monotonic_ns() + timeout_ns)


def value_of(pending: PendingAnswers) -> float:
    """Return the value that was answered."""
    (answer,) = pending.result()
    assert isinstance(answer, Prediction), answer
    return float(answer.outputs["y"][0, 0])


COUNTING = """
import sys, psutil, time, numpy as np
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.port import Question

before = psutil.Process().num_threads()
with InferenceClient(sys.argv[1], transport="h2") as client:
    client.wait_ready(20)
    client.submit([Question("echo", np.ones((1, 1), np.float32))], time.monotonic_ns() + 10**10).result()
    client.predict("echo", [2.0], timeout_s=20)
    print(psutil.Process().num_threads() - before)
print(psutil.Process().num_threads() - before)
"""


def test_no_thread_is_started_but_the_keeper(sidecar: FakeSidecar) -> None:
    """Connecting, describing and asking cost a process one thread, the keeper, and `close` ends that."""
    told = subprocess.run(
        [sys.executable, "-c", COUNTING, sidecar.target],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.split() == ["1", "0"]


def test_threads_that_share_a_client_have_their_own_answers(client: InferenceClient) -> None:
    """One of the threads reads for all; each gets the answer to its own question, by either way to ask."""
    wrong: list[object] = []

    def work(number: int) -> None:
        for step in range(40):
            value = float(number * 1_000 + step)
            if step % 2:
                pending = [submit(client, value + part / 4) for part in range(3)]
                came = [value_of(each) for each in pending]
                wrong.extend([] if came == [value, value + 0.25, value + 0.5] else [came])
            else:
                row = client.predict("echo", [value], timeout_s=PATIENCE_S).outputs["y"].tolist()
                wrong.extend([] if row == [[value]] else [row])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert (client.counts.failed, client.counts.missed, client.counts.late) == (0, 0, 0)


def test_the_reader_that_gives_up_hands_its_turn_on(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """A thread whose deadline passes while it reads for others leaves them a reader."""
    sidecar.hold()
    first = submit(client, 1.0, 50_000_000)
    second = submit(client, 2.0)
    held = [sidecar.held.get(timeout=PATIENCE_S) for _ in range(2)]
    came: list[object] = []
    threads = [
        threading.Thread(target=lambda: came.append(first.result()[0])),
        threading.Thread(target=lambda: came.append(value_of(second))),
    ]
    for thread in threads:
        thread.start()
    threads[0].join(PATIENCE_S)
    sidecar.send(sidecar.answer(held[1]))
    threads[1].join(PATIENCE_S)
    assert isinstance(came[0], Refusal)
    assert came[0].reason is Reason.DEADLINE_EXCEEDED
    assert came[1:] == [2.0]


def test_a_follower_is_answered_while_the_reader_waits_on(
    sidecar: FakeSidecar, client: InferenceClient
) -> None:
    """What the reader takes off the socket for another thread is that thread's at once."""
    sidecar.hold()
    first, second = submit(client, 1.0), submit(client, 2.0)
    held = [sidecar.held.get(timeout=PATIENCE_S) for _ in range(2)]
    came: list[float] = []
    reader = threading.Thread(target=lambda: came.append(value_of(first)))
    reader.start()
    follower = threading.Thread(target=lambda: came.append(value_of(second)))
    follower.start()
    sidecar.send(sidecar.answer(held[1]))
    follower.join(PATIENCE_S)
    assert came == [2.0]
    sidecar.send(sidecar.answer(held[0]))
    reader.join(PATIENCE_S)
    assert came == [2.0, 1.0]


def test_closing_wakes_every_thread_that_waits(sidecar: FakeSidecar, client: InferenceClient) -> None:
    """A reader and its followers are let go by `close`, and each is told that the question failed."""
    sidecar.hold()
    pending = [submit(client, value) for value in range(3)]
    for _ in pending:
        sidecar.held.get(timeout=PATIENCE_S)
    reasons: list[object] = []
    threads = [
        threading.Thread(target=lambda each=each: reasons.append(getattr(each.result()[0], "reason", None)))
        for each in pending
    ]
    for thread in threads:
        thread.start()
    began_s = time.monotonic()
    client.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert reasons == [Reason.UNAVAILABLE] * 3
    assert time.monotonic() - began_s < PATIENCE_S / 2


def test_large_questions_and_answers_pass_each_other(client: InferenceClient) -> None:
    """Sixteen megabytes each way, twice at once over one stream, and once by a call of its own."""
    rows = np.arange(4_000_000, dtype=np.float32).reshape(-1, 1)
    deadline_ns = time.monotonic_ns() + 3 * PATIENT_NS
    pending = [client.submit([Question("echo", rows)], deadline_ns) for _ in range(2)]
    for each in pending:
        (answer,) = each.result()
        assert isinstance(answer, Prediction), answer
        assert np.array_equal(answer.outputs["y"], rows)
    single = client.predict("echo", rows, timeout_s=3 * PATIENCE_S)
    assert np.array_equal(single.outputs["y"], rows)


def test_a_question_that_is_too_large_harms_no_other(client: InferenceClient) -> None:
    """More than 64 MiB is not sent: refused in words, and the stream goes on."""
    large = Question("echo", np.zeros((17 * 1024 * 1024, 1), np.float32))
    (refused,) = client.submit([large], time.monotonic_ns() + PATIENT_NS).result()
    assert isinstance(refused, Refusal)
    assert "expected at most 67108864" in refused.detail
    assert value_of(submit(client, 1.0)) == 1.0
    assert client.counts.streams == 1


@pytest.mark.parametrize("timeout_ns", [300_000, 2_700_000, 30_000_000])
def test_deadlines_are_kept_below_a_millisecond_too(
    sidecar: FakeSidecar, client: InferenceClient, timeout_ns: int
) -> None:
    """A wait is never shorter than asked, and answers that come within the last millisecond are read then."""
    sidecar.hold()
    began_ns = time.monotonic_ns()
    (answer,) = submit(client, 1.0, timeout_ns).result()
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.DEADLINE_EXCEEDED
    assert time.monotonic_ns() - began_ns >= timeout_ns


def test_connections_come_and_go_without_a_descriptor_left(sidecar: FakeSidecar) -> None:
    """Descriptors are closed with the client, and when the sidecar closes a connection."""
    with InferenceClient(sidecar.target, NEVER_OPEN, transport="h2") as warm:
        warm.wait_ready(PATIENCE_S)
    before = psutil.Process().num_fds()
    with InferenceClient(sidecar.target, NEVER_OPEN, transport="h2") as client:
        for streams in range(1, 6):
            client.wait_ready(PATIENCE_S)
            assert client.counts.streams == streams
            sidecar.stop()
            eventually(lambda: not client.connected, "the stream has ended")
            sidecar.start()
        client.wait_ready(PATIENCE_S)
    sidecar.stop()
    eventually(lambda: psutil.Process().num_fds() <= before, "every descriptor is closed")
