"""Within which limits a learned strategy trusts its model."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from strategy_client.processors.processor import LearnedProcessor

OutsideTrainingRange = Literal["refuse", "count"]
REFUSE: Final = "refuse"
COUNT: Final = "count"


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """What a model may be asked, and until when.

    Features outside of the contract's training range are counted, and with `refuse` nothing is asked.
    `training_range_margin` widens the range at both ends by this fraction of its span. `max_model_age` is the
    time since training, in the time of the ticks; None is without end.
    """

    outside_training_range: OutsideTrainingRange = "refuse"
    training_range_margin: float = 0.0
    max_model_age: timedelta | None = None


def limits_of(processor: LearnedProcessor) -> ModelLimits:
    """Return the `limits` of a processor; the defaults for a user's own that has none."""
    limits = getattr(processor, "limits", None)
    return limits if isinstance(limits, ModelLimits) else ModelLimits()


def shadow_of(processor: LearnedProcessor) -> LearnedProcessor | None:
    """Return the `shadow` of a processor, the logic around a second model that is never emitted, if any."""
    shadow = getattr(processor, "shadow", None)
    return shadow if isinstance(shadow, LearnedProcessor) else None
