"""A replay led by hand: what may be given, how it is iterated over, and what it gives back."""

import sys
import threading
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fixtures_runner import Settled
from fixtures_ticks import OPEN, tick, ticks
from sidecars import eventually

from strategy_client import (
    ConfigurationError,
    MarketTick,
    Reason,
    Signal,
    SignalResult,
    StrategyConfig,
    open_replay,
    shadow,
)
from strategy_client.predictor.channel import TargetError
from strategy_client.predictor.port import PendingAnswers, Question
from strategy_client.processors.ml_breakout import breakout_features
from strategy_client.processors.ml_mean_reversion import mean_reversion_features
from strategy_client.processors.ml_momentum import momentum_features
from strategy_client.replay import results
from strategy_client.sources.bad_line import BadFileError
from strategy_client.store.store import StrategySet
from strategy_client.testing import FakeModel, FakePredictor

RULE = {
    "strategy_name": "rule",
    "strategy_type": "momentum",
    "instrument_tokens": [1],
    "parameters": {"lookback_periods": 2, "momentum_threshold": 0.01},
}
LEARNED = {
    "strategy_name": "learned",
    "strategy_type": "ml_momentum",
    "instrument_tokens": (1,),
    "parameters": {"model": "m", "features": ["return_3"], "confidence_threshold": 0.5},
}
PRICES = (100, 102, 104, 104, 90, 95)


def threads() -> list[str]:
    """The names of our threads."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tickserve")]


@pytest.fixture
def fake() -> Iterator[FakePredictor]:
    """A model that says BUY with 0.8 where the return is above 0, SELL with 0.7 elsewhere."""

    def answer(rows: Any) -> Any:
        return np.where(rows[:, :1] > 0, [[0.2, 0.8]], [[0.7, 0.3]])

    with FakePredictor({"m": FakeModel(["return_3"], answer, version=4)}) as predictor:
        yield predictor


def seen(replay: Any) -> list[list[str]]:
    """The sides and reasons of each tick."""
    return [
        [each.signal_type if isinstance(each, Signal) else each.reason.value for each in processed.outcomes]
        for processed in replay
    ]


def test_a_replay_gives_each_tick_with_its_outcomes(fake: FakePredictor) -> None:
    """Iterating gives one outcome a strategy and tick, in the order of the strategies."""
    with open_replay(ticks(PRICES), [RULE, LEARNED], predictor=fake) as replay:
        assert seen(replay) == [
            ["WARMING_UP", "WARMING_UP"],
            ["BUY", "WARMING_UP"],
            ["BUY", "BUY"],
            ["HOLD", "BUY"],
            ["SELL", "SELL"],
            ["BUY", "SELL"],
        ]
        assert replay.unbound() == {}
    assert "closed, 2 strategies, 6 ticks" in repr(replay)
    eventually(lambda: threads() == [], "no thread is left")


def test_a_result_is_arrays_of_one_length(fake: FakePredictor) -> None:
    """Ticks, outcomes and signals are columns with their dtypes; a signal names the model that made it."""
    with open_replay(ticks(PRICES), [RULE, LEARNED], predictor=fake) as replay:
        result = replay.run()
    by_tick, outcomes, signals = result.ticks(), result.outcomes(), result.signals()
    assert by_tick["price"].tolist() == list(PRICES)
    assert by_tick["time"].dtype == np.dtype("datetime64[ns]")
    assert by_tick["time"][1] == np.datetime64("2024-08-08T09:15:01")
    assert (by_tick["duration_ns"] > 0).all()
    assert {name: column.dtype.name for name, column in outcomes.items()} == {
        "tick": "int64",
        "time": "datetime64[ns]",
        "strategy_id": "object",
        "instrument_token": "int64",
        "price": "float64",
        "outcome": "object",
        "confidence": "float64",
        "quantity": "int64",
        "probability": "float64",
        "model": "object",
        "version": "int64",
        "digest": "object",
        "detail": "object",
    }
    assert {len(column) for column in outcomes.values()} == {12}
    assert result.counts() == {
        "rule": Counter(WARMING_UP=1, BUY=3, HOLD=1, SELL=1),
        "learned": Counter(WARMING_UP=2, BUY=2, SELL=2),
    }
    mine = signals["strategy_id"] == "learned"
    assert signals["signal_type"][mine].tolist() == ["BUY", "BUY", "SELL", "SELL"]
    assert signals["probability"][mine].tolist() == pytest.approx([0.8, 0.8, 0.7, 0.7])
    assert signals["confidence"][mine].tolist() == pytest.approx([0.8, 0.8, 0.7, 0.7])
    assert set(signals["version"][mine]) == {4}
    assert set(signals["digest"][mine]) == {fake.models["m"].digest}
    assert set(signals["model"][~mine]) == {""}
    assert np.isnan(signals["probability"][~mine]).all()
    assert np.isnan(outcomes["confidence"][outcomes["outcome"] == "HOLD"]).all()
    assert [each.metadata.get("version") for each in result.emitted] == [
        version or None for version in signals["version"].tolist()
    ]


def test_a_result_is_a_frame(fake: FakePredictor) -> None:
    """A table is a DataFrame with its times in UTC; another table is refused."""
    with open_replay(ticks(PRICES), [RULE, LEARNED], predictor=fake) as replay:
        result = replay.run()
    frame = result.to_frame()
    assert len(frame) == 12
    assert frame["time"].iloc[-1] == pd.Timestamp("2024-08-08 09:15:05", tz="UTC")
    counted = frame.groupby(["strategy_id", "outcome"], observed=True).size()
    assert counted["learned", "BUY"] == 2
    assert list(result.to_frame("signals")["signal_type"].cat.categories) == ["BUY", "SELL"]
    assert result.to_frame("ticks")["price"].tolist() == list(PRICES)
    with pytest.raises(ValueError, match="expected one of ticks, outcomes, signals, comparisons, came"):
        result.to_frame("trades")  # type: ignore[arg-type]


def test_a_frame_without_pandas_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays need numpy only; a frame says what to install."""
    with open_replay(ticks(PRICES), [RULE]) as replay:
        result = replay.run()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tickserve\[notebook\]'"):
        result.to_frame()


