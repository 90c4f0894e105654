"""How clients come back to a sidecar: one that appears, one that returns, and not all at once."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from byte_proxy import ByteProxy
from fake_sidecar import FakeModel, FakeSidecar
from sidecars import eventually

from strategy_client.events import Reason
from strategy_client.predictor.backoff import NS_PER_MS, Backoff, BackoffOptions
from strategy_client.predictor.breaker import BreakerOptions, BreakerState
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.connection import ConnectionOptions
from strategy_client.predictor.port import Prediction, Question, Refusal
from strategy_client.predictor.security import Security

pytestmark = pytest.mark.usefixtures("transport")

CLIENTS = 20
AN_HOUR_MS = 3_600_000.0
# What one client may try within the two seconds of the test: its own pauses of 25 to 50, 50 to 100, … ms, and
# gRPC's within an attempt that waits, of 50, 80, 128, … ms less a fifth.
MOST_ATTEMPTS = 30
WATCHED_S = 2.0
QUICK = BackoffOptions(first_ms=1, longest_ms=5)


@pytest.fixture
def sidecar() -> Iterator[FakeSidecar]:
    """Serve a model that says the row itself."""
    with FakeSidecar({"echo": FakeModel(["x"], 1, lambda rows: {"y": rows.copy()})}) as fake:
        yield fake


def ask(client: InferenceClient) -> Reason | None:
    """Ask once; return the reason that there is no answer."""
    question = Question("echo", np.ones((1, 1), np.float32))
    (answer,) = client.submit([question], time.monotonic_ns() + 6 * 10**10).result()
    return answer.reason if isinstance(answer, Refusal) else None


def test_sidecar_that_is_absent_at_the_start_is_found(sidecar: FakeSidecar) -> None:
    """H1: a client refuses at once, UNAVAILABLE then BREAKER_OPEN, and answers once the sidecar is there."""
    sidecar.stop()
    with InferenceClient(sidecar.target, ConnectionOptions(BreakerOptions(failures=3), QUICK)) as client:
        reasons = [ask(client) for _ in range(5)]
        assert reasons == [Reason.UNAVAILABLE] * 3 + [Reason.BREAKER_OPEN] * 2
        sidecar.start()
        eventually(lambda: client.breaker_state is BreakerState.HALF_OPEN, "a probe is answered")
        assert [ask(client), client.breaker_state] == [None, BreakerState.CLOSED]


def test_socket_file_that_is_removed_and_made_again_is_found(sidecar: FakeSidecar) -> None:
    """E9: an open stream outlives its socket's file; a new sidecar on a new file is found."""
    path = Path(sidecar.target.removeprefix("unix:"))
    with InferenceClient(sidecar.target, ConnectionOptions(backoff=QUICK)) as client:
        client.wait_ready(60.0)
        path.unlink()
        assert ask(client) is None
        sidecar.stop()
        assert not path.exists()
        assert ask(client) is Reason.UNAVAILABLE
        sidecar.start()
        client.wait_connected()
        eventually(lambda: ask(client) is None, "it answers")
        assert client.counts.streams == 2


def test_first_attempt_after_a_break_has_its_pause_too(sidecar: FakeSidecar) -> None:
    """H2: a client whose stream breaks does not return at once, as all the others would with it."""
    drawn: list[float] = []

    def uniform() -> float:
        drawn.append(1.0)
        return 1.0

    patient = ConnectionOptions(backoff=BackoffOptions(first_ms=AN_HOUR_MS, longest_ms=AN_HOUR_MS))
    with (
        ByteProxy(sidecar.target) as proxy,
        InferenceClient(proxy.target, patient, uniform) as client,
        InferenceClient(proxy.target, ConnectionOptions(backoff=QUICK)) as other,
    ):
        client.wait_ready(60.0)
        other.wait_ready(60.0)
        for returns in range(2, 5):
            proxy.drop()
            eventually(lambda returns=returns: other.counts.streams == returns, "the other one returns")
        # It has drawn for its first connection and for the break, which it may hear of after the other one.
        eventually(lambda: (client.connected, len(drawn)) == (False, 2), "its pause has begun")
        assert client.counts.streams == 1


