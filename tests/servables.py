"""A servable made of a Python function, for tests of what stands above ONNX Runtime."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx_files import score_contract

from inference_server.core.contract import Contract
from inference_server.core.servable import ServableId
from inference_server.core.tensor import Array, TensorSpec

CONTRACT = score_contract()


def row_sums(features: Array) -> Array:
    """Return each row's sum, which is what a FunctionServable answers unless told otherwise."""
    return features.sum(axis=1, keepdims=True)


class FunctionServable:
    """Answers `function(features)` as the output "score"; other outputs repeat it. Counts runs and closes."""

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
        self._function = function

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        assert not self.closed, f"{self.id} runs after close"
        self.runs += 1
        self.running += 1
        try:
            answer = self._function(inputs[self.inputs[0].name])
        finally:
            self.running -= 1
        return [answer for _ in outputs]

    def close(self) -> None:
        assert not self.running, f"{self.id} is closed under a run"
        self.closed += 1


def features(*rows: Sequence[float]) -> Array:
    """Rows as float32."""
    return np.array(rows, dtype=np.float32)
