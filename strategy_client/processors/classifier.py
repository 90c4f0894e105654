"""The logic around a model that sorts ticks into BUY and SELL."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.events import MarketTick, Reason, SignalResult
from strategy_client.features import FeatureSet
from strategy_client.features.feature import MAX_WINDOW
from strategy_client.history import follow
from strategy_client.processors.limits import COUNT, REFUSE, ModelLimits
from strategy_client.processors.model import ClassMeanings, ModelReference, PredictionRow
from strategy_client.processors.parameter import (
    MAX_POSITION,
    choice,
    integer,
    names,
    nested,
    number,
    optional_number,
    read_options,
    text,
)

MAX_VERSION: Final = 2**63 - 1
MAX_FEATURES: Final = 10_000
# A century.
MAX_AGE_DAYS: Final = 36_525
# A float32 softmax may miss 1 by some of its last digits.
PROBABILITY_ROUNDING: Final = 1e-5

# Asks for one row, and waits: for runners that hand a tick to one strategy after another.
Ask = Callable[[ModelReference, NDArray[np.float32]], PredictionRow | Reason]


@dataclass(frozen=True, slots=True)
class ShadowOptions:
    """A second model, scored beside the first and never emitted; `features` None are the first one's."""

    model: str | None = text()
    model_version: int = integer(0, least=0, most=MAX_VERSION)
    features: tuple[str, ...] | None = names(expected="a list of feature names")


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """The model, by file or by name, and the rule around it.

    `confidence_threshold` is a probability, `lookback_periods` in ticks, `position_size` in units. `features`
    takes the place of the strategy's own list. The last four are how far the model is trusted, see
    `ModelLimits`, and what is tried out beside it.
    """

    model_path: str | None = text()
    model: str | None = text()
    model_version: int = integer(0, least=0, most=MAX_VERSION)
    endpoint: str | None = text()
    lookback_periods: int = integer(20, least=3, most=MAX_WINDOW)
    confidence_threshold: float = number(
        0.6, expected="a number from 0 to below 1", fits=lambda value: 0 <= value < 1
    )
    position_size: int = integer(100, least=1, most=MAX_POSITION)
    features: tuple[str, ...] | None = names(expected="a list of feature names")
    expected_feature_count: int = integer(0, least=1, most=MAX_FEATURES)
    outside_training_range: str = choice(REFUSE, (REFUSE, COUNT))
    training_range_margin: float = number(0.0, expected="a number from 0", fits=lambda value: value >= 0)
    max_model_age_days: float | None = optional_number(
        expected=f"a number above 0, at most {MAX_AGE_DAYS}", fits=lambda value: 0 < value <= MAX_AGE_DAYS
    )
    shadow: ShadowOptions | None = nested(ShadowOptions)  # noqa: RUF009 - a field, declared as the others are


class Verdict(NamedTuple):
    """What the class of the largest probability means; rounding may have added to that."""

    side: Literal["BUY", "SELL"]
    probability: float


