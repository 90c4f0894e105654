"""What flows through the tick loop: the tick that comes in, the outcome that goes out. All frozen."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, NoReturn

SignalType = Literal["BUY", "SELL", "HOLD"]


class _Nothing(dict[str, Any]):
    """Stays empty, since all who have nothing share it; a dict, so that JSON, pickle and copies take it."""

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG002 takes what each of them takes
        raise TypeError("the metadata of an outcome is not to be written to")

    __setitem__ = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> str:
        return "NOTHING"


NOTHING: Final[Mapping[str, Any]] = _Nothing()


@dataclass(frozen=True, slots=True)
class Cause:
    """The event that brought a tick, where a bus did. The signals of the tick carry these ids on."""

    event_id: str
    correlation_id: str
    trace_id: str


@dataclass(frozen=True, slots=True)
class MarketTick:
    """One market observation of one instrument.

    `timestamp` is the exchange's and has a zone; `last_price` is in the instrument's currency. Everything
    after `timestamp` may be missing: no feature may assume volume or depth. `received_ns` is a reading of
    `time.monotonic_ns` from when a live tick came in; a recorded one has none. `cause` is the event that it
    came in, where it came in one.
    """

    instrument_token: int
    last_price: Decimal
    timestamp: datetime
    symbol: str | None = None
    volume_traded: int | None = None
    last_traded_quantity: int | None = None
    average_traded_price: Decimal | None = None
    total_buy_quantity: int | None = None
    total_sell_quantity: int | None = None
    change: Decimal | None = None
    ohlc: Mapping[str, Decimal] | None = None
    depth: Mapping[str, Any] | None = None
    oi: int | None = None
    oi_day_high: int | None = None
    oi_day_low: int | None = None
    last_trade_time: datetime | None = None
    exchange_timestamp: datetime | None = None
    mode: str | None = None
    tradable: bool | None = None
    received_ns: int | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class SignalResult:
    """What a processor wants to do; the shape that Alpha Panda's runner takes.

    `confidence` is 0 to 1, `quantity` in units of the instrument, `price` the tick's.
    """

    signal_type: SignalType
    confidence: float
    quantity: int
    price: Decimal
    reasoning: str | None = None
    metadata: dict[str, Any] | None = None


class Reason(enum.Enum):
    """Why a strategy gave no signal on a tick. The list is closed: a new one is a change of the design."""

    HOLD = "HOLD"
    BELOW_THRESHOLD = "BELOW_THRESHOLD"
    WARMING_UP = "WARMING_UP"
    STALE_TICK = "STALE_TICK"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    BREAKER_OPEN = "BREAKER_OPEN"
    UNAVAILABLE = "UNAVAILABLE"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    MODEL_NOT_READY = "MODEL_NOT_READY"
    MODEL_STALE = "MODEL_STALE"
    CONTRACT_MISMATCH = "CONTRACT_MISMATCH"
    NON_FINITE = "NON_FINITE"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    INVALID_SIGNAL = "INVALID_SIGNAL"
    DISABLED = "DISABLED"
    PROCESSOR_ERROR = "PROCESSOR_ERROR"

    # Members are single objects. An Enum's own hash is a call into Python, and outcomes are counted by it.
    __hash__ = object.__hash__


# The two kinds of outcome are named tuples: a frozen dataclass takes three times as long to make, and a tick
# makes one for each strategy.


class Signal(NamedTuple):
    """A strategy's wish to trade, validated. The price is the tick's; provenance is in `metadata`.

    That is not to be written to: outcomes of one tick may share it.
    """

    strategy_id: str
    instrument_token: int
    signal_type: Literal["BUY", "SELL"]
    confidence: float
    quantity: int
    price: Decimal
    timestamp: datetime
    metadata: Mapping[str, Any] = NOTHING


class NoSignal(NamedTuple):
    """No wish to trade, and why. `detail` is for a person; empty where the reason says it all.

    `metadata` holds what a model answered, and which one it was, where one did. It is not to be written to:
    outcomes of one tick may share it.
    """

    strategy_id: str
    instrument_token: int
    timestamp: datetime
    reason: Reason
    detail: str = ""
    metadata: Mapping[str, Any] = NOTHING


Outcome = Signal | NoSignal


@dataclass(frozen=True, slots=True)
class ProcessedTick:
    """A tick and what came of it: one outcome for each strategy of its instrument, in their order.

    `index` counts the ticks of the run from 0. `duration_ns` is from the tick's begin to its last outcome.
    """

    index: int
    tick: MarketTick
    outcomes: Sequence[Outcome]
    duration_ns: int


@dataclass(frozen=True, slots=True)
class ShadowComparison:
    """What a strategy's second model would have done on a tick, beside what the first one did.

    `shadow` is never emitted. It is known later than `live`, by any number of ticks.
    """

    index: int
    tick: MarketTick
    live: Outcome
    shadow: Outcome
