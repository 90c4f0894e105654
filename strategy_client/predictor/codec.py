"""Between numpy and the wire. Nothing else in the client touches a protobuf field."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.events import Reason
from strategy_client.predictor.answer_form import AnswerForm
from strategy_client.predictor.description import (
    Contract,
    Description,
    ModelDescription,
    NanPolicy,
    OutputKind,
    OutputMeaning,
    VersionDescription,
    VersionState,
)
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal
from strategy_client.predictor.status import meaning_of

DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
}
FEATURES_DTYPE: Final = np.dtype("<f4")
LENGTH_BYTES: Final = 4
# The fields of the messages, as they begin on the wire.
REQUEST_ID: Final = b"\x0a"
REQUEST_TIMEOUT: Final = b"\x18"
RESPONSE_ID: Final = 0x0A
MAX_UINT64: Final = 2**64 - 1
# A number of seven bits takes one byte.
SEVEN_BITS: Final = 0x7F
MAX_FORMS: Final = 4096
# A response, or what was read of its bytes at sight.
Reply = pb.PredictResponse | list[Answer]

# Of each model how its last answer to one row looked. The same bytes mean the same on any connection.
_FORMS: Final[dict[str, AnswerForm]] = {}


class MalformedAnswerError(ValueError):
    """An answer that does not hold what it says it holds."""


def write_request(request_id: str, questions: Sequence[Question], timeout_us: int) -> bytes:
    """Return a PredictRequest's bytes. ValueError for features that are not of rank 2 or have no row."""
    named = request_id.encode()
    fields = [REQUEST_ID, _varint(len(named)), named] if named else []
    for question in questions:
        features = question.features
        if features.ndim != 2 or not len(features):
            raise ValueError(
                f"features for {question.model!r}: expected shape (rows, n_features) with at least one row, "
                f"came {features.shape}"
            )
        rows = _as_wire(features).tobytes()
        fields += (
            _before_rows(question.model, question.version, question.contract_hash, len(features), len(rows)),
            rows,
        )
    if timeout_us:
        fields += (REQUEST_TIMEOUT, _varint(timeout_us))
    return b"".join(fields)


def _varint(number: int) -> bytes:
    if number > MAX_UINT64:
        raise ValueError(f"Value out of range: {number}")
    written = bytearray()
    while number > SEVEN_BITS:
        written.append(number & SEVEN_BITS | SEVEN_BITS + 1)
        number >>= 7
    written.append(number)
    return bytes(written)


@lru_cache(maxsize=4096)
def _before_rows(model: str, version: int, contract_hash: str, rows: int, size_bytes: int) -> bytes:
    """Return what is written of a question before its rows, which end it."""
    part = pb.PredictPart(
        model=model, version=version, contract_hash=contract_hash, rows=rows, features=bytes(size_bytes)
    )
    written = pb.PredictRequest(parts=[part]).SerializeToString()
    return written[: len(written) - size_bytes]


def _as_wire(features: NDArray[Any]) -> NDArray[np.float32]:
    return features if features.dtype == FEATURES_DTYPE else features.astype(FEATURES_DTYPE)


def id_at_sight(message: bytes) -> str:
    """Return the id with which a response's bytes begin; empty where only protobuf can tell."""
    # Ours are of ASCII, and short.
    if len(message) < 2 or message[0] != RESPONSE_ID or message[1] > SEVEN_BITS:
        return ""
    named = message[2 : 2 + message[1]]
    return named.decode("ascii") if named.isascii() and len(named) == message[1] else ""


def read_at_sight(message: bytes, questions: Sequence[Question]) -> list[Answer] | None:
    """Read a response's bytes where they differ from the answers before in the values, and in its id.

    None where anything else differs, or may: then protobuf has to parse it.
    """
    named = id_at_sight(message)
    forms = [_FORMS.get(question.model) for question in questions]
    if not named or None in forms:
        return None
    answers: list[Answer] = []
    begin = 2 + len(named)
    for form, question in zip(forms, questions, strict=True):
        if form is None or len(question.features) != 1 or (read := form.read(message, begin)) is None:
            return None
        answers.append(read)
        begin += form.size
    return answers if begin == len(message) else None


def read_response(response: Reply, questions: Sequence[Question]) -> list[Answer]:
    """Read one answer for each question, in order.

    A part that does not fit its question (another number of parts or rows, bytes that do not fill the
    shape) is refused like one that the sidecar could not answer.
    """
    if isinstance(response, list):
        return response
    if response.error.code:
        refusal = Refusal(meaning_of(response.error.code).call, response.error.message)
        return [refusal] * len(questions)
    if len(response.parts) != len(questions):
        text = f"the sidecar answered {len(response.parts)} parts to {len(questions)} questions"
        return [Refusal(Reason.UNAVAILABLE, text)] * len(questions)
    return [_read_part(part, question) for part, question in zip(response.parts, questions, strict=True)]


