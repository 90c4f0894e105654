"""Converters that replace skl2onnx's own where those lose something.

What was measured with skl2onnx 1.20.0, scikit-learn 1.9.1 and onnxruntime 1.31.1:

- Trees and forests lose the learned way of NaN (every NaN goes right): a forest fitted on rows with NaN was
  off by up to 0.75 in probability. Behind a scaler, float32 turned 326 of 4,096 rows at thresholds the wrong
  way.
- HistGradientBoosting: thresholds are rounded to the nearest float32, so that a row between the two goes the
  wrong way: 47 of 2,400 rows at thresholds, off by up to 0.3, and none of 16,000 ordinary rows.
- SimpleImputer and SVR have no float64 kernel in ONNX Runtime. In float32 the sum over the support vectors
  was off by 3e-5 of the target's spread.

Each converter has skl2onnx's signature (scope, operator, container) and adds nodes to the container.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from skl2onnx.common.data_types import DoubleTensorType
from skl2onnx.operator_converters.common import concatenate_variables
from sklearn.impute import SimpleImputer
from sklearn.svm import SVR, NuSVR

from model_export.errors import ExportError
from model_export.trees import FAMILIES, Ensemble, Link, Tree, read_ensemble

ML_DOMAIN: Final = "ai.onnx.ml"
ML_OPSET: Final = 3
BALANCE: Final = 1.0

Converter = Callable[[Any, Any, Any], None]


def floor_float32(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 not above each threshold.

    For every float32 x, `x <= threshold` and `x <= floor_float32(threshold)` are the same decision.
    """
    rounded = thresholds.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf), dtype=np.float32)
    return np.where(rounded.astype(np.float64) > thresholds, below, rounded)


def convert_trees(scope: Any, operator: Any, container: Any) -> None:
    """Add one TreeEnsemble node that decides every row, NaN included, as the fitted trees do."""
    ensemble = read_ensemble(operator.raw_operator)
    answers_float64 = isinstance(operator.inputs[0].type, DoubleTensorType)
    compares_float64 = answers_float64 and ensemble.compares == np.float64
    rows = operator.inputs[0].full_name
    if answers_float64 and not compares_float64:
        rows = _cast(scope, container, rows, TensorProto.FLOAT)
    if len(operator.outputs) == 2:
        label, answer = operator.outputs[0].full_name, operator.outputs[1].full_name
        attributes = _classifier_attributes(ensemble, operator.raw_operator.classes_)
        names, kind = [label], "TreeEnsembleClassifier"
    else:
        answer = operator.outputs[0].full_name
        attributes = _node_attributes(ensemble.trees) | _leaf_attributes(ensemble.trees, "target")
        attributes |= {"n_targets": len(ensemble.base), "base_values": ensemble.base}
        names, kind = [], "TreeEnsembleRegressor"
    attributes = {"post_transform": "NONE"} | attributes
    scores = answer
    if answers_float64 or ensemble.link is Link.EXP:
        scores = scope.get_unique_variable_name("scores")
    container.add_node(
        kind,
        [rows],
        [*names, scores],
        op_domain=ML_DOMAIN,
        op_version=ML_OPSET,
        name=scope.get_unique_operator_name(kind),
        **_typed(attributes, compares_float64),
    )
    if ensemble.link is Link.EXP:
        raised = scope.get_unique_variable_name("raised") if answers_float64 else answer
        container.add_node(
            "Exp", [scores], [raised], op_version=13, name=scope.get_unique_operator_name("Exp")
        )
        scores = raised
    if answers_float64:
        _cast(scope, container, scores, TensorProto.DOUBLE, answer)


