"""The reference: the fitted estimator, asked for exactly what the ONNX file is going to answer."""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC
from sklearn.utils.validation import check_is_fitted

from inference_server.core.contract import OutputKind, OutputMeaning
from inference_server.core.tensor import Array
from model_export.errors import ExportError
from model_export.parts import changed

LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"
SCORES: Final = "scores"
VALUE: Final = "value"

# Two best classes closer than this, in probability or relative to the row's largest score, leave the label
# open.
UNDECIDED: Final = 2e-5
TRADES: Final = ("BUY", "SELL", "HOLD")


class Reference:
    """A fitted classifier or regressor, or a pipeline that ends in one.

    Rows go in as float32, shape (rows, n_features), and reach the estimator as float64 of the same values,
    the type it was most likely fitted on. Raises ExportError when the estimator is not fitted, or is neither.
    """

    def __init__(self, estimator: Any) -> None:
        try:
            check_is_fitted(estimator)
        except NotFittedError:
            raise ExportError(f"{describe(estimator)} is not fitted: call fit first") from None
        except TypeError:
            raise ExportError(
                f"expected a fitted scikit-learn estimator, came {type(estimator).__name__}"
            ) from None
        self.estimator = changed(copy.deepcopy(estimator), _numbered)
        self.final = final_step(estimator)
        if is_classifier(estimator):
            self.classes: tuple[Any, ...] = tuple(_classes(estimator))
            if hasattr(estimator, "predict_proba"):
                self.outputs: tuple[str, ...] = (LABEL, PROBABILITIES)
            elif hasattr(estimator, "decision_function"):
                self.outputs = (LABEL, SCORES)
            else:
                self.outputs = (LABEL,)
        elif is_regressor(estimator):
            self.classes = ()
            self.outputs = (VALUE,)
        else:
            raise ExportError(f"{describe(estimator)}: expected a classifier or a regressor")

    def answer(self, rows: NDArray[np.float32]) -> dict[str, Array]:
        """Return one array for each of `outputs`, float64 or labels (int64, or text in an object array).

        `label` has shape (rows,), `probabilities` (rows, classes), `scores` (rows, classes) or (rows, 1) with
        two classes, `value` (rows, 1). Raises ExportError where the estimator refuses the rows.
        """
        answers = {VALUE: self._ask("predict", rows)} if self.outputs == (VALUE,) else {}
        if LABEL in self.outputs:
            answers[LABEL] = _labels(self._ask("predict", rows))
        if PROBABILITIES in self.outputs:
            answers[PROBABILITIES] = np.asarray(self._ask("predict_proba", rows), dtype=np.float64)
        if SCORES in self.outputs:
            answers[SCORES] = self._ask("decision_function", rows)
        for name in {VALUE, SCORES} & set(answers):
            answer = np.asarray(answers[name], dtype=np.float64)
            answers[name] = answer.reshape(len(rows), -1)
        if VALUE in answers and answers[VALUE].shape[1] != 1:
            raise ExportError(f"the regressor has {answers[VALUE].shape[1]} targets, expected one")
        return answers

    def undecided(self, rows: NDArray[np.float32], answers: Mapping[str, Array]) -> NDArray[np.bool_]:
        """Tell which rows lie so close to the line between two classes that rounding chooses the label."""
        if LABEL not in answers or len(answers) == 1:
            return np.zeros(len(rows), dtype=np.bool_)
        # The label of an SVC follows its decision function, not its probabilities.
        if PROBABILITIES in answers and not isinstance(self.final, SVC | NuSVC):
            scores, scale = answers[PROBABILITIES], np.ones(len(rows))
        else:
            scores = np.asarray(self._ask("decision_function", rows), dtype=np.float64).reshape(len(rows), -1)
            scale = np.maximum(1.0, np.abs(scores).max(axis=1))
        if scores.shape[1] == 1:
            scores = np.hstack([-scores, scores])
        best = np.sort(scores, axis=1)
        gap = best[:, -1] - best[:, -2]
        return np.asarray(gap <= UNDECIDED * scale)

    def takes_nan(self, row: NDArray[np.float32]) -> bool:
        """Tell whether NaN may stand in every feature, by trying each in `row`, shape (n_features,)."""
        taken = []
        for feature in range(len(row)):
            broken = row.copy()
            broken[feature] = np.nan
            try:
                answers = self.answer(broken[None, :])
            except ExportError:
                taken.append(False)
            else:
                numbers = [a for a in answers.values() if a.dtype == np.float64]
                taken.append(all(np.isfinite(a).all() for a in numbers))
        return all(taken)

    def meaning(self, meanings: Mapping[Any, str] | None) -> tuple[OutputMeaning, ...]:
        """Say what each output is; `meanings` maps a class to BUY, SELL or HOLD.

        Without `meanings`, classes whose text is BUY, SELL or HOLD mean that, and others mean nothing: the
        side of a trade is never guessed from a number.
        """
        classes = tuple(str(label) for label in self.classes)
        texts: dict[str, str] = {text: text for text in classes if text in TRADES}
        if meanings is not None:
            texts = {_text(label): meaning for label, meaning in meanings.items()}
        unknown = sorted(set(texts) - set(classes))
        if unknown:
            expected = ", ".join(classes) or "none, as this is a regressor"
            raise ExportError(
                f"meanings: {unknown[0]!r} is not a class of the estimator; expected {expected}"
            )
        wrong = sorted(set(texts.values()) - {*TRADES, ""})
        if wrong:
            raise ExportError(f"meanings: {wrong[0]!r} is not one of BUY, SELL, HOLD")
        sides = tuple(texts.get(text, "") for text in classes)
        kinds = {LABEL: OutputKind.LABEL, PROBABILITIES: OutputKind.PROBABILITIES}
        return tuple(
            OutputMeaning(name, kinds[name], classes, sides)
            if name in kinds
            else OutputMeaning(name, OutputKind.VALUE)
            for name in self.outputs
        )

    def _ask(self, method: str, rows: NDArray[np.float32]) -> Array:
        with by_position(), np.errstate(all="ignore"):
            try:
                answer: Array = getattr(self.estimator, method)(rows.astype(np.float64))
            except Exception as error:
                # An estimator raises what its maker's code raises.
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                raise ExportError(
                    f"{describe(self.estimator)}.{method} refuses the rows: {reason}"
                ) from error
        return answer


