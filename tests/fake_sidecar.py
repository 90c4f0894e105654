"""A small real gRPC server that speaks tickserve.v1 and answers as a test tells it to."""

import hashlib
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import grpc
import numpy as np
from tickserve.v1 import predictor_pb2 as pb

SERVICE = "tickserve.v1.Predictor"
DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "bool": "BOOL"}
UNBOUNDED = (("grpc.max_receive_message_length", -1),)
Answers = Mapping[str, np.ndarray]


def up_when_positive(rows: np.ndarray) -> Answers:
    """Return probabilities of SELL and BUY that depend on the first feature's sign alone."""
    buy = np.where(rows[:, 0] > 0, 0.9, 0.1).astype(np.float32)
    return {
        "label": (buy > 0.5).astype(np.int64),
        "probabilities": np.stack([1 - buy, buy], axis=1),
    }


@dataclass(frozen=True)
class FakeModel:
    """One version of a model."""

    feature_names: Sequence[str]
    window: int
    answer: Callable[[np.ndarray], Answers] = up_when_positive
    version: int = 1
    includes_current_tick: bool = True
    nan_policy: int = pb.Contract.REFUSE
    contract: bool = True
    state: int = pb.VersionDescription.AVAILABLE
    problem: str = ""
    ranges: Sequence[tuple[float, float]] = ()
    trained_at_ns: int = 0
    meanings: Sequence[str] = ("SELL", "BUY")
    classes: Sequence[str] = ("0", "1")

    @property
    def digest(self) -> str:
        """A digest that differs between versions."""
        return hashlib.sha256(f"{self.feature_names}{self.version}".encode()).hexdigest()

    @property
    def contract_hash(self) -> str:
        """A hash over what must match."""
        if not self.contract:
            return ""
        text = f"{list(self.feature_names)}{self.window}{self.includes_current_tick}{self.nan_policy}"
        return hashlib.sha256(text.encode()).hexdigest()

    def describe(self, name: str) -> pb.ModelDescription:
        """Describe it as the only version of its model."""
        version = pb.VersionDescription(
            version=self.version,
            state=self.state,
            digest=self.digest,
            inputs=[pb.TensorSpec(name="features", datatype="FP32", shape=[-1, len(self.feature_names)])],
        )
        if self.contract:
            version.contract.CopyFrom(
                pb.Contract(
                    hash=self.contract_hash,
                    trained_at_ns=self.trained_at_ns,
                    feature_names=self.feature_names,
                    window=self.window,
                    includes_current_tick=self.includes_current_tick,
                    nan_policy=self.nan_policy,
                    outputs=[
                        pb.OutputMeaning(
                            name="label",
                            kind=pb.OutputMeaning.LABEL,
                            classes=self.classes,
                            meanings=self.meanings,
                        ),
                        pb.OutputMeaning(
                            name="probabilities",
                            kind=pb.OutputMeaning.PROBABILITIES,
                            classes=self.classes,
                            meanings=self.meanings,
                        ),
                    ],
                    training_ranges=[pb.FeatureRange(low=low, high=high) for low, high in self.ranges],
                )
            )
        return pb.ModelDescription(
            name=name, versions=[version], default_version=self.version, problem=self.problem
        )


