"""What came of a run, in numbers that add up."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from strategy_client.drift import DriftCounts
from strategy_client.edge import TickCounts
from strategy_client.predictor.connection import PredictorCounts
from strategy_client.predictor.transport import TransportInUse
from strategy_client.shadow import ShadowSummary

SIDES: Final = ("BUY", "SELL")


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """How often one version of a model answered a strategy."""

    model: str
    version: int
    digest: str
    answers: int


@dataclass(frozen=True, slots=True)
class StrategySummary:
    """One strategy. `outcomes` has a number for BUY, SELL and each reason; together they are `ticks`.

    `drift` is None where no feature left its training range, `shadow` where it has none.
    """

    strategy_id: str
    strategy_type: str
    learned: bool
    ticks: int
    outcomes: Mapping[str, int]
    models: Sequence[ModelAnswers]
    drift: DriftCounts | None = None
    shadow: ShadowSummary | None = None
    shadow_models: Sequence[ModelAnswers] = ()

    def more(self) -> dict[str, Any]:
        """Return as plain values what there is of drift and of a shadow."""
        more: dict[str, Any] = {}
        if self.drift is not None:
            more["drift"] = {
                "rows": self.drift.rows,
                "below": dict(sorted(self.drift.below.items())),
                "above": dict(sorted(self.drift.above.items())),
            }
        if self.shadow is not None:
            models = [asdict(model) for model in self.shadow_models]
            more["shadow"] = {**self.shadow.to_json(), "models": models}
        return more

    @property
    def signals(self) -> int:
        """How many of its ticks gave a signal."""
        return sum(self.outcomes.get(side, 0) for side in SIDES)

    @property
    def reasons(self) -> Mapping[str, int]:
        """How many of its ticks gave no signal, by reason, the most frequent first."""
        named = {name: count for name, count in self.outcomes.items() if name not in SIDES}
        return dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True)
class Replaced:
    """A model file that was replaced just before a tick. `refused` is why it was not taken, if so."""

    tick: int
    model: str
    file: str
    digest: str
    refused: str


@dataclass(frozen=True, slots=True)
class TickLatency:
    """From a tick's begin to its last outcome, in microseconds."""

    median: float
    p99: float
    longest: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A run. `calls` is None where no strategy needed a sidecar; `transports` carried them, one a target.

    `window` is how many ticks were asked together at most; `latency_us` is None where it is more than one.
    """

    ticks: int
    seconds: float
    window: int
    latency_us: TickLatency | None
    strategies: Sequence[StrategySummary]
    edge: TickCounts
    bad_lines: int
    first_bad_lines: Sequence[str]
    replaced: Sequence[Replaced]
    calls: PredictorCounts | None
    files: Mapping[str, str]
    deadline_ms: float | None = None
    transports: Sequence[TransportInUse] = ()

    @property
    def ticks_per_s(self) -> float:
        """Ticks a second, the whole loop counted."""
        return self.ticks / self.seconds if self.seconds else 0.0

    @property
    def latency_note(self) -> str | None:
        """Why no tick has a latency; None where each has."""
        if self.latency_us:
            return None
        return f"Ticks were asked {self.window} at a time, so none has a latency of its own: see --window 1."

    @property
    def failed_calls(self) -> int:
        """Requests to the sidecar that failed or were not answered in time."""
        return self.calls.failed + self.calls.missed if self.calls else 0

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "ticks": self.ticks,
            "seconds": round(self.seconds, 3),
            "ticks_per_s": round(self.ticks_per_s, 1),
            "window": self.window,
            "deadline_ms": self.deadline_ms,
            "tick_latency_us": asdict(self.latency_us) if self.latency_us else None,
            "latency_note": self.latency_note,
            "strategies": {
                each.strategy_id: {
                    "type": each.strategy_type,
                    "learned": each.learned,
                    "ticks": each.ticks,
                    "signals": each.signals,
                    "outcomes": dict(each.outcomes),
                    "models": [asdict(model) for model in each.models],
                    **each.more(),
                }
                for each in self.strategies
            },
            "edge": asdict(self.edge),
            "bad_lines": {"count": self.bad_lines, "first": list(self.first_bad_lines)},
            "replaced": [asdict(each) for each in self.replaced],
            "calls": asdict(self.calls) if self.calls else None,
            "transports": list(self.transports),
            "failed_calls": self.failed_calls,
            "files": dict(self.files),
        }