def test_why_there_was_no_signal_is_kept(fake: FakePredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason's text stands in `detail`; of texts that all differ the first are kept, never a wrong one."""
    monkeypatch.setattr(results, "MAX_DETAILS", 3)
    fake.fail(Reason.MODEL_NOT_READY, times=1, detail="gone")
    bad = [tick(price, second=second) for second, price in enumerate((1, 2, 3, -1, -2, -3, -1), 10)]
    with open_replay([*ticks(PRICES[:3]), *bad], [LEARNED], predictor=fake) as replay:
        outcomes = replay.run().outcomes()
    assert outcomes["detail"][2] == "gone"
    assert [text.split(":")[0] for text in outcomes["detail"][6:]] == ["price -1", "", "", "price -1"]


def test_an_iteration_goes_on_where_it_was_left(fake: FakePredictor) -> None:
    """After a break the rest follows; what came so far is there at any time."""
    with open_replay(ticks(PRICES), [LEARNED], predictor=fake) as replay:
        for processed in replay:
            if processed.index == 2:
                break
        before = replay.result()
        assert len(before.ticks()["tick"]) == 3
        assert [processed.index for processed in replay] == [3, 4, 5]
        assert list(replay) == []
    assert len(replay.result().ticks()["tick"]) == 6
    assert (len(before.emitted), len(before.ticks()["tick"])) == (1, 3)


def test_a_replay_is_entered_once(fake: FakePredictor) -> None:
    """Outside its block there is nothing to iterate over, and it cannot be entered again; both say so."""
    replay = open_replay(ticks(PRICES), [LEARNED], predictor=fake)
    with pytest.raises(RuntimeError, match="not entered: iterate inside"):
        next(iter(replay))
    with replay:
        replay.run()
        with pytest.raises(RuntimeError, match="at its end: open another"):
            replay.__enter__()
    with pytest.raises(RuntimeError, match="closed: iterate inside"):
        iter(replay)
    with pytest.raises(RuntimeError, match="closed: open another"), replay:
        raise AssertionError


def test_leaving_the_block_ends_the_iteration(fake: FakePredictor) -> None:
    """An iterator that is kept beyond the block gives nothing more, and no tick is asked of nobody."""
    with open_replay(ticks(PRICES), [LEARNED], predictor=fake) as replay:
        kept = iter(replay)
        next(kept)
    assert list(kept) == []
    eventually(lambda: threads() == [], "no thread is left")


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ValueError])
def test_an_exception_in_the_block_cleans_up(fake: FakePredictor, raised: type[BaseException]) -> None:
    """Interrupting a cell, or an error in it, stops everything and goes on up."""
    replay = open_replay(ticks(PRICES), [LEARNED], predictor=fake)

    def cell() -> None:
        with replay:
            for processed in replay:
                if processed.index == 3:
                    raise raised

    with pytest.raises(raised):
        cell()
    eventually(lambda: threads() == [], "no thread is left")
    assert len(replay.result().emitted) == 2


