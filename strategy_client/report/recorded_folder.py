"""Reads what a replay or a live run has written into its folder. `docs/replay.md` says what stands there."""

import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.recording.file_names import LATENCY, OUTCOMES, SHADOWS, SUMMARY
from strategy_client.report.recording import (
    NO_MODEL,
    ModelVersion,
    Recording,
    ShadowTrack,
    StrategyTrack,
)

NS_PER_US: Final = 1_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# What a tick that was refused may lack; no time of any datetime is so early.
NO_TIME: Final = -(2**63)
NO_TOKEN: Final = 0


class RecordingError(Exception):
    """A folder that no session can be read from; the text says what was expected and what came."""


class Codes:
    """Numbers for the values that occur, in the order in which they first do."""

    def __init__(self) -> None:
        self._codes: dict[Any, int] = {}

    def code(self, value: Any) -> int:
        """Return the number of a value."""
        return self._codes.setdefault(value, len(self._codes))

    @property
    def values(self) -> list[Any]:
        """The values, each at the place of its number."""
        return list(self._codes)


class _Columns:
    """What grows line by line of one strategy."""

    def __init__(self) -> None:
        self.ticks = array("q")
        self.outcomes = array("q")
        self.probability = array("d")
        self.made_by = array("q")
        self.threshold: float | None = None
        self.model = NO_MODEL


