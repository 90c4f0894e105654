"""A model that a test makes up."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from strategy_client.features import FeatureSet
from strategy_client.predictor.description import (
    Contract,
    ModelDescription,
    NanPolicy,
    OutputKind,
    OutputMeaning,
    VersionDescription,
    VersionState,
)

LABEL: Final = "label"
PROBABILITIES: Final = "probabilities"
VALUE: Final = "value"


@dataclass(frozen=True, slots=True, eq=False)
class FakeModel:
    """One version of a model, its contract and what it answers.

    `features` are the names in order. `answer` is a function of the rows, float32 of shape (rows,
    n_features), or what every row is answered with. For a classifier that is a probability for each of
    `classes`, shape (rows, n_classes) or (n_classes,); without classes the model is a regressor and it is a
    number, shape (rows,) or (). `meanings` says BUY, SELL, HOLD or nothing of each class.
    `training_ranges` is the lowest and the highest value of each feature, or empty; `trained_at_ns` is wall
    clock, nanoseconds since the epoch. Raises ValueError where these do not fit each other,
    ConfigurationError for a feature that is not known.
    """

    features: Sequence[str]
    answer: Callable[[NDArray[np.float32]], ArrayLike] | ArrayLike
    version: int = 1
    classes: Sequence[str] = ("0", "1")
    meanings: Sequence[str] = ("SELL", "BUY")
    accepts_nan: bool = False
    training_ranges: Sequence[tuple[float, float]] = ()
    trained_at_ns: int = 0

    def __post_init__(self) -> None:
        FeatureSet(tuple(self.features))
        if len(self.classes) != len(self.meanings):
            raise ValueError(
                f"{len(self.classes)} classes, {len(self.meanings)} meanings: expected one each; "
                "none of both for a regressor"
            )
        if self.version < 1:
            raise ValueError(f"version: expected at least 1, came {self.version}")
        if self.training_ranges and len(self.training_ranges) != len(self.features):
            raise ValueError(
                f"{len(self.training_ranges)} training_ranges, {len(self.features)} features: "
                "expected one each"
            )
        if not callable(self.answer):
            self.outputs(np.zeros((1, len(self.features)), np.float32))

    @property
    def contract_hash(self) -> str:
        """What must match between client and server, hashed: features, NaN policy, classes and meanings."""
        return _digest(tuple(self.features), self.accepts_nan, tuple(self.classes), tuple(self.meanings))

    @property
    def digest(self) -> str:
        """What stands for the SHA-256 of a file: it differs between versions and contracts."""
        return _digest(self.contract_hash, self.version)

    def outputs(self, rows: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Answer rows. ValueError for an answer of another shape; whatever `answer` raises."""
        answer = np.asarray(self.answer(rows) if callable(self.answer) else self.answer, dtype=np.float32)
        shape = (len(rows), len(self.classes)) if self.classes else (len(rows),)
        if answer.shape not in (shape, shape[1:]):
            raise ValueError(f"answer: expected shape {shape} or {shape[1:]}, came {answer.shape}")
        answer = np.array(np.broadcast_to(answer, shape))
        if not self.classes:
            return {VALUE: answer}
        chosen = answer.argmax(axis=1)
        numbers = all(each.removeprefix("-").isdecimal() for each in self.classes)
        labels = (
            np.array(list(map(int, self.classes)), np.int64)
            if numbers
            else np.array(self.classes, np.object_)
        )
        return {LABEL: labels[chosen], PROBABILITIES: answer}

    def describe(self, name: str) -> ModelDescription:
        """Describe it as the only version of a model, available."""
        kinds = {LABEL: OutputKind.LABEL, PROBABILITIES: OutputKind.PROBABILITIES}
        classes, meanings = tuple(self.classes), tuple(self.meanings)
        outputs = tuple(OutputMeaning(output, kind, classes, meanings) for output, kind in kinds.items())
        contract = Contract(
            hash=self.contract_hash,
            feature_names=tuple(self.features),
            window=FeatureSet(tuple(self.features)).window,
            includes_current_tick=True,
            nan_policy=NanPolicy.ACCEPT if self.accepts_nan else NanPolicy.REFUSE,
            outputs=outputs if self.classes else (OutputMeaning(VALUE, OutputKind.VALUE),),
            training_ranges=tuple((float(low), float(high)) for low, high in self.training_ranges),
            estimator="FakeModel",
            trained_at_ns=self.trained_at_ns,
        )
        version = VersionDescription(
            self.version, VersionState.AVAILABLE, "", self.digest, contract, input_datatypes=("FP32",)
        )
        return ModelDescription(name, (version,), self.version)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
