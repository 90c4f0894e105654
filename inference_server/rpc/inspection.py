"""What the Open Inference Protocol tells of the server and of a model: readiness, metadata, configuration."""

import functools
from typing import Final

from google.protobuf.message import Message
from open_inference.v2 import inference_pb2 as oip

from inference_server.core.errors import NotFoundError
from inference_server.core.servable import State, VersionStatus
from inference_server.core.tensor import TensorSpec
from inference_server.rpc.method import CallContext, Group, Method, Unary
from inference_server.rpc.open_inference import SERVICE
from inference_server.rpc.version import parse_version
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry
from inference_server.serving.signature import shown

PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"
# Those whose RPCs are in `rpc.repository` and `rpc.model_statistics`, and in `rpc.shared_memory`.
EXTENSIONS: Final = ("model_configuration", "model_repository", "statistics")
SHARED_MEMORY: Final = "system_shared_memory"

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


class Inspection:
    """The functions."""

    def __init__(self, registry: Registry, drain: Drain, *, shared_memory: bool) -> None:
        self._registry = registry
        self._drain = drain
        self._extensions = (*EXTENSIONS, SHARED_MEMORY) if shared_memory else EXTENSIONS

    def methods(self) -> list[Method]:
        """Return their rows of the method table."""
        opened: list[tuple[str, type[Message], type[Message], Unary]] = [
            ("ServerLive", oip.ServerLiveRequest, oip.ServerLiveResponse, self.server_live),
            ("ServerReady", oip.ServerReadyRequest, oip.ServerReadyResponse, self.server_ready),
            ("ModelReady", oip.ModelReadyRequest, oip.ModelReadyResponse, self.model_ready),
            ("ServerMetadata", oip.ServerMetadataRequest, oip.ServerMetadataResponse, self.server_metadata),
        ]
        reading: list[tuple[str, type[Message], type[Message], Unary]] = [
            ("ModelMetadata", oip.ModelMetadataRequest, oip.ModelMetadataResponse, self.model_metadata),
            ("ModelConfig", oip.ModelConfigRequest, oip.ModelConfigResponse, self.model_config),
        ]
        return [
            Method(f"/{SERVICE}/{name}", request, response, group, unary=function)
            for group, rows in ((Group.OPEN, opened), (Group.PREDICT, reading))
            for name, request, response, function in rows
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
        return oip.ServerMetadataResponse(name="tickserve", version=_release(), extensions=self._extensions)

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

    def _available(self, name: str, version: str) -> VersionStatus:
        """Return the status of the version that such a call would get; raise as the call would."""
        wanted = self._registry.resolve(name, parse_version(version)).servable.id
        for model in self._registry.describe([name]):
            for status in model.versions:
                if status.id == wanted:
                    return status
        raise NotFoundError(f"model {shown(name)}: version {wanted.version} is gone")


def _encode_spec(spec: TensorSpec) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


@functools.cache
def _release() -> str:
    import importlib.metadata  # noqa: PLC0415 - it brings a parser of e-mail, for which no start waits

    return importlib.metadata.version("tickserve")
