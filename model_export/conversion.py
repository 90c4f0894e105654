"""From a fitted estimator to an ONNX graph in the form that the sidecar serves.

The graph takes one float32 input `features`, shape (rows, n_features), and answers float32 numbers and
labels. In between it computes in float64, as scikit-learn does: a scaled row that is rounded to float32 may
fall on the other side of a tree's threshold. A family of trees that stands alone is the exception. It
compares the features themselves, so that float32 decides exactly as float64 does.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDClassifier
from sklearn.svm import LinearSVC

from model_export.converters import CONVERTERS, ML_DOMAIN, ML_OPSET, SHAPES
from model_export.errors import ExportError
from model_export.parts import changed, has_parts
from model_export.reference import LABEL, SCORES, Reference, describe, final_step
from model_export.trees import FAMILIES

FEATURES: Final = "features"
OPSET: Final = 18
FEATURES_FLOAT64: Final = "features_float64"
ROWS: Final = "rows"


def convert(reference: Reference, name: str, version: int, n_features: int) -> onnx.ModelProto:
    """Convert the reference's estimator; the same estimator gives the same bytes.

    `name` and `version` go into the graph's name and the `model_version` field. Raises ExportError for an
    estimator, or an option of one, that cannot be converted. Whether the graph answers as the estimator does
    is not known yet: see `parity`.
    """
    estimator = changed(copy.deepcopy(reference.estimator), _rewritten)
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    alone = type(estimator) in FAMILIES
    kind = FloatTensorType if alone else DoubleTensorType
    inner = FEATURES if alone else FEATURES_FLOAT64
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: onnx.ModelProto = convert_sklearn(
                estimator,
                name=name,
                initial_types=[(inner, kind([None, n_features]))],
                target_opset={"": OPSET, ML_DOMAIN: ML_OPSET},
                options=_options(estimator, reference),
                custom_conversion_functions=CONVERTERS,
                custom_shape_calculators=SHAPES,
            )
    except ExportError:
        raise
    except (MissingConverter, MissingShapeCalculator) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"{describe(reference.estimator)} is not supported: {reason}") from error
    except Exception as error:
        # skl2onnx raises whatever it stumbles over; all of it means that this estimator has no conversion.
        logging.getLogger(__name__).debug("conversion failed", exc_info=True)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"{describe(reference.estimator)} cannot be converted: {reason}") from error
    _set_input(model.graph, n_features)
    _set_outputs(model.graph, reference)
    _set_header(model, version)
    onnx.checker.check_model(model)
    return model


def _rewritten(part: Any) -> Any:
    """Return what answers as `part` of a copy does, and has a conversion."""
    while isinstance(part, FrozenEstimator):
        part = part.estimator
    if isinstance(part, LinearSVC) and hasattr(part, "coef_"):
        # skl2onnx refuses its own options for a LinearSVC inside a pipeline; one linear rule is like another.
        twin = SGDClassifier(loss="hinge")
        for name in ("coef_", "intercept_", "classes_", "n_features_in_"):
            setattr(twin, name, getattr(part, name))
        return twin
    if isinstance(part, VotingClassifier):
        # It shapes what `transform` gives, and no prediction.
        part.flatten_transform = False
        if part.weights is not None:
            part.weights = np.asarray(part.weights, dtype=np.float64)
    return part


def _options(estimator: Any, reference: Reference) -> dict[int, dict[str, bool]]:
    options: dict[int, dict[str, bool]] = {}
    for calibrated in _calibrated(estimator):
        if hasattr(calibrated, "decision_function"):
            # Calibration looks at scores where there are any; skl2onnx gives it probabilities.
            options[id(final_step(calibrated))] = {"raw_scores": True, "zipmap": False}
    if LABEL in reference.outputs:
        raw = {"raw_scores": True} if SCORES in reference.outputs else {}
        options[id(final_step(estimator))] = {"zipmap": False} | raw
    return options


def _calibrated(part: Any) -> Iterator[Any]:
    """Yield every classifier whose answers are calibrated, wherever it stands."""
    if type(part) in (list, tuple):
        for item in part:
            yield from _calibrated(item)
    elif has_parts(part):
        if isinstance(part, CalibratedClassifierCV):
            # An unfitted one stands beside the fitted ones as their pattern.
            yield from (fold.estimator for fold in getattr(part, "calibrated_classifiers_", ()))
        for value in vars(part).values():
            yield from _calibrated(value)


def _set_input(graph: onnx.GraphProto, n_features: int) -> None:
    inner = graph.input[0].name
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, [ROWS, n_features]))
    if inner != FEATURES:
        graph.node.insert(
            0, helper.make_node("Cast", [FEATURES], [inner], name="FeaturesFloat64", to=TensorProto.DOUBLE)
        )


def _set_outputs(graph: onnx.GraphProto, reference: Reference) -> None:
    inner = [value.name for value in graph.output]
    if len(inner) < len(reference.outputs):
        raise ExportError(
            f"{describe(reference.estimator)} converts to {len(inner)} outputs, "
            f"expected {len(reference.outputs)}: {', '.join(reference.outputs)}"
        )
    del graph.output[:]
    n_classes = len(reference.classes)
    # Their names may stand for something else inside.
    for name in reference.outputs:
        _rename(graph, name, f"{name}_hidden")
    for name, came in zip(reference.outputs, inner, strict=False):
        source = f"{came}_hidden" if came in reference.outputs else came
        if name == LABEL:
            texts = isinstance(reference.classes[0], str)
            graph.output.append(
                helper.make_tensor_value_info(
                    name, TensorProto.STRING if texts else TensorProto.INT64, [ROWS]
                )
            )
            _rename(graph, source, name)
            continue
        width = n_classes or 1
        if name == SCORES and n_classes == 2:
            # skl2onnx gives both classes' scores; scikit-learn's decision function is the second's.
            graph.initializer.append(helper.make_tensor("second_class", TensorProto.INT64, [1], [1]))
            graph.node.append(
                helper.make_node(
                    "Gather", [source, "second_class"], ["second_score"], name="SecondScore", axis=1
                )
            )
            source, width = "second_score", 1
        graph.node.append(
            helper.make_node("Cast", [source], [name], name=f"Cast_{name}", to=TensorProto.FLOAT)
        )
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [ROWS, width]))


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new


def _set_header(model: onnx.ModelProto, version: int) -> None:
    used = {node.domain for node in model.graph.node}
    foreign = used - {"", ML_DOMAIN}
    if foreign:
        raise ExportError(
            f"the conversion needs operators of {', '.join(sorted(foreign))}, which are not served"
        )
    opsets = {opset.domain: opset.version for opset in model.opset_import if opset.domain in used | {""}}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    model.graph.doc_string = ""
    model.doc_string = ""
    model.model_version = version
    del model.graph.value_info[:]
