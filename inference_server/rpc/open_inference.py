"""`inference.GRPCInferenceService`: the Open Inference Protocol, for clients that exist already.

Here is what answers requests. What tells of models is in `rpc.inspection` and `rpc.model_statistics`, what
loads them in `rpc.repository`, and shared memory in `rpc.shared_memory`.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from open_inference.v2 import inference_pb2 as oip

from inference_server.core.clock import Clock
from inference_server.core.errors import ServingError
from inference_server.rpc.accounting import Account, Accounting
from inference_server.rpc.codec import (
    MAX_ID_CHARACTERS,
    check_id,
    check_tensors,
    decode_inputs,
    encode_raw,
    encoded_view,
)
from inference_server.rpc.guard import status_for
from inference_server.rpc.infer_responses import InferResponses
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.rpc.parameters import read_timeout_us
from inference_server.rpc.row_forms import RowForms
from inference_server.rpc.shared_tensors import SharedTensors, Window
from inference_server.rpc.tracing import traced_message
from inference_server.rpc.version import parse_version
from inference_server.serving.data_plane import Answer, Call, DataPlane
from inference_server.serving.signature import shown

SERVICE: Final = "inference.GRPCInferenceService"
# Said of every answer on a stream, for clients that wait for it where a model may answer more than once.
FINAL: Final = "triton_final_response"


class OpenInference:
    """The functions that answer requests."""

    def __init__(
        self,
        data_plane: DataPlane,
        clock: Clock,
        accounting: Accounting,
        shared: SharedTensors,
    ) -> None:
        self._data_plane = data_plane
        self._clock = clock
        self._accounting = accounting
        self._shared = shared
        self._responses = InferResponses()
        self._forms = RowForms()

    def methods(self) -> list[Method]:
        """Return the service's rows of the method table."""
        return [
            Method(
                f"/{SERVICE}/ModelInfer",
                oip.ModelInferRequest,
                oip.ModelInferResponse,
                Group.PREDICT,
                unary=self.model_infer,
                counts_expired=True,
            ),
            Method(
                f"/{SERVICE}/ModelStreamInfer",
                oip.ModelInferRequest,
                oip.ModelStreamInferResponse,
                Group.PREDICT,
                each=self.model_stream_infer,
            ),
        ]

    async def model_infer(self, request: oip.ModelInferRequest, call: CallContext) -> oip.ModelInferResponse:
        """Answer one request for one model."""
        account = self._accounting.open(call.deadline_ns, call.trace)
        try:
            call.check_deadline(account.received_ns)
            return self._infer_row(request, call, account) or await self._infer(request, call, account)
        except BaseException as error:
            account.failed(request.model_name, error)
            raise

    def model_stream_infer(
        self, call: CallContext
    ) -> AbstractContextManager[Callable[[oip.ModelInferRequest], Awaitable[oip.ModelStreamInferResponse]]]:
        """Answer the stream's requests one after another, in order; an error stays in-band.

        In order, because clients that exist may send no ids.
        """

        async def answer(request: oip.ModelInferRequest) -> oip.ModelStreamInferResponse:
            response = oip.ModelStreamInferResponse()
            try:
                with traced_message(call) as message:
                    response.infer_response.CopyFrom(await self.model_infer(request, message))
            except Exception as error:  # noqa: BLE001 - the edge of one request; `status_for` logs bugs
                id_, name, version = (
                    text[:MAX_ID_CHARACTERS]
                    for text in (request.id, request.model_name, request.model_version)
                )
                status = status_for(error, f"/{SERVICE}/ModelStreamInfer", f"{call.request_id}/{shown(id_)}")
                response.error_message = status.text
                response.infer_response.id = id_
                response.infer_response.model_name = name
                response.infer_response.model_version = version
            response.infer_response.parameters[FINAL].bool_param = True
            return response

        return nullcontext(answer)

    def _infer_row(
        self, request: oip.ModelInferRequest, call: CallContext, account: Account
    ) -> oip.ModelInferResponse | None:
        """Answer one row in a form that is known, at once; None where `_infer` is to see what is special."""
        known = self._forms.find(request)
        if known is None:
            return None
        form, row = known
        deadline_ns = self._deadline_ns(form.timeout_us, call)
        decoded_ns = self._clock.monotonic_ns()
        answer = self._data_plane.answer_row(form.model, form.version, "", row, deadline_ns, names=form.names)
        if answer is None:
            return None
        if isinstance(answer, ServingError):
            try:
                raise answer
            finally:
                del answer  # its traceback holds this frame, and so the request, too
        response = self._responses.begin(request.id, answer)
        response.raw_output_contents.extend(answer.values)
        encoded_ns = self._clock.monotonic_ns()
        account.answered([answer], decoded_ns - account.received_ns, encoded_ns - answer.ended_ns)
        return response

    async def _infer(
        self, request: oip.ModelInferRequest, call: CallContext, account: Account
    ) -> oip.ModelInferResponse:
        check_id(request.id)
        check_tensors(request)
        timeout_us = read_timeout_us(request)
        deadline_ns = self._deadline_ns(timeout_us, call)
        # Before decoding: a short message may have much copied out of shared memory.
        self._data_plane.check_room(request.model_name)
        windows = self._shared.find_outputs(request)
        elsewhere = self._shared.read_inputs(request)
        decoded = Call(
            model=request.model_name,
            version=parse_version(request.model_version),
            inputs=decode_inputs(request, elsewhere),
            outputs=tuple(output.name for output in request.outputs),
        )
        decoded_ns = self._clock.monotonic_ns()
        [answer] = await self._data_plane.answer([decoded], deadline_ns)
        if isinstance(answer, ServingError):
            try:
                raise answer
            finally:
                del answer  # its traceback holds this frame, and so the request, too
        answered_ns = self._clock.monotonic_ns()
        try:
            response = self._encode(request, answer, windows)
        except ServingError as error:
            error.version = answer.servable.id.version
            raise
        encoded_ns = self._clock.monotonic_ns()
        account.answered([answer], decoded_ns - account.received_ns, encoded_ns - answered_ns)
        if not windows and not elsewhere:
            self._forms.keep(request, decoded, timeout_us)
        return response

    def _encode(
        self, request: oip.ModelInferRequest, answer: Answer, windows: Mapping[str, Window]
    ) -> oip.ModelInferResponse:
        response = self._responses.begin(request.id, answer)
        contents = response.raw_output_contents
        if not windows:
            contents.extend(map(encode_raw, answer.arrays))
            return response
        shared: list[tuple[str, Window, bytes | memoryview]] = []
        for output, array in zip(response.outputs, answer.arrays, strict=True):
            window = windows.get(output.name)
            if window is None:
                contents.append(encode_raw(array))
                continue
            content = encoded_view(array)
            shared.append((output.name, window, content))
            window.name(output.parameters, len(content))
            contents.append(b"")  # clients find an output's entry by its place
        self._shared.write_outputs(shared)
        return response

    def _deadline_ns(self, timeout_us: int, call: CallContext) -> int | None:
        if timeout_us == 0:
            return call.deadline_ns
        own = self._clock.monotonic_ns() + timeout_us * 1000
        return own if call.deadline_ns is None else min(own, call.deadline_ns)
