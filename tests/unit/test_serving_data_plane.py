"""The data plane: what is refused and why, deadlines, cancellation, admission."""

import asyncio
import contextlib
import threading

import numpy as np
import pytest
from contracts import make_contract
from eventually import BOUND_S, eventually
from manual_clock import ManualClock
from servables import FunctionServable, features, row_sums

from inference_server.core.clock import SystemClock
from inference_server.core.contract import NanPolicy
from inference_server.core.errors import (
    ContractMismatchError,
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    Reason,
    UnavailableError,
)
from inference_server.core.servable import VettingResult
from inference_server.core.tensor import TensorSpec
from inference_server.serving.data_plane import Answer, Call, DataPlane, DataPlaneOptions
from inference_server.serving.registry import Registry
from inference_server.serving.run_threads import RunThreads, RunThreadsOptions
from inference_server.serving.turns import TurnsOptions

ROW = features((1, 2, 3))
SLOW_NS = 10**9


@contextlib.contextmanager
def plane_of(*servables, clock=None, per_servable=2, at_once=4, overdue_s=10, max_threads=9, **options):
    """Make a data plane over these servables; at its end nothing may be left in flight."""
    registry = Registry()
    for servable in servables:
        registry.publish(servable, 1)
    turns = TurnsOptions(per_servable, at_once, overdue_s)
    with contextlib.closing(RunThreads(RunThreadsOptions(max_threads))) as threads:
        options = DataPlaneOptions(**options, turns=turns)
        plane = DataPlane(registry, clock or SystemClock(), options, threads)
        plane.registry = registry
        yield plane
    assert plane.calls_in_flight == 0
    for model in registry.describe():
        for version in model.versions:
            assert registry.resolve(model.name, version.id.version).in_flight == 0


def answer_of(servable, call):
    """Return what one call to one servable gets."""
    with plane_of(servable) as plane:
        (result,) = asyncio.run(plane.answer([call], None))
    return result


class Gate:
    """A function for a servable that waits in its run until it is opened."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self, rows):
        self.entered.release()
        assert self.open.wait(BOUND_S)
        return row_sums(rows)

    async def wait_entered(self):
        assert await asyncio.to_thread(self.entered.acquire, timeout=BOUND_S)


def test_an_answer_names_the_servable_and_its_outputs():
    """Each answer carries the servable that gave it, and each output's spec with its rows."""
    servable = FunctionServable(version=4)
    result = answer_of(servable, Call("momentum", features((1, 2, 3), (4, 5, 6))))
    assert isinstance(result, Answer)
    assert result.servable is servable
    ((spec, scores),) = result.outputs
    assert spec == TensorSpec("score", "FP32", (-1, 1))
    assert scores.tolist() == [[6.0], [15.0]]


def test_each_call_gets_its_own_result_in_order():
    """One part's error never fails another part, and results stand in the order of the calls."""
    with plane_of(FunctionServable(), FunctionServable("slow", warm_up_ns=SLOW_NS)) as plane:
        calls = [
            Call("slow", ROW),
            Call("nobody", ROW),
            Call("momentum", ROW),
            Call("momentum", features((1, 2))),
        ]
        results = asyncio.run(plane.answer(calls, None))
    assert [type(result) for result in results] == [Answer, NotFoundError, Answer, InvalidRequestError]
    assert results[0].servable.id.name == "slow"


