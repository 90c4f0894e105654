"""A servable made of a Python function, for tests of what stands above ONNX Runtime."""

import threading
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx_files import score_contract

from inference_server.core.contract import Contract
from inference_server.core.servable import Abort, AbortedError, ServableId
from inference_server.core.tensor import Array, TensorSpec

CONTRACT = score_contract()


def row_sums(features: Array) -> Array:
    """Return each row's sum, which is what a FunctionServable answers unless told otherwise."""
    return features.sum(axis=1, keepdims=True)


class FunctionServable:
    """Answers `function(features)` as the output "score"; other outputs repeat it. Counts runs and closes.

    It cannot be stopped within its function, which may wait for `stopped`. With `takes_bytes` it answers a
    row by its bytes too.
    """

    def __init__(
        self,
        name: str = "momentum",
        version: int = 1,
        *,
        function: Callable[[Array], Array] = row_sums,
        n_features: int = 3,
        contract: Contract | None = CONTRACT,
        inputs: tuple[TensorSpec, ...] | None = None,
        outputs: tuple[str, ...] = ("score",),
        warm_up_ns: int = 1000,
        digest: str = "",
        takes_bytes: bool = False,
    ) -> None:
        self.id = ServableId(name, version)
        self.digest = digest or f"{version:064x}"
        self.contract = contract
        self.inputs = inputs or (TensorSpec("features", "FP32", (-1, n_features)),)
        self.outputs = tuple(TensorSpec(output, "FP32", (-1, 1)) for output in outputs)
        self.warm_up_ns = warm_up_ns
        self.runs = 0
        self.running = 0
        self.closed = 0
        self.stopped = threading.Event()  # one of its runs has been told to stop
        self._function = function
        self._takes_bytes = takes_bytes

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], abort: Abort | None = None
    ) -> list[Array]:
        assert not self.closed, f"{self.id} runs after close"
        self.runs += 1
        self.running += 1
        try:
            if abort is not None:
                abort.on_abort(self.stopped.set)
            answer = self._function(inputs[self.inputs[0].name])
            if abort is not None and abort.aborted:
                raise AbortedError
        finally:
            self.running -= 1
        return [answer for _ in outputs]

    def run_row(self, row: bytes) -> list[bytes] | None:
        if not self._takes_bytes:
            return None
        inputs = {self.inputs[0].name: np.frombuffer(row, np.float32).reshape(1, -1)}
        return [array.tobytes() for array in self.run(inputs, [spec.name for spec in self.outputs])]

    def close(self) -> None:
        assert not self.running, f"{self.id} is closed under a run"
        self.closed += 1


def features(*rows: Sequence[float]) -> Array:
    """Rows as float32."""
    return np.array(rows, dtype=np.float32)
