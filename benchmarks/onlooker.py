"""Asks a sidecar for everything but predictions, at a steady pace; says what it should not have answered."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import grpc
from expectation import Expectation
from grpc_health.v1 import health_pb2
from open_inference.v2 import inference_pb2 as oip
from tickserve.v1 import predictor_pb2 as wire

TIMEOUT_S: Final = 5.0
SHOWN_FAULTS: Final = 10
OPEN_INFERENCE: Final = "/inference.GRPCInferenceService"


class Onlooker:
    """A thread that looks, every second time at DescribeModels and in between at one thing of the others.

    Readiness must never flip, every model must always have a version that answers, and every digest must be
    one of the versions that exist.
    """

    def __init__(
        self, target: str, http_address: str, models: Sequence[str], expectation: Expectation, rate_hz: float
    ) -> None:
        self._channel = grpc.insecure_channel(target)
        self._http = http.client.HTTPConnection(http_address, timeout=TIMEOUT_S)
        self._models = tuple(models)
        self._expectation = expectation
        self._rate_hz = rate_hz
        self._changed = threading.Condition()
        self._served: dict[str, int] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.looks: dict[str, int] = {}
        self.failed = 0
        self.faults: list[str] = []

    def wait_served(self, model: str, version: int, timeout_s: float) -> None:
        """Wait until callers who name no version get this one; TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._served.get(model) == version, timeout_s):
                raise TimeoutError(f"{model}: version {version} is not served after {timeout_s:g} s")

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Look until the block ends."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join()
            self._http.close()
            self._channel.close()

    def _run(self) -> None:
        looks = list(self._looks())
        began_s = time.perf_counter()
        number = 0
        while not self._stopped.wait(max(0.0, began_s + number / self._rate_hz - time.perf_counter())):
            name, look = looks[number // 2 % len(looks)] if number % 2 else ("DescribeModels", self._describe)
            number += 1
            self.looks[name] = self.looks.get(name, 0) + 1
            try:
                fault = look()
            except (grpc.RpcError, OSError, http.client.HTTPException) as error:
                fault = repr(error)
            if fault:
                self.failed += 1
                self.faults = [*self.faults, f"{name}: {fault}"][:SHOWN_FAULTS]

    def _looks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        yield "ServerReady", self._server_ready
        for model in self._models:
            yield "ModelReady", lambda model=model: self._model_ready(model)
            yield "ModelMetadata", lambda model=model: self._metadata(model)
        yield "RepositoryIndex", self._index
        yield "health Check", self._health
        for path in ("/v2/health/ready", "/metrics"):
            yield f"GET {path}", lambda path=path: self._get(path)

    def _ask(self, path: str, request: Any, response: type) -> Any:
        call = self._channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return call(request, timeout=TIMEOUT_S)

    def _describe(self) -> str:
        answer = self._ask(
            "/tickserve.v1.Predictor/DescribeModels",
            wire.DescribeModelsRequest(models=self._models),
            wire.DescribeModelsResponse,
        )
        defaults = {model.name: model.default_version for model in answer.models}
        with self._changed:
            self._served = defaults
            self._changed.notify_all()
        if not answer.ready:
            return "says that it is not ready"
        for model in answer.models:
            for version in model.versions:
                if version.version == model.default_version:
                    if fault := self._digest_fault(model.name, version.version, version.digest):
                        return fault
                    if version.state != wire.VersionDescription.AVAILABLE:
                        return f"{model.name}: the default version is not available"
        missing = [model for model in self._models if not defaults.get(model)]
        return f"no default version of {', '.join(missing)}" if missing else ""

    def _digest_fault(self, model: str, version: int, digest: str) -> str:
        if self._expectation.is_of(model, version, digest):
            return ""
        return f"{model}: version {version} has the digest {digest[:12]}"

    def _server_ready(self) -> str:
        answer = self._ask(f"{OPEN_INFERENCE}/ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse)
        return "" if answer.ready else "says no"

    def _model_ready(self, model: str) -> str:
        answer = self._ask(
            f"{OPEN_INFERENCE}/ModelReady", oip.ModelReadyRequest(name=model), oip.ModelReadyResponse
        )
        return "" if answer.ready else f"says no of {model}"

    def _metadata(self, model: str) -> str:
        answer = self._ask(
            f"{OPEN_INFERENCE}/ModelMetadata", oip.ModelMetadataRequest(name=model), oip.ModelMetadataResponse
        )
        digest = answer.properties["digest"]
        if not any(self._expectation.is_of(model, int(version), digest) for version in answer.versions):
            return f"{model}: digest {digest[:12]} is of none of the versions {list(answer.versions)}"
        return ""

    def _index(self) -> str:
        answer = self._ask(
            f"{OPEN_INFERENCE}/RepositoryIndex", oip.RepositoryIndexRequest(), oip.RepositoryIndexResponse
        )
        ready = {entry.name for entry in answer.models if entry.state == "READY"}
        missing = sorted(set(self._models) - ready)
        return f"no version READY of {', '.join(missing)}" if missing else ""

    def _health(self) -> str:
        answer = self._ask(
            "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse
        )
        return (
            "" if answer.status == health_pb2.HealthCheckResponse.SERVING else "says that it does not serve"
        )

    def _get(self, path: str) -> str:
        try:
            self._http.request("GET", path)
            answer = self._http.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._http.close()  # the next look connects again
            raise
        return "" if answer.status == 200 else f"answers {answer.status}"