def read_recording(folder: Path) -> Recording:
    """Read a session. Raises RecordingError where a file is missing or a line is no line of it.

    A last line that was cut off, as by a run that was killed, is left out.
    """
    path = folder / OUTCOMES
    if not path.is_file():
        raise RecordingError(
            f"{folder}: expected the folder of a replay or a live run, there is no {OUTCOMES}"
        )
    reading = _Reading()
    for number, record in _records(path):
        try:
            reading.take(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordingError(f"{path}:{number}: expected a tick's outcomes ({error!r})") from None
    shadows = _read_shadows(folder / SHADOWS, reading)
    return reading.recording(_read_latency(folder / LATENCY), shadows, _read_summary(folder / SUMMARY))


class _Reading:
    def __init__(self) -> None:
        self.row_of: dict[int, int] = {}
        self.names = Codes()
        self.models = Codes()
        self._token = array("q")
        self._time_ns = array("q")
        self._price = array("d")
        self._strategies: dict[str, _Columns] = {}

    def take(self, record: Mapping[str, Any]) -> None:
        row = len(self._token)
        time_ns = _ns(record["timestamp"])
        self._price.append(_number(record["price"]))
        token = record["instrument_token"]
        self._token.append(token if type(token) is int else NO_TOKEN)
        self._time_ns.append(time_ns)
        self.row_of[record["tick"]] = row
        for strategy_id, source in record.get("answered_by", {}).items():
            columns = self._columns(strategy_id)
            columns.model = self.models.code(model_of(source))
            columns.threshold = source.get("confidence_threshold")
        probabilities = record.get("probabilities", {})
        for strategy_id, outcome in record["outcomes"].items():
            columns = self._columns(strategy_id)
            probability = probabilities.get(strategy_id, math.nan)
            columns.ticks.append(row)
            columns.outcomes.append(self.names.code(outcome))
            columns.probability.append(probability)
            columns.made_by.append(NO_MODEL if math.isnan(probability) else columns.model)

    def _columns(self, strategy_id: str) -> _Columns:
        return self._strategies.setdefault(strategy_id, _Columns())

    def recording(
        self, latency_ns: NDArray[np.int64], shadows: Sequence[ShadowTrack], summary: Mapping[str, Any]
    ) -> Recording:
        index = np.array(list(self.row_of), dtype=np.int64)
        known = index < len(latency_ns)
        latency_us = np.full(len(index), np.nan)
        latency_us[known] = latency_ns[index[known]] / NS_PER_US
        return Recording(
            index=index,
            token=_ints(self._token),
            time_ns=_filled(_ints(self._time_ns)),
            price=np.array(self._price, dtype=np.float64),
            latency_us=latency_us,
            strategies=[
                StrategyTrack(
                    strategy_id,
                    _ints(columns.ticks),
                    _ints(columns.outcomes),
                    np.array(columns.probability, dtype=np.float64),
                    _ints(columns.made_by),
                    columns.threshold,
                )
                for strategy_id, columns in self._strategies.items()
            ],
            outcome_names=self.names.values,
            models=self.models.values,
            shadows=shadows,
            summary=summary,
        )


def model_of(source: Mapping[str, Any]) -> ModelVersion:
    """Return the bytes that an answer came from."""
    return ModelVersion(str(source["model"]), int(source["version"]), str(source["digest"]))


def _read_shadows(path: Path, reading: _Reading) -> Sequence[ShadowTrack]:
    if not path.is_file():
        return ()
    found: dict[str, list[tuple[int, int, int, float, float]]] = {}
    models: dict[str, ModelVersion] = {}
    for number, record in _records(path):
        try:
            row = reading.row_of.get(record["tick"])
            if row is None:
                continue
            live, shadow = record["live"], record["shadow"]
            if "answered_by" in record:
                models[record["strategy_id"]] = model_of(record["answered_by"])
            found.setdefault(record["strategy_id"], []).append(
                (
                    row,
                    reading.names.code(live["outcome"]),
                    reading.names.code(shadow["outcome"]),
                    _number(live.get("probability")),
                    _number(shadow.get("probability")),
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordingError(f"{path}:{number}: expected a shadow's outcome ({error!r})") from None
    return [_shadow_track(strategy_id, rows, models.get(strategy_id)) for strategy_id, rows in found.items()]


def _shadow_track(
    strategy_id: str, rows: Sequence[tuple[int, int, int, float, float]], model: ModelVersion | None
) -> ShadowTrack:
    ticks, live, shadow, live_probability, shadow_probability = zip(*rows, strict=True)
    return ShadowTrack(
        strategy_id,
        np.array(ticks, dtype=np.int64),
        np.array(live, dtype=np.int64),
        np.array(shadow, dtype=np.int64),
        np.array(live_probability, dtype=np.float64),
        np.array(shadow_probability, dtype=np.float64),
        model,
    )


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith("\n"):
                return
            try:
                record = json.loads(line)
            except ValueError as error:
                raise RecordingError(f"{path}:{number}: expected a JSON object ({error})") from None
            if not isinstance(record, dict):
                raise RecordingError(f"{path}:{number}: expected a JSON object, came {line.strip()[:80]}")
            yield number, record


def _read_latency(path: Path) -> NDArray[np.int64]:
    if not path.is_file():
        return np.empty(0, dtype=np.int64)
    try:
        latency_ns = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise RecordingError(f"{path}: expected an array of numpy ({error})") from None
    if latency_ns.ndim != 1 or latency_ns.dtype.kind != "i":
        raise RecordingError(
            f"{path}: expected int64 of shape (ticks,), came {latency_ns.dtype} {latency_ns.shape}"
        )
    return np.asarray(latency_ns, dtype=np.int64)


def _read_summary(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordingError(f"{path}: expected JSON ({error})") from None
    return summary if isinstance(summary, dict) else {}


def _filled(time_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give a tick of no time that of the one before it, or of the first that has one."""
    known = np.flatnonzero(time_ns != NO_TIME)
    if not len(known):
        return np.zeros_like(time_ns)
    before = np.searchsorted(known, np.arange(len(time_ns)), side="right") - 1
    return time_ns[known[np.maximum(before, 0)]]


def _ns(text: str | None) -> int:
    if text is None:
        return NO_TIME
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)  # such a tick was refused, and is drawn where it says
    return (time - EPOCH) // timedelta(microseconds=1) * NS_PER_US


def _number(value: Any) -> float:
    """Return a number; NaN for what is none, as the price of a tick that was refused for it may be."""
    try:
        return math.nan if value is None else float(value)
    except ValueError:
        return math.nan


def _ints(values: "array[int]") -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
