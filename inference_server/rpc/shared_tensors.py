"""Tensors that lie in shared memory instead of in the message: where a request says so, read and written.

Everything here happens on the event loop's thread with no await in between, so a region that was looked up
is still there when it is read or written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from open_inference.v2 import inference_pb2 as oip

from inference_server.adapters.shared_memory import Region, SharedMemory
from inference_server.core.errors import InvalidRequestError
from inference_server.serving.signature import shown

REGION: Final = "shared_memory_region"
BYTE_SIZE: Final = "shared_memory_byte_size"
OFFSET: Final = "shared_memory_offset"

Parameters = Mapping[str, oip.InferParameter]


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes of a region, `offset` from its start; looked up when the call came."""

    region: Region
    offset: int
    byte_size: int

    def name(self, parameters: Parameters, byte_size: int) -> None:
        """Say in the parameters of an output that it lies here, and how long it is."""
        parameters[REGION].string_param = self.region.name
        parameters[BYTE_SIZE].int64_param = byte_size
        parameters[OFFSET].int64_param = self.offset


class SharedTensors:
    """Reads and writes the tensors of calls. Without `memory`, a tensor in a region is refused."""

    def __init__(self, memory: SharedMemory | None) -> None:
        self._memory = memory

    def read_inputs(self, request: oip.ModelInferRequest) -> dict[int, bytes]:
        """Return a copy of each input that lies in a region, by its place in `inputs`.

        Raises InvalidRequestError for parameters that are wrong, regions that are not there, windows that are
        out of bounds, and more bytes together than a region may have: a short message must not make the
        server copy without end.
        """
        found: dict[int, bytes] = {}
        left = self._memory.options.max_region_bytes if self._memory is not None else 0
        for index, tensor in enumerate(request.inputs):
            if REGION not in tensor.parameters:
                continue
            window = self._window("input", tensor.name, tensor.parameters)
            left -= window.byte_size
            if left < 0:
                raise InvalidRequestError(
                    "the inputs in shared memory are together longer than a region may be"
                )
            found[index] = window.region.read(window.offset, window.byte_size)
        return found

    def find_outputs(self, request: oip.ModelInferRequest) -> dict[str, Window]:
        """Return where outputs are to go that are asked for in a region, by name; raises as `read_inputs`."""
        windows: dict[str, Window] = {}
        for tensor in request.outputs:
            if REGION in tensor.parameters:
                windows[tensor.name] = self._window("output", tensor.name, tensor.parameters)
        return windows

    def write_outputs(self, outputs: Sequence[tuple[str, Window, bytes | memoryview]]) -> None:
        """Write each output into its window: all of them, or none where one is too long or has no region.

        A region that was unregistered or unlinked while the model ran is not written to.
        """
        for name, window, content in outputs:
            if len(content) > window.byte_size:
                raise InvalidRequestError(
                    f"output {shown(name)} takes {len(content)} bytes; {BYTE_SIZE} says {window.byte_size}"
                )
            if self._region(window.region.name) is not window.region:
                raise InvalidRequestError(
                    f"output {shown(name)}: region {shown(window.region.name)} was registered anew meanwhile"
                )
        for _, window, content in outputs:
            window.region.write(window.offset, content)

    def _window(self, role: str, name: str, parameters: Parameters) -> Window:
        where = f"{role} {shown(name)}"
        region = parameters[REGION]
        if region.WhichOneof("parameter_choice") != "string_param":
            raise InvalidRequestError(f"{where}: expected {REGION} as string_param")
        if BYTE_SIZE not in parameters:
            raise InvalidRequestError(f"{where}: expected {BYTE_SIZE} beside {REGION}")
        window = Window(
            self._region(region.string_param),
            _integer(where, OFFSET, parameters) if OFFSET in parameters else 0,
            _integer(where, BYTE_SIZE, parameters),
        )
        window.region.check_window(window.offset, window.byte_size)
        return window

    def _region(self, name: str) -> Region:
        if self._memory is None:
            raise InvalidRequestError(f"{REGION}: system shared memory is off on this server")
        return self._memory.region(name)


def _integer(where: str, name: str, parameters: Parameters) -> int:
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in {"int64_param", "uint64_param"}:
        raise InvalidRequestError(f"{where}: expected {name} as int64_param, came {kind or 'none'}")
    return parameter.int64_param if kind == "int64_param" else parameter.uint64_param
