"""One client process of the stress run: asks at a steady rate in one way and checks every answer.

Writes a line when it is ready. Reads on standard input the phase that begins, a line each, until the input
ends; then writes one JSON object: for each phase the number of calls, the latencies in microseconds, and what
went wrong.
"""

import json
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from open_inference.v2 import inference_pb2 as oip
from rows import ASKED
from tickserve.v1 import predictor_pb2 as wire

KINDS: Final = ("Predict", "PredictStream", "ModelInfer", "ModelStreamInfer")
TIMEOUT_S: Final = 5.0
TOLERANCE: Final = 1e-2
SHOWN_FAULTS: Final = 5


@dataclass(frozen=True, slots=True)
class Told:
    """What one answer says: the version and digest that it names, and its number."""

    version: int
    digest: str
    value: float


@dataclass(slots=True)
class Phase:
    """What one client saw in one phase. `mixed` are answers that are not of the version they name."""

    calls: int = 0
    failed: int = 0
    mixed: int = 0
    latency_us: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """Keep the first few texts."""
        if len(self.faults) < SHOWN_FAULTS:
            self.faults.append(text)


def asker(kind: str, model: str, channel: grpc.Channel) -> Callable[[int], Told]:
    """Return a function that asks for one row of `ASKED` in the way of `kind`; it raises what went wrong."""
    if kind.startswith("Predict"):
        predict = _caller(channel, f"/tickserve.v1.Predictor/{kind}", wire.PredictResponse)
        return lambda row: _read_predict(predict(_predict_request(model, row)))
    response = oip.ModelStreamInferResponse if kind == "ModelStreamInfer" else oip.ModelInferResponse
    infer = _caller(channel, f"/inference.GRPCInferenceService/{kind}", response)
    return lambda row: _read_infer(infer(_infer_request(model, row)))


def _predict_request(model: str, row: int) -> wire.PredictRequest:
    part = wire.PredictPart(model=model, rows=1, features=ASKED[row].tobytes())
    return wire.PredictRequest(id=str(row), parts=[part])


def _read_predict(response: wire.PredictResponse) -> Told:
    if response.HasField("error"):
        raise RuntimeError(response.error.message)
    result = response.parts[0]
    if result.HasField("status"):
        raise RuntimeError(result.status.message)
    return Told(result.version, result.digest, float(np.frombuffer(result.outputs[0].raw, "<f4")[0]))


def _infer_request(model: str, row: int) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=model)
    request.inputs.add(name="features", datatype="FP32", shape=[1, ASKED.shape[1]])
    request.raw_input_contents.append(ASKED[row].tobytes())
    return request


def _read_infer(response: oip.ModelInferResponse | oip.ModelStreamInferResponse) -> Told:
    if isinstance(response, oip.ModelStreamInferResponse):
        if response.error_message:
            raise RuntimeError(response.error_message)
        response = response.infer_response
    value = float(np.frombuffer(response.raw_output_contents[0], "<f4")[0])
    return Told(int(response.model_version), response.parameters["digest"].string_param, value)


def _caller(channel: grpc.Channel, path: str, response: type) -> Callable[[Any], Any]:
    codec: dict[str, Any] = {
        "request_serializer": lambda message: message.SerializeToString(),
        "response_deserializer": response.FromString,
    }
    if "Stream" not in path:
        unary = channel.unary_unary(path, **codec)
        return lambda request: unary(request, timeout=TIMEOUT_S)
    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = channel.stream_stream(path, **codec)(iter(sent.get, None))

    def ask(request: Any) -> Any:
        sent.put(request)
        return next(answers)

    return ask


def run(
    ask: Callable[[int], Told],
    expected: Mapping[int, Mapping[str, Any]],
    rate_hz: float,
    phases: Iterator[str],
) -> dict[str, Phase]:
    """Ask at the rate until the phases end; return what was seen in each."""
    seen: dict[str, Phase] = {}
    now = [next(phases)]
    ended = threading.Event()

    def follow() -> None:
        for name in phases:
            now[0] = name
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    began_s = time.perf_counter()
    for number in range(sys.maxsize):
        # An open loop: a slow answer does not lower the rate, so its wait is not left out.
        time.sleep(max(0.0, began_s + number / rate_hz - time.perf_counter()))  # keeps the rate
        if ended.is_set():
            return seen
        phase = seen.setdefault(now[0], Phase())
        row = number % len(ASKED)
        asked_s = time.perf_counter()
        phase.calls += 1
        try:
            told = ask(row)
        except (grpc.RpcError, RuntimeError, StopIteration) as error:
            phase.failed += 1
            phase.fault(repr(error))
            continue
        phase.latency_us.append((time.perf_counter() - asked_s) * 1e6)
        known = expected.get(told.version)
        if (
            known is None
            or told.digest != known["digest"]
            or abs(told.value - known["answers"][row]) > TOLERANCE
        ):
            phase.mixed += 1
            phase.fault(f"row {row}: {told}")
    return seen


def main() -> None:
    """Run one client: KIND ADDRESS MODEL RATE_HZ FACTS.json."""
    kind, address, model, rate_hz, facts = sys.argv[1:]
    expected = {
        int(version): known for version, known in json.loads(Path(facts).read_text(encoding="utf-8")).items()
    }
    with grpc.insecure_channel(address) as channel:
        print("ready", flush=True)
        seen = run(
            asker(kind, model, channel), expected, float(rate_hz), (line.strip() for line in sys.stdin)
        )
        json.dump({name: asdict(phase) for name, phase in seen.items()}, sys.stdout)


if __name__ == "__main__":
    main()
