"""What the bytes of an answer say apart from its values: the next one is read by comparing them.

A field of a message of protobuf's takes as long to ask for as reading all values of a row.
"""

from typing import Any, Final

import numpy as np
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.port import Prediction

INVERTED: Final = bytes(range(255, -1, -1))


class AnswerForm:
    """The form of an answer whose outputs are numbers."""

    __slots__ = ("_around", "_last", "_size", "_values")

    def __init__(self, part: pb.PartResult, read: Prediction) -> None:
        """Take the form of an answer, and of what was read of it field by field."""
        written = np.frombuffer(part.SerializeToString(), np.uint8)
        other = pb.PartResult()
        other.CopyFrom(part)
        for tensor in other.outputs:
            tensor.raw = tensor.raw.translate(INVERTED)
        # They differ in each byte of a value, and nowhere else.
        places = np.flatnonzero(written != np.frombuffer(other.SerializeToString(), np.uint8)).tolist()
        self._last = read
        self._size = len(written)
        self._around: list[tuple[int, bytes]] = []
        self._values: list[tuple[str, tuple[int, ...], np.dtype[Any], int]] = []
        end = 0
        for name, array in read.outputs.items():
            start = places[0] if array.nbytes else end
            self._around.append((end, written[end:start].tobytes()))
            self._values.append((name, array.shape, array.dtype, start))
            end = start + array.nbytes
            del places[: array.nbytes]
        self._around.append((end, written[end:].tobytes()))

    @staticmethod
    def suits(part: pb.PartResult, read: Prediction) -> bool:
        """Whether an answer has such a form: no texts, whose length varies, and no name twice."""
        arrays = read.outputs.values()
        return len(arrays) == len(part.outputs) and not any(array.dtype.hasobject for array in arrays)

    def read(self, written: bytes) -> Prediction | None:
        """Read an answer's bytes; None where they are of another form."""
        if len(written) != self._size:
            return None
        for start, content in self._around:
            if not written.startswith(content, start):
                return None
        outputs = {
            name: np.ndarray(shape, dtype, written, start) for name, shape, dtype, start in self._values
        }
        last = self._last
        return Prediction(last.model, last.version, last.digest, last.contract_hash, outputs)
