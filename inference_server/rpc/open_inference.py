"""`inference.GRPCInferenceService`: the Open Inference Protocol, for clients that exist already."""

import importlib.metadata
from collections.abc import AsyncIterator
from typing import Any, Final

from google.protobuf.message import Message
from open_inference.v2 import inference_pb2 as oip

from inference_server.core.clock import Clock
from inference_server.core.errors import InvalidRequestError, NotFoundError
from inference_server.core.servable import State, VersionStatus
from inference_server.core.tensor import TensorSpec
from inference_server.rpc.codec import decode_inputs, encode_raw
from inference_server.rpc.concurrent import answer_concurrently
from inference_server.rpc.guard import status_for
from inference_server.rpc.method import CallContext, Method
from inference_server.rpc.version import parse_version
from inference_server.serving.data_plane import Answer, Call, DataPlane
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry

SERVICE: Final = "inference.GRPCInferenceService"
PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"
# The second one's RPCs are in `rpc.repository`.
EXTENSIONS: Final = ("model_configuration", "model_repository")

CONFIG_TYPES: Final = {
    "BYTES": oip.TYPE_STRING,
    "BOOL": oip.TYPE_BOOL,
    "UINT8": oip.TYPE_UINT8,
    "UINT16": oip.TYPE_UINT16,
    "UINT32": oip.TYPE_UINT32,
    "UINT64": oip.TYPE_UINT64,
    "INT8": oip.TYPE_INT8,
    "INT16": oip.TYPE_INT16,
    "INT32": oip.TYPE_INT32,
    "INT64": oip.TYPE_INT64,
    "FP16": oip.TYPE_FP16,
    "FP32": oip.TYPE_FP32,
    "FP64": oip.TYPE_FP64,
    "BF16": oip.TYPE_BF16,
}


