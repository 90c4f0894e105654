"""A session as columns: its ticks, and what each strategy said to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_MODEL: Final = -1


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """The bytes that answered."""

    model: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class StrategyTrack:
    """One strategy along the ticks of its instruments; all arrays have shape (n,), one entry an outcome.

    `ticks` are rows of the recording's ticks, ascending; `outcomes` are indices into its `outcome_names`.
    `probability` is that of the largest class and NaN where no model answered; `made_by` is an index into the
    recording's `models`, or NO_MODEL. `threshold` None is a strategy without one.
    """

    strategy_id: str
    ticks: Ints
    outcomes: Ints
    probability: Floats
    made_by: Ints
    threshold: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ShadowTrack:
    """A strategy's second model beside its first one; all arrays have shape (n,), one entry a comparison."""

    strategy_id: str
    ticks: Ints
    live: Ints
    shadow: Ints
    live_probability: Floats
    shadow_probability: Floats
    model: ModelVersion | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A session. `index`, `token`, `time_ns` (since the epoch), `price` and `latency_us` have shape (ticks,).

    `latency_us` is NaN where it was not measured. `summary` is what the run itself counted, as JSON.
    """

    index: Ints
    token: Ints
    time_ns: Ints
    price: Floats
    latency_us: Floats
    strategies: Sequence[StrategyTrack]
    outcome_names: Sequence[str]
    models: Sequence[ModelVersion]
    shadows: Sequence[ShadowTrack] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> Sequence[int]:
        """The instruments, that with the most ticks first."""
        tokens, counts = np.unique(self.token, return_counts=True)
        return [int(token) for token in tokens[np.argsort(-counts, kind="stable")]]