def test_an_interrupt_within_a_tick_is_not_passed_over(fake: FakePredictor) -> None:
    """Ctrl-C while a tick waits breaks the replay off: it does not go on as if that tick had not been."""

    def interrupted() -> Iterator[MarketTick]:
        yield from ticks(PRICES[:2])
        raise KeyboardInterrupt

    with open_replay(interrupted(), [LEARNED], predictor=fake) as replay:
        with pytest.raises(KeyboardInterrupt):
            replay.run()
        with pytest.raises(RuntimeError, match="broken off after 2 ticks"):
            iter(replay)
    eventually(lambda: threads() == [], "no thread is left")


def as_frame(**columns: Sequence[Any]) -> pd.DataFrame:
    """Six ticks as a frame, with these columns in place of or beside the usual."""
    usual = {
        "timestamp": [OPEN + timedelta(seconds=second) for second in range(6)],
        "last_price": PRICES,
        "instrument_token": [1] * 6,
    }
    return pd.DataFrame({**usual, **columns})


def csv_file(folder: Path) -> Path:
    """Six ticks as a file."""
    path = folder / "ticks.csv"
    as_frame().to_csv(path, index=False)
    return path


def test_ticks_come_in_many_forms(tmp_path: Path) -> None:
    """A file, a list of files, ticks, and a frame by column or index give the same result."""
    path = csv_file(tmp_path)
    naive = [datetime(2024, 8, 8, 14, 45) + timedelta(seconds=second) for second in range(6)]  # noqa: DTZ001
    forms: list[tuple[Any, Any]] = [
        (ticks(PRICES), None),
        (iter(ticks(PRICES)), None),
        (path, None),
        (str(path), None),
        ([path], None),
        (as_frame(), None),
        (as_frame().set_index("timestamp"), None),
        (as_frame().set_index(["instrument_token", "timestamp"]), None),
        (as_frame(timestamp=naive), {"timezone": "Asia/Kolkata"}),
        (as_frame().rename(columns={"last_price": "Price"}), {"price": "Price", "token": 1}),
        (as_frame().assign(name="A"), {"symbol": "name", "instruments": MappingProxyType({"A": 1})}),
        (as_frame(timestamp=[str(OPEN + timedelta(seconds=second)) for second in range(6)]), None),
    ]
    for given, columns in forms:
        with open_replay(given, [RULE], columns=columns) as replay:
            assert [each[0] for each in seen(replay)] == ["WARMING_UP", "BUY", "BUY", "HOLD", "SELL", "BUY"]
            assert replay.result().ticks()["time"][0] == np.datetime64(OPEN.replace(tzinfo=None))


def test_other_instruments_of_a_frame_are_left_out() -> None:
    """A row of an instrument that no strategy has, or with no price, is counted as no tick of this replay."""
    frame = as_frame(instrument_token=[1, 1, 2, 1, 1, 1], last_price=[100, 102, 1, float("nan"), 90, 95])
    with open_replay(frame, [RULE]) as replay:
        assert len(seen(replay)) == 4
        assert replay.bad.count == 2
        assert str(replay.bad.first[1]).startswith("frame:3: last_price: expected a finite number above 0")


