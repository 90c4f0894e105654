"""`tickserve.v1.Predictor`: many models and many rows in one message, each part with its own status."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.clock import Clock
from inference_server.core.contract import Contract, NanPolicy, OutputKind
from inference_server.core.errors import InvalidRequestError, ServingError
from inference_server.core.servable import ModelStatus, VersionStatus
from inference_server.core.tensor import TensorSpec
from inference_server.rpc.accounting import Account, Accounting
from inference_server.rpc.codec import MAX_ID_CHARACTERS, check_id, decode_rows
from inference_server.rpc.guard import status_for
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.rpc.part_results import NEVER_VETTED, PartResults, WrittenResponse
from inference_server.rpc.status import StatusError, status_of
from inference_server.rpc.tracing import traced_message
from inference_server.rpc.version import parse_label
from inference_server.serving.data_plane import PAUSE_EVERY_NS, Answer, Call, DataPlane, RowAnswer
from inference_server.serving.registry import Registry, Which
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
PAUSE_EVERY: Final = 128
Ended = Answer | RowAnswer | ServingError
Begun = Call | RowAnswer | ServingError


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
        *,
        accounting: Accounting,
        options: PredictorOptions,
    ) -> None:
        self._data_plane = data_plane
        self._registry = registry
        self._clock = clock
        self._accounting = accounting
        self._options = options
        self._results = PartResults()

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
                each=self.predict_stream,
                at_once=self._options.max_unanswered_per_stream,
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
        deadline_ns = self._deadline_ns(request, call)
        check_id(request.id)
        if len(request.parts) > self._options.max_parts:
            raise InvalidRequestError(
                f"expected at most {self._options.max_parts} parts, came {len(request.parts)}"
            )
        account = self._accounting.open(deadline_ns, call.trace)
        response = WrittenResponse(request.id)
        try:
            call.check_deadline(account.received_ns)
            begun = await self._begin(request.parts, deadline_ns)
            began_ns = self._clock.monotonic_ns() - account.received_ns
            runs_ns = sum(each.ended_ns - each.started_ns for each in begun if isinstance(each, RowAnswer))
            input_ns = (began_ns - runs_ns) // max(len(begun), 1)
            answers = await self._finish(begun, deadline_ns)
            for place in range(0, len(answers), PAUSE_EVERY):
                self._write(response, request.parts, answers[place : place + PAUSE_EVERY], account, input_ns)
                if len(response) % PAUSE_EVERY == 0:
                    await self._data_plane.pause()
        except BaseException as error:
            for part in request.parts[len(response) :]:
                account.failed(part.model, error)
            raise
        return response.message()

    def predict_stream(
        self, call: CallContext
    ) -> AbstractContextManager[Callable[[wire.PredictRequest], Awaitable[wire.PredictResponse]]]:
        """Answer each request by its id, in whatever order; what fails a request stays in-band."""

        async def answer(request: wire.PredictRequest) -> wire.PredictResponse:
            try:
                with traced_message(call) as message:
                    return await self.predict(request, message)
            except Exception as error:  # noqa: BLE001 - the edge of one request; `status_for` logs bugs
                id_ = request.id[:MAX_ID_CHARACTERS]
                status = status_for(error, f"/{SERVICE}/PredictStream", f"{call.request_id}/{shown(id_)}")
                return wire.PredictResponse(id=id_, error=_encode_status(status))

        return nullcontext(answer)

    async def describe_models(
        self, request: wire.DescribeModelsRequest, call: CallContext
    ) -> wire.DescribeModelsResponse:
        """Return what is served and why what is not served is not."""
        del call
        return wire.DescribeModelsResponse(
            models=[_encode_model(model) for model in self._registry.describe(frozenset(request.models))],
            ready=self._registry.ready(),
        )

    async def _begin(self, parts: Sequence[wire.PredictPart], deadline_ns: int | None) -> list[Begun]:
        """Answer at once what is one row and nothing special; of any other part return its call."""
        begun: list[Begun] = []
        data_plane = self._data_plane
        pause_ns = self._clock.monotonic_ns() + PAUSE_EVERY_NS
        for place, part in enumerate(parts, start=1):
            answer: Begun | None = None
            if part.rows == 1 and not part.label:
                answer = data_plane.answer_row(
                    part.model, part.version, part.contract_hash, part.features, deadline_ns
                )
            if answer is None:
                answer = self._decode(part)
            begun.append(answer)
            if place % PAUSE_EVERY == 0 or (isinstance(answer, RowAnswer) and answer.ended_ns >= pause_ns):
                await self._data_plane.pause()
                pause_ns = self._clock.monotonic_ns() + PAUSE_EVERY_NS
        return begun

    def _decode(self, part: wire.PredictPart) -> Call | ServingError:
        """Return the part's call, or why it is none."""
        try:
            if self._data_plane.calls_in_flight:
                self._data_plane.check_room(part.model)
            return _decode_part(part)
        except ServingError as error:
            return error

    async def _finish(self, begun: list[Begun], deadline_ns: int | None) -> list[Ended]:
        """Return what becomes of each part."""
        calls = [each for each in begun if isinstance(each, Call)]
        answers = iter(await self._data_plane.answer(calls, deadline_ns) if calls else ())
        return [next(answers) if isinstance(each, Call) else each for each in begun]

    def _write(
        self,
        response: WrittenResponse,
        parts: Sequence[wire.PredictPart],
        answers: Sequence[Ended],
        account: Account,
        input_ns: int,
    ) -> None:
        """Append what became of the next parts, and count it."""
        before_ns = self._clock.monotonic_ns()
        answered: list[Answer | RowAnswer] = []
        try:
            for answer in answers:
                if isinstance(answer, ServingError):
                    part = parts[len(response)]
                    response.add(_encode_refusal(part, answer))
                    account.failed(part.model, answer)
                else:
                    response.add(self._results.write(answer))
                    answered.append(answer)
        finally:
            took_ns = self._clock.monotonic_ns() - before_ns
            account.answered(answered, input_ns, took_ns // len(answers))

    def _deadline_ns(self, request: wire.PredictRequest, call: CallContext) -> int | None:
        if not request.timeout_us:
            return call.deadline_ns
        own = self._clock.monotonic_ns() + request.timeout_us * 1000
        return own if call.deadline_ns is None else min(own, call.deadline_ns)


def _decode_part(part: wire.PredictPart) -> Call:
    which: Which = part.version
    if part.version < 0:
        raise InvalidRequestError(f"version: expected 0 or above, came {which}")
    if label := part.label:
        if which:
            raise InvalidRequestError(
                f"expected a version or a label, came version {which} and label {shown(label)}"
            )
        which = parse_label(label)
    return Call(part.model, decode_rows(part.features, part.rows), which, (), part.contract_hash)


def _encode_refusal(part: wire.PredictPart, error: ServingError) -> bytes:
    refused = wire.PartResult(model=part.model[:MAX_ID_CHARACTERS], status=_encode_status(status_of(error)))
    return wire.PredictResponse(parts=[refused]).SerializeToString()


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
