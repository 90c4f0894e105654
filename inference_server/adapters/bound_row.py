"""One row through a session by buffers that stay where they are: ONNX Runtime's I/O binding.

A call of a session looks up its inputs and outputs by name and makes arrays for what comes out, which takes
as long as a small forest. Bound once, a run is a copy of bytes in, the run, and a copy out.
"""

import threading
from collections.abc import Sequence
from typing import Final, Self

import numpy as np
import onnxruntime

from inference_server.core.tensor import NUMPY_DTYPES, VARIABLE, Array, TensorSpec

UNBOUND: Final = frozenset({"BYTES", "BF16"})  # texts have no buffer, and numpy has no BF16


class BoundRow:
    """Runs rows of shape `shape`, one at a time."""

    __slots__ = ("_binding", "_bytes", "_outputs", "_row", "_run", "_running", "shape")

    def __init__(
        self, session: onnxruntime.InferenceSession, given: TensorSpec, outputs: Sequence[TensorSpec]
    ) -> None:
        self.shape: Final = given.one_row
        self._running = threading.Lock()
        self._row = np.zeros(self.shape, NUMPY_DTYPES[given.datatype])
        self._bytes = self._row.data.cast("B")
        self._outputs = [np.zeros(spec.one_row, NUMPY_DTYPES[spec.datatype]) for spec in outputs]
        binding = session.io_binding()
        binding.bind_cpu_input(given.name, self._row)
        for spec, buffer in zip(outputs, self._outputs, strict=True):
            binding.bind_output(spec.name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)
        # The function behind `session.run_with_iobinding`, which asks before each run whether it is one that
        # is to be captured on a GPU, and takes as long for it as ten trees.
        self._run = session._sess.run_with_iobinding  # noqa: SLF001
        self._binding = binding._iobinding  # noqa: SLF001

    @classmethod
    def of(
        cls,
        session: onnxruntime.InferenceSession,
        given: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        sample: Array,
    ) -> Self | None:
        """Bind a session with one input whose outputs have a size that follows from one row; else None.

        `sample` is one row that it takes. None too where the bound session does not answer it as the unbound
        one does, bit for bit: a file may give another shape than it says.
        """
        if len(given) != 1 or sample.shape != given[0].one_row:
            return None
        if any(spec.datatype in UNBOUND or VARIABLE in spec.shape[1:] for spec in (*given, *outputs)):
            return None
        if not all(spec.shape for spec in outputs):
            return None
        try:
            plain = session.run([spec.name for spec in outputs], {given[0].name: sample})
            bound = cls(session, given[0], outputs)
        except Exception:  # noqa: BLE001 - the runtime raises kinds that share no base; unbound it answered
            return None
        return bound if all(bound._answers(sample, plain, before) for before in (0x00, 0xFF)) else None

    def run(self, row: Array) -> list[Array] | None:
        """Answer an array for each output; None as `run_bytes`, and for what is not one row."""
        values = self.run_bytes(row.tobytes()) if row.shape == self.shape else None
        if values is None:
            return None
        return [
            np.frombuffer(value, buffer.dtype).reshape(buffer.shape)
            for value, buffer in zip(values, self._outputs, strict=True)
        ]

    def run_bytes(self, row: bytes) -> list[bytes] | None:
        """Answer the bytes of each output to those of a row.

        None where another thread runs it at this moment, and where it fails: its errors are not of the
        session's kinds, and an output whose size follows from values may not fit.
        """
        if not self._running.acquire(False):  # noqa: FBT003 - by its name it takes twice as long
            return None
        try:
            self._bytes[:] = row
            self._run(self._binding, None)
            return [buffer.tobytes() for buffer in self._outputs]
        except Exception:  # noqa: BLE001 - as above; unbound it says what is wrong, or answers
            return None
        finally:
            self._running.release()

    def _answers(self, row: Array, expected: Sequence[Array], before: int) -> bool:
        """Whether `row` gives these bits where each byte was `before`: an output may be left unwritten."""
        for buffer in self._outputs:
            buffer.view(np.uint8).fill(before)
        answer = self.run(row)
        return answer is not None and all(
            one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
            for one, other in zip(answer, expected, strict=True)
        )