class OpenInference:
    """The service's functions."""

    def __init__(self, data_plane: DataPlane, registry: Registry, clock: Clock, drain: Drain) -> None:
        self._data_plane = data_plane
        self._registry = registry
        self._clock = clock
        self._drain = drain

    def methods(self) -> list[Method]:
        """Return the service's rows of the method table."""
        unary: list[tuple[str, type[Message], type[Message], Any]] = [
            ("ServerLive", oip.ServerLiveRequest, oip.ServerLiveResponse, self.server_live),
            ("ServerReady", oip.ServerReadyRequest, oip.ServerReadyResponse, self.server_ready),
            ("ModelReady", oip.ModelReadyRequest, oip.ModelReadyResponse, self.model_ready),
            ("ServerMetadata", oip.ServerMetadataRequest, oip.ServerMetadataResponse, self.server_metadata),
            ("ModelMetadata", oip.ModelMetadataRequest, oip.ModelMetadataResponse, self.model_metadata),
            ("ModelInfer", oip.ModelInferRequest, oip.ModelInferResponse, self.model_infer),
            ("ModelConfig", oip.ModelConfigRequest, oip.ModelConfigResponse, self.model_config),
        ]
        return [
            *(
                Method(f"/{SERVICE}/{name}", request, response, unary=function)
                for name, request, response, function in unary
            ),
            Method(
                f"/{SERVICE}/ModelStreamInfer",
                oip.ModelInferRequest,
                oip.ModelStreamInferResponse,
                bidirectional=self.model_stream_infer,
            ),
        ]

    async def server_live(self, request: oip.ServerLiveRequest, call: CallContext) -> oip.ServerLiveResponse:
        """Say that the process answers."""
        del request, call
        return oip.ServerLiveResponse(live=True)

    async def server_ready(
        self, request: oip.ServerReadyRequest, call: CallContext
    ) -> oip.ServerReadyResponse:
        """Say whether every required model is available."""
        del request, call
        return oip.ServerReadyResponse(ready=self._registry.ready() and not self._drain.begun)

    async def model_ready(self, request: oip.ModelReadyRequest, call: CallContext) -> oip.ModelReadyResponse:
        """Say whether this version, or any, is available; an unknown model is not ready."""
        del call
        version = parse_version(request.version)
        return oip.ModelReadyResponse(ready=self._registry.model_ready(request.name, version))

    async def server_metadata(
        self, request: oip.ServerMetadataRequest, call: CallContext
    ) -> oip.ServerMetadataResponse:
        """Say who answers."""
        del request, call
        return oip.ServerMetadataResponse(
            name="tickserve", version=importlib.metadata.version("tickserve"), extensions=EXTENSIONS
        )

    async def model_metadata(
        self, request: oip.ModelMetadataRequest, call: CallContext
    ) -> oip.ModelMetadataResponse:
        """Return the signature, the versions that answer, and where the version has one its contract."""
        del call
        status = self._available(request.name, request.version)
        properties = {"digest": status.digest}
        if status.contract is not None:
            properties["contract_hash"] = status.contract.hash
            properties["contract"] = status.contract.to_json()
        return oip.ModelMetadataResponse(
            name=request.name,
            versions=[
                str(version.id.version)
                for version in self._registry.describe([request.name])[0].versions
                if version.state is State.AVAILABLE
            ],
            platform=PLATFORM,
            inputs=[_encode_spec(spec) for spec in status.inputs],
            outputs=[_encode_spec(spec) for spec in status.outputs],
            properties=properties,
        )

    async def model_config(
        self, request: oip.ModelConfigRequest, call: CallContext
    ) -> oip.ModelConfigResponse:
        """Return the signature in Triton's words; there is no batching, so `dims` hold every dimension."""
        del call
        status = self._available(request.name, request.version)
        return oip.ModelConfigResponse(
            config=oip.ModelConfig(
                name=request.name,
                platform=PLATFORM,
                backend=BACKEND,
                max_batch_size=0,
                input=[
                    oip.ModelInput(name=spec.name, data_type=CONFIG_TYPES[spec.datatype], dims=spec.shape)
                    for spec in status.inputs
                ],
                output=[
                    oip.ModelOutput(name=spec.name, data_type=CONFIG_TYPES[spec.datatype], dims=spec.shape)
                    for spec in status.outputs
                ],
            )
        )

    async def model_infer(self, request: oip.ModelInferRequest, call: CallContext) -> oip.ModelInferResponse:
        """Answer one request for one model."""
        [answer] = await self._data_plane.answer(
            [
                Call(
                    model=request.model_name,
                    version=parse_version(request.model_version),
                    inputs=decode_inputs(request),
                    outputs=tuple(output.name for output in request.outputs),
                )
            ],
            self._deadline_ns(request, call),
        )
        if isinstance(answer, Exception):
            raise answer
        response = oip.ModelInferResponse(
            model_name=answer.servable.id.name,
            model_version=str(answer.servable.id.version),
            id=request.id,
        )
        _prove(response, answer)
        for spec, array in answer.outputs:
            response.outputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
            response.raw_output_contents.append(encode_raw(array))
        return response

    async def model_stream_infer(
        self, requests: AsyncIterator[oip.ModelInferRequest], call: CallContext
    ) -> AsyncIterator[oip.ModelStreamInferResponse]:
        """Answer the stream's requests one after another, in order; an error stays in-band.

        In order, because clients that exist may send no ids.
        """

        async def answer(request: oip.ModelInferRequest) -> oip.ModelStreamInferResponse:
            try:
                return oip.ModelStreamInferResponse(infer_response=await self.model_infer(request, call))
            except Exception as error:  # noqa: BLE001 - the edge of one request; `status_for` logs bugs
                status = status_for(error, f"/{SERVICE}/ModelStreamInfer", f"{call.request_id}/{request.id}")
                return oip.ModelStreamInferResponse(
                    error_message=status.text, infer_response=oip.ModelInferResponse(id=request.id)
                )

        async for response in answer_concurrently(requests, answer, 1, self._drain):
            yield response

    def _available(self, name: str, version: str) -> VersionStatus:
        """Return the status of the version that such a call would get; raise as the call would."""
        wanted = self._registry.resolve(name, parse_version(version)).servable.id
        for model in self._registry.describe([name]):
            for status in model.versions:
                if status.id == wanted:
                    return status
        raise NotFoundError(f"model {name!r}: version {wanted.version} is gone")

    def _deadline_ns(self, request: oip.ModelInferRequest, call: CallContext) -> int | None:
        if "timeout" not in request.parameters:
            return call.deadline_ns
        parameter = request.parameters["timeout"]
        kind = parameter.WhichOneof("parameter_choice")
        if kind not in ("int64_param", "uint64_param"):
            raise InvalidRequestError(
                f"parameter 'timeout': expected int64_param in microseconds, came {kind}"
            )
        timeout_us = parameter.int64_param if kind == "int64_param" else parameter.uint64_param
        if timeout_us <= 0:
            return call.deadline_ns
        own = self._clock.monotonic_ns() + timeout_us * 1000
        return own if call.deadline_ns is None else min(own, call.deadline_ns)


def _prove(response: oip.ModelInferResponse, answer: Answer) -> None:
    """Say which bytes answered and what vetting made of them."""
    servable, vetting, parameters = answer.servable, answer.vetting, response.parameters
    parameters["digest"].string_param = servable.digest
    if servable.contract is not None:
        parameters["contract_hash"].string_param = servable.contract.hash
    parameters["verified"].bool_param = vetting is not None and vetting.verified
    if vetting is not None:
        parameters["vetted_at_ns"].int64_param = vetting.vetted_at_ns


def _encode_spec(spec: TensorSpec) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
