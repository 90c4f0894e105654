"""A row through bound buffers, beside the session's own run of it."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx_files import score_contract, score_model

from inference_server.adapters.onnx_servable import OnnxLoader, OnnxServable
from inference_server.core.servable import ServableId

ROWS = arrays(np.float32, (1, 3), elements=st.floats(width=32))


@pytest.fixture(scope="module")
def servable() -> OnnxServable:
    """A model that adds its features."""
    model = score_model(contract=score_contract())
    return OnnxLoader().load(ServableId("momentum", 1), hashlib.sha256(model).hexdigest(), model, 0)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=3))
def test_the_bits_of_bytes_are_those_of_arrays(servable: OnnxServable, rows: list[np.ndarray]) -> None:
    """Whatever a row holds, and whatever the row before it held: by bytes, by one array, and among others."""
    outputs = tuple(spec.name for spec in servable.outputs)
    for row in rows:
        by_bytes = servable.run_row(row.tobytes())
        one = servable.run({"features": row}, outputs)
        two = servable.run({"features": np.concatenate([row, row])}, outputs)
        assert by_bytes == [array.tobytes() for array in one] == [array[:1].tobytes() for array in two]
        assert [array.shape for array in one] == [spec.one_row for spec in servable.outputs]


def test_after_its_close_nothing_is_run_by_bytes(servable: OnnxServable) -> None:
    """B5: `run` says that it was closed."""
    servable.close()
    assert servable.run_row(np.zeros((1, 3), np.float32).tobytes()) is None
    with pytest.raises(RuntimeError, match="after it was closed"):
        servable.run({"features": np.zeros((1, 3), np.float32)}, ("score",))


def test_bytes_that_are_no_row_are_left_to_the_session() -> None:
    """The buffer keeps its size; nothing of another row is answered."""
    model = score_model(contract=score_contract())
    servable = OnnxLoader().load(ServableId("momentum", 1), hashlib.sha256(model).hexdigest(), model, 0)
    assert servable.run_row(b"\0" * 8) is None
    assert servable.run_row(b"\0" * 16) is None
