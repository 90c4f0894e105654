"""A recording as the numbers that the page draws, one instrument after the other."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from strategy_client.report.recording import (
    NO_MODEL,
    Floats,
    Ints,
    ModelVersion,
    Recording,
    ShadowTrack,
    StrategyTrack,
)
from strategy_client.report.series import Run, bucket_edges, extremes, quantiles, runs

MAX_INSTRUMENTS: Final = 20
MAX_MARKERS: Final = 600
# Two sidecars that answer in turn with different bytes would make a band of each tick.
MAX_BANDS: Final = 200
OUTCOME_BUCKETS: Final = 120
MAX_SILENCES: Final = 40
MIN_TICKS: Final = 4 * MAX_SILENCES
LATENCY_BUCKETS: Final = 300
NS_PER_MS: Final = 1_000_000
SIDES: Final = ("BUY", "SELL")
DIGEST_CHARACTERS: Final = 12


def draw(recording: Recording) -> list[dict[str, Any]]:
    """Return what is drawn of each instrument, that with the most ticks first; at most twenty of them."""
    return [_Instrument(recording, token).draw() for token in recording.tokens[:MAX_INSTRUMENTS]]


class _Instrument:
    def __init__(self, recording: Recording, token: int) -> None:
        self._recording = recording
        self._token = token
        self._rows = np.flatnonzero(recording.token == token)
        # From a row of the recording to its place on this instrument.
        self._place = np.full(len(recording.token), -1, dtype=np.int64)
        self._place[self._rows] = np.arange(len(self._rows))

    def draw(self) -> dict[str, Any]:
        recording, rows = self._recording, self._rows
        price = np.where(np.isfinite(recording.price[rows]), recording.price[rows], np.nan)
        shown = extremes(price)
        tracks = [track for track in recording.strategies if (self._place[track.ticks] >= 0).any()]
        shadows = [track for track in recording.shadows if (self._place[track.ticks] >= 0).any()]
        return {
            "token": self._token,
            "ticks": len(rows),
            "price": {**self._x(shown), "y": _numbers(price[shown])},
            "silences": self._silences(),
            "strategies": [self._strategy(track) for track in tracks],
            "outcomes": self._outcomes(tracks),
            "latency": self._latency(),
            "shadows": [self._shadow(track) for track in shadows],
        }

    def _x(self, places: Ints) -> dict[str, list[float]]:
        """Return where places stand: by the number of the tick, and by time in ms since the epoch."""
        rows = self._rows[places]
        return {
            "n": self._recording.index[rows].tolist(),
            "t": (self._recording.time_ns[rows] / NS_PER_MS).tolist(),
        }

    def _silences(self) -> list[list[float]]:
        """Return the times without a tick that are wide enough to be seen, in ms since the epoch."""
        times_ms = np.sort(self._recording.time_ns[self._rows]) / NS_PER_MS
        long = np.flatnonzero(np.diff(times_ms) > (times_ms[-1] - times_ms[0]) / MAX_SILENCES)
        # Where only a few ticks came at all, the time between two of them is no silence.
        return (
            np.column_stack([times_ms[long], times_ms[long + 1]]).tolist()
            if len(times_ms) > MIN_TICKS
            else []
        )

    def _strategy(self, track: StrategyTrack) -> dict[str, Any]:
        places = self._place[track.ticks]
        here = places >= 0
        places, outcomes = places[here], track.outcomes[here]
        probability, made_by = track.probability[here], track.made_by[here]
        return {
            "id": track.strategy_id,
            "threshold": track.threshold,
            "signals": self._signals(places, outcomes),
            "probability": self._probability(places, probability),
            "bands": self._bands(places, made_by),
        }

    def _signals(self, places: Ints, outcomes: Ints) -> dict[str, list[dict[str, Any]]]:
        """Return the markers of each side: one for signals that follow one another without a pause."""
        names = self._recording.outcome_names
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        bucket = max(1, len(self._rows) // MAX_MARKERS)
        last_bucket = dict.fromkeys(SIDES, -1)
        for run in runs(outcomes):
            side = names[run.value]
            if side not in SIDES:
                continue
            place, count = int(places[run.first]), run.last - run.first + 1
            if place // bucket == last_bucket[side]:
                found[side][-1]["signals"] += count
                found[side][-1]["runs"] += 1
                continue
            last_bucket[side] = place // bucket
            row = self._rows[place]
            found[side].append(
                {
                    "n": int(self._recording.index[row]),
                    "t": self._recording.time_ns[row] / NS_PER_MS,
                    "price": float(self._recording.price[row]),
                    "signals": count,
                    "runs": 1,
                }
            )
        return found

    def _probability(self, places: Ints, probability: Any) -> dict[str, Any] | None:
        answered = ~np.isnan(probability)
        if not answered.any():
            return None
        places, values = places[answered], probability[answered]
        shown = extremes(values)
        return {**self._x(places[shown]), "y": values[shown].tolist()}

    def _bands(self, places: Ints, made_by: Ints) -> list[dict[str, Any]]:
        """Return from which tick to which each version answered, of the first of them only; see the table.

        Ticks without an answer end a band where they are enough to be seen.
        """
        answered = made_by != NO_MODEL
        places, made_by = places[answered], made_by[answered]
        unseen = max(1, len(self._rows) // OUTCOME_BUCKETS)
        stretch = np.cumsum(np.diff(places, prepend=places[:1]) > unseen)
        models = self._recording.models
        return [
            {
                **self._span(places, run),
                "answers": run.last - run.first + 1,
                **named(models[run.value % len(models)]),
            }
            for run in runs(stretch * len(models) + made_by)[:MAX_BANDS]
        ]

    def _span(self, places: Ints, run: Run) -> dict[str, list[float]]:
        return self._x(places[[run.first, run.last]])

    def _outcomes(self, tracks: Sequence[StrategyTrack]) -> dict[str, Any]:
        """Return for each strategy how often each outcome came in each of equal parts of the ticks."""
        edges = bucket_edges(len(self._rows), OUTCOME_BUCKETS)
        names = self._recording.outcome_names
        counts: dict[str, dict[str, list[int]]] = {}
        for track in tracks:
            places = self._place[track.ticks]
            here = places >= 0
            part = np.searchsorted(edges, places[here], side="right") - 1
            flat = np.bincount(
                part * len(names) + track.outcomes[here], minlength=(len(edges) - 1) * len(names)
            ).reshape(-1, len(names))
            counts[track.strategy_id] = {
                name: flat[:, code].tolist() for code, name in enumerate(names) if flat[:, code].any()
            }
        return {**self._x(edges[:-1]), "end": self._x(edges[1:] - 1), "counts": counts}

    def _latency(self) -> dict[str, Any] | None:
        latency_us = self._recording.latency_us[self._rows]
        if np.isnan(latency_us).all():
            return None
        edges = bucket_edges(len(self._rows), LATENCY_BUCKETS)
        p50, p99, longest = quantiles(latency_us, edges, [0.5, 0.99, 1.0])
        return {**self._x(edges[:-1]), "p50": p50, "p99": p99, "longest": longest}

    def _shadow(self, track: ShadowTrack) -> dict[str, Any]:
        places = self._place[track.ticks]
        here = places >= 0
        places = places[here]
        live, shadow = track.live_probability[here], track.shadow_probability[here]
        shown = np.union1d(extremes(live), extremes(shadow))
        return {
            "id": track.strategy_id,
            "model": named(track.model) if track.model else None,
            **self._x(places[shown]),
            "live": _numbers(live[shown]),
            "shadow": _numbers(shadow[shown]),
            "ticks": len(places),
            "apart": self._apart(places, track.live[here], track.shadow[here], np.fmax(live, shadow)),
        }

    def _apart(self, places: Ints, live: Ints, shadow: Ints, highest: Floats) -> list[dict[str, Any]]:
        """Return a mark for each part of the ticks where the two wanted otherwise: its first such tick."""
        names, sides = self._recording.outcome_names, side_of(self._recording)
        apart = np.flatnonzero(sides[live] != sides[shadow])
        part = places[apart] // max(1, len(self._rows) // MAX_MARKERS)
        _, firsts, counts = np.unique(part, return_index=True, return_counts=True)
        return [
            {
                "n": int(self._recording.index[self._rows[places[at]]]),
                "t": self._recording.time_ns[self._rows[places[at]]] / NS_PER_MS,
                "y": None if np.isnan(highest[at]) else float(highest[at]),
                "live": names[live[at]],
                "shadow": names[shadow[at]],
                "ticks": int(count),
            }
            for at, count in zip(apart[firsts], counts, strict=True)
        ]


def side_of(recording: Recording) -> Ints:
    """Return for each of the recording's outcomes the place of its side in SIDES, or -1 for no signal."""
    return np.array(
        [SIDES.index(name) if name in SIDES else -1 for name in recording.outcome_names], dtype=np.int64
    )


def named(model: ModelVersion) -> dict[str, Any]:
    """Return a model version as the page names it."""
    return {"model": model.model, "version": model.version, "digest": model.digest[:DIGEST_CHARACTERS]}


def _numbers(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
