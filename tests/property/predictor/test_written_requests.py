"""Requests put together from bytes, beside what protobuf makes of the same fields."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tickserve.v1 import predictor_pb2 as pb

from strategy_client.predictor.codec import write_request
from strategy_client.predictor.port import Question

FEATURES = arrays(
    st.sampled_from([np.dtype("<f4"), np.dtype(">f4")]),
    array_shapes(min_dims=2, max_dims=2, max_side=40) | st.just((2, 0)),
    elements=st.floats(width=32),
)
QUESTIONS = st.builds(
    Question,
    st.sampled_from(["", "m", "ü", "n" * 127, "n" * 128]),
    FEATURES,
    st.sampled_from([0, 1, 127, 128, 2**63 - 1, -1]),
    st.sampled_from(["", "h" * 64]),
)


@given(st.text(max_size=3), st.lists(QUESTIONS, max_size=4), st.integers(0, 2**64 - 1))
def test_a_request_is_written_as_protobuf_writes_it(
    id_: str, questions: list[Question], timeout: int
) -> None:
    """Whatever is asked, and whatever was asked before."""
    parts = [
        pb.PredictPart(
            model=question.model,
            version=question.version,
            contract_hash=question.contract_hash,
            rows=len(question.features),
            features=question.features.astype("<f4").tobytes(),
        )
        for question in questions
    ]
    expected = pb.PredictRequest(id=id_, parts=parts, timeout_us=timeout)
    written = write_request(id_, questions, timeout)
    assert written == expected.SerializeToString()
