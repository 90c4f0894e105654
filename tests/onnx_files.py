"""Small real ONNX files, made at test time: score = sum of the features + bias."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from inference_server.core.contract import (
    METADATA_KEY,
    Contract,
    FeatureRange,
    NanPolicy,
    OutputKind,
    OutputMeaning,
)
from inference_server.core.golden import GoldenOutput, GoldenVectors

IR_VERSION = 10
OPSET = 17
GOLDEN_ROWS = np.array([[1, 2, 3], [0, 0, 0], [-1, 0.5, 4]], dtype=np.float32)


def score_contract(name: str = "momentum", *, bias: float = 0.0, **changes: Any) -> Contract:
    """Return the contract of `score_model` with that bias."""
    expected = GOLDEN_ROWS.sum(axis=1, keepdims=True) + np.float32(bias)
    fields: dict[str, Any] = {
        "model": name,
        "version": 1,
        "feature_names": ("a", "b", "c"),
        "window": 20,
        "includes_current_tick": True,
        "nan_policy": NanPolicy.REFUSE,
        "outputs": (OutputMeaning("score", OutputKind.VALUE),),
        "training_ranges": (FeatureRange(-1.0, 1.0),) * 3,
        "golden": GoldenVectors(GOLDEN_ROWS, (GoldenOutput("score", expected, atol=1e-5, rtol=0.0),)),
        "estimator": "LinearRegression()",
        "libraries": (("numpy", np.__version__),),
        "trained_at_ns": 1_378_000_000_000_000_000,
    }
    return Contract(**(fields | changes))


def score_proto(*, bias: float = 0.0, n_features: int = 3, padding: int = 0) -> onnx.ModelProto:
    """Return the model without a contract; `padding` adds that many bytes of weights that change nothing."""
    weights = np.ones((n_features, 1), dtype=np.float32)
    constants = [
        helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
        helper.make_tensor("bias", TensorProto.FLOAT, (1,), [bias]),
    ]
    if padding:
        constants.append(
            helper.make_tensor("padding", TensorProto.UINT8, (padding,), bytes(padding), raw=True)
        )
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["features", "weights"], ["sums"]),
            helper.make_node("Add", ["sums", "bias"], ["score"]),
        ],
        "score",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, n_features])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        constants,
    )
    return make_model(graph)


def make_model(graph: onnx.GraphProto, **fields: Any) -> onnx.ModelProto:
    """Return a model around a graph, of the versions that every ONNX Runtime of ours reads."""
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=opsets, **fields)


def score_model(
    name: str | None = "momentum",
    *,
    bias: float = 0.0,
    model_version: int = 0,
    contract: Contract | None = None,
    n_features: int = 3,
    padding: int = 0,
) -> bytes:
    """Return the file's bytes. `name` None: no contract; otherwise `contract` or the one that fits."""
    model = score_proto(bias=bias, n_features=n_features, padding=padding)
    if model_version:
        model.model_version = model_version
    if name is not None:
        document = (contract or score_contract(name, bias=bias)).to_json()
        helper.set_model_props(model, {METADATA_KEY: document})
    return model.SerializeToString()


def endless_model(turns: int | None = 2**62) -> bytes:
    """Return a valid file that loads and whose run does not end: a Loop of 2^62 turns; or of fewer.

    With `turns` None it takes as many as its largest input says: quick when warmed up with ones.
    """
    turn = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("Sin", ["value"], ["value_out"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 3]),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value_out", TensorProto.FLOAT, [None, 3]),
        ],
    )
    loop = helper.make_node("Loop", ["turns", "", "features"], ["score"], body=turn)
    count = [
        helper.make_node("ReduceMax", ["features"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["turns"], to=TensorProto.INT64),
    ]
    graph = helper.make_graph(
        [loop] if turns is not None else [*count, loop],
        "endless",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 3])],
        [] if turns is None else [helper.make_tensor("turns", TensorProto.INT64, [], [turns])],
    )
    return make_model(graph).SerializeToString()


def stubborn_model() -> bytes:
    """Return a valid file whose run takes about 0.1 ms for each unit of its largest input, in one node.

    It cannot be stopped: the average of each window of 100,000 values in a line of so many values.
    """
    window = 100_000
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["length"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["length", "one"], ["lengths"]),
        helper.make_node("Concat", ["one_each", "lengths"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["line"]),
        helper.make_node(
            "AveragePool", ["line"], ["means"], kernel_shape=[window], pads=[window - 1, window - 1]
        ),
        helper.make_node("ReduceMax", ["means"], ["mean"], keepdims=0),
        helper.make_node("Add", ["features", "mean"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "stubborn",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 3])],
        [
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
            helper.make_tensor("one_each", TensorProto.INT64, [2], [1, 1]),
        ],
    )
    return make_model(graph).SerializeToString()
