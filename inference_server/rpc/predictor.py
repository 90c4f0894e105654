"""`tickserve.v1.Predictor`: many models and many rows in one message, each part with its own status."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.clock import Clock
from inference_server.core.contract import Contract, NanPolicy, OutputKind
from inference_server.core.errors import InvalidRequestError, ServingError
from inference_server.core.servable import ModelStatus, VersionStatus, VettingResult
from inference_server.core.tensor import TensorSpec
from inference_server.rpc.accounting import Accounting
from inference_server.rpc.codec import MAX_ID_CHARACTERS, check_id, decode_rows, encode_raw
from inference_server.rpc.concurrent import answer_concurrently
from inference_server.rpc.guard import status_for
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.rpc.status import StatusError, status_of
from inference_server.rpc.tracing import traced_message
from inference_server.rpc.version import parse_label
from inference_server.serving.data_plane import Answer, Call, DataPlane
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry
from inference_server.serving.signature import shown

SERVICE: Final = "tickserve.v1.Predictor"
NAN_POLICIES: Final = {
    NanPolicy.REFUSE: wire.Contract.REFUSE,
    NanPolicy.ACCEPT: wire.Contract.ACCEPT,
}
OUTPUT_KINDS: Final = {
    OutputKind.LABEL: wire.OutputMeaning.LABEL,
    OutputKind.PROBABILITIES: wire.OutputMeaning.PROBABILITIES,
    OutputKind.VALUE: wire.OutputMeaning.VALUE,
}
# After so many parts, well below a millisecond's work, others get their turn on the event loop.
PAUSE_EVERY: Final = 32
NEVER_VETTED: Final = VettingResult(vetted_at_ns=0, verified=False, text="", memory_bytes=0)


@dataclass(frozen=True, slots=True)
class PredictorOptions:
    """Bounds on one request and on one stream.

    More parts than the data plane admits at once could never all be answered.
    """

    max_parts: int = 1000
    max_unanswered_per_stream: int = 64


class Predictor:
    """The service's functions."""

    def __init__(
        self,
        data_plane: DataPlane,
        registry: Registry,
        clock: Clock,
        drain: Drain,
        *,
        accounting: Accounting,
        options: PredictorOptions,
    ) -> None:
        self._data_plane = data_plane
        self._registry = registry
        self._clock = clock
        self._drain = drain
        self._accounting = accounting
        self._options = options

    def methods(self) -> list[Method]:
        """Return the service's rows of the method table."""
        return [
            Method(
                f"/{SERVICE}/Predict",
                wire.PredictRequest,
                wire.PredictResponse,
                Group.PREDICT,
                unary=self.predict,
                counts_expired=True,
            ),
            Method(
                f"/{SERVICE}/PredictStream",
                wire.PredictRequest,
                wire.PredictResponse,
                Group.PREDICT,
                bidirectional=self.predict_stream,
            ),
            Method(
                f"/{SERVICE}/DescribeModels",
                wire.DescribeModelsRequest,
                wire.DescribeModelsResponse,
                Group.PREDICT,
                unary=self.describe_models,
            ),
        ]

    async def predict(self, request: wire.PredictRequest, call: CallContext) -> wire.PredictResponse:
        """Answer every part, or say why not."""
        now_ns = self._clock.monotonic_ns
        deadline_ns = self._deadline_ns(request, call)
        check_id(request.id)
        if len(request.parts) > self._options.max_parts:
            raise InvalidRequestError(
                f"expected at most {self._options.max_parts} parts, came {len(request.parts)}"
            )
        account = self._accounting.open(deadline_ns, call.trace)
        response = wire.PredictResponse(id=request.id)
        try:
            call.check_deadline(account.received_ns)
            calls, decoded = await self._decode(request.parts, account.received_ns)
            answers = iter(await self._data_plane.answer(calls, deadline_ns))
            before_ns = now_ns()
            for part, took in zip(request.parts, decoded, strict=True):
                answer = next(answers) if isinstance(took, int) else took
                if isinstance(took, int) and isinstance(answer, Answer):
                    response.parts.append(_encode_answer(answer))
                    after_ns = now_ns()
                    account.answered(answer, took, after_ns - before_ns)
                    before_ns = after_ns
                elif isinstance(answer, ServingError):
                    response.parts.append(_encode_refusal(part, answer))
                    account.failed(part.model, answer)
                if len(response.parts) % PAUSE_EVERY == 0:
                    await asyncio.sleep(0)
        except BaseException as error:
            for part in request.parts[len(response.parts) :]:
                account.failed(part.model, error)
            raise
        return response

    async def predict_stream(
        self, requests: AsyncIterator[wire.PredictRequest], call: CallContext
    ) -> AsyncIterator[wire.PredictResponse]:
        """Answer each request by its id, in whatever order; what fails a request stays in-band."""

        async def answer(request: wire.PredictRequest) -> wire.PredictResponse:
            try:
                with traced_message(call) as message:
                    return await self.predict(request, message)
            except Exception as error:  # noqa: BLE001 - the edge of one request; `status_for` logs bugs
                id_ = request.id[:MAX_ID_CHARACTERS]
                status = status_for(error, f"/{SERVICE}/PredictStream", f"{call.request_id}/{shown(id_)}")
                return wire.PredictResponse(id=id_, error=_encode_status(status))

        bound = self._options.max_unanswered_per_stream
        async for response in answer_concurrently(requests, answer, bound, self._drain):
            yield response

    async def describe_models(
        self, request: wire.DescribeModelsRequest, call: CallContext
    ) -> wire.DescribeModelsResponse:
        """Return what is served and why what is not served is not."""
        del call
        return wire.DescribeModelsResponse(
            models=[_encode_model(model) for model in self._registry.describe(frozenset(request.models))],
            ready=self._registry.ready(),
        )

    async def _decode(
        self, parts: Sequence[wire.PredictPart], before_ns: int
    ) -> tuple[list[Call], list[int | ServingError]]:
        """Return the calls, and for each part how many nanoseconds it took or why it is none."""
        calls: list[Call] = []
        decoded: list[int | ServingError] = []
        for part in parts:
            try:
                self._data_plane.check_room(part.model)
                calls.append(_decode_part(part))
                after_ns = self._clock.monotonic_ns()
                decoded.append(after_ns - before_ns)
                before_ns = after_ns
            except ServingError as error:
                decoded.append(error)
            if len(decoded) % PAUSE_EVERY == 0:
                await asyncio.sleep(0)
        return calls, decoded

    def _deadline_ns(self, request: wire.PredictRequest, call: CallContext) -> int | None:
        if not request.timeout_us:
            return call.deadline_ns
        own = self._clock.monotonic_ns() + request.timeout_us * 1000
        return own if call.deadline_ns is None else min(own, call.deadline_ns)


