"""What an answer becomes when bits of it are flipped on the way: something valid, or a refusal."""

import numpy as np
import pytest
from fixtures_ticks import tick
from google.protobuf.message import DecodeError
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.binding import Bound
from strategy_client.events import Reason, SignalResult
from strategy_client.executor import find_problem
from strategy_client.factory import StrategyFactory
from strategy_client.predictor.codec import read_description, read_response
from strategy_client.predictor.port import Prediction, Question, Refusal
from strategy_client.processors.model import ClassMeanings
from strategy_client.processors.processor import LearnedProcessor

QUESTIONS = [Question("up", np.ones((2, 3), np.float32)), Question("down", np.ones((1, 3), np.float32))]
BOUND = Bound("h" * 64, accepts_nan=False, meanings=ClassMeanings(), label="label", probabilities="p")


def part(model: str, rows: int) -> pb.PartResult:
    """Return an answer to so many rows."""
    return pb.PartResult(
        model=model,
        version=3,
        digest="d" * 64,
        contract_hash="h" * 64,
        outputs=[
            pb.Tensor(name="label", datatype="INT64", shape=[rows], raw=np.ones(rows, "<i8").tobytes()),
            pb.Tensor(
                name="p", datatype="FP32", shape=[rows, 2], raw=np.full((rows, 2), 0.5, "<f4").tobytes()
            ),
            pb.Tensor(name="why", datatype="BYTES", shape=[rows], raw=b"\x02\x00\x00\x00ab" * rows),
        ],
    )


ANSWER = pb.PredictResponse(id="1", parts=[part("up", 2), part("down", 1)])
REFUSED = pb.PredictResponse(
    id="1", parts=[pb.PartResult(model="up", status=pb.PartStatus(code=9, message="no")), part("down", 1)]
)
ERROR = pb.PredictResponse(id="1", error=pb.PartStatus(code=8, message="too many"))


@pytest.mark.parametrize("response", [ANSWER, REFUSED, ERROR], ids=["answer", "refused", "error"])
def test_any_flipped_bit_is_read_without_raising(response: pb.PredictResponse) -> None:
    """D14, H3: each single bit of an answer may be flipped; the reader gives one answer a question.

    Each is a refusal with a reason and a text, or arrays of as many rows as were asked. Nothing can tell that
    a number in them is another: HTTP/2 has no checksum, TLS has.
    """
    wire = response.SerializeToString()
    unreadable = lied = 0
    for bit in range(8 * len(wire)):
        flipped = bytearray(wire)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            came = pb.PredictResponse.FromString(bytes(flipped))
        except DecodeError:
            unreadable += 1
            continue
        answers = read_response(came, QUESTIONS)
        assert len(answers) == len(QUESTIONS)
        for answer, question in zip(answers, QUESTIONS, strict=True):
            if isinstance(answer, Refusal):
                assert isinstance(answer.reason, Reason)
                continue
            assert isinstance(answer, Prediction)
            assert all(len(values) == len(question.features) for values in answer.outputs.values())
            lied += answer.outputs.get("p", np.array(0.5)).tolist() != [[0.5, 0.5]] * len(question.features)
    assert unreadable
    assert lied or response is not ANSWER


def test_flipped_probability_is_no_impossible_signal() -> None:
    """H6: a probability with a flipped bit is a signal only where it could be one; else it has its reason."""
    processor = StrategyFactory().create_processor(
        "ml_momentum", {"model": "up", "features": ["price"], "confidence_threshold": 0.5}
    )
    assert isinstance(processor, LearnedProcessor)
    processor.bind(ClassMeanings())
    wire = np.array([[0.25, 0.75]], "<f4").tobytes()
    came = set()
    for bit in range(8 * len(wire)):
        flipped = bytearray(wire)
        flipped[bit // 8] ^= 1 << bit % 8
        outputs = {"label": np.ones(1, np.int64), "p": np.frombuffer(bytes(flipped), "<f4").reshape(1, 2)}
        row = BOUND.read_row(Prediction("up", 3, "d", "h", outputs), 0)
        result = processor.interpret(tick(100), np.array([100], np.float32), row)
        if isinstance(result, SignalResult):
            assert find_problem(result) == ""
        came.add(result if isinstance(result, Reason) else type(result))
    assert came >= {SignalResult, Reason.INVALID_SIGNAL, Reason.BELOW_THRESHOLD}


def test_any_flipped_bit_of_a_description_is_read_without_raising() -> None:
    """H5: what is served may be described wrongly by such bits; the reader does not fall over it."""
    contract = pb.Contract(
        hash="h" * 64,
        feature_names=["a", "b"],
        window=20,
        nan_policy=pb.Contract.REFUSE,
        outputs=[pb.OutputMeaning(name="p", kind=pb.OutputMeaning.PROBABILITIES, classes=["0", "1"])],
        training_ranges=[pb.FeatureRange(low=0, high=1)] * 2,
    )
    version = pb.VersionDescription(version=3, state=pb.VersionDescription.AVAILABLE, contract=contract)
    model = pb.ModelDescription(name="up", versions=[version], default_version=3)
    wire = pb.DescribeModelsResponse(models=[model], ready=True).SerializeToString()
    read = 0
    for bit in range(8 * len(wire)):
        flipped = bytearray(wire)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            came = pb.DescribeModelsResponse.FromString(bytes(flipped))
        except DecodeError:
            continue
        read_description(came)
        read += 1
    assert read
