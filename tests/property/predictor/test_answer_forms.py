"""Answers read by the form of the one before, beside the same read field by field."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.answer_form import AnswerForm
from strategy_client.predictor.codec import DTYPES, id_at_sight, read_at_sight, read_response
from strategy_client.predictor.port import Answer, Prediction, Question, Refusal

ROW = np.ones((1, 3), np.float32)
NAMES = st.sampled_from(["label", "probabilities", "", "a" * 130])
# Bytes that stand in the fields around the values, too.
VALUES = st.sampled_from([b"\0", b"\x22", b"d", b"\xff"])


@st.composite
def tensors(draw: st.DrawFn) -> pb.Tensor:
    """Return an output, not always one that holds what it says."""
    datatype = draw(st.sampled_from([*DTYPES, "BYTES", "FP31"]))
    shape = (1, *draw(st.lists(st.integers(0, 3), max_size=2)))
    size = int(np.prod(shape)) * (DTYPES[datatype].itemsize if datatype in DTYPES else 5)
    raw = (draw(VALUES) + draw(VALUES)) * size
    return pb.Tensor(
        name=draw(NAMES),
        datatype=datatype,
        shape=shape,
        raw=raw[: size - draw(st.sampled_from([0, 0, 0, 1]))],
    )


PARTS = st.builds(
    pb.PartResult,
    status=st.sampled_from([None, None, pb.PartStatus(), pb.PartStatus(code=5, message="no")]),
    model=st.just("m"),
    version=st.integers(0, 300),
    digest=st.sampled_from(["", "d" * 64]),
    contract_hash=st.sampled_from(["", "h" * 64]),
    outputs=st.lists(tensors(), max_size=3),
    vetted_at_ns=st.sampled_from([0, 5]),
)


def told(answer: Answer) -> Any:
    """Return all that an answer holds, so that it can be compared."""
    if isinstance(answer, Refusal):
        return answer
    assert isinstance(answer, Prediction)
    arrays = {
        name: (array.dtype, array.shape, array.tobytes(), array.flags.writeable)
        for name, array in answer.outputs.items()
        if not array.dtype.hasobject
    }
    texts = {name: array.tolist() for name, array in answer.outputs.items() if array.dtype.hasobject}
    return answer.model, answer.version, answer.digest, answer.contract_hash, arrays, texts


def read(part: pb.PartResult, model: str) -> Any:
    """Return what is read of one part of a response that came over the wire."""
    response = pb.PredictResponse.FromString(pb.PredictResponse(parts=[part]).SerializeToString())
    return told(read_response(response, [Question(model, ROW)])[0])


@settings(max_examples=300, deadline=None)
@given(st.data(), st.lists(PARTS, min_size=1, max_size=3))
def test_whatever_came_before_an_answer_is_read_as_if_it_were_the_first(
    data: st.DataObject, parts: list[pb.PartResult]
) -> None:
    """C7, D14: answers of one form and of others in turn, of other values, versions and datatypes."""
    for number in range(6):
        part = data.draw(st.sampled_from(parts))
        for tensor in part.outputs:
            tensor.raw = bytes((byte + number) % 256 for byte in tensor.raw)
        # Nobody has answered under this name before.
        expected = read(part, f"first {number} {id(part)} {part.SerializeToString()!r}")
        if isinstance(expected, tuple):
            expected = "m", *expected[1:]
            assert read(part, "m") == expected
        else:
            assert isinstance(read(part, "m"), Refusal)


@given(PARTS)
def test_a_form_reads_its_own_answer_and_none_of_which_a_byte_around_the_values_differs(
    part: pb.PartResult,
) -> None:
    """D14: whatever is not a value is compared, each byte of it."""
    [answer] = read_response(pb.PredictResponse(parts=[part]), [Question("other", ROW)])
    if isinstance(answer, Refusal) or not AnswerForm.suits(part, answer):
        return
    form = AnswerForm(part, answer)
    written = pb.PredictResponse(parts=[part]).SerializeToString()
    again = form.read(written)
    assert again is not None
    assert told(again) == told(answer)
    values = sum(len(tensor.raw) for tensor in part.outputs)
    flipped = [
        form.read(written[:place] + bytes([written[place] ^ 1]) + written[place + 1 :])
        for place in range(len(written))
    ]
    assert sum(each is None for each in flipped) == len(written) - values
    assert form.read(written[:-1]) is None


def of_values(values: list[float]) -> pb.PartResult:
    """Return an answer whose two outputs have these values."""
    tensors = [
        pb.Tensor(name=name, datatype="FP64", shape=[1, len(values)], raw=np.array(values, "<f8").tobytes())
        for name in ("p", "q")
    ]
    return pb.PartResult(model="n", version=3, digest="d" * 64, outputs=tensors)


def test_of_a_response_only_what_protobuf_would_read_alike_is_read_at_sight() -> None:
    """D14: each bit of a response may be flipped, and any end of it be missing, or be there twice."""
    questions = [Question(name, ROW) for name in ("at sight 1", "at sight 2")]
    for values in ([0.25, 0.75], [0.5, 0.5]):
        message = pb.PredictResponse(id="id-7", parts=[of_values(values)] * 2).SerializeToString()
        seen = read_at_sight(message, questions)
        read_response(pb.PredictResponse.FromString(message), questions)
    assert seen is not None
    flipped = [
        message[:place] + bytes([message[place] ^ 1 << bit]) + message[place + 1 :]
        for place in range(len(message))
        for bit in range(8)
    ]
    cut = [message[:end] for end in range(len(message))] + [message + message[at:] for at in range(10)]
    at_sight = 0
    for other in flipped + cut:
        seen = read_at_sight(other, questions)
        if seen is not None:
            at_sight += 1
            response = pb.PredictResponse.FromString(other)
            assert id_at_sight(other) == response.id
            assert list(map(told, seen)) == list(map(told, read_response(response, questions)))
    # The bits of four values of each part, and those of an id that leave it text of ASCII.
    assert at_sight == 8 * 8 * 8 + 7 * 4


def test_a_response_without_an_id_or_to_other_questions_is_left_to_protobuf() -> None:
    """D14: also where what is left of it is well known."""
    known, many = Question("at sight 3", ROW), Question("at sight 3", np.ones((2, 3), np.float32))
    parts = [of_values([0.5])]
    read_response(pb.PredictResponse(parts=parts), [known])
    named = pb.PredictResponse(id="id", parts=parts).SerializeToString()
    assert read_at_sight(named, [known]) is not None
    assert read_at_sight(named, [many]) is None
    assert read_at_sight(named, [known, known]) is None
    assert read_at_sight(named, [Question("of no form", ROW)]) is None
    error = pb.PredictResponse(error=pb.PartStatus(code=4)).SerializeToString()
    assert read_at_sight(named + error, [known]) is None
    for response in (
        pb.PredictResponse(parts=parts),
        pb.PredictResponse(id="ü", parts=parts),
        pb.PredictResponse(id="n" * 128, parts=parts),
        pb.PredictResponse(),
    ):
        assert read_at_sight(response.SerializeToString(), [known]) is None
    assert read_at_sight(b"\n\0" + pb.PredictResponse(parts=parts).SerializeToString(), [known]) is None
