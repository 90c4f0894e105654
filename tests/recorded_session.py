"""A recorded session, written as a replay writes it: what the report is drawn from."""

import json
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from fixtures_ticks import OPEN

from strategy_client.events import MarketTick, NoSignal, Outcome, ProcessedTick, Reason, Signal
from strategy_client.recording.outcome_files import OutcomeFiles

DIGESTS = ("a" * 64, "b" * 64)


def answered(version: int, probability: float) -> dict[str, Any]:
    """Return what the metadata of an answered outcome hold."""
    return {
        "model": "momentum",
        "version": version,
        "digest": DIGESTS[version - 1],
        "contract_hash": "c" * 64,
        "confidence_threshold": 0.6,
        "probability": probability,
    }


def signal(strategy: str, tick: MarketTick, side: str, **metadata: Any) -> Signal:
    """Return a signal."""
    return Signal(
        strategy,
        tick.instrument_token,
        side,
        0.9,
        1,
        tick.last_price,
        tick.timestamp,
        metadata,  # type: ignore[arg-type]
    )


def no_signal(strategy: str, tick: MarketTick, reason: Reason, **metadata: Any) -> NoSignal:
    """Return an outcome without a signal."""
    return NoSignal(strategy, tick.instrument_token, tick.timestamp, reason, "", metadata)


def market(count: int, token: int = 1) -> list[MarketTick]:
    """Return ticks a second apart whose price goes up by 1 each."""
    return [
        MarketTick(token, Decimal(100 + number), OPEN + timedelta(seconds=number)) for number in range(count)
    ]


def write_session(
    folder: Path,
    ticks: Iterable[tuple[MarketTick, list[Outcome]]],
    latency_ns: Iterable[int] | None = None,
    summary: dict[str, Any] | None = None,
) -> Path:
    """Write the files of a session; return the folder."""
    count = 0
    with OutcomeFiles(folder) as files:
        for index, (tick, outcomes) in enumerate(ticks):
            files.took(ProcessedTick(index, tick, outcomes, 1_000_000))
            count += 1
    np.save(folder / "latency.npy", np.array(list(latency_ns or [1_000_000] * count), dtype=np.int64))
    (folder / "summary.json").write_text(json.dumps(summary or {}), encoding="utf-8")
    return folder
