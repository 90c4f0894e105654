"""What a learned strategy is bound to: the contract of a version of its model, or why there is none."""

import math
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

from strategy_client.events import Reason
from strategy_client.feature_row import Ranges
from strategy_client.features import FeatureSet
from strategy_client.predictor.description import (
    Contract,
    Description,
    NanPolicy,
    OutputKind,
    VersionDescription,
    VersionState,
)
from strategy_client.predictor.port import Prediction
from strategy_client.processors.model import ClassMeanings, ModelReference, PredictionRow

FEATURES_DATATYPE: Final = "FP32"
# Every feature of ours looks at the newest tick; see strategy_client/history.py.
INCLUDES_CURRENT_TICK: Final = True
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a learned strategy asks of its model."""

    strategy_id: str
    model: ModelReference
    features: FeatureSet


@dataclass(frozen=True, slots=True)
class Bound:
    """A strategy whose features are those of its model's contract, and how to read the model's answers.

    `version` and `digest` are what the sidecar said that it serves when this was bound; each answer names its
    own. `trained_at` is None where the model does not say. `training_ranges` is as float32 gives them, and
    empty where the contract has none. `meanings` is None for a regressor; the output names are empty where
    the model has no such output.
    """

    contract_hash: str
    accepts_nan: bool
    meanings: ClassMeanings | None
    label: str = ""
    probabilities: str = ""
    value: str = ""
    version: int = 0
    digest: str = ""
    trained_at: datetime | None = None
    training_ranges: Ranges = ()

    def read_row(self, prediction: Prediction, row: int) -> PredictionRow:
        """Read one row of an answer. KeyError or IndexError when it lacks what the contract promises."""
        outputs = prediction.outputs
        label = str(outputs[self.label].flat[row]) if self.label else None
        probabilities: tuple[float, ...] = ()
        if self.probabilities:
            columns = outputs[self.probabilities]
            # Of a single row an array of its own takes as long to make as all else here.
            alone = not row and columns.ndim and len(columns) == 1
            probabilities = tuple(columns.tolist()[0] if alone else columns[row].tolist())
        value = float(outputs[self.value].flat[row]) if self.value else None
        return PredictionRow(label, probabilities, value)


@dataclass(frozen=True, slots=True)
class Unbound:
    """A strategy that cannot ask its model, and why."""

    reason: Reason
    detail: str


Binding = Bound | Unbound
NOT_BOUND_YET: Final = Unbound(Reason.UNAVAILABLE, "not bound to the sidecar's models yet")


class BindingsView(Protocol):
    """What a learned strategy sees of the bindings; all of it returns at once."""

    def of(self, strategy_id: str) -> Binding:
        """Return a strategy's binding; the same object until it changes."""
        ...

    def saw(self, model: str, version: int, digest: str) -> None:
        """Take note of an answer by other bytes or another version than those bound."""
        ...

    def doubt(self) -> None:
        """Have the bindings renewed soon."""
        ...


def bind(wanted: Wanted, description: Description) -> Binding:
    """Compare what a strategy asks with what is served; a mismatch names the first difference.

    A model without a contract is refused: nothing would say whether it takes these features.
    """
    name = wanted.model.name
    model = description.models.get(name)
    if model is None:
        return Unbound(Reason.MODEL_NOT_FOUND, f"the sidecar knows no model {name!r}")
    version = model.find(wanted.model.version)
    if version is None and wanted.model.version:
        served = ", ".join(str(each.version) for each in model.versions) or "none"
        return Unbound(
            Reason.MODEL_NOT_FOUND, f"model {name!r} has no version {wanted.model.version}; served: {served}"
        )
    if version is None or version.state is not VersionState.AVAILABLE:
        why = model.problem or (version.reason or version.state.name if version else "no version available")
        return Unbound(Reason.MODEL_NOT_READY, f"model {name!r}: {why}")
    if version.contract is None:
        text = "carries no contract, so nothing says which features it takes; export it with model-export"
        return Unbound(Reason.CONTRACT_MISMATCH, f"model {name!r} version {version.version} {text}")
    difference = first_difference(wanted.features, version, version.contract)
    if difference:
        return Unbound(Reason.CONTRACT_MISMATCH, f"model {name!r} version {version.version}: {difference}")
    return _bound(version, version.contract)


def first_difference(features: FeatureSet, version: VersionDescription, contract: Contract) -> str:
    """Return the first point in which a strategy's features are not the contract's; empty for none."""
    asked, promised = features.names, contract.feature_names
    for index, (ours, theirs) in enumerate(zip(asked, promised, strict=False)):
        if ours != theirs:
            return f"feature {index} is {ours!r} in the strategy and {theirs!r} in the contract"
    if len(asked) != len(promised):
        extra = (asked if len(asked) > len(promised) else promised)[min(len(asked), len(promised))]
        return (
            f"the strategy gives {len(asked)} features, the contract takes {len(promised)}; "
            f"{extra!r} is the first that only one of them has"
        )
    if features.window != contract.window:
        return f"the features look at {features.window} ticks, the contract's window is {contract.window}"
    if contract.includes_current_tick is not INCLUDES_CURRENT_TICK:
        return "the contract's features leave the current tick out, the strategy's include it"
    for datatype in version.input_datatypes:
        if datatype != FEATURES_DATATYPE:
            return f"the model takes {datatype}, the strategy gives {FEATURES_DATATYPE}"
    return ""


def _bound(version: VersionDescription, contract: Contract) -> Bound:
    names = {output.kind: output.name for output in reversed(contract.outputs)}
    meanings = next(
        (ClassMeanings(output.classes, output.meanings) for output in contract.outputs if output.classes),
        None,
    )
    bound = Bound(
        contract_hash=contract.hash,
        accepts_nan=contract.nan_policy is NanPolicy.ACCEPT,
        meanings=meanings,
        label=names.get(OutputKind.LABEL, ""),
        probabilities=names.get(OutputKind.PROBABILITIES, ""),
        value=names.get(OutputKind.VALUE, ""),
        version=version.version,
        digest=version.digest,
        trained_at=_instant(contract.trained_at_ns),
        training_ranges=_as_float32(tuple(map(_everything_for_nan, contract.training_ranges))),
    )
    return _shared(bound)


def _instant(since_epoch_ns: int) -> datetime | None:
    try:
        return EPOCH + timedelta(microseconds=since_epoch_ns // 1000) if since_epoch_ns > 0 else None
    except OverflowError:
        return None


def _everything_for_nan(span: tuple[float, float]) -> tuple[float, float]:
    # A feature that was missing in all of the training has no range; and NaN, which differs from itself,
    # would make each description another one than that before.
    return (-math.inf, math.inf) if any(map(math.isnan, span)) else span


# Strategies that are bound alike get one object, so that a tick knows it by identity; see Peers.
@lru_cache(maxsize=1024)
def _shared(bound: Bound) -> Bound:
    return bound


# Strategies of one contract get one object, and so share the comparison with it; see FeatureRow.outside.
@lru_cache(maxsize=1024)
def _as_float32(ranges: tuple[tuple[float, float], ...]) -> Ranges:
    # A model is asked in float32: the largest value of its training may be larger there than it was.
    return tuple((low, high) for low, high in (array("f", span).tolist() for span in ranges))
