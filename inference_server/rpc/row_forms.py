"""Requests for one row, known by their bytes.

Asking a message of protobuf's for its fields, one by one, and checking each takes longer than a small model's
run. Most requests differ from one before in the id and the values only, so what was read of that one holds.
"""

from typing import Final, NamedTuple

from open_inference.v2 import inference_pb2 as oip

from inference_server.rpc.codec import MAX_ID_CHARACTERS
from inference_server.serving.data_plane import Call
from inference_server.serving.registry import Which
from inference_server.serving.signature import RowNames

MAX_FORMS: Final = 256
MAX_FORM_BYTES: Final = 1 << 12
MAX_ROW_BYTES: Final = 1 << 16
FLOAT32: Final = "FP32"


class RowForm(NamedTuple):
    """What requests of one form ask but for the row; `timeout_us` 0: they set no limit."""

    model: str
    version: Which
    names: RowNames
    timeout_us: int


class RowForms:
    """The forms of requests that were answered: one raw row of float32 each, and nothing in shared memory."""

    def __init__(self) -> None:
        self._forms: dict[bytes, RowForm] = {}

    def __repr__(self) -> str:
        return f"<{len(self._forms)} RowForms>"

    def find(self, request: oip.ModelInferRequest) -> tuple[RowForm, bytes] | None:
        """Return the request's form and its row; None for one whose form is not known, or that has none."""
        contents = request.raw_input_contents
        if len(contents) != 1 or not 0 < len(row := contents[0]) <= MAX_ROW_BYTES:
            return None
        form = self._forms.get(_without_id(request)[: -len(row)])
        return None if form is None else (form, row)

    def keep(self, request: oip.ModelInferRequest, call: Call, timeout_us: int) -> None:
        """Keep the form of a request that was read as this call, and answered; nothing where it has none.

        The caller sees to it that no tensor of it is in shared memory.
        """
        contents = request.raw_input_contents
        if len(contents) != 1 or len(request.inputs) != 1 or not 0 < len(contents[0]) <= MAX_ROW_BYTES:
            return
        [tensor] = request.inputs
        if tensor.datatype != FLOAT32 or len(tensor.shape) != 2 or tensor.shape[0] != 1:
            return
        written = _without_id(request)
        if not written.endswith(contents[0]) or len(written) > MAX_FORM_BYTES + len(contents[0]):
            return  # what is not known of a message is written after all that is
        if len(self._forms) >= MAX_FORMS:
            self._forms.clear()
        form = RowForm(call.model, call.version, RowNames(tensor.name, call.outputs), timeout_us)
        self._forms[written[: -len(contents[0])]] = form


def _without_id(request: oip.ModelInferRequest) -> bytes:
    """Return the request's bytes without its id; none where the id is longer than it may be.

    Fields are written by their numbers, so that the id follows name and version, and the row ends it all.
    """
    id_ = request.id
    if len(id_) > MAX_ID_CHARACTERS:
        return b""
    written = request.SerializeToString()
    if not id_:
        return written
    before = oip.ModelInferRequest(model_name=request.model_name, model_version=request.model_version)
    without = before.SerializeToString()
    before.id = id_
    until_id = before.SerializeToString()
    return without + written[len(until_id) :] if written.startswith(until_id) else b""
