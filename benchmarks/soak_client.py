"""The well-behaved callers of a soak: every way to ask, at a steady rate, and every answer is checked.

    python benchmarks/soak_client.py TARGET MODELS RATE_HZ EXPECTATION.json

One process, a thread for each kind. It writes a JSON object a second, what each kind saw since it began,
until its standard input ends.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from expectation import Expectation, Told
from numpy.typing import NDArray
from rows import ASKED, rows_of
from stress_client import Ask, asker

from strategy_client import InferenceClient
from strategy_client.predictor.port import Prediction, Question, Refusal
from strategy_client.predictor.transport import Transport

GRPCIO: Final = ("Predict", "PredictStream", "ModelInfer", "ModelStreamInfer")
# Nobody who behaves waits for long because others do not; on a busy machine a pause outlasts a call.
PATIENCE_S: Final = 20.0
TELL_S: Final = 1.0
SHOWN_FAULTS: Final = 5


@dataclass(slots=True)
class Seen:
    """What callers of one kind saw: `failed` calls had no answer, `wrong` ones another than they should."""

    answered: int = 0
    failed: int = 0
    wrong: int = 0
    slowest_ms: float = 0.0
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """Keep the first few texts."""
        if len(self.faults) < SHOWN_FAULTS:
            self.faults.append(text)


def kinds(target: str) -> dict[str, Callable[[], Ask]]:
    """Return what makes a caller of each kind; tritonclient's only where it is installed."""
    made: dict[str, Callable[[], Ask]] = {
        f"grpcio {kind}": lambda kind=kind: asker(kind, grpc.insecure_channel(target), PATIENCE_S)
        for kind in GRPCIO
    }
    for transport in ("h2", "grpcio"):
        made[f"client {transport} predict"] = lambda transport=transport: _predict(target, transport)
        made[f"client {transport} submit"] = lambda transport=transport: _submit(target, transport)
    try:
        import tritonclient.grpc  # noqa: F401, PLC0415 - a caller of others, which may be missing
    except ImportError:
        return made
    return made | {"tritonclient": lambda: _triton(target)}


def _predict(target: str, transport: Transport) -> Ask:
    client = InferenceClient(target, transport=transport)
    return lambda model, rows: _told(client.predict(model, ASKED[rows], timeout_s=PATIENCE_S))


def _submit(target: str, transport: Transport) -> Ask:
    client = InferenceClient(target, transport=transport)
    client.wait_ready(PATIENCE_S)

    def ask(model: str, rows: NDArray[np.intp]) -> Told:
        deadline_ns = time.monotonic_ns() + int(PATIENCE_S * 1e9)
        [answer] = client.submit([Question(model, ASKED[rows])], deadline_ns).result()
        if isinstance(answer, Refusal):
            raise RuntimeError(f"{answer.reason.value}: {answer.detail}")  # noqa: TRY004 - an answer, of a kind
        return _told(answer)

    return ask


def _told(prediction: Prediction) -> Told:
    [values] = prediction.outputs.values()
    return Told(prediction.version, prediction.digest, np.asarray(values, np.float64).reshape(-1))


def _triton(target: str) -> Ask:
    import tritonclient.grpc as triton  # noqa: PLC0415 - a caller of others, which may be missing

    client = triton.InferenceServerClient(target)

    def ask(model: str, rows: NDArray[np.intp]) -> Told:
        asked = triton.InferInput("features", list(ASKED[rows].shape), "FP32")
        asked.set_data_from_numpy(ASKED[rows])
        answer = client.infer(model, [asked], client_timeout=PATIENCE_S)
        response = answer.get_response()
        values = answer.as_numpy(response.outputs[0].name).astype(np.float64).reshape(-1)
        return Told(int(response.model_version), response.parameters["digest"].string_param, values)

    return ask


def run(
    make: Callable[[], Ask], models: list[str], rate_hz: float, expectation: Expectation, seen: Seen
) -> None:
    """Ask for as long as the process lives."""
    ask: Ask | None = None
    began_s = time.monotonic()
    for number in range(sys.maxsize):
        time.sleep(max(0.0, began_s + number / rate_hz - time.monotonic()))  # keeps the rate
        model, rows = models[number % len(models)], rows_of(number)
        asked_s = time.monotonic()
        try:
            ask = ask or make()
            told = ask(model, rows)
        except Exception as error:  # noqa: BLE001 - whatever came instead of an answer is what is counted
            seen.failed += 1
            seen.fault(f"{model}: {error!r}")
            ask = None
            continue
        seen.slowest_ms = max(seen.slowest_ms, (time.monotonic() - asked_s) * 1e3)
        if fault := expectation.fault(model, rows, told):
            seen.wrong += 1
            seen.fault(fault)
        else:
            seen.answered += 1


def main() -> None:
    """Ask until the input ends."""
    target, models, rate_hz, facts = sys.argv[1:]
    expectation = Expectation.read(Path(facts))
    came: dict[str, Any] = {}
    for kind, make in kinds(target).items():
        came[kind] = Seen()
        threading.Thread(
            target=run, args=(make, models.split(","), float(rate_hz), expectation, came[kind]), daemon=True
        ).start()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.wait(TELL_S):
        print(json.dumps({kind: asdict(seen) for kind, seen in came.items()}), flush=True)


if __name__ == "__main__":
    main()
