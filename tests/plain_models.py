"""ONNX files without a contract, of more than one input and output, as other services bring them."""

from onnx import TensorProto, helper
from onnx_files import make_model


def mixed_model() -> bytes:
    """Five inputs of five dtypes, and five outputs: scaled, total, same texts, flipped, half.

    `scale` and `total` have no dimension at all; the number of rows of `features` and the lengths of `counts`
    and `texts` vary, each on its own.
    """
    nodes = [
        helper.make_node("Cast", ["features"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "scale"], ["scaled"]),
        helper.make_node("ReduceSum", ["counts"], ["total"], keepdims=0),
        helper.make_node("Identity", ["texts"], ["same"]),
        helper.make_node("Not", ["flags"], ["flipped"]),
        helper.make_node("Cast", ["features"], ["half"], to=TensorProto.FLOAT16),
    ]
    inputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 3]),
        helper.make_tensor_value_info("scale", TensorProto.DOUBLE, []),
        helper.make_tensor_value_info("counts", TensorProto.INT64, ["n"]),
        helper.make_tensor_value_info("texts", TensorProto.STRING, ["m"]),
        helper.make_tensor_value_info("flags", TensorProto.BOOL, [2, 2]),
    ]
    outputs = [
        helper.make_tensor_value_info("scaled", TensorProto.DOUBLE, ["rows", 3]),
        helper.make_tensor_value_info("total", TensorProto.INT64, []),
        helper.make_tensor_value_info("same", TensorProto.STRING, ["m"]),
        helper.make_tensor_value_info("flipped", TensorProto.BOOL, [2, 2]),
        helper.make_tensor_value_info("half", TensorProto.FLOAT16, ["rows", 3]),
    ]
    return make_model(helper.make_graph(nodes, "mixed", inputs, outputs)).SerializeToString()


def constant_model() -> bytes:
    """No input at all, and one output: known, which is always [1.5, -2.0]."""
    known = helper.make_tensor("value", TensorProto.FLOAT, [2], [1.5, -2.0])
    node = helper.make_node("Constant", [], ["known"], value=known)
    outputs = [helper.make_tensor_value_info("known", TensorProto.FLOAT, [2])]
    return make_model(helper.make_graph([node], "constant", [], outputs)).SerializeToString()
