"""A row answered by its bytes: only where nothing is special, and then as any other way answers it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from manual_clock import ManualClock
from servables import CONTRACT, FunctionServable, features, row_sums

from inference_server.core.errors import DeadlineExceededError, Reason
from inference_server.core.servable import VettingResult
from inference_server.core.tensor import TensorSpec
from inference_server.serving.data_plane import Answer, Call, DataPlane, DataPlaneOptions, RowAnswer
from inference_server.serving.registry import Registry
from inference_server.serving.run_threads import RunThreads

ROW = features((1, 2, 3))
VETTED = VettingResult(vetted_at_ns=5, verified=True, text="", memory_bytes=1)


class Plane:
    """A data plane over one registry, and the question that is asked of it."""

    def __init__(self, threads: RunThreads) -> None:
        self.clock, self.registry = ManualClock(), Registry()
        self.plane = DataPlane(self.registry, self.clock, DataPlaneOptions(), threads)

    def publish(self, vetting: VettingResult | None = VETTED, **fields: Any) -> FunctionServable:
        """Serve a model that takes bytes."""
        servable = FunctionServable(**({"takes_bytes": True} | fields))
        self.registry.publish(servable, 1, vetting)
        return servable

    def ask(
        self,
        row: bytes = ROW.tobytes(),
        version: int = 0,
        contract_hash: str = "",
        left_s: float | None = None,
    ) -> RowAnswer | DeadlineExceededError | None:
        """Ask momentum for a row."""
        deadline_ns = None if left_s is None else self.clock.monotonic_ns() + int(left_s * 1e9)
        return self.plane.answer_row("momentum", version, contract_hash, row, deadline_ns)


@pytest.fixture
def plane() -> Iterator[Plane]:
    """A data plane that serves nothing yet."""
    with contextlib.closing(RunThreads()) as threads:
        yield Plane(threads)


@pytest.mark.parametrize("contract_hash", ["", CONTRACT.hash])
def test_a_row_is_answered_as_an_array_of_it(plane: Plane, contract_hash: str) -> None:
    """The same servable, outputs, shapes and bits; and the row is counted."""
    servable = plane.publish(outputs=("score", "twin"))
    [by_array] = asyncio.run(plane.plane.answer([Call("momentum", ROW, 0, (), contract_hash)], None))
    by_bytes = plane.ask(contract_hash=contract_hash)
    assert isinstance(by_array, Answer)
    assert isinstance(by_bytes, RowAnswer)
    assert by_bytes.values == [array.tobytes() for array in by_array.arrays]
    for name in ("servable", "vetting", "specs", "shapes", "rows"):
        assert getattr(by_bytes, name) == getattr(by_array, name)
    assert plane.registry.resolve("momentum").rows_answered == servable.runs == 2


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, {"version": 2}),
        ({}, {"contract_hash": "f" * 64}),
        ({}, {"row": ROW.tobytes()[:-4]}),
        ({}, {"row": ROW.tobytes() * 2}),
        ({}, {"row": b""}),
        ({}, {"row": features((1, np.nan, 3)).tobytes()}),
        ({}, {"row": features((np.inf, -np.inf, 3)).tobytes()}),
        ({}, {"left_s": 0.0}),
        ({"takes_bytes": False}, {}),
        ({"contract": None}, {}),
        ({"warm_up_ns": 10**9}, {}),
        ({"vetting": VettingResult(5, verified=True, text="", memory_bytes=1, steady=False)}, {}),
        ({"inputs": (TensorSpec("features", "INT32", (-1, 3)),)}, {}),
        ({"inputs": (TensorSpec("features", "FP32", (3,)),)}, {}),
        ({"inputs": (TensorSpec("features", "FP32", (2, 3)),)}, {}),
        ({"inputs": (TensorSpec("features", "FP32", (-1, 3)),) * 2}, {}),
    ],
)
def test_what_is_special_is_left_to_the_other_way(
    plane: Plane, fields: dict[str, Any], asked: dict[str, Any]
) -> None:
    """Nothing is run, refused or counted: that is for who says why."""
    servable = plane.publish(**fields)
    assert plane.ask(**asked) is None
    assert servable.runs == plane.registry.resolve("momentum").rows_answered == 0


def test_a_model_that_nobody_serves_is_left_to_the_other_way(plane: Plane) -> None:
    """There is nothing to say of it here."""
    assert plane.ask() is None


def test_rows_too_large_to_be_squared_are_answered_all_the_same(plane: Plane) -> None:
    """Of finite numbers whose squares are not, the other way finds that they are."""
    plane.publish(function=lambda rows: rows[:, :1])
    [answer] = asyncio.run(plane.plane.answer([Call("momentum", ROW * np.float32(1e38))], None))
    assert isinstance(answer, Answer)
    assert plane.ask((ROW * np.float32(1e38)).tobytes()) is None


def test_a_run_that_ends_after_the_deadline_is_no_answer(plane: Plane) -> None:
    """E1: it was too slow, by the version that was."""

    def run(rows: Any) -> Any:
        plane.clock.advance(1.0)
        return row_sums(rows)

    plane.publish(version=4, function=run)
    late = plane.ask(left_s=0.5)
    assert isinstance(late, DeadlineExceededError)
    assert (late.reason, late.version) == (Reason.TOO_SLOW, 4)
    assert plane.registry.resolve("momentum").rows_answered == 0
    assert isinstance(plane.ask(left_s=1.5), RowAnswer)


def test_each_row_is_answered_by_what_is_served_then(plane: Plane) -> None:
    """C7: after a swap, or when a version is taken out, nothing is kept of the one before."""
    old = plane.publish(digest="a" * 64)
    new = FunctionServable(digest="b" * 64, takes_bytes=True)
    answers = [plane.ask()]
    plane.registry.publish(new, 2, None)
    answers.append(plane.ask())
    assert [(each.servable, each.vetting) for each in answers if each] == [(old, VETTED), (new, None)]
    plane.registry.retire(new.id)
    assert plane.ask() is None


def test_while_calls_wait_for_threads_the_other_way_counts_them(plane: Plane) -> None:
    """E6: whether there is room is asked there."""
    begun, go_on = threading.Event(), threading.Event()

    def run(rows: Any) -> Any:
        begun.set()
        go_on.wait(60)
        return rows

    plane.publish()
    plane.publish(name="slow", function=run, warm_up_ns=10**9)

    async def ask() -> list[object]:
        slow = asyncio.create_task(plane.plane.answer([Call("slow", ROW)], None))
        try:
            await asyncio.to_thread(begun.wait, 60)
            during = plane.ask()
        finally:
            go_on.set()
            await slow
        return [during, plane.ask()]

    during, after = asyncio.run(ask())
    assert during is None
    assert isinstance(after, RowAnswer)
