"""Whether the values of a model's inputs may decide how long a run takes, by its graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import endless_model, make_model, score_model, stubborn_model
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from inference_server.adapters.steadiness import is_steady


def graph_of(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A model of these nodes, from `features` to `score`."""
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    return make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 3])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, None)],
            [one],
        )
    )


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(n_estimators=5),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=["linear", "forest", "pipeline"],
)
def test_what_strategies_use_is_steady(estimator: object) -> None:
    """Linear models, forests and pipelines of them take as long for one row as for another."""
    features = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    estimator.fit(features, np.arange(60) % 2)  # type: ignore[attr-defined] # every estimator has it
    assert is_steady(to_onnx(estimator, features[:1], options={"zipmap": False}))


def test_what_is_made_here_for_tests_is_steady() -> None:
    """The plain sum of features is steady, with a contract or without."""
    assert is_steady(onnx.load_model_from_string(score_model()))


@pytest.mark.parametrize("model", [endless_model(), endless_model(None), stubborn_model()])
def test_loops_and_sizes_that_come_from_values_are_not(model: bytes) -> None:
    """A loop is never steady, nor is an array as large as the largest feature."""
    assert not is_steady(onnx.load_model_from_string(model))


def test_a_size_that_comes_from_a_shape_is_steady() -> None:
    """An output made as large as there are rows follows the rows, not their values."""
    rows = [
        helper.make_node("Shape", ["features"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["zeros"]),
        helper.make_node("Add", ["features", "zeros"], ["score"]),
    ]
    values = [
        helper.make_node("Cast", ["features"], ["numbers"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["numbers", "one"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["score"]),
    ]
    assert is_steady(graph_of(rows))
    assert not is_steady(graph_of(values))


def test_neighbours_are_not_taken_for_steady() -> None:
    """Where the exporter writes a graph in a node, the model is run in a thread, to be safe."""
    features = np.random.default_rng(1).normal(size=(60, 4)).astype(np.float32)
    neighbours = KNeighborsClassifier(3).fit(features, np.arange(60) % 2)
    made = to_onnx(neighbours, features[:1], options={"zipmap": False})
    has_graph = any(attribute.HasField("g") for node in made.graph.node for attribute in node.attribute)
    assert has_graph
    assert not is_steady(made)
