"""Which contract each learned strategy is bound to, kept up to date away from the tick path."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strategy_client.events import Reason
from strategy_client.features import FeatureSet
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.description import (
    Contract,
    Description,
    NanPolicy,
    OutputKind,
    VersionDescription,
    VersionState,
)
from strategy_client.predictor.port import Prediction
from strategy_client.predictor.status import InferenceError
from strategy_client.processors.model import ClassMeanings, ModelReference, PredictionRow

NS_PER_S: Final = 1_000_000_000
FEATURES_DATATYPE: Final = "FP32"
# Every feature of ours looks at the newest tick; see strategy_client/history.py.
INCLUDES_CURRENT_TICK: Final = True

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a learned strategy asks of its model."""

    strategy_id: str
    model: ModelReference
    features: FeatureSet


@dataclass(frozen=True, slots=True)
class Bound:
    """A strategy whose features are those of its model's contract, and how to read the model's answers.

    `meanings` is None for a regressor; the output names are empty where the model has no such output.
    """

    contract_hash: str
    accepts_nan: bool
    meanings: ClassMeanings | None
    label: str = ""
    probabilities: str = ""
    value: str = ""

    def read_row(self, prediction: Prediction, row: int) -> PredictionRow:
        """Read one row of an answer. KeyError or IndexError when it lacks what the contract promises."""
        outputs = prediction.outputs
        return PredictionRow(
            label=str(outputs[self.label].flat[row]) if self.label else None,
            probabilities=tuple(outputs[self.probabilities][row].tolist()) if self.probabilities else (),
            value=float(outputs[self.value].flat[row]) if self.value else None,
        )


@dataclass(frozen=True, slots=True)
class Unbound:
    """A strategy that cannot ask its model, and why."""

    reason: Reason
    detail: str


Binding = Bound | Unbound


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
    return _bound(version.contract)


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


def _bound(contract: Contract) -> Bound:
    names = {output.kind: output.name for output in reversed(contract.outputs)}
    meanings = next(
        (ClassMeanings(output.classes, output.meanings) for output in contract.outputs if output.classes),
        None,
    )
    return Bound(
        contract_hash=contract.hash,
        accepts_nan=contract.nan_policy is NanPolicy.ACCEPT,
        meanings=meanings,
        label=names.get(OutputKind.LABEL, ""),
        probabilities=names.get(OutputKind.PROBABILITIES, ""),
        value=names.get(OutputKind.VALUE, ""),
    )


class Bindings:
    """The binding of every learned strategy, read on the tick path and renewed on a thread.

    Renewed when a strategy is in doubt about its model, and again and again, with growing pauses, while one
    of them is unbound: a sidecar or a model that appears later is found (H1). `describe` asks the sidecar
    about the models named, and raises InferenceError.
    """

    def __init__(
        self,
        wanted: Sequence[Wanted],
        describe: Callable[[Sequence[str]], Description],
        pauses: Backoff | None = None,
    ) -> None:
        self._wanted = tuple(wanted)
        self._describe = describe
        self._pauses = pauses or Backoff(BackoffOptions(first_ms=50.0, longest_ms=2_000.0))
        self._bindings: Mapping[str, Binding] = {
            each.strategy_id: Unbound(Reason.UNAVAILABLE, "not bound to the sidecar's models yet")
            for each in self._wanted
        }
        self._refreshing = threading.Lock()
        self._in_doubt = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="tickserve-bindings", daemon=True)

    def __repr__(self) -> str:
        bound = sum(isinstance(binding, Bound) for binding in self._bindings.values())
        return f"<Bindings {bound} of {len(self._bindings)} bound>"

    @property
    def all(self) -> Mapping[str, Binding]:
        """The binding of each learned strategy, by its id."""
        return MappingProxyType(dict(self._bindings))

    def of(self, strategy_id: str) -> Binding:
        """Return a strategy's binding; the same object until it changes."""
        return self._bindings[strategy_id]

    def start(self) -> None:
        """Bind once now, and keep the bindings up to date from then on."""
        if self._wanted:
            self.refresh()
            self._thread.start()

    def refresh(self) -> None:
        """Ask the sidecar now and wait for its answer; one that does not answer changes nothing bound."""
        with self._refreshing:
            try:
                description = self._describe(sorted({each.model.name for each in self._wanted}))
            except InferenceError as error:
                unreached = Unbound(Reason.UNAVAILABLE, str(error))
                self._bindings = {
                    strategy_id: binding if isinstance(binding, Bound) else unreached
                    for strategy_id, binding in self._bindings.items()
                }
                return
            fresh = {each.strategy_id: bind(each, description) for each in self._wanted}
            for strategy_id, binding in fresh.items():
                if binding == self._bindings[strategy_id]:
                    fresh[strategy_id] = self._bindings[strategy_id]
                else:
                    log.info("strategy %s: %s", strategy_id, binding)
            self._bindings = fresh

    def doubt(self) -> None:
        """Have the bindings renewed soon; returns at once."""
        self._in_doubt.set()

    def close(self) -> None:
        """Stop renewing."""
        self._closed.set()
        self._in_doubt.set()
        if self._thread.is_alive():
            self._thread.join()

    def _renew(self) -> None:
        while not self._closed.is_set():
            unbound = any(isinstance(binding, Unbound) for binding in self._bindings.values())
            if not unbound:
                self._pauses.reset()
                self._in_doubt.wait()
            # The pause also holds back doubts, which come with every tick while a model is replaced.
            if self._closed.wait(self._pauses.next_ns() / NS_PER_S):
                return
            self._in_doubt.clear()
            self.refresh()
