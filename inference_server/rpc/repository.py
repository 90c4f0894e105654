"""The Open Inference Protocol's `model_repository` extension: what is there, and load and unload by call."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from open_inference.v2 import inference_pb2 as oip

from inference_server.core.contract import MAX_INT64
from inference_server.core.errors import InvalidRequestError
from inference_server.core.servable import ModelStatus, State, VersionStatus
from inference_server.rpc.inspection import BACKEND, PLATFORM
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.rpc.open_inference import SERVICE
from inference_server.serving.operator import Operator
from inference_server.serving.registry import Registry
from inference_server.serving.signature import shown

# Triton's words for the states, which its clients know.
INDEX_STATES: Final = {
    State.START: "LOADING",
    State.LOADING: "LOADING",
    State.AVAILABLE: "READY",
    State.UNLOADING: "UNLOADING",
    State.END: "UNAVAILABLE",
}
UPLOAD: Final = re.compile(r"file:([1-9][0-9]{0,18})/model\.onnx")
MAX_UPLOADS: Final = 16
MAX_CONFIG_CHARACTERS: Final = 65536

Parameters = Mapping[str, oip.ModelRepositoryParameter]


class Repository:
    """The extension's functions."""

    def __init__(self, registry: Registry, operator: Operator) -> None:
        self._registry = registry
        self._operator = operator

    def methods(self) -> list[Method]:
        """Return the extension's rows of the method table."""
        path = f"/{SERVICE}/Repository"
        return [
            Method(
                f"{path}Index",
                oip.RepositoryIndexRequest,
                oip.RepositoryIndexResponse,
                Group.PREDICT,
                unary=self.index,
            ),
            Method(
                f"{path}ModelLoad",
                oip.RepositoryModelLoadRequest,
                oip.RepositoryModelLoadResponse,
                Group.CONTROL,
                unary=self.load,
            ),
            Method(
                f"{path}ModelUnload",
                oip.RepositoryModelUnloadRequest,
                oip.RepositoryModelUnloadResponse,
                Group.CONTROL,
                unary=self.unload,
            ),
        ]

    async def index(
        self, request: oip.RepositoryIndexRequest, call: CallContext
    ) -> oip.RepositoryIndexResponse:
        """Return every version, with what proves it or why it does not answer.

        A model with no version at all has one entry with an empty version.
        """
        del call
        _check_repository(request.repository_name)
        index = oip.RepositoryIndexResponse()
        for model in self._registry.describe():
            for version in model.versions:
                if request.ready and version.state is not State.AVAILABLE:
                    continue
                index.models.add(
                    name=model.name,
                    version=str(version.id.version),
                    state=INDEX_STATES[version.state],
                    reason=_reason(model, version),
                )
            if not model.versions and not request.ready:
                index.models.add(name=model.name, state="UNAVAILABLE", reason=model.problem)
        return index

    async def load(
        self, request: oip.RepositoryModelLoadRequest, call: CallContext
    ) -> oip.RepositoryModelLoadResponse:
        """Load a model from what is uploaded with the call, or from the repository."""
        del call
        _check_repository(request.repository_name)
        uploads = _uploads(request.model_name, request.parameters)
        await self._operator.load(request.model_name, uploads)
        return oip.RepositoryModelLoadResponse()

    async def unload(
        self, request: oip.RepositoryModelUnloadRequest, call: CallContext
    ) -> oip.RepositoryModelUnloadResponse:
        """Take every version of a model out of service."""
        del call
        _check_repository(request.repository_name)
        for name, parameter in request.parameters.items():
            if name != "unload_dependents":
                raise InvalidRequestError(f"parameter {shown(name)}: expected none but unload_dependents")
            _check_kind(name, parameter, "bool_param")
        await self._operator.unload(request.model_name)
        return oip.RepositoryModelUnloadResponse()


def _check_repository(name: str) -> None:
    if name:
        raise InvalidRequestError(
            f"repository_name: expected none, there is one repository, came {shown(name)}"
        )


def _reason(model: ModelStatus, version: VersionStatus) -> str:
    if version.state is not State.AVAILABLE:
        return version.reason
    proof = _proof(version)
    if version.id.version == model.default_version and model.problem:
        return f"{model.problem}; serving {proof}"
    return proof


def _proof(version: VersionStatus) -> str:
    contract = f"contract {version.contract.hash}" if version.contract else "unverified"
    proof = f"digest {version.digest}, {contract}"
    if version.vetting is None:
        return proof
    vetted_at = datetime.fromtimestamp(version.vetting.vetted_at_ns // 10**9, UTC)
    return f"{proof}, vetted {vetted_at:%Y-%m-%dT%H:%M:%SZ}: {version.vetting.text}"


def _uploads(model: str, parameters: Parameters) -> dict[int, bytes]:
    """Return the uploaded files by version; InvalidRequestError for a parameter that would not be heeded."""
    uploads: dict[int, bytes] = {}
    for name, parameter in parameters.items():
        if name == "config":
            _check_kind(name, parameter, "string_param")
            _check_config(model, parameter.string_param)
        elif name.startswith("file:"):
            version = _version_of(name)
            _check_kind(name, parameter, "bytes_param")
            uploads[version] = parameter.bytes_param
        else:
            raise InvalidRequestError(
                f"parameter {shown(name)}: expected config and file:VERSION/model.onnx only"
            )
    if len(uploads) > MAX_UPLOADS:
        raise InvalidRequestError(f"expected at most {MAX_UPLOADS} files, came {len(uploads)}")
    return uploads


def _version_of(name: str) -> int:
    match = UPLOAD.fullmatch(name)
    version = int(match[1]) if match else 0
    if not 0 < version <= MAX_INT64:
        raise InvalidRequestError(
            f"parameter {shown(name)}: expected file:VERSION/model.onnx, where VERSION is an integer from 1 "
            f"to {MAX_INT64} without leading zeros"
        )
    return version


def _check_kind(name: str, parameter: oip.ModelRepositoryParameter, expected: str) -> None:
    came = parameter.WhichOneof("parameter_choice")
    if came != expected:
        raise InvalidRequestError(f"parameter {shown(name)}: expected {expected}, came {came or 'none'}")


def _check_config(model: str, text: str) -> None:
    """Let pass what says nothing but what holds anyway: nothing is dropped in silence."""
    if len(text) > MAX_CONFIG_CHARACTERS:
        raise InvalidRequestError(
            f"config: expected at most {MAX_CONFIG_CHARACTERS} characters, came {len(text)}"
        )
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InvalidRequestError("config: expected a JSON object")
    holds = {"name": model, "platform": PLATFORM, "backend": BACKEND, "max_batch_size": 0}
    for key, value in config.items():
        if key not in holds:
            raise InvalidRequestError(
                f"config: {shown(key)} would not be heeded; expected none but {', '.join(holds)}"
            )
        if type(value) is not type(holds[key]) or value != holds[key]:
            came = f"a {type(value).__name__}" if isinstance(value, dict | list) else shown(str(value))
            raise InvalidRequestError(f"config: {key}: expected {json.dumps(holds[key])}, came {came}")
