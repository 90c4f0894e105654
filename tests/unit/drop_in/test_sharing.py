"""What strategies of one sidecar share in the other runner: a client, and a thread of bindings."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alpha_panda_runner import Tick
from fake_sidecar import FakeSidecar
from sidecars import eventually

from strategy_client.drop_in import LearnedDropInProcessor, creator, shared_client
from strategy_client.events import Reason

OPEN = datetime(2024, 8, 8, 9, 15, tzinfo=UTC)
Make = Callable[..., LearnedDropInProcessor]
ROOT = Path(__file__).resolve().parents[3]


def feed(processor: Any, *prices: float, begin: int = 0) -> list[Any]:
    """What comes of ticks of these prices, a second apart."""
    results = []
    for second, price in enumerate(prices, start=begin):
        when = OPEN + timedelta(seconds=second)
        now = Tick.model_construct(
            instrument_token=1, last_price=Decimal(str(price)), timestamp=when, symbol="X"
        )
        results.append(processor.process_tick(now, [now]))
    return results


def threads() -> list[threading.Thread]:
    """The threads that renew bindings."""
    return [each for each in threading.enumerate() if each.name == "tickserve-bindings"]


@pytest.fixture
def before() -> set[threading.Thread]:
    """The threads that were there before the test."""
    return set(threads())


def test_fifty_strategies_of_a_sidecar_are_renewed_by_one_thread(
    make: Make, sidecar: FakeSidecar, before: set[threading.Thread]
) -> None:
    """However many strategies ask a sidecar, one thread looks for their models; each sees what is served."""
    processors = [make() for _ in range(50)]
    assert len(set(threads()) - before) == 1
    assert all(processor.model is not None for processor in processors)
    sidecar.swap("m", version=2)
    for processor in processors:
        assert feed(processor, 100, 101, 102)[-1].metadata["version"] == 2
    for processor in processors[1:]:
        processor.close()
    assert feed(processors[0], 103, begin=3)[-1] is not None
    processors[0].close()
    eventually(lambda: set(threads()) <= before, "the thread ends with the last one")


def test_a_strategy_without_a_model_costs_the_others_nothing(make: Make, sidecar: FakeSidecar) -> None:
    """Beside one whose model is not ready for long, another is told at once of a model that was replaced."""
    sidecar.models["late"] = replace(sidecar.models["m"], problem="loading", version=0, state=2)
    late, other = make(model="late"), make()
    assert late.model is None
    for version in range(2, 6):
        sidecar.swap("m", feature_names=("price", "return_3"), version=version)
        feed(other, *range(100, 103), begin=10 * version)
        eventually(lambda: other.model is None, "it is told of other features")
        assert other.last_outcome is not None
        assert other.last_outcome.reason is Reason.CONTRACT_MISMATCH
        sidecar.swap("m", feature_names=("return_3", "price"))
        eventually(lambda: other.model, "it is told of its own again")
    assert late.model is None
    sidecar.models["late"] = sidecar.models["m"]
    eventually(lambda: late.model, "the late one is found")


def test_two_of_one_name_have_a_binding_each(make: Make, sidecar: FakeSidecar) -> None:
    """Strategies that were given one name and ask different models are bound each to its own."""
    sidecar.models["n"] = replace(sidecar.models["m"], feature_names=("price",), window=1, version=7)
    first = make(strategy_id="twin")
    second = make(strategy_id="twin", model="n", features=["price"])
    third = make(strategy_id="twin")
    assert feed(first, 100, 101, 102)[-1].metadata["version"] == 1
    assert feed(second, 100)[-1].metadata["version"] == 7
    [share] = shared_client._shares.values()
    assert repr(share.client.bindings) == "<SharedBindings of 3 strategies, <Bindings 3 of 3 bound>>"
    second.close()
    assert repr(share.client.bindings) == "<SharedBindings of 2 strategies, <Bindings 2 of 2 bound>>"
    assert feed(third, 100, 101, 102)[-1].metadata["version"] == 1
    assert feed(first, 103, begin=3)[-1].metadata["version"] == 1


def test_another_identity_is_another_client(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Strategies of one address under other certificates or tokens share nothing: each sends its own."""
    first = make()
    (tmp_path / "token").write_text("secret\n", encoding="ascii")
    monkeypatch.setenv("TICKSERVE_TOKEN_FILE", str(tmp_path / "token"))
    second, third = make(), make()
    assert sorted(share.holders for share in shared_client._shares.values()) == [1, 2]
    first.close()
    assert [security.token_file for _, security in shared_client._shares] == [tmp_path / "token"]
    assert all(feed(each, 100, 101, 102)[-1] is not None for each in (second, third))


