"""Servables on ONNX Runtime: shared sessions, datatypes, warm-up, refusals."""

import hashlib
import threading
import time

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper
from onnx_files import GOLDEN_ROWS, endless_model, make_model, score_contract, score_model
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier

from inference_server.adapters.onnx_servable import OnnxLoader, OnnxLoaderOptions
from inference_server.adapters.onnx_session import plain, sample_inputs
from inference_server.core.errors import InvalidRequestError
from inference_server.core.servable import ServableId
from inference_server.core.tensor import NUMPY_DTYPES, TensorSpec
from inference_server.serving.loader import LoadError

ONE, TWO = ServableId("one", 1), ServableId("two", 1)


def load(loader, id_, model):
    return loader.load(id_, hashlib.sha256(model).hexdigest(), model, len(model))


def score(servable):
    return servable.run({"features": GOLDEN_ROWS}, ["score"])[0].ravel().tolist()


def test_equal_bytes_share_a_session_and_closing_one_leaves_the_other_answering():
    """Two servables of one digest are one session; the first close frees nothing, the second one does."""
    loader = OnnxLoader()
    model = score_model(None, bias=1)
    one, two = load(loader, ONE, model), load(loader, TWO, model)
    assert one._session is two._session
    assert loader.sessions == 1
    one.close()
    assert score(two) == [7.0, 1.0, 4.5]
    assert loader.sessions == 1
    one.close()
    assert loader.sessions == 1, "closing twice counts once"
    two.close()
    assert loader.sessions == 0
    with pytest.raises(RuntimeError, match="after it was closed"):
        score(two)


def test_other_bytes_have_a_session_of_their_own():
    """Sessions are keyed by the bytes' digest, not by name."""
    loader = OnnxLoader()
    first, second = (load(loader, ONE, score_model(None, bias=bias)) for bias in (1, 2))
    assert loader.sessions == 2
    assert score(first) != score(second)


def test_loads_and_closes_from_many_threads_end_with_nothing_loaded():
    """A14, A17: 8 threads load and close the same bytes; never more than one session, none at the end."""
    loader = OnnxLoader(OnnxLoaderOptions(warm_up_runs=1))
    model = score_model(None)
    failures = []

    def work():
        for _ in range(50):
            servable = load(loader, ONE, model)
            if loader.sessions != 1 or score(servable) != [6.0, 0.0, 3.5]:
                failures.append(loader.sessions)
            servable.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert loader.sessions == 0


def test_a_servable_tells_what_the_file_promises():
    """Contract, signature and warm-up time come from the file; the id from its place."""
    servable = load(OnnxLoader(), ServableId("momentum", 7), score_model())
    assert servable.contract == score_contract()
    assert [str(spec) for spec in servable.inputs] == ["features: FP32[?, 3]"]
    assert servable.id.version == 7
    assert 0 < servable.warm_up_ns < 10**8


def test_a_forest_answers_alone_and_in_batches_alike():
    """G2: 100 trees, more than the runtime's threshold for parallel rows: n rows equal n single rows."""
    rows = np.random.default_rng(7).normal(size=(300, 5)).astype(np.float32)
    forest = RandomForestClassifier(100, max_depth=6, random_state=7).fit(rows, rows.sum(axis=1) > 0)
    model = to_onnx(forest, rows[:1], options={"zipmap": False}, target_opset=17).SerializeToString()
    servable = load(OnnxLoader(), ONE, model)
    (batch,) = servable.run({"X": rows}, ["probabilities"])
    single = [servable.run({"X": row[np.newaxis]}, ["probabilities"])[0][0] for row in rows]
    assert np.array_equal(batch, np.array(single))
    assert np.abs(batch - forest.predict_proba(rows)).max() < 1e-5


def test_a_session_starts_no_threads():
    """A run belongs to the thread that asks: 100 trees, whose rows run in parallel by default, start none."""
    rows = np.random.default_rng(7).normal(size=(50, 5)).astype(np.float32)
    forest = RandomForestClassifier(100, max_depth=3, random_state=7).fit(rows, rows.sum(axis=1) > 0)
    model = to_onnx(forest, rows[:1], options={"zipmap": False}, target_opset=17).SerializeToString()
    loader = OnnxLoader()
    load(loader, TWO, score_model(None)).close()
    before = psutil.Process().num_threads()
    servable = load(loader, ONE, model)
    servable.run({"X": rows}, ["probabilities"])
    assert psutil.Process().num_threads() <= before


def test_texts_of_the_runtime_hold_no_path_and_no_prefix():
    """F10: the runtime's text is one line, without its prefix, the paths of its build, or surplus length."""
    error = Exception(
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : in\n/onnxruntime_src/a.cc:12 axis " + "x" * 999
    )
    text = plain(error)
    assert text.startswith("in … axis xxx")
    assert len(text) == 300


