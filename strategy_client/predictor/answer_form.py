"""What the bytes of an answer say apart from its values: the next one is read by comparing them.

A field of a message of protobuf's takes as long to ask for as reading all values of a row.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.port import Prediction

INVERTED: Final = bytes(range(255, -1, -1))


class AnswerForm:
    """The form of an answer whose outputs are numbers.

    `head` is what stands before its bytes in a response; both have `size` bytes.
    """

    __slots__ = ("_around", "_last", "_values", "head", "size")

    def __init__(self, part: pb.PartResult, read: Prediction) -> None:
        """Take the form of an answer, and of what was read of it field by field."""
        written = _in_response(part)
        other = pb.PartResult()
        other.CopyFrom(part)
        for tensor in other.outputs:
            tensor.raw = tensor.raw.translate(INVERTED)
        # They differ in each byte of a value, and nowhere else.
        places = np.flatnonzero(written != _in_response(other)).tolist()
        self._last = read
        self.size = len(written)
        self.head = written[: self.size - part.ByteSize()].tobytes()
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

    def read(self, message: bytes, begin: int = 0) -> Prediction | None:
        """Read what stands in a response from there on; None where it is of another form."""
        for start, content in self._around:
            if not message.startswith(content, begin + start):
                return None
        outputs = {
            name: np.ndarray(shape, dtype, message, begin + start)
            for name, shape, dtype, start in self._values
        }
        last = self._last
        return Prediction(last.model, last.version, last.digest, last.contract_hash, outputs)


def _in_response(part: pb.PartResult) -> NDArray[np.uint8]:
    return np.frombuffer(pb.PredictResponse(parts=[part]).SerializeToString(), np.uint8)