@dataclass
class FakeSidecar:
    """Serves `models` on a Unix socket that stays the same over `stop` and `start`.

    `hold` makes stream requests wait in `held` until the test answers or forgets them.
    """

    models: dict[str, FakeModel] = field(default_factory=dict)
    ready: bool = True
    requests: list[pb.PredictRequest] = field(default_factory=list)
    streams: int = 0
    describes: int = 0

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ts-"))
        self.target = f"unix:{self.folder}/s"
        self.held: queue.Queue[pb.PredictRequest] = queue.Queue()
        self._hold = threading.Event()
        self._mute = threading.Event()
        self._outgoing: queue.Queue[pb.PredictResponse | None] = queue.Queue()
        self._server: grpc.Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Listen."""
        self._outgoing = queue.Queue()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=64), options=UNBOUNDED)
        unary = grpc.unary_unary_rpc_method_handler
        handlers = {
            "Predict": unary(
                lambda request, context: self.answer(request),
                request_deserializer=pb.PredictRequest.FromString,
                response_serializer=pb.PredictResponse.SerializeToString,
            ),
            "PredictStream": grpc.stream_stream_rpc_method_handler(
                self._stream,
                request_deserializer=pb.PredictRequest.FromString,
                response_serializer=pb.PredictResponse.SerializeToString,
            ),
            "DescribeModels": unary(
                self._describe,
                request_deserializer=pb.DescribeModelsRequest.FromString,
                response_serializer=pb.DescribeModelsResponse.SerializeToString,
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._server.add_insecure_port(self.target)
        self._server.start()

    def stop(self) -> None:
        """Cut every call and stop listening."""
        if self._server is not None:
            self._outgoing.put(None)
            self._server.stop(None).wait()
            self._server = None

    def hold(self) -> None:
        """Leave what comes over the stream in `held`."""
        self._hold.set()

    def release(self) -> None:
        """Answer at once again; what is held stays held."""
        self._hold.clear()

    def mute(self) -> None:
        """Refuse DescribeModels, as a sidecar that hangs would let it time out."""
        self._mute.set()

    def unmute(self) -> None:
        """Answer DescribeModels again."""
        self._mute.clear()

    def send(self, response: pb.PredictResponse) -> None:
        """Send a response over the stream now, whatever was asked."""
        self._outgoing.put(response)

    def swap(self, name: str, **changes: object) -> None:
        """Replace a model by a version that differs in what is given."""
        self.models[name] = replace(self.models[name], **changes)

    def answer(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Answer as the real one does."""
        return pb.PredictResponse(id=request.id, parts=[self._answer_part(part) for part in request.parts])

    def _answer_part(self, part: pb.PredictPart) -> pb.PartResult:
        model = self.models.get(part.model)
        if model is None or part.version not in (0, model.version):
            return _refuse(part, grpc.StatusCode.NOT_FOUND, f"model {part.model!r} is not known")
        if part.contract_hash and part.contract_hash != model.contract_hash:
            return _refuse(part, grpc.StatusCode.FAILED_PRECONDITION, "another contract is served")
        rows = np.frombuffer(part.features, dtype="<f4")
        if len(rows) != part.rows * len(model.feature_names):
            return _refuse(part, grpc.StatusCode.INVALID_ARGUMENT, f"expected {len(model.feature_names)}")
        if model.nan_policy == pb.Contract.REFUSE and np.isnan(rows).any():
            return _refuse(part, grpc.StatusCode.INVALID_ARGUMENT, "takes no NaN")
        outputs = [
            pb.Tensor(
                name=name, datatype=DATATYPES[values.dtype.name], shape=values.shape, raw=values.tobytes()
            )
            for name, values in model.answer(rows.reshape(part.rows, -1)).items()
        ]
        return pb.PartResult(
            model=part.model,
            version=model.version,
            digest=model.digest,
            contract_hash=model.contract_hash,
            outputs=outputs,
        )

    def _describe(
        self, request: pb.DescribeModelsRequest, context: grpc.ServicerContext
    ) -> pb.DescribeModelsResponse:
        if self._mute.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "muted")
        if list(request.models) != ["-"]:
            self.describes += 1
        names = sorted(request.models or self.models)
        return pb.DescribeModelsResponse(
            models=[self.models[name].describe(name) for name in names if name in self.models],
            ready=self.ready,
        )

    def _stream(
        self, requests: Iterator[pb.PredictRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.PredictResponse]:
        self.streams += 1
        # Each stream has its own answers; `send` goes to the latest.
        outgoing = self._outgoing = queue.Queue()

        def read() -> None:
            try:
                for request in requests:
                    self.requests.append(request)
                    if self._hold.is_set():
                        self.held.put(request)
                    else:
                        outgoing.put(self.answer(request))
            except grpc.RpcError:
                return  # the client went away
            except Exception as error:  # grpcio raises a bare one when the call is cut
                if str(error):
                    raise
            finally:
                outgoing.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (response := outgoing.get()) is not None:
            yield response


def _refuse(part: pb.PredictPart, code: grpc.StatusCode, text: str) -> pb.PartResult:
    return pb.PartResult(model=part.model, status=pb.PartStatus(code=code.value[0], message=text))
