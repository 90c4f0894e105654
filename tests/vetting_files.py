"""Real ONNX files that overflow a stack or ask for more memory than there is."""

import numpy as np
from onnx import TensorProto, helper
from onnx_files import make_model, score_proto

FEATURES = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 3])


def deep_tree_model(depth: int) -> bytes:
    """Return a valid file: one tree, each of whose splits has a leaf and the next split.

    ONNX Runtime 1.31 loads a tree by recursion, about 800 bytes of stack a level, and bounds no depth.
    """
    n_nodes = 2 * depth + 1
    nodes = np.arange(n_nodes)
    splits = (nodes % 2 == 0) & (nodes < n_nodes - 1)
    leaves = nodes[~splits].tolist()
    tree = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["score"],
        domain="ai.onnx.ml",
        nodes_treeids=[0] * n_nodes,
        nodes_nodeids=nodes.tolist(),
        nodes_featureids=[0] * n_nodes,
        nodes_values=nodes.astype(float).tolist(),
        nodes_modes=["BRANCH_LEQ" if split else "LEAF" for split in splits],
        nodes_truenodeids=np.where(splits, nodes + 2, 0).tolist(),
        nodes_falsenodeids=np.where(splits, nodes + 1, 0).tolist(),
        target_treeids=[0] * len(leaves),
        target_nodeids=leaves,
        target_ids=[0] * len(leaves),
        target_weights=[1.0] * len(leaves),
        n_targets=1,
    )
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])
    return make_model(helper.make_graph([tree], "deep", [FEATURES], [score])).SerializeToString()


def greedy_model(filled_bytes: int) -> bytes:
    """Return a small valid file whose run fills so much memory."""
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["size"], ["filled"]),
            helper.make_node("ReduceSum", ["filled"], ["sum"]),
        ],
        "greedy",
        [FEATURES],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
        [helper.make_tensor("size", TensorProto.INT64, (1,), [filled_bytes // 4])],
    )
    return make_model(graph).SerializeToString()


def swelling_model(integers: int) -> bytes:
    """Return a valid file of about so many bytes, which parsing makes eight times as large."""
    tensor = TensorProto(name="zeros", data_type=TensorProto.INT64, dims=[integers])
    tensor.int64_data.extend([0] * integers)
    model = score_proto()
    model.graph.initializer.append(tensor)
    return model.SerializeToString()
