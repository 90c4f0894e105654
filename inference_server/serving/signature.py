"""What a servable takes and gives, and the check of a call against it.

The codec has checked the wire form (sizes, encodings); the meaning is checked here and nowhere else. Each
text says what was expected and what came.
"""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from inference_server.core.contract import NanPolicy
from inference_server.core.errors import ContractMismatchError, InvalidRequestError, Reason
from inference_server.core.servable import Servable
from inference_server.core.tensor import NUMPY_DTYPES, VARIABLE, Array, TensorSpec

SHOWN_CHARACTERS: Final = 128
LISTED_NAMES: Final = 8
FLOAT32: Final = NUMPY_DTYPES["FP32"]


def shown(name: str) -> str:
    """Quote a name that a caller or a file chose: control characters escaped, 131 at most."""
    quoted = repr(name[:SHOWN_CHARACTERS])
    if len(name) <= SHOWN_CHARACTERS and len(quoted) <= SHOWN_CHARACTERS + 2:
        return quoted
    # Escaped, a character may take ten.
    return f"{quoted[: SHOWN_CHARACTERS + 1]}…{quoted[0]}"


class RowNames(NamedTuple):
    """By which name a row is given, and which outputs are asked for by name; none: all."""

    given: str
    outputs: tuple[str, ...]


