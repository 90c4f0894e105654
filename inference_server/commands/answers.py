"""What a sidecar answered to rows of features, as columns of a CSV file."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.caller import output_array

# Which model bytes a row is answered by stands beside it: a file may be replaced while a table is asked.
PROOF: Final = ("version", "digest")


def columns(result: wire.PartResult, contract: wire.Contract) -> list[str]:
    """Return the header: an output's name, or NAME[CLASS] for each class, then what proves the answer."""
    classes = {output.name: list(output.classes) for output in contract.outputs}
    names: list[str] = []
    for tensor in result.outputs:
        width = _width(tensor.shape)
        if width == 1:
            names.append(tensor.name)
        else:
            known = classes.get(tensor.name, [])
            parts = known if len(known) == width else list(map(str, range(width)))
            names += [f"{tensor.name}[{part}]" for part in parts]
    return [*names, *PROOF]


def lines(result: wire.PartResult) -> list[list[str]]:
    """Return the cells of each row; a number is written so that reading it gives the same."""
    rows = result.outputs[0].shape[0]
    outputs = [output_array(tensor).reshape(rows, -1).astype(str).tolist() for tensor in result.outputs]
    proof = [str(result.version), result.digest]
    return [[cell for output in outputs for cell in output[row]] + proof for row in range(rows)]


def _width(shape: Sequence[int]) -> int:
    return int(np.prod(shape[1:], dtype=np.int64))