def test_many_clients_of_a_sidecar_that_refuses_do_not_storm_it(sidecar: FakeSidecar) -> None:
    """H2: twenty clients that lose one sidecar try it a bounded number of times, and all return to it."""
    with ExitStack() as stack:
        proxy = stack.enter_context(ByteProxy(sidecar.target))
        clients = [
            stack.enter_context(
                InferenceClient(proxy.target, uniform=random.Random(number).random)  # noqa: S311 no secret
            )
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.wait_ready(60.0)
        assert proxy.accepted == CLIENTS
        proxy.refuse()
        eventually(lambda: not any(client.connected for client in clients), "all have lost it")
        began_s = time.monotonic()
        eventually(lambda: time.monotonic() - began_s >= WATCHED_S, "they try")
        attempts = proxy.accepted - CLIENTS
        assert CLIENTS <= attempts <= CLIENTS * MOST_ATTEMPTS
        proxy.heal()
        for client in clients:
            client.wait_ready(60.0)
            assert client.predict("echo", [1.0], timeout_s=60.0).outputs["y"].tolist() == [[1.0]]


def test_pauses_of_many_clients_are_spread() -> None:
    """H2: twenty clients that fail together wait twenty different times, from half the length to all."""
    for length_ms in (50, 100, 200, 400, 800, 1_600, 2_000, 2_000):
        backoffs = [Backoff(uniform=lambda at=at: at / (CLIENTS - 1)) for at in range(CLIENTS)]
        while True:
            pauses = [backoff.next_ns() for backoff in backoffs]
            if pauses[-1] >= length_ms * NS_PER_MS:
                break
        assert (pauses[0], pauses[-1]) == (length_ms * NS_PER_MS // 2, length_ms * NS_PER_MS)
        assert len(set(pauses)) == CLIENTS
        assert pauses == sorted(pauses)


def test_connection_whose_other_end_is_gone_without_a_word_is_given_up(sidecar: FakeSidecar) -> None:
    """H2: probes that time out on a connection which seems to stand lead to a new connection."""
    options = ConnectionOptions(backoff=QUICK, probe_timeout_ms=250)
    with ByteProxy(sidecar.target) as proxy, InferenceClient(proxy.target, options) as client:
        client.wait_ready(60.0)
        proxy.swallow()
        question = Question("echo", np.ones((1, 1), np.float32))
        (answer,) = client.submit([question], time.monotonic_ns() + 5 * 10**8).result()
        assert isinstance(answer, Refusal)
        assert answer.reason is Reason.DEADLINE_EXCEEDED
        proxy.heal()  # for new connections: what the old one has lost is lost
        eventually(lambda: client.breaker_state is BreakerState.HALF_OPEN, "a new connection is made")
        assert ask(client) is None
        assert proxy.accepted >= 2


def test_slow_token_file_holds_no_tick_up(sidecar: FakeSidecar, tmp_path: Path) -> None:
    """A call that is begun in the background, and reads a token for that, is waited for by no tick."""
    fifo = tmp_path / "token"
    fifo.write_text("secret\n")
    with InferenceClient(sidecar.target, security=Security(token_file=fifo)) as client:
        client.wait_ready(60.0)
        fifo.unlink()
        os.mkfifo(fifo)
        sidecar.stop()
        eventually(lambda: not client.connected, "the stream has broken")
        # The keeper hangs in opening the file now, or will; whoever asks is answered all the same.
        for _ in range(50):
            assert ask(client) in (Reason.UNAVAILABLE, Reason.BREAKER_OPEN)
        writing = os.open(fifo, os.O_RDWR)
        os.write(writing, b"secret\n" * 100)
        fifo.unlink()
        os.close(writing)
        fifo.write_text("secret\n")
        sidecar.start()
        client.wait_ready(60.0)


def test_answer_after_a_return_is_a_prediction(sidecar: FakeSidecar) -> None:
    """H2: after dying in mid-tick and returning on the same address it answers the next questions."""
    with InferenceClient(sidecar.target, ConnectionOptions(backoff=QUICK)) as client:
        client.wait_ready(60.0)
        sidecar.hold()
        question = Question("echo", np.ones((1, 1), np.float32))
        pending = client.submit([question], time.monotonic_ns() + 6 * 10**10)
        sidecar.held.get(timeout=60)
        sidecar.stop()
        (refusal,) = pending.result()
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.UNAVAILABLE
        sidecar.release()
        sidecar.start()
        client.wait_ready(60.0)
        (answer,) = client.submit([question], time.monotonic_ns() + 6 * 10**10).result()
        assert isinstance(answer, Prediction)
