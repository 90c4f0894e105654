"""The answer to a row, as all strategies and ticks see it that asked the row."""

from collections.abc import Hashable, Mapping
from typing import Any

from strategy_client.events import Reason
from strategy_client.predictor.port import Prediction
from strategy_client.processors.classifier import ClassifierProcessor, Verdict
from strategy_client.processors.model import ClassMeanings, PredictionRow

Conclusion = tuple[Verdict | Reason, Mapping[str, Any]]


class Reading:
    """What the answer to a row was read as, and what it says of where it came from.

    `features` is the row by its names. `probabilities` is None where there is not one for each class of
    `meanings`.
    """

    __slots__ = (
        "_answer",
        "_concluded",
        "_concluded_by",
        "_concluded_from",
        "_features",
        "_metadata",
        "_told",
        "prediction",
        "probabilities",
    )

    def __init__(
        self,
        answer: Prediction,
        prediction: PredictionRow,
        features: Mapping[str, float],
        meanings: ClassMeanings | None,
    ) -> None:
        self.prediction = prediction
        self.probabilities: Mapping[str, float] | None = None
        if meanings is not None and len(prediction.probabilities) == len(meanings.classes):
            self.probabilities = dict(zip(meanings.classes, prediction.probabilities, strict=True))
        self._answer = answer
        self._features = features
        # Of whom the last ones were that asked, and what they were given.
        self._told: tuple[Mapping[str, Any], float | None] | None = None
        self._concluded_from: Mapping[str, Any] | None = None
        self._concluded_by: Hashable = None

    @property
    def source(self) -> tuple[str, int, str]:
        """The model, the version and the digest that answered."""
        return self._answer.model, self._answer.version, self._answer.digest

    def metadata(
        self, provenance: Mapping[str, Any], confidence_threshold: float | None
    ) -> Mapping[str, Any]:
        """Return where it came from, with these added; one object for all who ask with the same in turn."""
        told = self._told
        if told is None or told[0] is not provenance or told[1] != confidence_threshold:
            metadata = {**source_of(self._answer), "features": self._features}
            if self.probabilities is not None:
                metadata["probability"] = max(self.prediction.probabilities)
                metadata["probabilities"] = self.probabilities
            metadata.update(provenance)
            if confidence_threshold is not None:
                metadata["confidence_threshold"] = confidence_threshold
            self._metadata: Mapping[str, Any] = metadata
            self._told = provenance, confidence_threshold
        return self._metadata

    def concluded(self, rule: Hashable, provenance: Mapping[str, Any]) -> Conclusion | None:
        """Return what was concluded last, where that was by this rule, and of the same provenance."""
        if provenance is not self._concluded_from or rule != self._concluded_by:
            return None
        return self._concluded

    def conclude(self, classifier: ClassifierProcessor, provenance: Mapping[str, Any]) -> Conclusion:
        """Return what a classifier says where there are `probabilities`, and the metadata of its outcome.

        It is worked out once for all classifiers of one rule in turn.
        """
        rule = classifier.rule
        if self.concluded(rule, provenance) is None:
            verdict = classifier.judge(self.prediction)
            threshold = classifier.confidence_threshold
            if isinstance(verdict, Reason):
                metadata = self.metadata(provenance, threshold)
            else:
                answer = self._answer
                # In the order in which a signal has them of any processor: first what `interpret` gives.
                metadata = {
                    "probability": verdict.probability,
                    "probabilities": self.probabilities,
                    "confidence_threshold": threshold,
                    "features": self._features,
                    "model": answer.model,
                    "version": answer.version,
                    "digest": answer.digest,
                    "contract_hash": answer.contract_hash,
                    **provenance,
                }
            self._concluded: Conclusion = verdict, metadata
            self._concluded_from, self._concluded_by = provenance, rule
        return self._concluded


def source_of(answer: Prediction) -> dict[str, Any]:
    """Return which version of which model answered, as an outcome's metadata has it."""
    return {
        "model": answer.model,
        "version": answer.version,
        "digest": answer.digest,
        "contract_hash": answer.contract_hash,
    }