def test_rows_answered_are_counted_once_answered():
    """Rows of answers count, on the loop as in the executor; rows of errors do not."""
    with plane_of(FunctionServable(), FunctionServable("slow", warm_up_ns=SLOW_NS)) as plane:
        calls = [Call(name, features((1, 2, 3), (1, 2, 3))) for name in ("momentum", "slow")]
        asyncio.run(plane.answer([*calls, Call("momentum", features((1, 2)))], None))
        assert [model.versions[0].rows_answered for model in plane.registry.describe()] == [2, 2]


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "misses input 'features'; expected exactly 'features'"),
        ({"x": ROW}, "has no input 'x'; expected exactly 'features'"),
        ({"features": ROW, "x": ROW}, "has no input 'x'"),
        (ROW.astype(np.float64), "input 'features': expected FP32, came FP64"),
        (ROW.astype(np.int64), "expected FP32, came INT64"),
        (ROW[0], "input 'features': expected shape [?, 3], came shape [3]"),
        (ROW[np.newaxis], "came shape [1, 1, 3]"),
        (features((1, 2)), "expected shape [?, 3], came shape [1, 2]"),
        (np.empty((0, 3), np.float32), "expected at least one row and no size of 0, came shape [0, 3]"),
    ],
)
def test_wrong_inputs_are_refused_with_what_was_expected_and_what_came(inputs, text):
    """D1, D3, D4, D5: names, dtype, rank, sizes and emptiness each have a text that tells both sides."""
    servable = FunctionServable()
    result = answer_of(servable, Call("momentum", inputs))
    assert isinstance(result, InvalidRequestError)
    assert text in str(result)
    assert servable.runs == 0


def test_zero_features_are_refused_even_where_sizes_vary():
    """D5: a width of 0 is refused although the signature leaves the width open."""
    servable = FunctionServable(contract=None, inputs=(TensorSpec("features", "FP32", (-1, -1)),))
    assert isinstance(
        answer_of(servable, Call("momentum", np.empty((2, 0), np.float32))), InvalidRequestError
    )


def test_an_array_alone_is_refused_where_there_are_two_inputs():
    """D1: with two inputs the array's input must be named."""
    specs = (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "FP32", (-1, 3)))
    result = answer_of(FunctionServable(contract=None, inputs=specs), Call("momentum", ROW))
    assert "takes 2 inputs ('a', 'b')" in str(result)


def test_rows_are_those_of_the_first_input():
    """A model may take one thing for each row and another for all of them: calls are counted by the first."""
    specs = (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "FP32", (-1, 3)))
    inputs = {"a": np.ones((2, 3), np.float32), "b": np.ones((5, 3), np.float32)}
    result = answer_of(FunctionServable(contract=None, inputs=specs), Call("momentum", inputs))
    assert result.rows == 2


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (("x",), "has no output 'x'; expected some of 'score', 'twin'"),
        (("score", "score"), "expected each output once, came 'score' 2 times"),
    ],
)
def test_wrong_outputs_are_refused(outputs, text):
    """D2: unknown and duplicate requested outputs are refused by name."""
    result = answer_of(FunctionServable(outputs=("score", "twin")), Call("momentum", ROW, outputs=outputs))
    assert isinstance(result, InvalidRequestError)
    assert text in str(result)