@contextlib.contextmanager
def by_position() -> Iterator[None]:
    """Let columns go to an estimator by position, without its warning: their names were compared before."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        yield


def describe(estimator: Any) -> str:
    """Name the estimator and, for a pipeline, its steps."""
    if isinstance(estimator, Pipeline):
        return f"Pipeline({', '.join(describe(step) for _, step in estimator.steps)})"
    return type(estimator).__name__


def _numbered(part: Any) -> Any:
    """Give a column transformer that was fitted on a data frame its columns by number: rows have no names."""
    if isinstance(part, ColumnTransformer) and hasattr(part, "feature_names_in_"):
        numbers = part._transformer_to_input_indices  # noqa: SLF001 - no public way
        part.transformers_ = [(name, step, numbers[name]) for name, step, _ in part.transformers_]
    return part


def final_step(estimator: Any) -> Any:
    """Return what answers at the end of nested pipelines and searches."""
    while True:
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def _classes(estimator: Any) -> Sequence[Any]:
    classes = np.asarray(estimator.classes_)
    if classes.ndim != 1:
        raise ExportError("the classifier has several targets, expected one")
    if len(classes) < 2:
        raise ExportError(f"the classifier knows one class, {classes[0]}: expected two or more")
    labels: Sequence[Any] = _labels(classes).tolist()
    return labels


def _text(label: Any) -> str:
    """Write a class as the contract does: 1, 1.0 and True are one class, as they are to scikit-learn."""
    if isinstance(label, bool | float | np.bool_ | np.floating) and label == int(label):
        label = int(label)
    return str(label)


def _labels(labels: Array) -> Array:
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f" and (labels == labels.astype(np.int64)).all():
        return labels.astype(np.int64)
    texts = [str(label) for label in labels.tolist()]
    if all(isinstance(label, str) for label in labels.tolist()):
        return np.array(texts, dtype=np.object_)
    raise ExportError(f"class labels of type {labels.dtype}: expected whole numbers or texts")