def convert_simple_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Replace NaN by the learned statistics, in the type of the input."""
    imputer = operator.raw_operator
    statistics = np.asarray(imputer.statistics_, dtype=np.float64)
    if not (isinstance(imputer.missing_values, float) and np.isnan(imputer.missing_values)):
        raise ExportError(f"SimpleImputer with missing_values={imputer.missing_values!r}: expected NaN")
    if imputer.add_indicator or np.isnan(statistics).any():
        raise ExportError("SimpleImputer with an indicator or a feature that was all NaN is not supported")
    rows = concatenate_variables(scope, operator.inputs, container)
    float64 = isinstance(operator.inputs[0].type, DoubleTensorType)
    fill = scope.get_unique_variable_name("statistics")
    container.add_initializer(
        fill, TensorProto.DOUBLE if float64 else TensorProto.FLOAT, [1, len(statistics)], statistics.tolist()
    )
    missing = scope.get_unique_variable_name("missing")
    container.add_node(
        "IsNaN", [rows], [missing], op_version=13, name=scope.get_unique_operator_name("IsNaN")
    )
    container.add_node(
        "Where",
        [missing, fill, rows],
        [operator.outputs[0].full_name],
        op_version=16,
        name=scope.get_unique_operator_name("Where"),
    )


def convert_svr(scope: Any, operator: Any, container: Any) -> None:
    """Write the kernel and its weighted sum as plain operators, in the type of the input.

    The kernels are those of libsvm: linear, poly, rbf and sigmoid.
    """
    svr = operator.raw_operator
    float64 = isinstance(operator.inputs[0].type, DoubleTensorType)
    element = TensorProto.DOUBLE if float64 else TensorProto.FLOAT
    vectors = np.asarray(svr.support_vectors_, dtype=np.float64)
    gamma = float(svr._gamma)  # noqa: SLF001 - the fitted gamma has no public name

    def constant(seed: str, values: NDArray[np.float64]) -> str:
        name: str = scope.get_unique_variable_name(seed)
        container.add_initializer(name, element, list(values.shape), values.ravel().tolist())
        return name

    def node(kind: str, *inputs: str, result: str = "") -> str:
        result = result or scope.get_unique_variable_name(kind.lower())
        container.add_node(
            kind, list(inputs), [result], op_version=13, name=scope.get_unique_operator_name(kind)
        )
        return result

    rows = concatenate_variables(scope, operator.inputs, container)
    products = node("MatMul", rows, constant("vectors", vectors.T))
    if svr.kernel == "linear":
        kernel = products
    elif svr.kernel == "rbf":
        lengths = node("MatMul", node("Mul", rows, rows), constant("ones", np.ones((vectors.shape[1], 1))))
        lengths = node("Add", lengths, constant("lengths", (vectors**2).sum(axis=1)[None, :]))
        distances = node("Sub", lengths, node("Mul", products, constant("two", np.array([2.0]))))
        kernel = node("Exp", node("Mul", distances, constant("minus_gamma", np.array([-gamma]))))
    elif svr.kernel in ("poly", "sigmoid"):
        moved = node("Mul", products, constant("gamma", np.array([gamma])))
        moved = node("Add", moved, constant("coef0", np.array([float(svr.coef0)])))
        if svr.kernel == "poly":
            kernel = node("Pow", moved, constant("degree", np.array([float(svr.degree)])))
        else:
            kernel = node("Tanh", moved)
    else:
        raise ExportError(f"{type(svr).__name__} with kernel={svr.kernel!r}: expected one that has a name")
    weights = constant("weights", np.asarray(svr.dual_coef_, dtype=np.float64).reshape(-1, 1))
    intercept = constant("intercept", np.asarray(svr.intercept_, dtype=np.float64))
    node("Add", node("MatMul", kernel, weights), intercept, result=operator.outputs[0].full_name)


def shape_of_imputer(operator: Any) -> None:
    """Declare the output of `convert_simple_imputer`: as many columns as the input, of the same type."""
    width = len(operator.raw_operator.statistics_)
    operator.outputs[0].type = type(operator.inputs[0].type)([None, width])


def _classifier_attributes(ensemble: Ensemble, classes: NDArray[Any]) -> dict[str, Any]:
    trees, base = ensemble.trees, ensemble.base
    if ensemble.link is Link.LOGISTIC and all((tree.weights[tree.leaf] >= 0).all() for tree in trees):
        # ONNX Runtime draws the line between two classes at 0.5 instead of 0 when no leaf is negative.
        trees, base = (*trees, _constant_tree(-BALANCE)), base + BALANCE
    attributes = _node_attributes(trees) | _leaf_attributes(trees, "class")
    if base.any():
        attributes["base_values"] = base
    attributes["post_transform"] = ensemble.link.value
    if all(isinstance(label, str) for label in classes):
        attributes["classlabels_strings"] = [str(label) for label in classes]
    else:
        attributes["classlabels_int64s"] = [int(label) for label in classes]
    return attributes


def _constant_tree(weight: float) -> Tree:
    zero = np.zeros(1, dtype=np.int64)
    no, yes = np.zeros(1, dtype=np.bool_), np.ones(1, dtype=np.bool_)
    return Tree(zero, np.zeros(1), zero, zero, no, yes, np.array([[weight]]), (0,))


def _node_attributes(trees: Sequence[Tree]) -> dict[str, Any]:
    leaf = np.concatenate([tree.leaf for tree in trees])
    return {
        "nodes_treeids": np.repeat(np.arange(len(trees)), [len(tree.leaf) for tree in trees]).tolist(),
        "nodes_nodeids": np.concatenate([np.arange(len(tree.leaf)) for tree in trees]).tolist(),
        "nodes_featureids": np.concatenate([tree.feature for tree in trees]).tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        "nodes_values": np.concatenate([tree.threshold for tree in trees]),
        "nodes_truenodeids": np.concatenate([tree.left for tree in trees]).tolist(),
        "nodes_falsenodeids": np.concatenate([tree.right for tree in trees]).tolist(),
        "nodes_missing_value_tracks_true": np.concatenate([tree.nan_left for tree in trees])
        .astype(np.int64)
        .tolist(),
    }


def _leaf_attributes(trees: Sequence[Tree], prefix: str) -> dict[str, Any]:
    leaves = [np.flatnonzero(tree.leaf) for tree in trees]
    counts = [len(found) * len(tree.targets) for found, tree in zip(leaves, trees, strict=True)]
    pairs = list(zip(leaves, trees, strict=True))
    return {
        f"{prefix}_treeids": np.repeat(np.arange(len(trees)), counts).tolist(),
        f"{prefix}_nodeids": np.concatenate([np.repeat(f, len(t.targets)) for f, t in pairs]).tolist(),
        f"{prefix}_ids": np.concatenate([np.tile(t.targets, len(f)) for f, t in pairs]).tolist(),
        f"{prefix}_weights": np.concatenate([t.weights[f].ravel() for f, t in pairs]),
    }


def _typed(attributes: dict[str, Any], float64: bool) -> dict[str, Any]:
    typed: dict[str, Any] = {}
    for name, value in attributes.items():
        if not isinstance(value, np.ndarray):
            typed[name] = value
        elif float64:
            typed[f"{name}_as_tensor"] = numpy_helper.from_array(value.astype(np.float64), name)
        else:
            typed[name] = (
                floor_float32(value) if name == "nodes_values" else value.astype(np.float32)
            ).tolist()
    return typed


def _cast(scope: Any, container: Any, name: str, to: int, result: str = "") -> str:
    result = result or scope.get_unique_variable_name("cast")
    container.add_node(
        "Cast", [name], [result], op_version=13, name=scope.get_unique_operator_name("Cast"), to=to
    )
    return result


CONVERTERS: Final[dict[type, Converter]] = {
    **dict.fromkeys(FAMILIES, convert_trees),
    SimpleImputer: convert_simple_imputer,
    SVR: convert_svr,
    NuSVR: convert_svr,
}

SHAPES: Final[dict[type, Callable[[Any], None]]] = {SimpleImputer: shape_of_imputer}