@pytest.mark.parametrize(
    ("onnx_type", "datatype"),
    [
        (TensorProto.BOOL, "BOOL"),
        (TensorProto.UINT8, "UINT8"),
        (TensorProto.UINT16, "UINT16"),
        (TensorProto.UINT32, "UINT32"),
        (TensorProto.UINT64, "UINT64"),
        (TensorProto.INT8, "INT8"),
        (TensorProto.INT16, "INT16"),
        (TensorProto.INT32, "INT32"),
        (TensorProto.INT64, "INT64"),
        (TensorProto.FLOAT16, "FP16"),
        (TensorProto.FLOAT, "FP32"),
        (TensorProto.DOUBLE, "FP64"),
        (TensorProto.STRING, "BYTES"),
    ],
)
def test_every_datatype_goes_in_and_comes_out_as_it_was(onnx_type, datatype):
    """Each ONNX element type that can be served meets its Open Inference datatype, both ways."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "identity",
        [helper.make_tensor_value_info("x", onnx_type, [None, 2])],
        [helper.make_tensor_value_info("y", onnx_type, [None, 2])],
    )
    servable = load(OnnxLoader(), ONE, make_model(graph).SerializeToString())
    assert [spec.datatype for spec in (*servable.inputs, *servable.outputs)] == [datatype] * 2
    values = ["käse".encode(), b""] if datatype == "BYTES" else [1, 0]
    array = np.array([values], dtype=NUMPY_DTYPES[datatype])
    (answer,) = servable.run({"x": array}, ["y"])
    assert answer.dtype == array.dtype
    assert answer.tolist() == array.tolist()
    if datatype == "BYTES":
        with pytest.raises(InvalidRequestError, match="UTF-8"):
            servable.run({"x": np.array([[b"\xff", b""]], dtype=np.object_)}, ["y"])


def test_text_in_and_bfloat16_out_is_refused_at_loading():
    """D9: the one mixture that the runtime's binding cannot serve is refused at loading."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["texts"], ["same"])],
        "mixture",
        [
            helper.make_tensor_value_info("x", TensorProto.BFLOAT16, [None, 2]),
            helper.make_tensor_value_info("texts", TensorProto.STRING, [None]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [None, 2]),
            helper.make_tensor_value_info("same", TensorProto.STRING, [None]),
        ],
    )
    with pytest.raises(LoadError, match="takes BYTES and gives BF16"):
        load(OnnxLoader(), ONE, make_model(graph).SerializeToString())


def test_an_answer_that_is_no_text_is_an_invalid_request():
    """D10: a model that answers bytes which are no UTF-8 gives an error in words, not one of the server."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["text"])],
        "table",
        [helper.make_tensor_value_info("index", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info("text", TensorProto.STRING, [None])],
        [helper.make_tensor("table", TensorProto.STRING, [2], [b"\xff", "ü".encode()])],
    )
    servable = load(OnnxLoader(), ONE, make_model(graph).SerializeToString())
    assert servable.run({"index": np.array([1])}, ["text"])[0].tolist() == ["ü".encode()]
    with pytest.raises(InvalidRequestError, match="expected text in UTF-8, came bytes that are none"):
        servable.run({"index": np.array([0])}, ["text"])


def test_values_that_the_model_refuses_are_the_callers_error():
    """A value that a node rejects is InvalidRequestError with the runtime's reason and no path."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "gather",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [helper.make_tensor("table", TensorProto.FLOAT, (3,), [1, 2, 3])],
    )
    servable = load(OnnxLoader(), ONE, make_model(graph).SerializeToString())
    with pytest.raises(InvalidRequestError, match="the model refuses these inputs") as caught:
        servable.run({"x": np.array([99])}, ["y"])
    assert "/" not in str(caught.value)


def test_what_does_not_load_or_carries_a_broken_contract_is_a_load_error():
    """Bytes that are no model are LoadError with a reason, and leave no session behind."""
    loader = OnnxLoader()
    with pytest.raises(LoadError, match="ONNX Runtime does not load it"):
        load(loader, ONE, b"no model")
    assert loader.sessions == 0


def test_warm_up_is_bounded_in_time():
    """A slow model is warmed up by one run when that takes the time bound, not by all of them."""
    loader = OnnxLoader(OnnxLoaderOptions(warm_up_runs=1000, warm_up_s=0.0))
    model = endless_model(turns=20_000)
    before_ns = time.perf_counter_ns()
    servable = load(loader, ONE, model)
    assert time.perf_counter_ns() - before_ns < 100 * servable.warm_up_ns


def test_a_sample_is_ones_of_each_datatype():
    """What warms a model up is one row of ones, of BF16 and of texts too, with 1 where a size varies."""
    specs = [TensorSpec(datatype, datatype, (-1, 2)) for datatype in NUMPY_DTYPES]
    samples = sample_inputs(specs)
    assert samples.pop("BF16").tobytes() == b"\x80\x3f" * 2
    assert samples.pop("BYTES").tolist() == [["1", "1"]]
    for datatype, array in samples.items():
        assert array.tolist() == [[1, 1]], datatype
