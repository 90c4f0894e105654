"""Between numpy and the wire."""

import grpc
import numpy as np
import pytest
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.events import Reason
from strategy_client.predictor.channel import TargetError, check_target
from strategy_client.predictor.codec import (
    MalformedAnswerError,
    id_at_sight,
    read_description,
    read_response,
    read_tensor,
    write_request,
)
from strategy_client.predictor.description import OutputKind, VersionState
from strategy_client.predictor.port import Prediction, Question, Refusal
from strategy_client.predictor.status import meaning_of


def question(rows: int = 2) -> Question:
    """Return a question of two features a row."""
    return Question("m", np.arange(rows * 2, dtype=np.float32).reshape(rows, 2), 3, "hash")


def part(**fields: object) -> pb.PredictResponse:
    """Return a response of one part."""
    return pb.PredictResponse(parts=[pb.PartResult(**fields)])


def test_request_holds_the_rows_little_endian() -> None:
    """A question of another byte order and layout is written row-major and little-endian."""
    features = np.asfortranarray(np.array([[1, 2], [3, 4]], dtype=">f4"))
    written = write_request("id", [Question("m", features, 3, "hash")], 7)
    request = pb.PredictRequest.FromString(written)
    asked = request.parts[0]
    assert (asked.model, asked.version, asked.contract_hash, asked.rows) == ("m", 3, "hash", 2)
    assert np.frombuffer(asked.features, "<f4").tolist() == [1, 2, 3, 4]
    assert (request.id, request.timeout_us) == ("id", 7)


@pytest.mark.parametrize("shape", [(2,), (0, 2), (1, 1, 2)])
def test_request_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    """Features of another rank or without a row are refused by name and shape."""
    with pytest.raises(ValueError, match="'m'"):
        write_request("id", [Question("m", np.zeros(shape, np.float32))], 1)


def test_request_refuses_a_time_that_the_field_does_not_take() -> None:
    """As protobuf refuses it: more than 64 bits are no number of microseconds."""
    with pytest.raises(ValueError, match="out of range"):
        write_request("id", [Question("m", np.ones((1, 1), np.float32))], 2**64)


@pytest.mark.parametrize(
    ("message", "seen"),
    [
        (b"\n\x02id", "id"),
        (b"\n\x02id\x12\x00", "id"),
        (b"\n\x03id", ""),
        (b"\n\x82\x00id" + b"d" * 140, ""),
        (b"\n\x02\xc3\xbc", ""),
        (b"\x12\x02id", ""),
        (b"\n", ""),
        (b"", ""),
    ],
    ids=["id", "with-more", "cut", "longer-length", "not-ascii", "other-field", "tag", "nothing"],
)
def test_id_is_seen_where_it_stands_as_ours_are_written(message: bytes, seen: str) -> None:
    """D14: whatever else begins a response is left to protobuf."""
    assert id_at_sight(message) == seen


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [("FP16", "f2"), ("FP32", "f4"), ("FP64", "f8"), ("INT64", "i8"), ("UINT8", "u1"), ("BOOL", "?")],
)
def test_tensor_of_each_datatype(datatype: str, dtype: str) -> None:
    """Numbers come back as they were sent."""
    values = np.array([[0, 1], [1, 0]], dtype=dtype)
    tensor = pb.Tensor(name="y", datatype=datatype, shape=values.shape, raw=values.tobytes())
    assert read_tensor(tensor).tolist() == values.tolist()


def test_tensor_of_texts() -> None:
    """BYTES becomes texts, among them an empty one and one beyond ASCII."""
    texts = ["BUY", "", "कल"]
    raw = b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in texts)
    tensor = pb.Tensor(name="y", datatype="BYTES", shape=[3], raw=raw)
    assert read_tensor(tensor).tolist() == texts


@pytest.mark.parametrize(
    "tensor",
    [
        pb.Tensor(name="y", datatype="FP32", shape=[2], raw=b"123"),
        pb.Tensor(name="y", datatype="FP32", shape=[-5], raw=b"1234"),
        pb.Tensor(name="y", datatype="FP99", shape=[1], raw=b"1234"),
        pb.Tensor(name="y", datatype="BYTES", shape=[1], raw=b"\xff\xff\xff\xff1"),
        pb.Tensor(name="y", datatype="BYTES", shape=[1], raw=b"\x01\x00\x00\x00\xff"),
        pb.Tensor(name="y", datatype="BYTES", shape=[2], raw=b"\x01\x00\x00\x00a"),
    ],
)
def test_malformed_tensor_is_refused_by_name(tensor: pb.Tensor) -> None:
    """Bytes that do not fill the shape, or of a datatype that is not known, name the output."""
    with pytest.raises(MalformedAnswerError, match="'y'"):
        read_tensor(tensor)


