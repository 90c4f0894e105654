"""Calls in flight on a version while it is removed: each must complete, by that version."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import numpy as np
from expectation import Expectation
from open_inference.v2 import inference_pb2 as oip
from rows import ASKED
from stress_client import infer_request, read_infer

# With two runs of a model at a time, the last of these waits for the ones before: long enough to see its
# version go.
CALLS: Final = 8
ROWS: Final = 40_000
TIMEOUT_S: Final = 60.0
# How the sidecar refuses a call to a version that does not answer any more.
TOO_LATE: Final = "does not answer: version"


@dataclass(slots=True)
class RemovedCalls:
    """What became of them.

    `outlived` ended after callers got another version by default. `too_late` came to the sidecar only when
    their version was retired, so they were not in flight: it says so, and they are no failures.
    """

    calls: int = 0
    failed: int = 0
    outlived: int = 0
    too_late: int = 0
    faults: list[str] = field(default_factory=list)

    def check(
        self,
        target: str,
        model: str,
        version: int,
        expectation: Expectation,
        remove: Callable[[], None],
    ) -> None:
        """Start the calls, remove the version as soon as the first has ended, take the answers.

        `remove` returns when the version is not the default any more.
        """
        rows = np.arange(ROWS) % len(ASKED)
        request = infer_request(model, ASKED[rows], str(version))
        ended_s: list[float] = []
        with grpc.insecure_channel(target) as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=oip.ModelInferRequest.SerializeToString,
                response_deserializer=oip.ModelInferResponse.FromString,
            )
            calls = [infer.future(request, timeout=TIMEOUT_S) for _ in range(CALLS)]
            for call in calls:
                call.add_done_callback(lambda ended: _note(ended, ended_s))
            self._take(calls[0], model, version, expectation, rows)
            remove()
            removed_s = time.perf_counter()
            for call in calls[1:]:
                self._take(call, model, version, expectation, rows)
        self.outlived += sum(at_s > removed_s for at_s in ended_s)

    def _take(
        self, call: Any, model: str, version: int, expectation: Expectation, rows: np.ndarray[Any, Any]
    ) -> None:
        self.calls += 1
        try:
            told = read_infer(call.result())
        except grpc.RpcError as error:
            if TOO_LATE in error.details():
                self.too_late += 1
                return
            fault = f"{error.code()}: {error.details()}"
        else:
            fault = expectation.fault(model, rows, told)
            if told.version != version:
                fault = f"{model}: version {version} was asked, {told.version} answers"
        if fault:
            self.failed += 1
            self.faults.append(fault)


def _note(call: Any, ended_s: list[float]) -> None:
    if call.code() is grpc.StatusCode.OK:
        ended_s.append(time.perf_counter())