class Signature:
    """A servable's inputs, outputs and contract, arranged once so that checking a call is cheap."""

    def __init__(self, servable: Servable) -> None:
        contract = servable.contract
        self.contract_hash: Final = contract.hash if contract else ""
        self._title = f"model {shown(str(servable.id))}"
        self._inputs = {spec.name: (spec, NUMPY_DTYPES[spec.datatype]) for spec in servable.inputs}
        self._only_input = servable.inputs[0].name if len(servable.inputs) == 1 else None
        self._outputs = {spec.name: spec for spec in servable.outputs}
        self._all_outputs = (tuple(self._outputs), servable.outputs)
        self._nan_policy = contract.nan_policy if contract else None
        self._feature_names = contract.feature_names if contract else ()
        # The shape of each input that was accepted last: the next one is most often of the same.
        self._accepted: dict[str, tuple[int, ...]] = {}
        self._row_bytes = _row_bytes(servable.inputs)
        self.output_rows: Final = tuple(spec.one_row for spec in servable.outputs)

    def takes_row(self, contract_hash: str, row: bytes, names: RowNames | None = None) -> bool:
        """Whether all that the three checks below ask holds for one row of float32 and all outputs, in order.

        False where NaN is left to the policy, too: whatever is not plain is theirs to judge. Without `names`
        the row is for the only input.
        """
        if len(row) != self._row_bytes or contract_hash not in ("", self.contract_hash):
            return False
        if names is not None and (
            names.given != self._only_input or names.outputs not in ((), self._all_outputs[0])
        ):
            return False
        values = np.frombuffer(row, FLOAT32)
        return math.isfinite(np.vdot(values, values))  # as in `_check_finite`

    def check_contract(self, asked: str) -> None:
        """Raise ContractMismatchError when a contract is asked for and it is not this one."""
        if asked and asked != self.contract_hash:
            served = self.contract_hash or "none (the model is unverified)"
            raise ContractMismatchError(
                f"{self._title}: the contract asked for is {shown(asked)}, the one served is {served}"
            )

    def check_outputs(self, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[TensorSpec, ...]]:
        """Return the names and specs of the outputs asked for; all of them when none is named."""
        if not names:
            return self._all_outputs
        unknown = [name for name in names if name not in self._outputs]
        if unknown:
            raise InvalidRequestError(
                f"{self._title} has no output {shown(unknown[0])}; expected some of {_listed(self._outputs)}"
            )
        if len(set(names)) != len(names):
            twice, count = Counter(names).most_common(1)[0]
            raise InvalidRequestError(
                f"{self._title}: expected each output once, came {shown(twice)} {count} times"
            )
        return tuple(names), tuple(self._outputs[name] for name in names)

    def check_inputs(self, inputs: Mapping[str, Array] | Array) -> Mapping[str, Array]:
        """Return the inputs by name, or raise InvalidRequestError.

        An array alone stands for the only input. Every input of the signature must be there and no other,
        with its dtype, rank and fixed sizes, and with no size of 0. A model with a contract takes no
        infinity, and NaN only under `NanPolicy.ACCEPT`; an unverified model takes what its file takes.
        """
        if isinstance(inputs, np.ndarray):
            if self._only_input is None:
                raise InvalidRequestError(
                    f"{self._title} takes {len(self._inputs)} inputs ({_listed(self._inputs)}): "
                    "expected each by its name, came one array"
                )
            inputs = {self._only_input: inputs}
        elif inputs.keys() != self._inputs.keys():
            raise InvalidRequestError(self._wrong_names(inputs))
        for name, array in inputs.items():
            spec, dtype = self._inputs[name]
            if array.dtype != dtype:
                raise InvalidRequestError(
                    f"{self._title}: input {shown(name)}: expected {spec.datatype}, came {_datatype(array)}"
                )
            if array.shape != self._accepted.get(name):
                self._check_shape(spec, array.shape)
                self._accepted[name] = array.shape
            if self._nan_policy is not None and dtype.kind == "f":
                self._check_finite(array, self._nan_policy)
        return inputs

    def _check_shape(self, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        if not spec.accepts(shape):
            raise InvalidRequestError(
                f"{self._title}: input {shown(spec.name)}: expected shape {_sizes(spec.shape)}, "
                f"came shape {_sizes(shape)}"
            )
        if 0 in shape:
            raise InvalidRequestError(
                f"{self._title}: input {shown(spec.name)}: expected at least one row and no size of 0, "
                f"came shape {_sizes(shape)}"
            )

    def _check_finite(self, array: Array, policy: NanPolicy) -> None:
        # The squared length is finite only if every element is. It is twice as quick as isfinite on a
        # row; where it overflows, the exact check below decides.
        if math.isfinite(np.vdot(array, array)):
            return
        bad = np.isinf(array) if policy is NanPolicy.ACCEPT else ~np.isfinite(array)
        if not bad.any():
            return
        row, column = (int(index) for index in np.argwhere(bad)[0])
        takes = "finite numbers and NaN" if policy is NanPolicy.ACCEPT else "finite numbers only"
        raise InvalidRequestError(
            f"{self._title}: feature {shown(self._feature_names[column])} in row {row}: expected {takes}, "
            f"which is the contract's policy, came {array[row, column]}",
            Reason.NON_FINITE,
        )

    def _wrong_names(self, inputs: Mapping[str, Array]) -> str:
        unknown = [name for name in inputs if name not in self._inputs]
        missing = [name for name in self._inputs if name not in inputs]
        came = f"has no input {shown(unknown[0])}" if unknown else f"misses input {shown(missing[0])}"
        return f"{self._title} {came}; expected exactly {_listed(self._inputs)}"


def _listed(names: Mapping[str, object]) -> str:
    listed = ", ".join(shown(name) for name in itertools.islice(names, LISTED_NAMES)) or "none"
    return listed if len(names) <= LISTED_NAMES else f"{listed} and {len(names) - LISTED_NAMES} more"


def _row_bytes(inputs: Sequence[TensorSpec]) -> int:
    """Return how many bytes one row of float32 has; -1 where there is no such row."""
    if len(inputs) != 1 or inputs[0].datatype != "FP32" or len(inputs[0].shape) != 2:
        return -1
    rows, columns = inputs[0].shape
    return columns * FLOAT32.itemsize if rows in (VARIABLE, 1) and columns > 0 else -1


def _sizes(shape: Sequence[int]) -> str:
    return f"[{', '.join('?' if size == VARIABLE else str(size) for size in shape)}]"


def _datatype(array: Array) -> str:
    return next((name for name, dtype in NUMPY_DTYPES.items() if dtype == array.dtype), str(array.dtype))