class ClassifierProcessor:
    """The class of the largest probability, when that is above the threshold, is the signal.

    Equal largest probabilities are HOLD. The confidence is the probability. `rule` is all that a verdict
    hangs on beside the prediction: classifiers of equal rules judge alike. `position_size` is the quantity of
    each signal, in units.
    """

    def __init__(
        self,
        name: str,
        model: ModelReference,
        features: FeatureSet,
        options: ClassifierOptions,
        ask: Ask | None = None,
        *,
        shadow: "ClassifierProcessor | None" = None,
    ) -> None:
        self.model = model
        self.features = features
        self.shadow = shadow
        self.confidence_threshold = options.confidence_threshold
        age_days = options.max_model_age_days
        self.limits = ModelLimits(
            "count" if options.outside_training_range == COUNT else "refuse",
            options.training_range_margin,
            None if age_days is None else timedelta(days=age_days),
        )
        self._name = name
        self._options = options
        self._ask = ask
        self.position_size = options.position_size
        self._meanings = ClassMeanings()
        self.rule: Hashable = (self._meanings, options.confidence_threshold)

    def bind(self, meanings: ClassMeanings) -> None:
        """Take what the model's classes mean; see `LearnedProcessor`."""
        if not {"BUY", "SELL"} & set(meanings.meanings):
            raise ConfigurationError(
                Problem("model", f"no class of {self.model.name!r} means BUY or SELL: {meanings.meanings}")
            )
        self._meanings = meanings
        self.rule = meanings, self._options.confidence_threshold

    def extract_features(self, tick: MarketTick, history: Sequence[MarketTick]) -> NDArray[np.float32]:  # noqa: ARG002 - Alpha Panda's runner hands the tick over
        """Return a new row, float32, shape (n_features,); see `LearnedProcessor`."""
        return follow(history, self.features).row()

    def interpret(
        self, tick: MarketTick, features: NDArray[np.float32], prediction: PredictionRow
    ) -> SignalResult | Reason:
        """Return the signal, or why there is none; see `LearnedProcessor`."""
        verdict = self.judge(prediction)
        if isinstance(verdict, Reason):
            return verdict
        threshold = self._options.confidence_threshold
        return SignalResult(
            signal_type=verdict.side,
            confidence=min(1.0, verdict.probability),
            quantity=self._options.position_size,
            price=tick.last_price,
            reasoning=f"{self.model.name} says {verdict.side} with probability {verdict.probability:.4f}",
            metadata={
                "probability": verdict.probability,
                "probabilities": dict(zip(self._meanings.classes, prediction.probabilities, strict=True)),
                "confidence_threshold": threshold,
                "features": dict(zip(self.features.names, features.tolist(), strict=True)),
            },
        )

    def judge(self, prediction: PredictionRow) -> Verdict | Reason:
        """Return what the prediction says by this classifier's rule, or why it says nothing."""
        probabilities = prediction.probabilities
        if len(probabilities) != len(self._meanings.meanings):
            return Reason.CONTRACT_MISMATCH
        # A sum is finite only where each of them is.
        if not (math.isfinite(sum(probabilities)) or all(map(math.isfinite, probabilities))):
            return Reason.NON_FINITE
        probability = max(probabilities)
        if min(probabilities) < -PROBABILITY_ROUNDING or probability > 1 + PROBABILITY_ROUNDING:
            return Reason.INVALID_SIGNAL
        if probability <= self._options.confidence_threshold:
            return Reason.BELOW_THRESHOLD
        meaning = self._meanings.meanings[probabilities.index(probability)]
        if meaning not in ("BUY", "SELL") or probabilities.count(probability) > 1:
            return Reason.HOLD
        return Verdict("BUY" if meaning == "BUY" else "SELL", probability)

    def process_tick(self, tick: MarketTick, history: Sequence[MarketTick]) -> SignalResult | None:
        """Extract, ask, wait and interpret in one call; None where there is no signal, whatever the reason.

        Raises RuntimeError for a processor that was made without `ask`: a StrategyRunner asks for it.
        """
        if self._ask is None:
            raise RuntimeError(f"{self._name} has nothing to ask {self.model.name!r} through")
        if len(history) < self.features.window:
            return None
        row = self.extract_features(tick, history)
        answer = self._ask(self.model, row)
        outcome = answer if isinstance(answer, Reason) else self.interpret(tick, row, answer)
        return outcome if isinstance(outcome, SignalResult) else None

    def get_required_history_length(self) -> int:
        """Return the window of the features; it counts the current tick."""
        return self.features.window

    def supports_instrument(self, token: int) -> bool:  # noqa: ARG002 - prices are all it needs
        """Take any instrument."""
        return True

    def get_strategy_name(self) -> str:
        """Return the strategy type."""
        return self._name

    def __repr__(self) -> str:
        return f"ClassifierProcessor({self._name}, {self.model}, {self.features})"


def create_classifier(
    name: str,
    default_features: Callable[[int], tuple[str, ...]],
    config: Mapping[str, Any],
    options_type: type[ClassifierOptions] = ClassifierOptions,
) -> ClassifierProcessor:
    """Make a processor from its parameters; `default_features` gives the feature names for a lookback.

    Raises ConfigurationError; its text begins with "Failed to load ML model from" where no model can be
    meant.
    """
    options = read_options(options_type, config)
    model = _model(options)
    try:
        features = FeatureSet(options.features or default_features(options.lookback_periods))
    except ConfigurationError as error:
        raise _placed("features", error) from error
    if options.expected_feature_count not in (0, len(features)):
        text = f"expected {len(features)}, as many as its features ({', '.join(features.names)}), "
        came = f"came {options.expected_feature_count}"
        raise ConfigurationError(Problem("expected_feature_count", text + came))
    shadow = None if options.shadow is None else _shadow(name, model, features, options, options.shadow)
    return ClassifierProcessor(name, model, features, options, shadow=shadow)


def _shadow(
    name: str,
    model: ModelReference,
    features: FeatureSet,
    options: ClassifierOptions,
    wanted: ShadowOptions,
) -> ClassifierProcessor:
    try:
        shadow = ModelReference(wanted.model or "", wanted.model_version)
    except ValueError as error:
        raise ConfigurationError(Problem("shadow.model", str(error))) from error
    if wanted.features is not None:
        try:
            features = FeatureSet(wanted.features)
        except ConfigurationError as error:
            raise _placed("shadow.features", error) from error
    if (shadow.name, shadow.version) == (model.name, model.version):
        text = f"{shadow.name!r} is the strategy's own model; expected another one, or another model_version"
        raise ConfigurationError(Problem("shadow.model", text))
    return ClassifierProcessor(name, shadow, features, options)


def _placed(place: str, error: ConfigurationError) -> ConfigurationError:
    return ConfigurationError(*(Problem(place, problem.text) for problem in error.problems))


def _model(options: ClassifierOptions) -> ModelReference:
    given = options.model_path or options.model
    if (options.model_path is None) == (options.model is None):
        # Alpha Panda's runner looks for these words to skip the strategy and go on.
        raise ConfigurationError(
            Problem("", f"Failed to load ML model from {given!r}: expected one of model_path and model")
        )
    try:
        if options.model_path is not None:
            return ModelReference.from_path(options.model_path, options.model_version, options.endpoint)
        return ModelReference(options.model or "", options.model_version, options.endpoint)
    except ValueError as error:
        raise ConfigurationError(Problem("", f"Failed to load ML model from {given!r}: {error}")) from error