def test_requested_outputs_come_in_the_order_asked_for():
    """Outputs stand in the order of the call; none named means all, in the file's order."""
    servable = FunctionServable(outputs=("score", "twin"))
    asked = answer_of(servable, Call("momentum", ROW, outputs=("twin", "score")))
    assert [spec.name for spec, _ in asked.outputs] == ["twin", "score"]
    assert [spec.name for spec, _ in answer_of(servable, Call("momentum", ROW)).outputs] == ["score", "twin"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_features_are_refused_by_name_and_row(value):
    """D11: under REFUSE neither NaN nor an infinity passes, and the text names feature and row."""
    servable = FunctionServable(contract=make_contract(), n_features=2)
    result = answer_of(servable, Call("momentum", features((1, 2), (3, value))))
    assert isinstance(result, InvalidRequestError)
    assert (
        f"feature 'b' in row 1: expected finite numbers only, which is the contract's policy, came {value}"
        in str(result)
    )
    assert servable.runs == 0


def test_nan_passes_where_the_contract_accepts_it_and_infinity_does_not():
    """D11: ACCEPT is about NaN only."""
    contract = make_contract(nan_policy=NanPolicy.ACCEPT)
    servable = FunctionServable(contract=contract, n_features=2)
    assert isinstance(answer_of(servable, Call("momentum", features((1, np.nan)))), Answer)
    result = answer_of(servable, Call("momentum", features((np.nan, np.inf))))
    assert (
        "feature 'b' in row 0: expected finite numbers and NaN, which is the contract's policy, came inf"
        in str(result)
    )


def test_extreme_finite_features_pass():
    """D11: subnormals, both zeros and the greatest float32 are numbers like any other."""
    servable = FunctionServable(contract=make_contract(), n_features=2, function=lambda rows: rows[:, :1])
    rows = features((1e-45, -0.0), (np.finfo(np.float32).max, np.finfo(np.float32).min))
    assert isinstance(answer_of(servable, Call("momentum", rows)), Answer)


def test_an_unverified_model_takes_what_its_file_takes():
    """D11: without a contract NaN and infinity are the model's business."""
    unverified = FunctionServable(contract=None)
    assert isinstance(answer_of(unverified, Call("momentum", features((1, np.nan, np.inf)))), Answer)


def test_another_contract_is_a_mismatch():
    """A call bound to another contract is refused before its inputs are looked at; the right hash passes."""
    contract = make_contract()
    servable = FunctionServable(contract=contract, n_features=2)
    result = answer_of(servable, Call("momentum", features((1,)), contract_hash="f" * 64))
    assert isinstance(result, ContractMismatchError)
    assert contract.hash in str(result)
    rows = features((1, 2))
    assert isinstance(answer_of(servable, Call("momentum", rows, contract_hash=contract.hash)), Answer)
    unverified = answer_of(FunctionServable(contract=None), Call("momentum", ROW, contract_hash="f" * 64))
    assert "unverified" in str(unverified)


@pytest.mark.parametrize("warm_up_ns", [0, SLOW_NS])
def test_a_model_that_fails_tells_a_fixed_text_and_logs_the_rest(caplog, warm_up_ns):
    """F10: whatever a run raises, the caller gets InternalError without its text; the log has it."""

    def fail(_):
        raise ZeroDivisionError("/secret/path")

    result = answer_of(FunctionServable(function=fail, warm_up_ns=warm_up_ns), Call("momentum", ROW))
    assert isinstance(result, InternalError)
    assert "secret" not in str(result)
    assert "/secret/path" in caplog.text


@pytest.mark.parametrize("warm_up_ns", [0, SLOW_NS])
@pytest.mark.parametrize("left_ns", [0, -1, -(10**18)])
def test_nothing_starts_at_or_after_the_deadline(warm_up_ns, left_ns):
    """E1, E3: a deadline of now or before is DeadlineExceededError and no run starts."""
    clock = ManualClock()
    servable = FunctionServable(warm_up_ns=warm_up_ns)
    with plane_of(servable, clock=clock) as plane:
        (result,) = asyncio.run(plane.answer([Call("momentum", ROW)], clock.monotonic_ns() + left_ns))
    assert isinstance(result, DeadlineExceededError)
    assert servable.runs == 0


def test_runs_on_the_loop_stop_at_the_deadline():
    """E1: of several quick calls, those whose turn comes after the deadline never run."""
    clock = ManualClock()

    def take_a_second(rows):
        clock.advance(1)
        return row_sums(rows)

    servable = FunctionServable(function=take_a_second)
    with plane_of(servable, clock=clock) as plane:
        results = asyncio.run(plane.answer([Call("momentum", ROW)] * 4, clock.monotonic_ns() + int(2.5e9)))
    assert [type(result) for result in results] == [Answer, Answer] + [DeadlineExceededError] * 2
    assert servable.runs == 3


def test_the_loop_gets_its_turn_between_quick_runs():
    """A long list of quick calls lets other tasks run in between."""
    clock = ManualClock()
    others = []

    def take_a_millisecond(rows):
        clock.advance(0.001)
        return row_sums(rows)

    async def scenario(plane):
        answering = asyncio.create_task(plane.answer([Call("momentum", ROW)] * 5, None))
        while not answering.done():
            others.append(1)
            await asyncio.sleep(0)

    with plane_of(FunctionServable(function=take_a_millisecond), clock=clock) as plane:
        asyncio.run(scenario(plane))
    assert len(others) >= 5


def test_a_slow_model_is_given_up_at_the_deadline_and_let_go_when_it_ends():
    """E1, B5: the caller hears in time, while the entry stays acquired until the run has really ended."""
    gate = Gate()
    clock = SystemClock()

    async def scenario(plane):
        entry = plane.registry.resolve("momentum", 0)
        try:
            deadline_ns = clock.monotonic_ns() + 1_000_000_000  # a busy machine begins the run well before
            answering = asyncio.create_task(plane.answer([Call("momentum", ROW)], deadline_ns))
            await gate.wait_entered()
            (result,) = await asyncio.wait_for(answering, 5)
            assert isinstance(result, DeadlineExceededError)
            assert (plane.calls_in_flight, entry.in_flight) == (0, 1)
            assert servable.stopped.is_set(), "the run was not told to stop"
        finally:
            gate.open.set()
        await eventually(lambda: entry.in_flight == 0)
        assert entry.rows_answered == 0

    servable = FunctionServable(function=gate, warm_up_ns=SLOW_NS)
    with plane_of(servable) as plane:
        asyncio.run(scenario(plane))


def test_a_call_that_waits_for_its_turn_past_the_deadline_never_runs():
    """E1: what expired while it waited for a thread or a turn is not started."""
    gate = Gate()
    servable = FunctionServable(function=gate, warm_up_ns=SLOW_NS)
    clock = SystemClock()

    async def scenario(plane):
        first = asyncio.create_task(plane.answer([Call("momentum", ROW)], None))
        await gate.wait_entered()
        (late,) = await plane.answer([Call("momentum", ROW)], clock.monotonic_ns() + 20_000_000)
        assert isinstance(late, DeadlineExceededError)
        gate.open.set()
        assert isinstance((await first)[0], Answer)

    with plane_of(servable, per_servable=1) as plane:
        asyncio.run(scenario(plane))
    assert servable.runs == 1


def test_models_that_hang_starve_no_other():
    """E8: five hanging models take their own turns only; another slow model answers all the time."""
    gate = Gate()
    names = [f"hangs-{number}" for number in range(5)]

    async def scenario(plane):
        hanging = [asyncio.create_task(plane.answer([Call(name, ROW)] * 3, None)) for name in names]
        for _ in range(3):
            (result,) = await asyncio.wait_for(plane.answer([Call("momentum", ROW)], None), 5)
            assert isinstance(result, Answer)
        for _ in range(10):
            await gate.wait_entered()
        assert sum(servable.running for servable in hangs) == 10, "each has its two turns"
        gate.open.set()
        await asyncio.gather(*hanging)

    hangs = [FunctionServable(name, function=gate, warm_up_ns=SLOW_NS) for name in names]
    with plane_of(*hangs, FunctionServable(warm_up_ns=SLOW_NS), at_once=2, overdue_s=0.01) as plane:
        asyncio.run(scenario(plane))


def test_a_model_that_hangs_keeps_no_thread_from_others():
    """E8: with one thread, what waits for it gets another one as soon as the run in it is overdue."""
    gate = Gate()

    async def scenario(plane):
        hanging = asyncio.create_task(plane.answer([Call("hangs", ROW)], None))
        await gate.wait_entered()
        (result,) = await asyncio.wait_for(plane.answer([Call("momentum", ROW)], None), 5)
        assert isinstance(result, Answer)
        gate.open.set()
        await hanging

    hangs = FunctionServable("hangs", function=gate, warm_up_ns=SLOW_NS)
    with plane_of(hangs, FunctionServable(warm_up_ns=SLOW_NS), overdue_s=0.01, max_threads=1) as plane:
        asyncio.run(scenario(plane))


def test_a_caller_that_leaves_before_there_is_a_thread_is_not_run_for():
    """E4: a run that has its turn and waits for a thread never begins once its caller has left."""
    gate = Gate()

    async def scenario(plane):
        busy = asyncio.create_task(plane.answer([Call("busy", ROW)], None))
        await gate.wait_entered()
        leaving = asyncio.create_task(plane.answer([Call("momentum", ROW)], None))
        await eventually(lambda: plane.registry.resolve("momentum").in_flight == 1)
        for _ in range(3):
            await asyncio.sleep(0)
        leaving.cancel()
        await eventually(lambda: plane.registry.resolve("momentum").in_flight == 0)
        gate.open.set()
        await busy
        assert isinstance((await plane.answer([Call("busy", ROW)], None))[0], Answer)

    left = FunctionServable(warm_up_ns=SLOW_NS)
    busy = FunctionServable("busy", function=gate, warm_up_ns=SLOW_NS)
    with plane_of(left, busy, max_threads=1) as plane:
        asyncio.run(scenario(plane))
    assert left.runs == 0


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_caller_that_leaves_leaks_nothing(turns):
    """E4: cancelled before the start, while waiting, or while running, every entry is let go once."""
    gate = Gate()

    async def scenario(plane):
        calls = [Call("slow", ROW), Call("slow", ROW), Call("momentum", ROW)]
        answering = asyncio.create_task(plane.answer(calls, None))
        for _ in range(turns):
            await asyncio.sleep(0)
        if turns == 3:
            await gate.wait_entered()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        await asyncio.sleep(0)
        assert plane.calls_in_flight == 0, "the places are free at once, though a run goes on"
        if turns == 3:
            assert slow.stopped.is_set(), "the run was not told to stop"
            assert plane.registry.resolve("slow").in_flight == 1
        gate.open.set()
        await eventually(lambda: plane.registry.resolve("slow").in_flight == 0)
        if turns == 3:
            assert slow.runs == 1, "the call that waited for its turn ran though nobody waits for it"
        (result,) = await plane.answer([Call("slow", ROW)], None)
        assert isinstance(result, Answer), "E5: the next call works"

    slow = FunctionServable("slow", function=gate, warm_up_ns=SLOW_NS)
    with plane_of(slow, FunctionServable(), per_servable=1) as plane:
        asyncio.run(scenario(plane))


def test_cancelled_between_quick_runs_lets_the_rest_go():
    """E4: a caller that leaves between two quick runs leaves nothing acquired, and the rest never runs."""
    clock = ManualClock()

    begun = asyncio.Event()

    def take_a_millisecond(rows):
        clock.advance(0.001)
        begun.set()
        return row_sums(rows)

    servable = FunctionServable(function=take_a_millisecond)

    async def scenario(plane):
        answering = asyncio.create_task(plane.answer([Call("momentum", ROW)] * 50, None))
        await begun.wait()
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering

    with plane_of(servable, clock=clock) as plane:
        asyncio.run(scenario(plane))
    assert servable.runs < 50


@pytest.mark.parametrize(
    ("bounds", "own", "reason", "text"),
    [
        ({"max_calls_in_flight": 3}, {}, Reason.SERVER_FULL, "3 calls are in flight, which is the server's"),
        ({"max_calls_per_model": 3}, {}, Reason.MODEL_FULL, "3 calls to model 'momentum' are in flight"),
        ({"max_calls_per_model": 9}, {"momentum": 3}, Reason.MODEL_FULL, "3 calls to model 'momentum'"),
    ],
)
def test_exactly_the_excess_is_refused(bounds, own, reason, text):
    """E6: with room for 3, of 5 calls in flight 2 are refused, and room is there again afterwards."""
    gate = Gate()

    async def scenario(plane):
        plane.bound_models(own)
        first = asyncio.create_task(plane.answer([Call("momentum", ROW)] * 2, None))
        await gate.wait_entered()
        second = asyncio.create_task(plane.answer([Call("momentum", ROW)] * 3, None))
        await gate.wait_entered()
        with pytest.raises(OverloadedError, match=text):
            plane.check_room("momentum")
        gate.open.set()
        results = [*await first, *await second]
        assert [type(result) for result in results] == [Answer] * 3 + [OverloadedError] * 2
        assert {(result.reason, text in str(result)) for result in results[3:]} == {(reason, True)}
        await eventually(lambda: plane.calls_in_flight == 0)
        assert isinstance((await plane.answer([Call("momentum", ROW)], None))[0], Answer)

    servable = FunctionServable(function=gate, warm_up_ns=SLOW_NS)
    with plane_of(servable, per_servable=3, **bounds) as plane:
        asyncio.run(scenario(plane))


def test_calls_in_flight_take_no_more_memory_than_the_bound():
    """E6: inputs count by their bytes until their call has ended; what is answered at once takes none."""
    gate = Gate()
    rows = np.ones((10, 3), dtype=np.float32)  # 120 bytes

    async def scenario(plane):
        first = asyncio.create_task(plane.answer([Call("momentum", rows)], None))
        await gate.wait_entered()
        calls = [Call("momentum", rows), Call("momentum", ROW), Call("quick", rows)]
        rest = asyncio.create_task(plane.answer(calls, None))
        await gate.wait_entered()
        gate.open.set()
        await first
        refused, *answered = await rest
        assert isinstance(refused, OverloadedError)
        assert refused.reason is Reason.SERVER_FULL
        assert "150 bytes, which is the server's bound; they take 120 bytes, and these 120" in str(refused)
        assert [type(result) for result in answered] == [Answer, Answer]
        assert isinstance((await plane.answer([Call("momentum", rows)], None))[0], Answer)

    slow = FunctionServable(function=gate, warm_up_ns=SLOW_NS)
    with plane_of(slow, FunctionServable("quick"), max_input_bytes=150) as plane:
        asyncio.run(scenario(plane))


def test_a_full_model_leaves_the_rest_of_the_server_to_others():
    """E6: a model at its bound is refused, whatever its version, while another one is answered."""
    gate = Gate()

    async def scenario(plane):
        filling = asyncio.create_task(plane.answer([Call("full", ROW)] * 2, None))
        await gate.wait_entered()
        calls = [Call("full", ROW), Call("full", ROW, version=1), Call("momentum", ROW)]
        results = await plane.answer(calls, None)
        assert [type(result) for result in results] == [OverloadedError, OverloadedError, Answer]
        gate.open.set()
        await filling

    full = [FunctionServable("full", version, function=gate, warm_up_ns=SLOW_NS) for version in (1, 2)]
    with plane_of(*full, FunctionServable(), max_calls_per_model=2) as plane:
        asyncio.run(scenario(plane))


def test_where_a_call_runs_follows_its_expected_time():
    """Only a quick model's small batch runs on the loop, and only where its values cannot make it slow."""
    threads = []

    def note_thread(rows):
        threads.append(threading.current_thread() is threading.main_thread())
        return row_sums(rows)

    verified = FunctionServable(function=note_thread, warm_up_ns=1000)
    unverified = FunctionServable("plain", function=note_thread, warm_up_ns=1000, contract=None)
    loops = FunctionServable("loops", function=note_thread, warm_up_ns=1000)
    with plane_of(verified, unverified, inline_below_ns=10_000) as plane:
        plane.registry.publish(
            loops, 1, VettingResult(1, verified=True, text="", memory_bytes=1, steady=False)
        )
        for name, rows in (("momentum", 1), ("momentum", 9), ("momentum", 10), ("plain", 1), ("loops", 1)):
            asyncio.run(plane.answer([Call(name, np.ones((rows, 3), np.float32))], None))
    assert threads == [True, True, False, False, False]


def test_a_server_that_shuts_down_is_unavailable():
    """F3: once the executor is shut down, a slow model's call is UnavailableError, not a bug."""
    with plane_of(FunctionServable(warm_up_ns=SLOW_NS)) as plane:
        plane._threads.close()
        (result,) = asyncio.run(plane.answer([Call("momentum", ROW)], None))
    assert isinstance(result, UnavailableError)


def test_a_server_without_threads_says_so_and_goes_on(monkeypatch):
    """E6: a slow call for which the system gives no thread is refused, quick ones and the next one go on."""

    def start(_):
        raise RuntimeError("can't start new thread")

    slow = FunctionServable("slow", warm_up_ns=SLOW_NS)
    with plane_of(slow, FunctionServable()) as plane:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            results = asyncio.run(plane.answer([Call("slow", ROW), Call("momentum", ROW)], None))
        assert [type(result) for result in results] == [OverloadedError, Answer]
        assert "no more threads" in str(results[0])
        assert isinstance(asyncio.run(plane.answer([Call("slow", ROW)], None))[0], Answer)
    assert slow.runs == 1


@pytest.mark.parametrize(
    "options",
    [{"max_calls_in_flight": 0}, {"max_input_bytes": 0}, {"max_calls_per_model": 0}, {"inline_below_ns": -1}],
)
def test_impossible_bounds_are_refused(options):
    """Bounds that could never admit a call are refused when they are made."""
    with pytest.raises(ValueError, match="expected bounds"):
        DataPlaneOptions(**options)