@pytest.mark.parametrize("zone", [UTC, None])
@pytest.mark.parametrize("missing", [0, 2])
def test_a_row_without_a_time_is_no_tick(missing: int, zone: tzinfo | None) -> None:
    """A frame's NaT is a bad line of its own, named with its row, wherever it stands."""
    times = pd.date_range(OPEN.replace(tzinfo=zone), periods=6, freq="s").to_series().reset_index(drop=True)
    times[missing] = pd.NaT
    with open_replay(as_frame(timestamp=times), [RULE], columns={"timezone": "UTC"}) as replay:
        assert len(seen(replay)) == 5
        assert [str(each).split(",")[0] for each in replay.bad.first] == [
            f"frame:{missing}: timestamp: expected an ISO 8601 time"
        ]


def test_strategies_come_in_many_forms(tmp_path: Path) -> None:
    """A file, a folder, a set, mappings and configurations run the same."""
    path = tmp_path / "rule.yaml"
    path.write_text(
        "strategy_name: rule\nstrategy_type: momentum\ninstrument_tokens: [1]\n"
        "parameters: {lookback_periods: 2, momentum_threshold: 0.01}\n"
    )
    config = StrategyConfig("rule", "momentum", RULE["parameters"], ("paper",), (1,))  # type: ignore[arg-type]
    for given in (path, str(tmp_path), RULE, [RULE], [config], StrategySet((config,))):
        with open_replay(ticks(PRICES), given) as replay:
            assert replay.run().counts()["rule"]["BUY"] == 3


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"strategies": []}, ConfigurationError, "strategies: expected at least one"),
        ({"strategies": ["rule"]}, ConfigurationError, "strategies.0: expected a mapping, came 'rule'"),
        (
            {"strategies": [{**RULE, "brokr": ["paper"]}]},
            ConfigurationError,
            r"strategies.0.brokr: unknown key \(did you mean 'brokers'\?\)",
        ),
        (
            {"strategies": [RULE, {**RULE, "strategy_type": "momentun"}]},
            ConfigurationError,
            r"strategies.1.strategy_type: unknown strategy type 'momentun' \(did you mean",
        ),
        ({"strategies": [RULE, RULE]}, ConfigurationError, "'rule' stands twice"),
        ({"ticks": []}, BadFileError, "ticks: expected at least one"),
        ({"ticks": 5}, BadFileError, "ticks: expected a file, MarketTicks or a DataFrame, came int"),
        ({"ticks": [1, 2]}, BadFileError, r"ticks\[0\]: expected a MarketTick, came int"),
        ({"ticks": "none.csv"}, BadFileError, "none.csv: expected a file of ticks, there is none"),
        ({"ticks": as_frame(), "columns": {"price": "P"}}, BadFileError, "column 'P' is missing"),
        (
            {"columns": {"prize": "P"}},
            ConfigurationError,
            r"columns.prize: unknown key \(did you mean 'price'\?\)",
        ),
        ({"columns": 5}, ConfigurationError, "columns: expected a TicksConfig or a mapping, came int"),
        (
            {"strategies": None},
            ConfigurationError,
            "strategies: expected a file, a URL, or mappings",
        ),
        ({"skip": -1}, ConfigurationError, "^skip: expected an integer from 0 to [0-9]+, came -1$"),
        ({"skip": None}, ConfigurationError, "^skip: expected an integer .*, came None$"),
        ({"limit": "5"}, ConfigurationError, "^limit: expected an integer from 1 to .*, came '5'$"),
        ({"limit": 2.0}, ConfigurationError, "^limit: expected an integer .*, came 2.0$"),
        ({"limit": 10**30}, ConfigurationError, "^limit: expected an integer .*, came 10+$"),
        ({"skip": -1, "window": 2.5}, ConfigurationError, "^skip: .*\nwindow: expected an .*, came 2.5$"),
        ({"target": "nowhere"}, TargetError, "target 'nowhere': expected unix:/path or host:port"),
        (
            {"target": "unix:/s", "models": "m"},
            ConfigurationError,
            "expected one of models, target, predictor",
        ),
        (
            {"predictor": FakePredictor({}), "models": "m"},
            ConfigurationError,
            "^predictor: expected one of models, target, predictor, came models and predictor$",
        ),
        ({"limit": 0}, ConfigurationError, "limit: expected an integer from 1 to [0-9]+, came 0$"),
        (
            {"deadline_ms": 0},
            ConfigurationError,
            "^deadline_ms: expected more than 0, 864000000 at most, came 0",
        ),
        ({"deadline_ms": "5"}, ConfigurationError, "^deadline_ms: .* came '5'$"),
        ({"deadline_ms": True}, ConfigurationError, "^deadline_ms: .* came True$"),
        ({"deadline_ms": None}, ConfigurationError, "^deadline_ms: .* came None$"),
        ({"deadline_ms": 864_000_001}, ConfigurationError, "^deadline_ms: .* came 864000001$"),
        ({"deadline_ms": float("nan")}, ConfigurationError, "^deadline_ms: .* came nan$"),
        ({"window": 0}, ConfigurationError, "window: expected an integer from 1 to 1000, came 0"),
        ({"window": 1_001}, ConfigurationError, "window: expected an integer from 1 to 1000, came 1001"),
        ({"window": True}, ConfigurationError, "^window: .* came True$"),
        ({"window": "5"}, ConfigurationError, "^window: .* came '5'$"),
        ({"models": 5}, ConfigurationError, "^models: expected a folder of models, came 5$"),
        (
            {"target": 5},
            ConfigurationError,
            "^target: expected an address, or a list of at least one, came 5$",
        ),
        ({"target": []}, ConfigurationError, r"^target: .* came \[\]$"),
        ({"target": ["unix:/s", 5]}, ConfigurationError, r"^target: .* came \['unix:/s', 5\]$"),
        ({"target": {"unix:/s"}}, ConfigurationError, "^target: .* came set$"),
        (
            {"predictor": OPEN},
            ConfigurationError,
            "^predictor: expected an InferenceClient, or .* came datetime$",
        ),
        ({"predictor": FakePredictor}, ConfigurationError, "^predictor: .* came the class FakePredictor$"),
        ({"security": "x"}, ConfigurationError, "^security: expected a Security, came 'x'$"),
        ({"factory": OPEN}, ConfigurationError, "^factory: expected a StrategyFactory, came datetime$"),
        ({"columns": {"time": 5}}, ConfigurationError, "^columns.time: expected a column name, came 5$"),
        ({"columns": {"timezone": "Mars"}}, ConfigurationError, "^columns.timezone: expected a zone like"),
        (
            {"columns": {"time": None}},
            ConfigurationError,
            "^columns.time: expected a column name, came nothing",
        ),
        ({"columns": {5: "x"}}, ConfigurationError, "^columns.5: unknown key"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_starts(
    arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    """H9: what is wrong with an argument is said by open_replay itself, with its place."""
    given = {"ticks": ticks(PRICES), "strategies": [RULE], **arguments}
    with pytest.raises(error, match=told):
        open_replay(**given)


def test_some_ticks_may_be_left_out(fake: FakePredictor) -> None:
    """`skip` leaves ticks out at the start, `limit` takes so many after them."""
    with open_replay(ticks(PRICES), [RULE], skip=1, limit=3) as replay:
        assert replay.run().ticks()["price"].tolist() == [102, 104, 104]


def test_what_numpy_counts_with_is_as_good(fake: FakePredictor) -> None:
    """An integer or a number of numpy's is taken as Python's is, and no limit may be the greatest one."""
    frame = as_frame().drop(columns="instrument_token")
    numbers = {
        "skip": np.int64(1),
        "limit": sys.maxsize,
        "window": np.uint8(3),
        "deadline_ms": np.float32(50),
    }
    columns = {"token": np.int64(1), "timezone": None}
    with open_replay(frame, [LEARNED], predictor=fake, columns=columns, **numbers) as replay:
        assert len(seen(replay)) == 5


def test_windows_give_the_same(fake: FakePredictor) -> None:
    """Asked in windows the outcomes are those of tick by tick; only the latency is not known."""
    prices = [100 + (7 * index) % 13 for index in range(50)]
    found = []
    for window in (1, 7, 250):
        with open_replay(ticks(prices), [RULE, LEARNED], predictor=fake, window=window) as replay:
            found.append(replay.run())
    first, *others = (each.outcomes() for each in found)
    for other in others:
        for name, column in first.items():
            np.testing.assert_array_equal(other[name], column)
    assert found[0].ticks()["duration_ns"].all()
    assert not found[1].ticks()["duration_ns"].any()


def test_a_strategy_that_cannot_ask_is_told_of(fake: FakePredictor) -> None:
    """`unbound` says which strategy has no model it fits, before the first tick is looked at."""
    wrong = {**LEARNED, "parameters": {**LEARNED["parameters"], "features": ["return_5"]}}  # type: ignore[dict-item]
    with open_replay(ticks(PRICES), [wrong], predictor=fake) as replay:
        assert replay.unbound()["learned"].startswith("CONTRACT_MISMATCH: model 'm' version 4: feature 0")


@pytest.mark.parametrize("window", [1, 250])
def test_ticks_without_a_usable_time_or_price_have_rows_too(fake: FakePredictor, window: int) -> None:
    """H6: a tick that the edge refuses is a row: its time is no time, its price no number, its token none."""

    class Nowhere(tzinfo):
        def utcoffset(self, _when: object) -> timedelta:
            raise LookupError

    nan, good = Decimal("NaN"), Decimal(100)
    naive = datetime(2024, 8, 8)  # noqa: DTZ001 that is the case
    given: list[tuple[Any, Any, Any]] = [
        (1, nan, naive),
        (1, good, None),
        (1, good, "2024-08-08"),
        (1, good, pd.NaT),
        (1, good, naive.replace(tzinfo=Nowhere())),
        (1, good, naive.replace(year=1677, tzinfo=UTC)),
        (1, "100", OPEN),
        (1, 10**400, OPEN),
        (1, -1, OPEN),
        ("NIFTY", good, OPEN),
        (2**63, good, OPEN),
        (1, good, OPEN),
    ]
    strange = [MarketTick(*each) for each in given]
    with open_replay(strange, [LEARNED], predictor=fake, window=window) as replay:
        result = replay.run()
    by_tick = result.ticks()
    assert np.isnat(by_tick["time"]).tolist() == [True] * 6 + [False] * 6
    np.testing.assert_array_equal(by_tick["price"][6:9], [np.nan, np.nan, -1.0])
    assert by_tick["instrument_token"][-3:].tolist() == [0, 0, 1]
    assert result.counts()["learned"] == Counter(STALE_TICK=4, NON_FINITE=3, OUT_OF_RANGE=1, WARMING_UP=2)


def test_whatever_a_processor_says_of_itself_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata under names of ours, and a quantity that no column holds, end no replay."""
    metadata = {"model": object(), "digest": 5, "version": float("inf"), "probability": 10**400}

    class Own:
        def __init__(self) -> None:
            self.said = iter([10, 2**70])

        def get_strategy_name(self) -> str:
            return "own"

        def get_required_history_length(self) -> int:
            return 1

        def supports_instrument(self, token: int) -> bool:
            return True

        def process_tick(self, now: MarketTick, history: Sequence[MarketTick]) -> SignalResult:
            return SignalResult("BUY", 0.5, next(self.said), now.last_price, metadata=metadata)

    module = types.ModuleType("own_processors")
    module.create_own_processor = lambda parameters: Own()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_processors", module)
    own = {**RULE, "strategy_type": "own_processors.create_own_processor", "parameters": {}}
    with open_replay(ticks([100, 101]), [own]) as replay:
        signals = replay.run().signals()
    assert signals["quantity"].tolist() == [10, 2**63 - 1]
    for name, none in {"model": "", "digest": "", "version": 0}.items():
        assert signals[name].tolist() == [none] * 2
    assert np.isnan(signals["probability"]).all()


@pytest.mark.parametrize("window", [1, 250])
def test_a_shadow_is_compared(window: int) -> None:
    """A strategy's second model is asked beside the first, and what it would have done is a table."""
    models = {"m": FakeModel(["return_3"], [0.2, 0.8]), "next": FakeModel(["return_3"], [0.6, 0.4])}
    parameters = {**LEARNED["parameters"], "shadow": {"model": "next"}}  # type: ignore[dict-item]
    with (
        FakePredictor(models) as fake,
        open_replay(
            ticks(PRICES), {**LEARNED, "parameters": parameters}, predictor=fake, window=window
        ) as replay,
    ):
        result = replay.run()
    compared = result.comparisons()
    assert compared["tick"].tolist() == list(range(6))
    assert compared["live"].tolist()[2:] == ["BUY"] * 4
    assert compared["shadow"].tolist()[2:] == ["SELL"] * 4
    assert compared["shadow_probability"].tolist()[2:] == pytest.approx([0.6] * 4)
    assert np.isnan(compared["live_probability"][:2]).all()
    assert result.to_frame("comparisons")["strategy_id"].tolist() == ["learned"] * 6
    assert result.counts() == {"learned": Counter(WARMING_UP=2, BUY=4)}


@pytest.mark.parametrize(
    ("strategy_type", "features"),
    [
        ("ml_momentum", momentum_features(3)),
        ("ml_mean_reversion", mean_reversion_features(3)),
        ("ml_breakout", breakout_features(3)),
    ],
)
def test_default_features_fall_silent_where_the_price_left(
    strategy_type: str, features: tuple[str, ...]
) -> None:
    """All of them hold `price`: above the prices of the training `refuse` is silent, `count` is not."""
    anything = (-np.inf, np.inf)
    trained = [(99.0, 104.0) if name == "price" else anything for name in features]
    parameters = {"model": "m", "lookback_periods": 3, "confidence_threshold": 0.5}
    strategies = [
        {
            **LEARNED,
            "strategy_name": name,
            "strategy_type": strategy_type,
            "parameters": parameters | ({} if name == "left_out" else {"outside_training_range": name}),
        }
        for name in ("left_out", "refuse", "count")
    ]
    prices = (100, 101, 102, 101, 102, 103, 104, 105, 106)
    model = FakeModel(features, [0.1, 0.9], training_ranges=trained)
    with (
        FakePredictor({"m": model}) as fake,
        open_replay(ticks(prices), strategies, predictor=fake) as replay,
    ):
        counted = replay.run().counts()
    assert counted["left_out"] == counted["refuse"]
    assert counted["refuse"]["OUT_OF_RANGE"] == 2
    assert counted["count"]["OUT_OF_RANGE"] == 0
    assert counted["count"]["BUY"] == counted["refuse"]["BUY"] + 2


@pytest.mark.parametrize("window", [1, 4, 250])
@pytest.mark.parametrize("raised", [OSError, BadFileError])
def test_ticks_before_a_source_that_fails_are_concluded(
    fake: FakePredictor, raised: type[Exception], window: int
) -> None:
    """A source that raises in the middle ends the replay there, in windows as tick by tick."""

    def failing() -> Iterator[MarketTick]:
        yield from ticks(PRICES)
        raise raised("gone")

    with open_replay(failing(), [LEARNED], predictor=fake, window=window) as replay:
        with pytest.raises(raised, match="gone"):
            replay.run()
        with pytest.raises(RuntimeError, match="broken off after 6 ticks"):
            iter(replay)
    assert replay.result().counts()["learned"] == Counter(WARMING_UP=2, BUY=2, SELL=2)


class Unsettled(Settled):
    """Answers that seem not to be there until they are asked for."""

    settled = False


class Slow(FakePredictor):
    """Answers when it is asked for the answers, and not before."""

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Answer, and seem not to have."""
        return Unsettled(super().submit(questions, deadline_ns).result())


@pytest.mark.parametrize("window", [1, 250, 1_000])
def test_no_comparison_with_a_slow_shadow_is_dropped(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    """However far the shadow is behind, a replay waits for it before it would forget the first ticks."""
    monkeypatch.setattr(shadow, "MAX_PENDING", 300)
    models = {name: FakeModel(["return_3"], [0.2, 0.8]) for name in ("m", "next")}
    parameters = {**LEARNED["parameters"], "shadow": {"model": "next"}}  # type: ignore[dict-item]
    prices = [100 + (7 * index) % 13 for index in range(1_500)]
    with (
        Slow(models) as slow,
        open_replay(
            ticks(prices), {**LEARNED, "parameters": parameters}, predictor=slow, window=window
        ) as replay,
    ):
        compared = replay.run().comparisons()
    assert compared["tick"].tolist() == list(range(1_500))