class Watched:
    """A lock that says so when the thread that holds it wants it again, which would wait for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = 0

    def __enter__(self) -> None:
        if self._holder == threading.get_ident():
            raise RuntimeError("wanted again by the thread that holds it")
        self._lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(self, *args: object) -> None:
        self._holder = 0
        self._lock.release()


def test_garbage_is_given_back_by_a_thread_that_holds_nothing(
    sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch, before: set[threading.Thread]
) -> None:
    """Garbage may be collected at any moment, also while a client is being acquired: no deadlock."""
    lock = Watched()
    monkeypatch.setattr(shared_client, "_lock", lock)
    config = {"model": "m", "endpoint": sidecar.target, "features": ["return_3", "price"]}
    ring: list[Any] = [creator("ml_momentum")(config)]
    ring.append(ring)
    with lock:
        del ring
        gc.collect()
        assert [share.holders for share in shared_client._shares.values()] == [1]
    eventually(lambda: not shared_client._shares, "the client is closed")
    eventually(lambda: set(threads()) <= before, "its thread ends")


def test_a_process_that_ends_closes_what_it_left_open(sidecar: FakeSidecar) -> None:
    """The other runner closes nothing: at the end of its process no thread of ours goes on."""
    program = (
        "import atexit, sys, threading\n"
        "atexit.register(lambda: print([each.name for each in threading.enumerate()]))\n"
        "from strategy_client.drop_in import creator\n"
        "config = {'model': 'm', 'endpoint': sys.argv[1], 'features': ['return_3', 'price']}\n"
        "processor = creator('ml_momentum')(config)\n"
        "print(processor.model is not None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, sidecar.target],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "proto")))},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    bound, left = done.stdout.splitlines()
    assert bound == "True"
    assert "MainThread" in left
    assert "tickserve" not in left


def test_a_refused_row_leaves_no_question_behind(make: Make, sidecar: FakeSidecar) -> None:
    """A row of somebody else's is refused, and what was asked is waited for: nothing stays on its way."""
    processor = make(deadline_ms=500)
    feed(processor, 100, 101)
    [share] = shared_client._shares.values()
    sidecar.hold()
    when = OPEN + timedelta(seconds=2)
    now = Tick.model_construct(instrument_token=1, last_price=Decimal(102), timestamp=when, symbol="X")
    row = processor.extract_features(now, [now])
    assert processor.predict_signal(row + 1) is None
    assert processor.last_outcome is not None
    assert processor.last_outcome.reason is Reason.CONTRACT_MISMATCH
    counts = share.client.client.counts
    assert (counts.requests, counts.missed, counts.answered) == (1, 1, 0)


def test_a_refused_row_is_no_signal_that_went_out(make: Make) -> None:
    """With an edge trigger the side that a refused row stood for goes out at the next tick all the same."""
    processor = make(emission={"edge_trigger": True})
    feed(processor, 100, 101)
    when = OPEN + timedelta(seconds=2)
    now = Tick.model_construct(instrument_token=1, last_price=Decimal(102), timestamp=when, symbol="X")
    assert processor.predict_signal(processor.extract_features(now, [now]) + 1) is None
    assert [each and each.signal_type for each in feed(processor, 103, 104, begin=3)] == ["BUY", None]