def test_answer_is_read_in_order() -> None:
    """Each part answers the question in its place."""
    tensor = pb.Tensor(name="y", datatype="FP32", shape=[2, 1], raw=np.ones(2, "<f4").tobytes())
    response = pb.PredictResponse(
        parts=[
            pb.PartResult(model="m", version=3, digest="d", contract_hash="hash", outputs=[tensor]),
            pb.PartResult(status=pb.PartStatus(code=5, message="no such model")),
        ]
    )
    answered, refused = read_response(response, [question(), question()])
    assert isinstance(answered, Prediction)
    assert (answered.version, answered.digest, answered.outputs["y"].shape) == (3, "d", (2, 1))
    assert refused == Refusal(Reason.MODEL_NOT_FOUND, "no such model")


@pytest.mark.parametrize(
    "response",
    [
        pb.PredictResponse(),
        part(outputs=[pb.Tensor(name="y", datatype="FP32", shape=[1], raw=b"1234")]),
        part(outputs=[pb.Tensor(name="y", datatype="FP32", shape=[], raw=b"1234")]),
        part(outputs=[pb.Tensor(name="y", datatype="FP32", shape=[2], raw=b"1234")]),
    ],
)
def test_answer_that_does_not_fit_is_refused(response: pb.PredictResponse) -> None:
    """No parts, too few rows or too few bytes: UNAVAILABLE, not an exception on the tick path."""
    (answer,) = read_response(response, [question()])
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.UNAVAILABLE


@pytest.mark.parametrize(
    ("code", "of_part", "of_call"),
    [
        ("NOT_FOUND", Reason.MODEL_NOT_FOUND, Reason.MODEL_NOT_FOUND),
        ("UNAVAILABLE", Reason.MODEL_NOT_READY, Reason.UNAVAILABLE),
        ("FAILED_PRECONDITION", Reason.CONTRACT_MISMATCH, Reason.CONTRACT_MISMATCH),
        ("INVALID_ARGUMENT", Reason.CONTRACT_MISMATCH, Reason.CONTRACT_MISMATCH),
        ("DEADLINE_EXCEEDED", Reason.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED),
        ("RESOURCE_EXHAUSTED", Reason.UNAVAILABLE, Reason.UNAVAILABLE),
        ("INTERNAL", Reason.UNAVAILABLE, Reason.UNAVAILABLE),
    ],
)
def test_status_becomes_a_reason(code: str, of_part: Reason, of_call: Reason) -> None:
    """Each status has its reason for a part and for a call, and the sidecar's text is the detail."""
    number = grpc.StatusCode[code].value[0]
    status = pb.PartStatus(code=number, message="why")
    assert read_response(part(status=status), [question()]) == [Refusal(of_part, "why")]
    assert read_response(pb.PredictResponse(error=status), [question()]) == [Refusal(of_call, "why")]


def test_state_of_a_newer_sidecar_is_read_as_unknown() -> None:
    """A version in a state that this client does not know is described, and not taken for available."""
    version = pb.VersionDescription(version=1, state=17)  # type: ignore[arg-type] no state of this schema
    response = pb.DescribeModelsResponse(models=[pb.ModelDescription(name="m", versions=[version])])
    (read,) = read_description(response).models["m"].versions
    assert read.state is VersionState.STATE_UNSPECIFIED


def test_an_output_of_an_unknown_kind_is_neither_label_nor_probabilities() -> None:
    """What a newer sidecar calls an output that this client does not know decides nothing: it is a value."""
    outputs = [pb.OutputMeaning(name=str(kind), kind=kind) for kind in (0, 1, 2, 3, 99)]
    version = pb.VersionDescription(version=1, contract=pb.Contract(hash="h", outputs=outputs))
    models = [pb.ModelDescription(name="m", versions=[version])]
    read = read_description(pb.DescribeModelsResponse(models=models)).models["m"].versions[0].contract
    assert read is not None
    kinds = {each.name: each.kind for each in read.outputs}
    assert kinds["0"] is kinds["99"] is OutputKind.VALUE
    named = {pb.OutputMeaning.LABEL, pb.OutputMeaning.PROBABILITIES, pb.OutputMeaning.VALUE}
    assert {kinds[str(number)] for number in named} == set(OutputKind)


def test_unknown_status_number_is_unavailable() -> None:
    """A status number that gRPC does not have is treated like one of its own failures."""
    assert meaning_of(99).call is Reason.UNAVAILABLE


@pytest.mark.parametrize("target", ["unix:/run/s", "127.0.0.1:8001", "[::1]:8001", "host:1"])
def test_target_of_either_form(target: str) -> None:
    """A Unix socket or a host with a port is taken as it is."""
    assert check_target(target) == target


@pytest.mark.parametrize("target", ["", "unix:", "host", "host:", ":80", "host:0", "host:65536", "host:x"])
def test_target_of_another_form(target: str) -> None:
    """Anything else is refused with what was expected."""
    with pytest.raises(TargetError, match=r"unix:/path or host:port"):
        check_target(target)
