"""ONNX Runtime sessions as this server runs them, and its types in the words of Open Inference."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from inference_server.adapters.bound_row import BoundRow
from inference_server.adapters.onnx_value import all_wrapped, bf16_wrapped, unwrapped
from inference_server.core.errors import InvalidRequestError
from inference_server.core.servable import Abort, AbortedError
from inference_server.core.tensor import NUMPY_DTYPES, VARIABLE, Array, TensorSpec
from inference_server.serving.loader import LoadError, NoRoomError

DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(bfloat16)": "BF16",
    "tensor(string)": "BYTES",
}
ODD_ONES: Final[Mapping[str, int | str]] = {"BYTES": "1", "BF16": 0x3F80}
SILENT: Final = 4
MAX_TEXT: Final = 300

_RUNTIME_PREFIX: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_PATHS: Final = re.compile(r"\S*/\S+/\S*")
_NO_MEMORY: Final = ("bad_alloc", "Failed to allocate memory")


class OnnxSession:
    """One ONNX Runtime session over a file's bytes. `run` may be called from several threads at once."""

    def __init__(self, model: bytes) -> None:
        """Load, or raise LoadError: the runtime's reason, or the input or output that cannot be served.

        Of it NoRoomError where the runtime gets no memory.
        """
        options = onnxruntime.SessionOptions()
        # A run belongs to one thread: forests of more than 80 trees would run a single row in parallel, and
        # threads that spin would take the processor from the strategies next door.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = SILENT
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - the runtime raises kinds that share no base of their own
            if lacks_memory(error):
                raise NoRoomError("the system gives ONNX Runtime no memory to load it") from None
            raise LoadError(f"ONNX Runtime does not load it: {plain(error)}") from None
        self.inputs: Final = tuple(_spec("input", node) for node in self._session.get_inputs())
        self.outputs: Final = tuple(_spec("output", node) for node in self._session.get_outputs())
        self.metadata: Final[Mapping[str, str]] = self._session.get_modelmeta().custom_metadata_map
        self._takes_bf16 = _has(self.inputs, "BF16")
        self._gives_bf16 = frozenset(spec.name for spec in self.outputs if spec.datatype == "BF16")
        if self._gives_bf16 and _has(self.inputs, "BYTES"):
            raise LoadError(
                "it takes BYTES and gives BF16; ONNX Runtime's Python binding does one or the other"
            )
        self._names = tuple(spec.name for spec in self.outputs)
        self.bound: BoundRow | None = None

    def bind_row(self, row: Mapping[str, Array]) -> None:
        """Bind buffers for single rows, of which `row` is one, where that can be had."""
        if len(row) == 1:
            [sample] = row.values()
            self.bound = BoundRow.of(self._session, self.inputs, self.outputs, sample)

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], abort: Abort | None = None
    ) -> list[Array]:
        """Answer one array for each output named; texts are `str` in object arrays, in and out.

        Raises InvalidRequestError where the model refuses the values or sizes, and AbortedError where `abort`
        stopped it: the runtime looks between two nodes and at each turn of a loop, never within a node. The
        session is as good as before, and its other runs go on.
        """
        answer: list[Array] | None = None
        if self.bound is not None and abort is None and outputs == self._names:
            answer = self.bound.run(inputs[self.inputs[0].name])
            if answer is not None:
                return answer
        options = None if abort is None else _stopped_by(abort)
        feeds = bf16_wrapped(inputs) if self._takes_bf16 else inputs
        try:
            if not self._gives_bf16 or self._gives_bf16.isdisjoint(outputs):
                answer = self._session.run(outputs, feeds, options)
            else:
                values = self._session.run_with_ort_values(outputs, all_wrapped(feeds), options)
                answer = unwrapped(values)
        except ort_errors.InvalidArgument as error:
            raise InvalidRequestError(f"the model refuses these inputs: {plain(error)}") from None
        except ort_errors.Fail:  # its kind for many failures, this one among them
            if abort is not None and abort.aborted:
                raise AbortedError from None
            raise
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                "the model's answer to these inputs cannot be given: expected text in UTF-8, came bytes that "
                f"are none ({error.reason})"
            ) from None
        return answer


def sample_inputs(specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Return one row of ones for each input; sizes that vary are 1."""
    sample: dict[str, Array] = {}
    for spec in specs:
        one = ODD_ONES.get(spec.datatype, 1)
        sample[spec.name] = np.full(spec.one_row, one, NUMPY_DTYPES[spec.datatype])
    return sample


def lacks_memory(error: Exception) -> bool:
    """Tell whether the runtime failed for want of memory, which it says in the text only."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def plain(error: Exception) -> str:
    """Return the runtime's text on one line, without its prefix, paths of its build or surplus length."""
    text = _RUNTIME_PREFIX.sub("", " ".join(str(error).split()))
    return _PATHS.sub("…", text)[:MAX_TEXT]


def _has(specs: Sequence[TensorSpec], datatype: str) -> bool:
    return any(spec.datatype == datatype for spec in specs)


def _stopped_by(abort: Abort) -> onnxruntime.RunOptions:
    options = onnxruntime.RunOptions()

    def stop() -> None:
        options.terminate = True

    abort.on_abort(stop)
    return options


def _spec(role: str, node: Any) -> TensorSpec:
    datatype = DATATYPES.get(node.type)
    if datatype is None:
        hint = "; export the classifier without zipmap" if node.type.startswith("seq(map(") else ""
        raise LoadError(f"{role} {node.name!r} is of type {node.type}, which cannot be served{hint}")
    sizes = (size if isinstance(size, int) and size >= 0 else VARIABLE for size in node.shape or ())
    return TensorSpec(node.name, datatype, tuple(sizes))
