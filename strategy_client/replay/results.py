"""What came of a replay, as numpy arrays and pandas frames."""

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.events import MarketTick, Outcome, ProcessedTick, Reason, ShadowComparison, Signal

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
NS_PER_US: Final = 1_000
# Texts for a person may hold numbers that differ on each tick: so many different ones are kept.
MAX_DETAILS: Final = 10_000
NAMES: Final = ("BUY", "SELL", *(reason.value for reason in Reason))
SIDES: Final = 2

Columns = Mapping[str, NDArray[Any]]
Table = Literal["ticks", "outcomes", "signals", "comparisons"]


class _Names:
    """Texts that come again and again, by number."""

    def __init__(self, most: int | None = None) -> None:
        self._numbers: dict[str, int] = {"": 0}
        self._most = most

    def number(self, name: str) -> int:
        if self._most is not None and len(self._numbers) >= self._most:
            return self._numbers.get(name, 0)
        return self._numbers.setdefault(name, len(self._numbers))

    def of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        named: NDArray[Any] = np.array(list(self._numbers), dtype=object)[numbers]
        return named


class ReplayRecord:
    """Takes the ticks of a replay as they come, about 60 bytes for each outcome, and every signal whole."""

    def __init__(self) -> None:
        self.signals: list[Signal] = []
        self._ticks: dict[str, array[Any]] = {name: array(code) for name, code in TICK_CODES.items()}
        self._outcomes: dict[str, array[Any]] = {name: array(code) for name, code in OUTCOME_CODES.items()}
        self._comparisons: dict[str, array[Any]] = {
            name: array(code) for name, code in COMPARISON_CODES.items()
        }
        self._names = {"strategy_id": _Names(), "model": _Names(), "digest": _Names()}
        self._details = _Names(MAX_DETAILS)
        self._numbers = {name: number for number, name in enumerate(NAMES)}

    def __len__(self) -> int:
        return len(self._ticks["tick"])

    def took(self, processed: ProcessedTick) -> None:
        """Take a tick and its outcomes."""
        tick, ticks = processed.tick, self._ticks
        ticks["tick"].append(processed.index)
        ticks["time"].append(_time_us(tick.timestamp))
        ticks["instrument_token"].append(_integer(tick.instrument_token))
        ticks["price"].append(_price(tick))
        ticks["duration_ns"].append(processed.duration_ns)
        for outcome in processed.outcomes:
            self._add_outcome(len(ticks["tick"]) - 1, outcome)

    def compared(self, comparison: ShadowComparison) -> None:
        """Take what a shadow would have done."""
        columns, live, shadow = self._comparisons, comparison.live, comparison.shadow
        columns["tick"].append(comparison.index)
        columns["strategy_id"].append(self._names["strategy_id"].number(live.strategy_id))
        for name, outcome in (("live", live), ("shadow", shadow)):
            columns[name].append(self._numbers[_name(outcome)])
            columns[f"{name}_probability"].append(_number(outcome.metadata.get("probability"), np.nan))

    def result(self) -> "ReplayResult":
        """Return what there is by now; it does not change when more comes."""
        ticks = {name: np.array(column) for name, column in self._ticks.items()}
        raw = {name: np.array(column) for name, column in self._outcomes.items()}
        ticks["time"] = ticks["time"].view("datetime64[us]").astype("datetime64[ns]")
        rows = raw["row"]
        outcomes = {
            "tick": ticks["tick"][rows],
            "time": ticks["time"][rows],
            "strategy_id": self._names["strategy_id"].of(raw["strategy_id"]),
            "instrument_token": ticks["instrument_token"][rows],
            "price": ticks["price"][rows],
            "outcome": np.array(NAMES, dtype=object)[raw["outcome"]],
            "confidence": raw["confidence"],
            "quantity": raw["quantity"],
            "probability": raw["probability"],
            "model": self._names["model"].of(raw["model"]),
            "version": raw["version"],
            "digest": self._names["digest"].of(raw["digest"]),
            "detail": self._details.of(raw["detail"]),
        }
        compared = {name: np.array(column) for name, column in self._comparisons.items()}
        outcome_names = np.array(NAMES, dtype=object)
        comparisons = {
            "tick": compared["tick"],
            "strategy_id": self._names["strategy_id"].of(compared["strategy_id"]),
            "live": outcome_names[compared["live"]],
            "shadow": outcome_names[compared["shadow"]],
            "live_probability": compared["live_probability"],
            "shadow_probability": compared["shadow_probability"],
        }
        return ReplayResult(tuple(self.signals), ticks, outcomes, comparisons)

    def _add_outcome(self, row: int, outcome: Outcome) -> None:
        columns, metadata = self._outcomes, outcome.metadata
        detail, confidence, quantity = "", np.nan, 0
        if isinstance(outcome, Signal):
            self.signals.append(outcome)
            confidence, quantity = outcome.confidence, min(outcome.quantity, MAX_INTEGER)
        else:
            detail = outcome.detail
        columns["row"].append(row)
        columns["strategy_id"].append(self._names["strategy_id"].number(outcome.strategy_id))
        columns["outcome"].append(self._numbers[_name(outcome)])
        columns["confidence"].append(confidence)
        columns["quantity"].append(quantity)
        columns["probability"].append(_number(metadata.get("probability"), np.nan))
        columns["model"].append(self._names["model"].number(_text(metadata.get("model"))))
        columns["version"].append(_integer(metadata.get("version")))
        columns["digest"].append(self._names["digest"].number(_text(metadata.get("digest"))))
        columns["detail"].append(self._details.number(detail))


