"""Single rows through bound buffers: the same bits as without, and nobody sees another's row."""

import threading

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_files import make_model, score_model
from sklearn.ensemble import RandomForestClassifier

from inference_server.adapters.onnx_session import OnnxSession
from inference_server.core.errors import InvalidRequestError
from inference_server.core.servable import Abort
from model_export import export_model

COUNT = 200


@pytest.fixture(scope="module")
def forest(tmp_path_factory) -> bytes:
    """A forest with a label and probabilities of three classes."""
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(300, 3)).astype(np.float32)
    estimator = RandomForestClassifier(n_estimators=9, random_state=1).fit(rows, rng.integers(0, 3, 300))
    report = export_model(
        estimator,
        name="forest",
        models=tmp_path_factory.mktemp("models"),
        samples=rows,
        feature_names=("a", "b", "c"),
    )
    return report.path.read_bytes()


def sessions(model: bytes) -> tuple[OnnxSession, OnnxSession, str, tuple[str, ...]]:
    """Return a bound session, one that is not, their input and their outputs."""
    bound, plain = OnnxSession(model), OnnxSession(model)
    name = plain.inputs[0].name
    bound.bind_row({name: np.ones((1, 3), np.float32)})
    return bound, plain, name, tuple(spec.name for spec in plain.outputs)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_bound_answers_are_those_of_the_session_bit_for_bit(forest, rows):
    """One row goes through the buffers, several do not; nothing tells them apart."""
    bound, plain, name, outputs = sessions(forest)
    assert bound.bound is not None
    rng = np.random.default_rng(rows)
    for _ in range(COUNT // 10):
        given = {name: rng.normal(size=(rows, 3)).astype(np.float32)}
        for one, other in zip(bound.run(given, outputs), plain.run(given, outputs), strict=True):
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def test_an_answer_stays_as_it_was_given(forest):
    """The buffers are used again by the next run; an answer is a copy of them."""
    bound, _, name, outputs = sessions(forest)
    first = bound.run({name: np.full((1, 3), -2, np.float32)}, outputs)
    kept = [array.copy() for array in first]
    bound.run({name: np.full((1, 3), 2, np.float32)}, outputs)
    assert all((one == other).all() for one, other in zip(first, kept, strict=True))


def test_threads_at_once_get_their_own_answers():
    """Runs are allowed from several threads: one of them has the buffers, the others go without."""
    bound, _, name, outputs = sessions(score_model())
    wrong = []

    def press(offset: int) -> None:
        for number in range(COUNT):
            value = np.float32(offset + number)
            (score,) = bound.run({name: np.array([[value, 0, 0]], np.float32)}, outputs)
            if score[0, 0] != value:
                wrong.append((value, score))

    threads = [threading.Thread(target=press, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_buffers_that_are_in_use_are_nobody_elses():
    """Who comes while another thread runs them is answered by the session, and waits for nothing."""
    bound, _, name, outputs = sessions(score_model())
    row = np.array([[5, 0, 0]], np.float32)
    assert bound.bound is not None
    with bound.bound._running:
        assert bound.bound.run(row) is None
        assert bound.run({name: row}, outputs)[0].tolist() == [[5]]
    assert bound.bound.run(row) is not None


def test_a_run_that_may_be_stopped_goes_without_buffers(monkeypatch):
    """A bound run takes no sign to stop."""
    bound, _, name, outputs = sessions(score_model())
    assert bound.bound is not None
    monkeypatch.setattr(type(bound.bound), "run", lambda _, row: pytest.fail(f"{row} cannot be stopped"))
    given = {name: np.array([[5, 0, 0]], np.float32)}
    assert bound.run(given, outputs, Abort())[0].tolist() == [[5]]


def test_some_of_the_outputs_are_asked_of_the_session_itself(forest):
    """Only what asks for every output in the file's order goes through the buffers."""
    bound, plain, name, outputs = sessions(forest)
    given = {name: np.zeros((1, 3), np.float32)}
    for asked in (outputs[1:], outputs[:1], outputs[::-1]):
        answers = zip(bound.run(given, asked), plain.run(given, asked), strict=True)
        assert all((one == other).all() for one, other in answers)


def test_a_file_that_gives_another_shape_than_it_says_is_not_bound():
    """What it really gives is what callers get; a buffer of the wrong size would be refused or wrong."""
    graph = helper.make_graph(
        [helper.make_node("Unique", ["features"], ["score"])],
        "score",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [2])],
    )
    model = make_model(graph).SerializeToString()
    session = OnnxSession(model)
    session.bind_row({"features": np.ones((1, 3), np.float32)})
    assert session.bound is None
    (score,) = session.run({"features": np.ones((1, 3), np.float32)}, ("score",))
    assert score.tolist() == [1.0]


def floats(name, shape):
    """Return what a graph takes or gives."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def test_an_output_whose_size_follows_from_values_is_answered():
    """One row gives one number or three: what does not fit the buffer is asked of the session itself."""
    nodes = [helper.make_node("Unique", ["features"], ["score"])]
    graph = helper.make_graph(nodes, "score", [floats("features", ["rows", 3])], [floats("score", ["found"])])
    session = OnnxSession(make_model(graph).SerializeToString())
    session.bind_row({"features": np.ones((1, 3), np.float32)})
    for row, expected in (([3, 1, 2], [1, 2, 3]), ([4, 4, 4], [4]), ([5, 6, 6], [5, 6])):
        (score,) = session.run({"features": np.array([row], np.float32)}, ("score",))
        assert score.tolist() == expected


def test_an_output_that_no_node_writes_is_not_bound():
    """The runtime hands such an input through beside the buffer, which would say 0 for every row."""
    nodes = [helper.make_node("Relu", ["features"], ["score"])]
    outputs = [floats("features", ["rows", 3]), floats("score", ["rows", 3])]
    graph = helper.make_graph(nodes, "score", [floats("features", ["rows", 3])], outputs)
    session = OnnxSession(make_model(graph).SerializeToString())
    session.bind_row({"features": np.zeros((1, 3), np.float32)})
    row = np.array([[1, 2, 3]], np.float32)
    for answer in session.run({"features": row}, ("features", "score")):
        assert answer.tolist() == row.tolist()


def test_what_the_model_refuses_is_told_as_without_buffers():
    """A bound run raises another kind of error, which would be taken for a bug of the server."""
    nodes = [
        helper.make_node("Cast", ["features"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["score"]),
    ]
    table = helper.make_tensor("table", TensorProto.FLOAT, [2], [7, 8])
    inputs, outputs = [floats("features", ["rows", 1])], [floats("score", ["rows", 1])]
    graph = helper.make_graph(nodes, "score", inputs, outputs, [table])
    session = OnnxSession(make_model(graph).SerializeToString())
    session.bind_row({"features": np.ones((1, 1), np.float32)})
    assert session.bound is not None
    with pytest.raises(InvalidRequestError, match=r"the model refuses these inputs: .*out of data bounds"):
        session.run({"features": np.full((1, 1), 9, np.float32)}, ("score",))
    (score,) = session.run({"features": np.zeros((1, 1), np.float32)}, ("score",))
    assert score.tolist() == [[7]]


@pytest.mark.parametrize(
    "sample",
    [np.ones((2, 3), np.float32), np.ones((1, 4), np.float32), np.ones((3,), np.float32)],
    ids=["two rows", "four features", "no row"],
)
def test_only_a_row_is_bound(sample):
    """What is no single row of the model's leaves the session as it is."""
    session = OnnxSession(score_model())
    session.bind_row({"features": sample})
    assert session.bound is None
