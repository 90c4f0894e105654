"""A stand-in for Alpha Panda's runner, written from the facts of its interfaces.

It keeps its defects where a drop-in meets them: one history for all instruments of a strategy, `reasoning`
dropped, any ValueError that does not speak of an ML model ends the start.
"""

import importlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

ML_METHODS = ("load_model", "extract_features", "predict_signal")


@dataclass(frozen=True, slots=True)
class SignalResult:
    """The runner's own class of signals; not ours."""

    signal_type: str
    confidence: float
    quantity: int
    price: Decimal
    reasoning: str | None = None
    metadata: dict[str, Any] | None = None


class Tick(BaseModel):
    """A tick as the runner rebuilds it."""

    instrument_token: int
    last_price: Decimal
    timestamp: datetime
    symbol: str | None = None
    volume_traded: int | None = None


@dataclass(frozen=True)
class Row:
    """A strategy of the table."""

    id: str
    strategy_type: str
    parameters: dict[str, Any]
    instruments: Sequence[int] = (1,)


class Executor:
    """Gates a tick, appends it to the one history, asks the processor, validates its signal."""

    def __init__(self, processor: Any, tokens: Sequence[int]) -> None:
        self.processor = processor
        self.tokens = set(tokens)
        self.history: deque[Tick] = deque(maxlen=processor.get_required_history_length())

    def process_tick(self, tick: Tick) -> Any:
        """Return a signal that is valid, or None."""
        if tick.instrument_token not in self.tokens or not self.processor.supports_instrument(
            tick.instrument_token
        ):
            return None
        self.history.append(tick)
        signal = self.processor.process_tick(tick, list(self.history))
        return signal if signal is not None and is_valid(signal, tick) else None

    @property
    def is_ml(self) -> bool:
        """Whether the runner takes it for a learned one."""
        return any(hasattr(self.processor, name) for name in ML_METHODS)


def is_valid(signal: Any, tick: Tick) -> bool:
    """Whether the runner lets a signal pass; HOLD is one of its types."""
    return (
        0 <= signal.confidence <= 100
        and signal.quantity >= 1
        and signal.signal_type in ("BUY", "SELL", "HOLD")
        and tick.last_price > 0
        and signal.price > 0
    )


@dataclass
class Runner:
    """Loads strategies once, and hands each tick to one after another."""

    processors: dict[str, str] = field(default_factory=dict)
    executors: dict[str, Executor] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, bool] = field(default_factory=dict)
    emitted: list[dict[str, Any]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def register_processor(self, strategy_type: str, path: str) -> None:
        """Let a type stand for the function at a dotted path."""
        self.processors[strategy_type] = path

    def load(self, rows: Sequence[Row]) -> None:
        """Make all strategies; one whose model fails to load is skipped for good."""
        for row in rows:
            try:
                executor = Executor(self._create(row), row.instruments)
            except ValueError as error:
                if "Failed to load ML model" not in str(error):
                    raise
                self.skipped[row.id] = str(error)
                continue
            except Exception as error:  # noqa: BLE001 as the runner does
                self.skipped[row.id] = str(error)
                continue
            if executor.is_ml:
                self.loaded[row.id] = executor.processor.model is not None
            self.executors[row.id] = executor

    def handle(self, data: Mapping[str, Any]) -> None:
        """Take a tick's fields, and emit what comes of it."""
        tick = Tick(
            instrument_token=data["instrument_token"],
            last_price=data["last_price"],
            timestamp=data["timestamp"],
            symbol=data.get("symbol", ""),
        )
        for strategy_id, executor in self.executors.items():
            result = executor.process_tick(tick)
            if result is None or result.signal_type == "HOLD":
                continue
            self.results.append(result)
            self.emitted.append(
                {
                    "strategy_id": strategy_id,
                    "instrument_token": tick.instrument_token,
                    "signal_type": result.signal_type,
                    "quantity": result.quantity,
                    "price": result.price,
                    "timestamp": tick.timestamp,
                    "confidence": result.confidence / 100 if result.confidence > 1 else result.confidence,
                    "metadata": result.metadata or {},
                }
            )

    def _create(self, row: Row) -> Any:
        module, _, function = self.processors[row.strategy_type].rpartition(".")
        processor = getattr(importlib.import_module(module), function)(row.parameters)
        if hasattr(processor, "load_model"):
            processor.load_model()
        return processor
