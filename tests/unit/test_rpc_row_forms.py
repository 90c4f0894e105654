"""Which requests are known by their bytes, and how many forms are kept."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from manual_clock import ManualClock
from open_inference.v2 import inference_pb2 as oip
from servables import FunctionServable, row_sums

from inference_server.core.errors import DeadlineExceededError, InvalidRequestError
from inference_server.core.tensor import TensorSpec
from inference_server.rpc.accounting import Accounting
from inference_server.rpc.method import CallContext
from inference_server.rpc.open_inference import OpenInference
from inference_server.rpc.row_forms import MAX_FORM_BYTES, MAX_FORMS, MAX_ROW_BYTES, RowForm, RowForms
from inference_server.rpc.shared_tensors import SharedTensors
from inference_server.serving.data_plane import Call, DataPlane, DataPlaneOptions
from inference_server.serving.registry import Registry
from inference_server.serving.run_threads import RunThreads
from inference_server.serving.signature import RowNames
from inference_server.serving.statistics import Statistics

CALL = Call("momentum", {}, 3, ("score",))
FORM = RowForm("momentum", 3, RowNames("features", ("score",)), 7)


def request_for(*values: float, rows: int = 1, **fields: Any) -> oip.ModelInferRequest:
    """A request for a row of momentum, as CALL."""
    fields = {"model_name": "momentum", "model_version": "3"} | fields
    request = oip.ModelInferRequest(**fields)
    request.inputs.add(name="features", datatype="FP32", shape=(rows, len(values)))
    request.outputs.add(name="score")
    request.raw_input_contents.append(np.array([values] * rows, "<f4").tobytes())
    return request


def test_a_form_is_known_by_all_but_the_id_and_the_values() -> None:
    """Another id, none, and another row; each with its own row."""
    forms = RowForms()
    assert forms.find(request_for(1, 2)) is None
    forms.keep(request_for(1, 2, id="first"), CALL, 7)
    for id_, values in (("", (1, 2)), ("é" * 200, (3, 4)), ("first", (5, 6))):
        row = np.array(values, "<f4").tobytes()
        assert forms.find(request_for(*values, id=id_)) == (FORM, row)


@pytest.mark.parametrize(
    "other",
    [
        request_for(1, 2, model_name="other"),
        request_for(1, 2, model_version="4"),
        request_for(1, 2, model_version=""),
        request_for(1, 2, 3),
        request_for(1, 2, rows=2),
        request_for(1, 2, parameters={"timeout": oip.InferParameter(int64_param=7)}),
        request_for(1, 2, id="i" * 257),
    ],
)
def test_any_other_is_of_another_form(other: oip.ModelInferRequest) -> None:
    """What differs in anything else, and what has too long an id, is read field by field."""
    forms = RowForms()
    forms.keep(request_for(1, 2), CALL, 7)
    assert forms.find(other) is None


@pytest.mark.parametrize(
    "request_",
    [
        request_for(1, 2, rows=2),
        request_for(*[0] * (MAX_ROW_BYTES // 4 + 1)),
        request_for(1, 2, model_name="n" * MAX_FORM_BYTES),
        request_for(1, 2, id="i" * 257),
    ],
)
def test_what_is_no_single_row_or_too_long_has_no_form(request_: oip.ModelInferRequest) -> None:
    """What is kept of requests is bounded."""
    forms = RowForms()
    forms.keep(request_, CALL, 7)
    assert forms.find(request_) is None


def test_only_so_many_forms_are_kept() -> None:
    """A caller who writes each request otherwise takes no memory, and is known all the same."""
    forms = RowForms()
    for number in range(3 * MAX_FORMS):
        request = request_for(1, 2, parameters={"tag": oip.InferParameter(int64_param=number)})
        forms.keep(request, CALL, 7)
        assert forms.find(request) is not None
    assert int(repr(forms).split()[0][1:]) <= MAX_FORMS


class Counted(FunctionServable):
    """Counts the rows that it was given as bytes."""

    rows_taken = 0

    def run_row(self, row: bytes) -> list[bytes] | None:
        self.rows_taken += 1
        return super().run_row(row)


class Served:
    """A service that serves momentum 3."""

    def __init__(self, threads: RunThreads) -> None:
        self.clock, self.registry = ManualClock(), Registry()
        plane = DataPlane(self.registry, self.clock, DataPlaneOptions(), threads)
        accounting = Accounting(Statistics(), self.registry, self.clock)
        self.service = OpenInference(plane, self.clock, accounting, SharedTensors(None))

    def publish(self, **fields: Any) -> Counted:
        """Serve it with two features, unless told otherwise."""
        servable = Counted(version=3, takes_bytes=True, **({"n_features": 2} | fields))
        self.registry.publish(servable, 1)
        return servable

    def ask(self, request: oip.ModelInferRequest) -> oip.ModelInferResponse:
        """Ask it."""
        return asyncio.run(self.service.model_infer(request, CallContext(None, "r-1")))


@pytest.fixture
def served() -> Iterator[Served]:
    """A service that serves nothing yet."""
    with contextlib.closing(RunThreads()) as threads:
        yield Served(threads)


def test_the_second_request_of_a_form_is_answered_by_its_bytes(served: Served) -> None:
    """The first is read, the others are known: their row goes to the model as it came."""
    servable = served.publish()
    for number in range(3):
        response = served.ask(request_for(1, number, id=str(number)))
        assert response.id == str(number)
        assert np.frombuffer(response.raw_output_contents[0], "<f4") == 1 + number
    assert (servable.runs, servable.rows_taken) == (3, 2)


@pytest.mark.parametrize(
    ("datatype", "before", "after"),
    [
        ("FP32", {}, {"inputs": (TensorSpec("others", "FP32", (-1, 2)),)}),
        ("FP32", {}, {"inputs": (TensorSpec("features", "INT32", (-1, 2)),)}),
        ("INT32", {"inputs": (TensorSpec("features", "INT32", (-1, 2)),)}, {}),
        ("FP32", {}, {"n_features": 3}),
        ("FP32", {}, {"outputs": ("twin",)}),
    ],
)
def test_a_form_that_was_answered_is_checked_against_what_is_served_now(
    served: Served, datatype: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    """C7: a version of other names, kinds or sizes refuses what the one before took."""
    request = request_for(1, 2)
    request.inputs[0].datatype = datatype
    served.publish(**before)
    for _ in range(3):
        served.ask(request)
    replaced = served.publish(**after)
    with pytest.raises(InvalidRequestError):
        served.ask(request)
    assert replaced.runs == 0


def test_a_forms_own_timeout_is_heeded(served: Served) -> None:
    """A run that takes longer is no answer, though those before were."""

    def run(rows: Any) -> Any:
        served.clock.advance(0.001)
        return row_sums(rows)

    request = request_for(1, 2, parameters={"timeout": oip.InferParameter(int64_param=500)})
    served.publish()
    for _ in range(3):
        served.ask(request)
    late = served.publish(function=run)
    with pytest.raises(DeadlineExceededError):
        served.ask(request)
    assert late.rows_taken == 1
