"""What sessions share, and what they may take together: loads and closes by many threads at once."""

import contextlib
import gc
import hashlib
import sys
import threading
from concurrent.futures import Future

import pytest
from onnx_files import GOLDEN_ROWS, score_model
from sidecars import eventually

from inference_server.adapters import onnx_servable
from inference_server.adapters.onnx_servable import OnnxLoader, OnnxLoaderOptions
from inference_server.adapters.onnx_session import OnnxSession
from inference_server.core.servable import ServableId
from inference_server.serving.loader import LoadError, NoRoomError

MIB = 2**20
PATIENCE_S = 60.0


def load(loader, model, memory_bytes=0, name="m"):
    return loader.load(ServableId(name, 1), hashlib.sha256(model).hexdigest(), model, memory_bytes)


def in_thread(function, *arguments):
    """Run it in a thread that holds up no exit, should it hang; its outcome comes in a future."""
    future = Future()

    def run():
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def score(servable):
    return float(servable.run({"features": GOLDEN_ROWS}, ["score"])[0][1, 0])


class Gate:
    """Takes the runtime's place: loading waits for `opened`, but for models that `passes` lets through."""

    def __init__(self, passes=None):
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        self.loads = 0
        self._passes = passes

    def __call__(self, model):
        self.loads += 1
        if model != self._passes:
            self.entered.release()
            assert self.opened.wait(PATIENCE_S)
        return OnnxSession(model)


@pytest.fixture
def gated(monkeypatch):
    """Put a gate before ONNX Runtime; it is opened at the end whatever happens."""
    with contextlib.ExitStack() as stack:

        def put(**arguments):
            gate = Gate(**arguments)
            stack.callback(gate.opened.set)
            monkeypatch.setattr(onnx_servable, "OnnxSession", gate)
            return gate

        yield put


def test_loads_of_the_same_bytes_at_once_do_the_work_once(gated):
    """A17: eight threads ask for one file at once; one loads it, the others take what it made."""
    gate, loader, model = gated(), OnnxLoader(), score_model(None, bias=7)
    loading = [in_thread(load, loader, model, MIB) for _ in range(8)]
    eventually(lambda: repr(loader) == "<OnnxLoader 1 sessions for 8 servables>", "all eight wait")
    assert loader.memory_bytes == MIB
    gate.opened.set()
    servables = [future.result(PATIENCE_S) for future in loading]
    assert gate.loads == 1
    assert [score(servable) for servable in servables] == [7.0] * 8
    for servable in servables[1:]:
        servable.close()
    assert score(servables[0]) == 7.0
    servables[0].close()
    assert (loader.sessions, loader.memory_bytes) == (0, 0)


def test_a_load_that_fails_fails_for_all_who_wait_for_it(gated):
    """A17: the error of the one load is everybody's, nothing stays behind, and the next load tries again."""
    gate, loader = gated(), OnnxLoader()
    loading = [in_thread(load, loader, b"no model", MIB) for _ in range(4)]
    eventually(lambda: repr(loader) == "<OnnxLoader 1 sessions for 4 servables>", "all four wait")
    gate.opened.set()
    for future in loading:
        with pytest.raises(LoadError, match="ONNX Runtime does not load it"):
            future.result(PATIENCE_S)
    assert (gate.loads, loader.sessions, loader.memory_bytes) == (1, 0, 0)
    with pytest.raises(LoadError):
        load(loader, b"no model")
    assert gate.loads == 2