# numpy's own "not a time".
NO_TIME: Final = -(2**63)
MAX_INTEGER: Final = 2**63 - 1
# What datetime64[ns] holds: the years 1677 to 2262.
MAX_TIME_US: Final = MAX_INTEGER // NS_PER_US
TICK_CODES: Final = {"tick": "q", "time": "q", "instrument_token": "q", "price": "d", "duration_ns": "q"}
OUTCOME_CODES: Final = {
    "row": "q",
    "strategy_id": "i",
    "outcome": "b",
    "confidence": "d",
    "quantity": "q",
    "probability": "d",
    "model": "i",
    "version": "q",
    "digest": "i",
    "detail": "i",
}
COMPARISON_CODES: Final = {
    "tick": "q",
    "strategy_id": "i",
    "live": "b",
    "shadow": "b",
    "live_probability": "d",
    "shadow_probability": "d",
}


class ReplayResult:
    """The ticks of a replay, their outcomes, and the signals among them.

    `emitted` are the signals as they went out, each with its provenance in `metadata`. The columns of a table
    are arrays of one length, in the order of the ticks and, within one, of the strategies.
    """

    def __init__(
        self, emitted: Sequence[Signal], ticks: Columns, outcomes: Columns, comparisons: Columns
    ) -> None:
        self.emitted = emitted
        self._ticks = ticks
        self._outcomes = outcomes
        self._comparisons = comparisons

    def __repr__(self) -> str:
        counts = f"{len(self._ticks['tick'])} ticks, {len(self._outcomes['tick'])} outcomes"
        return f"<ReplayResult {counts}, {len(self.emitted)} signals>"

    def ticks(self) -> dict[str, NDArray[Any]]:
        """Return a row for each tick.

        `tick` int64, counted from 0; `time` datetime64[ns] in UTC, to the microsecond, NaT where it is none
        of the years 1678 to 2261 or has no zone; `instrument_token` int64, 0 where it is no integer; `price`
        float64, NaN where it is no number; `duration_ns` int64, the tick's way through the runner, 0 where
        ticks were asked for in windows.
        """
        return dict(self._ticks)

    def outcomes(self) -> dict[str, NDArray[Any]]:
        """Return a row for each tick of each strategy.

        `tick`, `time`, `instrument_token` and `price` as in `ticks`; `strategy_id` str; `outcome` str, BUY,
        SELL or the reason; `confidence` float64, 0 to 1, NaN without a signal; `quantity` int64, 0 without
        one; `probability` float64, the model's largest, NaN where no model answered; `model` and `digest`
        str, `version` int64, which model bytes answered, empty and 0 where none did; `detail` str, why, for
        a person: of the first 10,000 different texts. Texts are arrays of dtype object.
        """
        return dict(self._outcomes)

    def signals(self) -> dict[str, NDArray[Any]]:
        """Return the rows of `outcomes` that are signals, `outcome` as `signal_type` and no `detail`."""
        kept = np.isin(self._outcomes["outcome"], NAMES[:SIDES])
        columns = {name: column[kept] for name, column in self._outcomes.items() if name != "detail"}
        return {("signal_type" if name == "outcome" else name): column for name, column in columns.items()}

    def comparisons(self) -> dict[str, NDArray[Any]]:
        """Return a row for each tick of each strategy with a shadow, once its answer is known.

        `tick` and `strategy_id`; `live` and `shadow` str, what the strategy wanted and what its shadow would
        have done; `live_probability` and `shadow_probability` float64, NaN where no model answered.
        """
        return dict(self._comparisons)

    def counts(self) -> dict[str, Counter[str]]:
        """Return for each strategy the number of its ticks with each outcome."""
        counted: dict[str, Counter[str]] = {}
        for strategy, outcome in zip(
            self._outcomes["strategy_id"].tolist(), self._outcomes["outcome"].tolist(), strict=True
        ):
            counted.setdefault(strategy, Counter())[outcome] += 1
        return counted

    def to_frame(self, table: Table = "outcomes") -> Any:
        """Return a table as a pandas DataFrame; `time` is in UTC, texts that repeat are categories.

        Needs the extra `tickserve[notebook]`: ConfigurationError without it. ValueError for another table.
        """
        try:
            import pandas as pd  # noqa: PLC0415 an optional extra
        except ModuleNotFoundError as error:
            text = "a frame needs pandas: pip install 'tickserve[notebook]'"
            raise ConfigurationError(Problem("", text)) from error
        tables = {
            "ticks": self.ticks,
            "outcomes": self.outcomes,
            "signals": self.signals,
            "comparisons": self.comparisons,
        }
        if table not in tables:
            raise ValueError(f"table: expected one of {', '.join(tables)}, came {table!r}")
        frame = pd.DataFrame(tables[table]())
        if "time" in frame:
            frame["time"] = frame["time"].dt.tz_localize("UTC")
        for name in ("strategy_id", "outcome", "signal_type", "live", "shadow", "model", "digest"):
            if name in frame:
                frame[name] = frame[name].astype("category")
        return frame


# What the edge refuses has its row too, and a processor of a user's own may put anything into metadata.


def _time_us(timestamp: datetime) -> int:
    try:
        since_epoch_us = (timestamp - EPOCH) // MICROSECOND
    except Exception:  # noqa: BLE001 no datetime at all, or one without a zone, or with one that raises
        return NO_TIME
    return since_epoch_us if abs(since_epoch_us) <= MAX_TIME_US else NO_TIME


def _price(tick: MarketTick) -> float:
    given: object = tick.last_price
    try:
        return math.nan if isinstance(given, str | bytes | bool) else float(tick.last_price)
    except Exception:  # noqa: BLE001 as at the edge
        return math.nan


def _integer(value: object) -> int:
    given = isinstance(value, int | np.integer) and abs(int(value)) <= MAX_INTEGER
    return int(value) if given else 0  # type: ignore[call-overload]


def _number(value: object, otherwise: float) -> float:
    try:
        return float(value) if isinstance(value, int | float) else otherwise
    except OverflowError:
        return otherwise


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _name(outcome: Outcome) -> str:
    return outcome.signal_type if isinstance(outcome, Signal) else outcome.reason.value