def read_description(response: pb.DescribeModelsResponse) -> Description:
    """Read what is served."""
    return Description(
        models={model.name: _read_model(model) for model in response.models}, ready=response.ready
    )


def read_tensor(tensor: pb.Tensor) -> NDArray[Any]:
    """Read one tensor; BYTES becomes an array of str. MalformedAnswerError when the bytes do not fit."""
    shape = tuple(tensor.shape)
    # numpy would work a negative size out by itself.
    if shape and min(shape) < 0:
        raise MalformedAnswerError(f"output {tensor.name!r} has shape {shape}")
    try:
        if tensor.datatype == "BYTES":
            return np.array(_read_texts(tensor.raw), dtype=np.object_).reshape(shape)
        values = np.frombuffer(tensor.raw, DTYPES[tensor.datatype])
        return values if values.shape == shape else values.reshape(shape)
    except KeyError:
        raise MalformedAnswerError(
            f"output {tensor.name!r} has datatype {tensor.datatype!r}, not one of ours"
        ) from None
    except ValueError as error:
        raise MalformedAnswerError(f"output {tensor.name!r} of shape {shape}: {error}") from None


def _read_part(part: pb.PartResult, question: Question) -> Answer:
    if len(question.features) != 1:
        return _read_fields(part, question)
    form = _FORMS.get(question.model)
    read: Answer | None = None
    if form is not None and len(written := form.head + part.SerializeToString()) == form.size:
        read = form.read(written)
    if read is None:
        read = _read_fields(part, question)
        if isinstance(read, Prediction) and AnswerForm.suits(part, read):
            if len(_FORMS) >= MAX_FORMS:
                _FORMS.clear()
            _FORMS[question.model] = AnswerForm(part, read)
    return read


def _read_fields(part: pb.PartResult, question: Question) -> Answer:
    if part.status.code:
        return Refusal(meaning_of(part.status.code).part, part.status.message)
    try:
        outputs = {tensor.name: read_tensor(tensor) for tensor in part.outputs}
    except MalformedAnswerError as error:
        return Refusal(Reason.UNAVAILABLE, f"model {question.model!r}: {error}")
    rows = len(question.features)
    for name, values in outputs.items():
        if values.ndim == 0 or len(values) != rows:
            return Refusal(
                Reason.UNAVAILABLE,
                f"model {question.model!r}: output {name!r} has shape {values.shape} for {rows} rows",
            )
    return Prediction(question.model, part.version, part.digest, part.contract_hash, outputs)


def _read_texts(raw: bytes) -> list[str]:
    texts = []
    start = 0
    while start < len(raw):
        end = start + LENGTH_BYTES + int.from_bytes(raw[start : start + LENGTH_BYTES], "little")
        if end > len(raw):
            raise ValueError("a text is longer than the bytes that came")
        texts.append(raw[start + LENGTH_BYTES : end].decode("utf-8"))
        start = end
    return texts


def _read_model(model: pb.ModelDescription) -> ModelDescription:
    return ModelDescription(
        name=model.name,
        versions=tuple(_read_version(version) for version in model.versions),
        default_version=model.default_version,
        problem=model.problem,
    )


def _read_version(version: pb.VersionDescription) -> VersionDescription:
    return VersionDescription(
        version=version.version,
        state=_STATES.get(version.state, VersionState.STATE_UNSPECIFIED),
        reason=version.reason,
        digest=version.digest,
        contract=_read_contract(version.contract) if version.HasField("contract") else None,
        input_datatypes=tuple(spec.datatype for spec in version.inputs),
    )


def _read_contract(contract: pb.Contract) -> Contract:
    accept = contract.nan_policy == pb.Contract.ACCEPT
    return Contract(
        hash=contract.hash,
        feature_names=tuple(contract.feature_names),
        window=contract.window,
        includes_current_tick=contract.includes_current_tick,
        nan_policy=NanPolicy.ACCEPT if accept else NanPolicy.REFUSE,
        outputs=tuple(
            OutputMeaning(
                name=output.name,
                kind=_KINDS.get(output.kind, OutputKind.VALUE),
                classes=tuple(output.classes),
                meanings=tuple(output.meanings),
            )
            for output in contract.outputs
        ),
        training_ranges=tuple((span.low, span.high) for span in contract.training_ranges),
        estimator=contract.estimator,
        trained_at_ns=contract.trained_at_ns,
    )


_STATES: Final = {state.value: state for state in VersionState}
_KINDS: Final = {
    pb.OutputMeaning.LABEL: OutputKind.LABEL,
    pb.OutputMeaning.PROBABILITIES: OutputKind.PROBABILITIES,
    pb.OutputMeaning.VALUE: OutputKind.VALUE,
}