def test_an_unexpected_failure_leaves_nobody_waiting(monkeypatch):
    """A17: whatever loading raises, it is everybody's, and nothing stays behind."""

    def broken(_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(onnx_servable, "OnnxSession", broken)
    loader = OnnxLoader()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a bug"):
            load(loader, b"model", MIB)
    assert (loader.sessions, loader.memory_bytes) == (0, 0)


def test_other_files_do_not_wait_for_a_slow_load(gated):
    """A15: while one file is being loaded, another is loaded, answers, and is closed."""
    other = score_model(None, bias=2)
    gate, loader = gated(passes=other), OnnxLoader()
    slow = in_thread(load, loader, score_model(None, bias=1), MIB)
    assert gate.entered.acquire(timeout=PATIENCE_S)
    servable = in_thread(load, loader, other, 2 * MIB).result(PATIENCE_S)
    assert score(servable) == 2.0
    assert (loader.sessions, loader.memory_bytes) == (2, 3 * MIB)
    servable.close()
    assert (loader.sessions, loader.memory_bytes) == (1, MIB)
    assert not slow.done()
    gate.opened.set()
    slow.result(PATIENCE_S).close()


def test_a_load_that_would_pass_the_bound_is_refused_and_the_numbers_named(gated):
    """A19: nothing is loaded for it, what is loaded goes on, and freed memory makes room."""
    gate, loader = gated(), OnnxLoader(OnnxLoaderOptions(max_memory_bytes=128 * MIB))
    gate.opened.set()
    one, two = load(loader, score_model(None, bias=1), 80 * MIB), load(loader, score_model(None), 40 * MIB)
    third = score_model(None, bias=3)
    with pytest.raises(NoRoomError) as caught:
        load(loader, third, 12 * MIB)
    assert str(caught.value) == (
        "it needs 12.0 MiB of memory; "
        "of the 128.0 MiB that all models may take, the 2 in memory take 120.0 MiB"
    )
    assert (gate.loads, loader.sessions, loader.memory_bytes) == (2, 2, 120 * MIB)
    assert score(one) == 1.0
    two.close()
    load(loader, third, 48 * MIB)
    assert loader.memory_bytes == 128 * MIB, "up to the bound and no further"


def test_equal_bytes_count_once_and_no_file_counts_less_than_its_size():
    """A19: a second model of the same bytes needs no room; a figure below the file's size is not believed."""
    model = score_model(None, padding=MIB)
    loader = OnnxLoader(OnnxLoaderOptions(max_memory_bytes=len(model)))
    load(loader, model, 0, "one")
    load(loader, model, 100 * MIB, "two")
    assert loader.memory_bytes == len(model)
    with pytest.raises(NoRoomError):
        load(loader, score_model(None), 0, "three")


def test_a_load_that_failed_gives_its_room_back():
    """A19: room that was taken for a file that does not load is there for the next one."""
    loader = OnnxLoader(OnnxLoaderOptions(max_memory_bytes=10 * MIB))
    for _ in range(3):
        with pytest.raises(LoadError, match="ONNX Runtime does not load it"):
            load(loader, b"no model", 10 * MIB)
    assert load(loader, score_model(None), 10 * MIB)


def test_room_is_taken_before_loading_begins(gated):
    """A19: two loads at once that fit one by one and not together: the second is refused, not both loaded."""
    gate, loader = gated(), OnnxLoader(OnnxLoaderOptions(max_memory_bytes=100 * MIB))
    first = in_thread(load, loader, score_model(None, bias=1), 60 * MIB)
    assert gate.entered.acquire(timeout=PATIENCE_S)
    with pytest.raises(NoRoomError, match=r"the 1 in memory take 60\.0 MiB"):
        in_thread(load, loader, score_model(None, bias=2), 60 * MIB).result(PATIENCE_S)
    gate.opened.set()
    first.result(PATIENCE_S).close()
    assert load(loader, score_model(None, bias=2), 60 * MIB)


def test_a_session_that_is_being_freed_still_counts(monkeypatch):
    """A19: until a session is gone its room is not given to another, and other loads do not wait for it."""
    freeing, free = threading.Event(), threading.Event()

    class SlowToFree(OnnxSession):
        def __del__(self):
            freeing.set()
            free.wait(PATIENCE_S)

    monkeypatch.setattr(onnx_servable, "OnnxSession", SlowToFree)
    loader = OnnxLoader(OnnxLoaderOptions(max_memory_bytes=100 * MIB))
    servable = load(loader, score_model(None, bias=1), 60 * MIB)
    monkeypatch.setattr(onnx_servable, "OnnxSession", OnnxSession)
    closing = threading.Thread(target=servable.close)
    closing.start()
    try:
        assert freeing.wait(PATIENCE_S)
        assert loader.memory_bytes == 60 * MIB
        with pytest.raises(NoRoomError):
            in_thread(load, loader, score_model(None, bias=2), 60 * MIB).result(PATIENCE_S)
        other = in_thread(load, loader, score_model(None, bias=3), 40 * MIB).result(PATIENCE_S)
        assert score(other) == 3.0
    finally:
        free.set()
        closing.join()
    assert loader.memory_bytes == 40 * MIB


def test_a_failed_load_keeps_nothing_alive():
    """A19: the bytes of a file that did not load are free at once, without waiting for a collection."""
    loader, model = OnnxLoader(), b"no model" * 1000
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(model)
        with contextlib.suppress(LoadError):
            load(loader, model)
        assert sys.getrefcount(model) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("files", [1, 4])
def test_thirty_two_threads_load_and_close_a_thousand_times(files):
    """A14: one file or several, under a bound that refuses some: right answers, and nothing is left over."""
    models = [score_model(None, bias=bias) for bias in range(files)]
    loader = OnnxLoader(OnnxLoaderOptions(warm_up_runs=1, max_memory_bytes=3 * MIB))
    together = threading.Barrier(32)
    served, refused = [], []

    def churn(number):
        together.wait(PATIENCE_S)
        for turn in range(1000):
            bias = (number + turn) % files
            try:
                servable = load(loader, models[bias], MIB)
            except NoRoomError:
                refused.append(bias)
                continue
            assert score(servable) == bias
            assert loader.memory_bytes <= 3 * MIB
            servable.close()
            served.append(bias)

    for future in [in_thread(churn, number) for number in range(32)]:
        future.result(PATIENCE_S)
    assert len(served) + len(refused) == 32_000
    assert set(served) == set(range(files))
    assert bool(refused) == (files > 3)
    assert (loader.sessions, loader.memory_bytes) == (0, 0)
