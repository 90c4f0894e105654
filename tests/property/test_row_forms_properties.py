"""A request that is known by its bytes, beside the same request read field by field."""

import asyncio
import contextlib
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from manual_clock import ManualClock
from open_inference.v2 import inference_pb2 as oip
from servables import FunctionServable

from inference_server.core.errors import ServingError
from inference_server.core.servable import VettingResult
from inference_server.rpc.accounting import Accounting
from inference_server.rpc.method import CallContext
from inference_server.rpc.open_inference import OpenInference
from inference_server.rpc.shared_tensors import SharedTensors
from inference_server.serving.data_plane import DataPlane, DataPlaneOptions
from inference_server.serving.registry import Registry, Standing
from inference_server.serving.run_threads import RunThreads
from inference_server.serving.statistics import Statistics

VETTED = VettingResult(vetted_at_ns=5, verified=True, text="", memory_bytes=1)
# As a form is cut around the id: one that reads as the end of a name, or as the field that follows.
IDS = st.sampled_from(["", "", "a", "b", "é%b\0", "\x1a\x01a", '"', "i" * 127, "i" * 128, "i" * 257])
MODELS = st.sampled_from(["momentum"] * 4 + ["plain", "a", "\x1a\x01a", "nobody"])
VERSIONS = st.sampled_from(["", "", "", "1", "2", "7", "stable", "\x1a\x01a"])
VALUES = st.sampled_from(
    [(1, 2, 3), (4, 5, 6), (1e30, 1, 1), (np.nan, 1, 1), (np.inf, 1, 1), (1, 2), (1,) * 6]
)
SHAPES = st.sampled_from([(1, 3)] * 6 + [(2, 3), (1, 2), (3,), (1, 3, 1), (1, 6), (0, 3)])
OUTPUTS = st.sampled_from(
    [(), (), ("score", "twin"), ("twin", "score"), ("score",), ("score", "score"), ("other",)]
)
UNKNOWN = st.sampled_from([b""] * 4 + [b"\xa2\x06\x0c" + np.array([7, 7, 7], "<f4").tobytes()])


def _no_parameter(_: oip.ModelInferRequest) -> None:
    """Leave the request as it is."""


def _parameter(name: str, **value: int | str | bool) -> Callable[[oip.ModelInferRequest], None]:
    def write(request: oip.ModelInferRequest) -> None:
        request.parameters[name].MergeFrom(oip.InferParameter(**value))

    return write


# Longer than any machine takes: a model that runs in a thread is given up by the real time.
TIMEOUTS_US = (3_600_000_000, 7_200_000_000)
PARAMETERS = st.sampled_from(
    [
        *(_no_parameter, _no_parameter, _no_parameter),
        *(_parameter("timeout", int64_param=each) for each in TIMEOUTS_US),
        _parameter("tag", string_param="\x1a\x01a"),
        _parameter("sequence_id", int64_param=3),
        _parameter("triton_enable_empty_final_response", bool_param=True),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> oip.ModelInferRequest:
    """Return a request, of which most are for one row."""
    request = oip.ModelInferRequest(id=draw(IDS), model_name=draw(MODELS), model_version=draw(VERSIONS))
    draw(PARAMETERS)(request)
    row = np.array(draw(VALUES), "<f4")
    name = draw(st.sampled_from(["features"] * 6 + ["others"]))
    tensor = request.inputs.add(name=name, datatype=draw(st.sampled_from(["FP32"] * 6 + ["INT32"])))
    tensor.shape.extend(draw(SHAPES))
    typed = draw(st.integers(0, 9)) == 0
    if typed:
        tensor.contents.fp32_contents.extend(row.tolist())
    else:
        request.raw_input_contents.append(row.tobytes())
    for output in draw(OUTPUTS):
        request.outputs.add(name=output)
    return oip.ModelInferRequest.FromString(request.SerializeToString() + draw(UNKNOWN))


def _second(registry: Registry) -> None:
    registry.publish(servable(version=2, function=lambda rows: rows[:, :1] * 2), 2, None)


def _other_names(registry: Registry) -> None:
    registry.publish(servable(outputs=("twin", "score")), 3, VETTED)


def _wider(registry: Registry) -> None:
    registry.publish(servable(n_features=6), 4, VETTED)


def _slow(registry: Registry) -> None:
    registry.publish(servable(takes_bytes=False), 5, VETTED)


def _first(registry: Registry) -> None:
    registry.publish(servable(), 6, VETTED)


def _labelled(registry: Registry) -> None:
    registry.set_standing("momentum", Standing(labels={"stable": 1}))


CHANGES = st.sampled_from([_second, _other_names, _wider, _slow, _first, _labelled])


def servable(
    name: str = "momentum", version: int = 1, *, takes_bytes: bool = True, **fields: object
) -> FunctionServable:
    """Return one with two outputs."""
    given = {"outputs": ("score", "twin")} | fields
    return FunctionServable(name, version, takes_bytes=takes_bytes, **given)  # type: ignore[arg-type]


class Services:
    """Services over one registry: one that goes on, and for each request one that knows no form yet."""

    def __init__(self, threads: RunThreads) -> None:
        self.clock, self.registry = ManualClock(), Registry()
        self.plane = DataPlane(self.registry, self.clock, DataPlaneOptions(), threads)
        for name in ("momentum", "a"):
            self.registry.publish(servable(name), 1, VETTED)
        self.registry.publish(servable("plain", contract=None), 1, None)
        self.going_on = self.new()

    def new(self) -> OpenInference:
        """Return a service that has answered nothing."""
        accounting = Accounting(Statistics(), self.registry, self.clock)
        return OpenInference(self.plane, self.clock, accounting, SharedTensors(None))

    def ask(self, service: OpenInference, request: oip.ModelInferRequest) -> tuple[object, ...]:
        """Return what comes of a request: the response or the error, and how many rows count as answered."""
        before = self.rows()
        try:
            response = asyncio.run(service.model_infer(request, CallContext(None, "r-1")))
        except ServingError as error:
            return type(error), str(error), error.reason, error.version, self.rows() - before
        return response, self.rows() - before

    def rows(self) -> int:
        """Return how many rows were answered so far by what is served."""
        models = self.registry.describe()
        return sum(version.rows_answered for model in models for version in model.versions)


@settings(max_examples=100, deadline=None)
@given(st.lists(requests() | CHANGES, min_size=2, max_size=12))
def test_a_known_form_is_answered_as_an_unknown_one(
    steps: list[oip.ModelInferRequest | Callable[[Registry], None]],
) -> None:
    """Whatever was asked before, and whatever was swapped since: the same answer or error."""
    with contextlib.closing(RunThreads()) as threads:
        services = Services(threads)
        for step in steps:
            if not isinstance(step, oip.ModelInferRequest):
                step(services.registry)
                continue
            for request in (step, *_varied(step)):
                expected = services.ask(services.new(), request)
                assert services.ask(services.going_on, request) == expected
                assert services.ask(services.going_on, request) == expected


def _varied(request: oip.ModelInferRequest) -> list[oip.ModelInferRequest]:
    """Return the request with another row, and with another id: mostly those are of its form."""
    other_row, other_id = oip.ModelInferRequest(), oip.ModelInferRequest()
    other_row.CopyFrom(request)
    other_id.CopyFrom(request)
    for place, raw in enumerate(request.raw_input_contents):
        other_row.raw_input_contents[place] = np.frombuffer(raw, "<f4")[::-1].tobytes()
    other_id.id = f"{request.id[:20]}\x1a\x01a"
    return [other_row, other_id]
