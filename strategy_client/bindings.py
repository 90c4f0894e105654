"""Which contract each learned strategy is bound to, kept up to date away from the tick path."""

import logging
import math
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from strategy_client.events import Reason
from strategy_client.feature_row import Ranges
from strategy_client.features import FeatureSet
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.description import (
    Contract,
    Description,
    ModelDescription,
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
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_DOUBTED: Final = 64

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
NOT_BOUND_YET: Final = Unbound(Reason.UNAVAILABLE, "not bound to the sidecar's models yet")


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
    return Bound(
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


def _instant(since_epoch_ns: int) -> datetime | None:
    try:
        return EPOCH + timedelta(microseconds=since_epoch_ns // 1000) if since_epoch_ns > 0 else None
    except OverflowError:
        return None


def _everything_for_nan(span: tuple[float, float]) -> tuple[float, float]:
    # A feature that was missing in all of the training has no range; and NaN, which differs from itself,
    # would make each description another one than that before.
    return (-math.inf, math.inf) if any(map(math.isnan, span)) else span


# Strategies of one contract get one object, and so share the comparison with it; see FeatureRow.outside.
@lru_cache(maxsize=1024)
def _as_float32(ranges: tuple[tuple[float, float], ...]) -> Ranges:
    # A model is asked in float32: the largest value of its training may be larger there than it was.
    return tuple((low, high) for low, high in (array("f", span).tolist() for span in ranges))


class Bindings:
    """The binding of every learned strategy, read on the tick path and renewed on a thread.

    Renewed when a strategy is in doubt about its model; again and again, with growing pauses, while one of
    them is unbound: a sidecar or a model that appears later is found (H1); and now and then in any case,
    because a model that is not asked, for its age, say, cannot show that it was replaced. `describe` asks the
    sidecar about the models named, and raises InferenceError. `look_again_s` is the longest time between two
    looks.
    """

    def __init__(
        self,
        wanted: Sequence[Wanted],
        describe: Callable[[Sequence[str]], Description],
        pauses: Backoff | None = None,
        look_again_s: float = 10.0,
    ) -> None:
        self._wanted = _by_id(wanted)
        self._describe = describe
        self._pauses = pauses or Backoff(BackoffOptions(first_ms=50.0, longest_ms=2_000.0))
        self._look_again_s = look_again_s
        self._bindings: Mapping[str, Binding] = dict.fromkeys(self._wanted, NOT_BOUND_YET)
        self._described: dict[str, ModelDescription | None] = {}
        # Versions that answered and are not those bound; each is a doubt once, until a binding changes.
        self._doubted: set[tuple[str, int, str]] = set()
        self._refreshing = threading.Lock()
        # Held for moments only, so that `change` does not wait for a sidecar.
        self._changing = threading.Lock()
        self._in_doubt = threading.Event()
        self._closed = threading.Event()
        self._keeping = False
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
        return self._bindings.get(strategy_id, NOT_BOUND_YET)

    def start(self) -> None:
        """Bind once now, and keep the bindings up to date from then on."""
        self.refresh()
        self._keeping = True
        self._keep()

    def change(self, wanted: Sequence[Wanted]) -> None:
        """Take what another line-up asks of its models; never waits for the sidecar.

        A strategy that asks what it asked before keeps its binding. Another one is bound at once if the
        sidecar has been heard of its model, and soon if not.
        """
        with self._changing:
            before, self._wanted = self._wanted, _by_id(wanted)
            kept = {
                strategy_id: self._bindings[strategy_id]
                for strategy_id, each in self._wanted.items()
                if _same(before.get(strategy_id), each)
            }
            self._bindings = {
                strategy_id: kept.get(strategy_id) or self._bind(each)
                for strategy_id, each in self._wanted.items()
            }
            unbound = any(isinstance(binding, Unbound) for binding in self._bindings.values())
        if unbound:
            self.doubt()
        if self._keeping:
            self._keep()

    def refresh(self) -> None:
        """Ask the sidecar now and wait for its answer; one that does not answer changes nothing bound."""
        with self._refreshing:
            models = sorted({each.model.name for each in self._wanted.values()})
            # No names would ask for all models there are.
            if not models:
                return
            try:
                description = self._describe(models)
            except Exception as error:  # what is no InferenceError is a bug, and must not end the renewing
                if not isinstance(error, InferenceError):
                    log.exception("the sidecar's models could not be read")
                with self._changing:
                    unreached = Unbound(Reason.UNAVAILABLE, str(error) or type(error).__name__)
                    self._bindings = {
                        strategy_id: binding if isinstance(binding, Bound) else unreached
                        for strategy_id, binding in self._bindings.items()
                    }
                return
            with self._changing:
                self._take(description, models)

    def saw(self, model: str, version: int, digest: str) -> None:
        """Take note of an answer by other bytes or another version than those bound; returns at once.

        The bindings are renewed soon, once for each such version.
        """
        seen = model, version, digest
        if seen not in self._doubted:
            if len(self._doubted) >= MAX_DOUBTED:
                self._doubted.clear()
            self._doubted.add(seen)
            self.doubt()

    def doubt(self) -> None:
        """Have the bindings renewed soon; returns at once."""
        self._in_doubt.set()

    def close(self) -> None:
        """Stop renewing."""
        self._closed.set()
        self._in_doubt.set()
        if self._thread.is_alive():
            self._thread.join()

    def _take(self, description: Description, asked: Sequence[str]) -> None:
        self._described = {name: description.models.get(name) for name in asked}
        fresh: dict[str, Binding] = {}
        changed = False
        for strategy_id, each in self._wanted.items():
            before = self._bindings[strategy_id]
            binding = self._bind(each)
            if binding == before:
                binding = before
            else:
                changed = True
                log.info("strategy %s: %s", strategy_id, binding)
            fresh[strategy_id] = binding
        self._bindings = fresh
        if changed:
            self._doubted.clear()

    def _bind(self, wanted: Wanted) -> Binding:
        name = wanted.model.name
        if name not in self._described:  # the line-up changed while the sidecar was asked
            return NOT_BOUND_YET
        model = self._described[name]
        try:
            return bind(wanted, Description({name: model} if model is not None else {}, ready=True))
        except Exception as error:  # noqa: BLE001 a contract that contradicts itself is its strategies' outcome
            text = f"model {name!r}: the contract cannot be read: {type(error).__name__}: {error}"
            return Unbound(Reason.CONTRACT_MISMATCH, text)

    def _keep(self) -> None:
        if self._wanted and self._thread.ident is None and not self._closed.is_set():
            self._thread.start()

    def _renew(self) -> None:
        while not self._closed.is_set():
            unbound = any(isinstance(binding, Unbound) for binding in self._bindings.values())
            if not unbound:
                self._pauses.reset()
                self._in_doubt.wait(self._look_again_s)
            # The pause also holds back doubts, which come with every tick while a model is replaced.
            if self._closed.wait(self._pauses.next_ns() / NS_PER_S):
                return
            self._in_doubt.clear()
            self.refresh()


def _by_id(wanted: Sequence[Wanted]) -> dict[str, Wanted]:
    return {each.strategy_id: each for each in wanted}


def _same(before: Wanted | None, now: Wanted) -> bool:
    return before is not None and (before.model, before.features.names) == (now.model, now.features.names)