def _decode_part(part: wire.PredictPart) -> Call:
    if part.version < 0:
        raise InvalidRequestError(f"version: expected 0 or above, came {part.version}")
    if part.label and part.version:
        raise InvalidRequestError(
            f"expected a version or a label, came version {part.version} and label {shown(part.label)}"
        )
    return Call(
        model=part.model,
        inputs=decode_rows(part.features, part.rows),
        version=parse_label(part.label) if part.label else part.version,
        contract_hash=part.contract_hash,
    )


def _encode_answer(answer: Answer) -> wire.PartResult:
    servable, vetting = answer.servable, answer.vetting or NEVER_VETTED
    return wire.PartResult(
        model=servable.id.name,
        version=servable.id.version,
        digest=servable.digest,
        contract_hash="" if servable.contract is None else servable.contract.hash,
        outputs=[
            wire.Tensor(name=spec.name, datatype=spec.datatype, shape=array.shape, raw=encode_raw(array))
            for spec, array in answer.outputs
        ],
        vetted_at_ns=vetting.vetted_at_ns,
        verified=vetting.verified,
    )


def _encode_refusal(part: wire.PredictPart, error: ServingError) -> wire.PartResult:
    return wire.PartResult(model=part.model[:MAX_ID_CHARACTERS], status=_encode_status(status_of(error)))


def _encode_status(status: StatusError) -> wire.PartStatus:
    return wire.PartStatus(code=int(status.code), message=status.text)


def _encode_model(model: ModelStatus) -> wire.ModelDescription:
    return wire.ModelDescription(
        name=model.name,
        versions=[_encode_version(version) for version in model.versions],
        default_version=model.default_version,
        problem=model.problem,
        behind_since_ns=model.behind_since_ns,
        pinned_version=model.pinned_version,
        labels=model.labels,
    )


def _encode_version(status: VersionStatus) -> wire.VersionDescription:
    vetting = status.vetting or NEVER_VETTED
    return wire.VersionDescription(
        version=status.id.version,
        state=status.state.value,
        reason=status.reason,
        digest=status.digest,
        contract=None if status.contract is None else _encode_contract(status.contract),
        inputs=[_encode_spec(spec) for spec in status.inputs],
        outputs=[_encode_spec(spec) for spec in status.outputs],
        available_since_ns=status.available_since_ns,
        warm_up_ns=status.warm_up_ns,
        rows_answered=status.rows_answered,
        vetted_at_ns=vetting.vetted_at_ns,
        verified=vetting.verified,
        vetting=vetting.text,
        memory_bytes=vetting.memory_bytes,
        refused=status.refused,
    )


def _encode_spec(spec: TensorSpec) -> wire.TensorSpec:
    return wire.TensorSpec(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _encode_contract(contract: Contract) -> wire.Contract:
    return wire.Contract(
        hash=contract.hash,
        feature_names=contract.feature_names,
        window=contract.window,
        includes_current_tick=contract.includes_current_tick,
        nan_policy=NAN_POLICIES[contract.nan_policy],
        outputs=[
            wire.OutputMeaning(
                name=output.name,
                kind=OUTPUT_KINDS[output.kind],
                classes=output.classes,
                meanings=output.meanings,
            )
            for output in contract.outputs
        ],
        training_ranges=[
            wire.FeatureRange(low=span.low, high=span.high) for span in contract.training_ranges
        ],
        estimator=contract.estimator,
        libraries=dict(contract.libraries),
        trained_at_ns=contract.trained_at_ns,
    )
