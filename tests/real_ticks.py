"""Recorded ticks from ../shared/data, where that folder is present: Binance trades and NSE minutes."""

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

import pytest

DATA: Final = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_real_ticks = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded ticks in {DATA}")

# Ours: Binance has symbols, no tokens.
BINANCE_TOKENS: Final = {"spot_btcusdt": 1, "spot_ethusdt": 2, "usdm_btcusdt": 3, "usdm_ethusdt": 4}
BINANCE_FILES: Final = (
    "spot_btcusdt_20240808",
    "spot_btcusdt_20240809",
    "spot_ethusdt_20240808",
    "spot_ethusdt_20240809",
    "usdm_btcusdt_20240808",
    "usdm_ethusdt_20240808",
)
# Zerodha Kite's tokens. Equity prices are written in units of 1/10,000 INR, the index is not scaled.
NSE_TOKENS: Final = {"nifty50": 256265, "yesbank": 3050241, "juniorbees": 2800385}
NSE_SCALES: Final = {"nifty50": Decimal(1), "yesbank": Decimal(10_000), "juniorbees": Decimal(10_000)}
NSE_DAYS: Final = {
    "nifty50": ("20190101", "20190102", "20190103", "20190104"),
    "yesbank": ("20190709", "20190710", "20190711"),
    "juniorbees": ("20190101", "20190102", "20190103", "20190104"),
}
INDIA: Final = timezone(timedelta(hours=5, minutes=30))


class RealTick(NamedTuple):
    """One recorded price; the time is the exchange's, in UTC."""

    token: int
    price: Decimal
    timestamp: datetime


def binance_trades(name: str) -> Iterator[RealTick]:
    """Yield the trades of one of `BINANCE_FILES`, as recorded."""
    token = BINANCE_TOKENS[name.rpartition("_")[0]]
    with gzip.open(DATA / "binance_ticks" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            if '@trade"' not in line:
                continue
            trade = json.loads(line.partition(" ")[2])["data"]
            moment = datetime.fromtimestamp(trade["E"] // 1000, UTC) + timedelta(
                milliseconds=trade["E"] % 1000
            )
            yield RealTick(token, Decimal(trade["p"]), moment)


def nse_minutes(name: str) -> Iterator[RealTick]:
    """Yield the closes of all days of one of `NSE_DAYS`, each at the start of its minute."""
    for day in NSE_DAYS[name]:
        # The name of the archive is right about the day, the name inside it is not always.
        midnight = datetime.strptime(day, "%Y%m%d").replace(tzinfo=INDIA)
        with zipfile.ZipFile(DATA / "nse_minute" / f"{name}_minute_{day}_trade.zip") as archive:
            text = io.TextIOWrapper(archive.open(archive.namelist()[0]), encoding="ascii")
            for line in text:
                milliseconds, _, _, _, close, _ = line.split(",")
                moment = (midnight + timedelta(milliseconds=int(milliseconds))).astimezone(UTC)
                yield RealTick(NSE_TOKENS[name], Decimal(close) / NSE_SCALES[name], moment)
