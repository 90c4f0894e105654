"""One client process of the stress run: asks at a steady rate in one way and checks every answer.

    python benchmarks/stress_client.py KIND ADDRESS MODELS RATE_HZ TIMEOUT_S EXPECTATION.json

It asks the models (comma-separated) in turn. It writes a line when it is ready and reads on standard input
the phase that begins, a line each, until the input ends; then it writes one JSON object: for each phase the
number of calls, the latencies in microseconds, and what went wrong.
"""

import gc
import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from expectation import Expectation, Told
from numpy.typing import NDArray
from open_inference.v2 import inference_pb2 as oip
from rows import ASKED, rows_of
from tickserve.v1 import predictor_pb2 as wire

KINDS: Final = ("Predict", "PredictStream", "ModelInfer", "ModelStreamInfer")
# A client that asks for answers sooner than this wants to see what a missed deadline does: it is no failure.
PATIENT_S: Final = 1.0
SHOWN_FAULTS: Final = 5


class LateError(RuntimeError):
    """A part was not answered before the call's deadline."""


Ask = Callable[[str, NDArray[np.intp]], Told]


@dataclass(slots=True)
class Phase:
    """What one client saw in one phase.

    `late` are calls whose own short deadline passed. `mixed` are answers that are not wholly of the version
    they name. `latency_us` is from the call to its answer; `wait_us` from the moment when the call was due,
    which is more where the client or the call before was behind.
    """

    calls: int = 0
    failed: int = 0
    late: int = 0
    mixed: int = 0
    latency_us: list[float] = field(default_factory=list)
    wait_us: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """Keep the first few texts."""
        if len(self.faults) < SHOWN_FAULTS:
            self.faults.append(text)


def asker(kind: str, channel: grpc.Channel, timeout_s: float) -> Ask:
    """Return a function that asks a model for rows of `ASKED` in the way of `kind`, and raises what came."""
    if kind.startswith("Predict"):
        predict = _caller(channel, f"/tickserve.v1.Predictor/{kind}", wire.PredictResponse, timeout_s)
        return lambda model, rows: _read_predict(predict(_predict_request(model, rows)))
    response = oip.ModelStreamInferResponse if kind == "ModelStreamInfer" else oip.ModelInferResponse
    infer = _caller(channel, f"/inference.GRPCInferenceService/{kind}", response, timeout_s)
    return lambda model, rows: read_infer(infer(infer_request(model, ASKED[rows])))


def infer_request(model: str, features: NDArray[np.float32], version: str = "") -> oip.ModelInferRequest:
    """Return a question in Open Inference; an empty version lets the server choose."""
    request = oip.ModelInferRequest(model_name=model, model_version=version)
    request.inputs.add(name="features", datatype="FP32", shape=features.shape)
    request.raw_input_contents.append(features.tobytes())
    return request


def read_infer(response: oip.ModelInferResponse | oip.ModelStreamInferResponse) -> Told:
    """Return what the answer says; RuntimeError for an error in it."""
    if isinstance(response, oip.ModelStreamInferResponse):
        if response.error_message:
            raise RuntimeError(response.error_message)
        response = response.infer_response
    values = np.frombuffer(response.raw_output_contents[0], "<f4").astype(np.float64)
    return Told(int(response.model_version), response.parameters["digest"].string_param, values)


def _predict_request(model: str, rows: NDArray[np.intp]) -> wire.PredictRequest:
    part = wire.PredictPart(model=model, rows=len(rows), features=ASKED[rows].tobytes())
    return wire.PredictRequest(id=str(rows[0]), parts=[part])


def _read_predict(response: wire.PredictResponse) -> Told:
    if response.HasField("error"):
        raise RuntimeError(response.error.message)
    result = response.parts[0]
    if result.status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]:
        raise LateError(result.status.message)
    if result.HasField("status"):
        raise RuntimeError(result.status.message)
    values = np.frombuffer(result.outputs[0].raw, "<f4").astype(np.float64)
    return Told(result.version, result.digest, values)


def _caller(channel: grpc.Channel, path: str, response: type, timeout_s: float) -> Callable[[Any], Any]:
    codec: dict[str, Any] = {
        "request_serializer": lambda message: message.SerializeToString(),
        "response_deserializer": response.FromString,
    }
    if "Stream" not in path:
        unary = channel.unary_unary(path, **codec)
        return lambda request: unary(request, timeout=timeout_s)
    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = channel.stream_stream(path, **codec)(iter(sent.get, None))

    def ask(request: Any) -> Any:
        sent.put(request)
        return next(answers)

    return ask


def is_late(error: Exception) -> bool:
    """Whether this is the call's own deadline that passed, and nothing else."""
    if isinstance(error, grpc.RpcError):
        return error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    return isinstance(error, LateError)


class Client:
    """Asks, checks, and counts in the phase that is on."""

    def __init__(
        self, ask: Ask, models: Sequence[str], expectation: Expectation, *, may_be_late: bool
    ) -> None:
        self._ask = ask
        self._models = models
        self._expectation = expectation
        self._may_be_late = may_be_late
        self.seen: dict[str, Phase] = {}

    def call(self, phase_name: str, number: int, due_s: float) -> None:
        """Make the call of this number, which was due at this reading of the performance counter."""
        phase = self.seen.setdefault(phase_name, Phase())
        model, rows = self._models[number % len(self._models)], rows_of(number)
        phase.calls += 1
        asked_s = time.perf_counter()
        try:
            told = self._ask(model, rows)
        except (grpc.RpcError, RuntimeError, StopIteration) as error:
            if self._may_be_late and is_late(error):
                phase.late += 1
            else:
                phase.failed += 1
                phase.fault(f"{model}: {error!r}")
            return
        answered_s = time.perf_counter()
        phase.latency_us.append((answered_s - asked_s) * 1e6)
        phase.wait_us.append((answered_s - due_s) * 1e6)
        if fault := self._expectation.fault(model, rows, told):
            phase.mixed += 1
            phase.fault(fault)


def run(client: Client, rate_hz: float, phases: Iterator[str]) -> None:
    """Ask at the rate until the phases end."""
    now = [next(phases)]
    ended = threading.Event()

    def follow() -> None:
        for name in phases:
            now[0] = name
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    began_s = time.perf_counter()
    for number in range(sys.maxsize):
        # An open loop: a slow answer does not lower the rate.
        due_s = began_s + number / rate_hz
        time.sleep(max(0.0, due_s - time.perf_counter()))  # keeps the rate
        if ended.is_set():
            return
        client.call(now[0], number, due_s)


def main() -> None:
    """Run one client until its input ends."""
    kind, address, models, rate_hz, timeout_s, facts = sys.argv[1:]
    gc.disable()  # its pauses would count as the server's
    with grpc.insecure_channel(address) as channel:
        client = Client(
            asker(kind, channel, float(timeout_s)),
            models.split(","),
            Expectation.read(Path(facts)),
            may_be_late=float(timeout_s) < PATIENT_S,
        )
        print("ready", flush=True)
        run(client, float(rate_hz), (line.strip() for line in sys.stdin))
        json.dump({name: asdict(phase) for name, phase in client.seen.items()}, sys.stdout)


if __name__ == "__main__":
    main()
