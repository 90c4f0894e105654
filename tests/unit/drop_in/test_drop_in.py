"""Our processors in the hands of the other runner: a tick and a list in, a signal or None out."""

import gc
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alpha_panda_runner import SignalResult as TheirSignalResult
from alpha_panda_runner import Tick
from fake_sidecar import FakeSidecar
from prometheus_client import CollectorRegistry, generate_latest
from sidecars import eventually

from strategy_client import SignalResult
from strategy_client.drop_in import LearnedDropInProcessor, StrategyLoadError, creator, shared_client
from strategy_client.drop_in import create_momentum_processor as create_momentum
from strategy_client.drop_in import create_processor as create_any
from strategy_client.drop_in.journal import MIN_PAUSE_S, Journal
from strategy_client.drop_in.metrics import register_metrics
from strategy_client.drop_in.shared_bindings import OwnBinding
from strategy_client.events import NoSignal, Reason
from strategy_client.predictor.security import Security, SecurityError

OPEN = datetime(2024, 8, 8, 9, 15, tzinfo=UTC)
Make = Callable[..., LearnedDropInProcessor]


def tick(price: object, token: int = 1, second: float = 0) -> Tick:
    """A tick of theirs; the price is not checked, as in one that was built without validation."""
    when = OPEN + timedelta(seconds=second)
    return Tick.model_construct(instrument_token=token, last_price=price, timestamp=when, symbol="X")


def feed(processor: Any, *prices: float, token: int = 1) -> list[Any]:
    """What comes of ticks of these prices, each handed over with the one list of their executor."""
    history: list[Tick] = []
    results = []
    for second, price in enumerate(prices):
        history.append(tick(Decimal(str(price)), token, second))
        results.append(processor.process_tick(history[-1], list(history[-3:])))
    return results


def threads() -> int:
    """How many threads of ours there are."""
    return sum(thread.name.startswith("tickserve") for thread in threading.enumerate())


def test_a_signal_is_of_their_class_and_names_the_model_bytes(make: Make, sidecar: FakeSidecar) -> None:
    """A signal is an object of the class that was given, its price the tick's, its provenance in metadata."""
    processor = make(creator("ml_momentum", TheirSignalResult), position_size=7)
    *warming, signal = feed(processor, 100, 101, 102.5)
    assert warming == [None, None]
    assert type(signal) is TheirSignalResult
    assert (signal.signal_type, signal.quantity, signal.price) == ("BUY", 7, Decimal("102.5"))
    assert signal.confidence == pytest.approx(0.9)
    made_by = {name: signal.metadata[name] for name in ("model", "version", "digest", "contract_hash")}
    model = sidecar.models["m"]
    assert made_by == {
        "model": "m",
        "version": 1,
        "digest": model.digest,
        "contract_hash": model.contract_hash,
    }
    assert signal.metadata["features"]["return_3"] == pytest.approx(0.025)
    assert signal.metadata["probability"] == pytest.approx(0.9)
    assert signal.reasoning == f"m version 1 ({model.digest[:12]}): BUY 0.9000"
    told = dict(processor.last_outcome.metadata)  # type: ignore[union-attr]
    signal.metadata.clear()
    assert processor.last_outcome.metadata == told, "what is handed out is theirs to change"  # type: ignore[union-attr]


def test_the_class_may_be_named_in_the_configuration(make: Make) -> None:
    """`signal_result` among the parameters is a dotted path, and goes before that of the function."""
    processor = make(signal_result="alpha_panda_runner.SignalResult")
    assert type(feed(processor, 100, 101, 102)[-1]) is TheirSignalResult
    assert type(feed(make(), 100, 101, 102)[-1]) is SignalResult


@dataclass(frozen=True)
class Poor:
    """A class of other fields."""

    signal_type: str


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("SignalResult", "expected a dotted path"),
        ("alpha_panda_runner.Nothing", "'alpha_panda_runner.Nothing' cannot be imported"),
        ("alpha_panda_runner.ML_METHODS", "expected a class"),
        (Poor, "has no field confidence, metadata, price, quantity, reasoning"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused(make: Make, given: Any, expected: str) -> None:
    """A signal class is looked at when the strategy is made, not when the first signal comes."""
    with pytest.raises(ValueError, match="Failed to load ML model from 'm'") as caught:
        make(creator("ml_momentum", given))
    assert expected in str(caught.value)


def test_a_tick_of_the_warm_up_is_not_asked(make: Make, sidecar: FakeSidecar) -> None:
    """While the features have no window there is no call and no signal, but a reason (defect 2)."""
    processor = make()
    assert feed(processor, 100, 101) == [None, None]
    assert processor.outcomes == {"WARMING_UP": 2}
    assert sidecar.requests == []


def test_each_instrument_has_a_history_of_its_own(make: Make) -> None:
    """Twenty instruments in one list of three ticks: each is compared with itself only (defect 1)."""
    processor = make()
    momentum = create_momentum({"momentum_threshold": "0.001", "lookback_periods": 3})
    history: list[Tick] = []
    sides: dict[int, list[str]] = {}
    for second in range(5):
        for token in range(1, 21):
            step = second if token % 2 else -second
            history.append(tick(Decimal(1_000 * token + 10 * step), token, second))
            for each in (processor, momentum):
                signal = each.process_tick(history[-1], history[-3:])
                if signal is not None:
                    sides.setdefault(token, []).append(signal.signal_type)
                    assert signal.price == history[-1].last_price
    for token, seen in sides.items():
        assert set(seen) == ({"BUY"} if token % 2 else {"SELL"}), token
    assert len(sides) == 20
    assert processor.outcomes["WARMING_UP"] == momentum.outcomes["WARMING_UP"] == 40


@pytest.mark.parametrize("learned", [True, False])
def test_a_history_from_before_counts_once(make: Make, learned: bool) -> None:
    """Ticks handed over before the first call of an instrument warm it up, those of others do not."""
    processor = make() if learned else create_momentum({"lookback_periods": 3, "momentum_threshold": 0.01})
    earlier = [tick(Decimal(100), 1, 0), tick(Decimal(9), 2, 0), tick(Decimal(101), 1, 1)]
    now = tick(Decimal(105), 1, 2)
    signal = processor.process_tick(now, [*earlier, now])
    assert signal is not None
    key = "features" if learned else "momentum"
    value = signal.metadata[key]["return_3"] if learned else signal.metadata[key]
    assert value == pytest.approx(0.05)
    later = tick(Decimal(103), 1, 3)
    signal = processor.process_tick(later, [*earlier, now, later])
    assert signal is not None
    value = signal.metadata[key]["return_3"] if learned else signal.metadata[key]
    assert value == pytest.approx(103 / 101 - 1)
    assert processor.outcomes.total() == 2


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        (Decimal("NaN"), "NON_FINITE"),
        (Decimal("Infinity"), "NON_FINITE"),
        ("no number", "NON_FINITE"),
        (None, "NON_FINITE"),
        (0, "OUT_OF_RANGE"),
        (Decimal(-1), "OUT_OF_RANGE"),
    ],
)
def test_a_price_that_nothing_trades_at_is_refused(make: Make, price: object, reason: str) -> None:
    """H6: a price that is not finite and above 0 gives a reason and leaves no trace in the history."""
    processor = make()
    feed(processor, 100, 101)
    assert processor.process_tick(tick(price, second=2), []) is None
    assert isinstance(processor.last_outcome, NoSignal)
    assert processor.last_outcome.reason.value == reason
    signal = processor.process_tick(tick(Decimal(110), second=3), [])
    assert signal.metadata["features"]["return_3"] == pytest.approx(0.1)


@pytest.mark.parametrize("token", [None, "x", 1.5, float("nan"), True, 0, -1])
def test_a_tick_of_no_instrument_is_refused(token: object) -> None:
    """H6: what is no instrument's token is refused, not rounded to that of another whose history it mixes."""
    processor = create_momentum({"lookback_periods": 2, "momentum_threshold": 0.01})
    feed(processor, 100)
    odd: Any = tick(Decimal(200), second=1)
    odd = odd.model_copy(update={"instrument_token": token})
    assert processor.process_tick(odd, [odd]) is None
    assert isinstance(processor.last_outcome, NoSignal)
    assert processor.last_outcome.reason is Reason.OUT_OF_RANGE
    assert repr(token) in processor.last_outcome.detail
    assert processor.process_tick(tick(Decimal(100), second=2), []) is None
    assert processor.outcomes == {"WARMING_UP": 1, "OUT_OF_RANGE": 1, "HOLD": 1}


def test_what_is_no_tick_at_all_raises_nothing() -> None:
    """H6: a thing without the fields of a tick, also among earlier ones, and absurd values are refused."""
    rule = {"lookback_periods": 2, "momentum_threshold": 0.01}
    processor = create_momentum({**rule, "timezone": "Asia/Kolkata"})
    times = (datetime.min, datetime.max)  # noqa: DTZ901 - as wrong as they come
    ends = [tick(Decimal(100)).model_copy(update={"timestamp": when}) for when in times]
    long = tick(10**5000)
    for thing in (None, 5, *ends, long):
        assert processor.process_tick(thing, [thing]) is None
    assert processor.process_tick(tick(Decimal(100), token=2), [None, 5, *ends]) is None
    assert processor.outcomes == {"OUT_OF_RANGE": 2, "STALE_TICK": 2, "NON_FINITE": 1, "WARMING_UP": 1}


def test_a_class_of_signals_that_raises_costs_the_signal_only() -> None:
    """A signal that the runner's own class refuses is INVALID_SIGNAL with what it said; the loop goes on."""
    given: list[dict[str, Any]] = []

    def once(**fields: Any) -> dict[str, Any]:
        given.append(fields)
        if len(given) == 1:
            raise ValueError("quantity above the limit")
        return fields

    processor = creator("momentum", once)({"lookback_periods": 2, "momentum_threshold": 0.01})
    assert feed(processor, 100, 102)[1] is None
    assert isinstance(processor.last_outcome, NoSignal)
    assert processor.last_outcome.detail == "signal_result raised ValueError: quantity above the limit"
    assert processor.process_tick(tick(Decimal(104), second=2), [])["signal_type"] == "BUY"
    assert processor.outcomes == {"WARMING_UP": 1, "INVALID_SIGNAL": 1, "BUY": 1}
    assert processor.calls == 3


def test_a_time_without_a_zone_needs_one(make: Make) -> None:
    """A timestamp without a zone is refused, and taken where the configuration names the zone (defect 11)."""
    naive = Tick.model_construct(
        instrument_token=1, last_price=Decimal(100), timestamp=OPEN.replace(tzinfo=None), symbol=None
    )
    refused, taken, other = make(), make(timezone="Asia/Kolkata"), make(utc_means="Asia/Kolkata")
    for processor in (refused, taken, other):
        processor.process_tick(naive, [naive])
    assert refused.outcomes == other.outcomes == {"STALE_TICK": 1}
    assert taken.outcomes == {"WARMING_UP": 1}
    assert taken.last_outcome.timestamp == datetime(2024, 8, 8, 3, 45, tzinfo=UTC)


def test_a_feed_that_takes_local_times_for_utc_is_told_of(make: Make) -> None:
    """Kite's local times that say UTC are 5 h 30 ahead: refused, and put right where that is configured."""
    refused, right = make(), make(utc_means="Asia/Kolkata")
    ahead = (datetime.now(UTC) + timedelta(hours=5, minutes=30)).replace(microsecond=0)
    for processor in (refused, right):
        moved = tick(Decimal(100)).model_copy(update={"timestamp": ahead})
        processor.process_tick(moved, [moved])
    assert refused.outcomes == {"STALE_TICK": 1}
    assert "ahead of the clock of this machine" in refused.last_outcome.detail
    assert right.outcomes == {"WARMING_UP": 1}
    assert right.last_outcome.timestamp == ahead - timedelta(hours=5, minutes=30)
    elsewhere = datetime.now(timezone(timedelta(hours=-4)))
    zoned = tick(Decimal(101)).model_copy(update={"timestamp": elsewhere})
    right.process_tick(zoned, [])
    assert right.last_outcome.timestamp == zoned.timestamp


def test_a_tick_out_of_order_is_refused(make: Make) -> None:
    """H6: a tick older than the one before it of its instrument is STALE_TICK and no history."""
    processor = make()
    feed(processor, 100, 101, 102)
    assert processor.process_tick(tick(Decimal(50), second=1), []) is None
    assert processor.last_outcome.reason is Reason.STALE_TICK
    signal = processor.process_tick(tick(Decimal(103), second=3), [])
    assert signal.metadata["features"]["return_3"] == pytest.approx(103 / 101 - 1)


def test_rules_of_emission_hold_here_too(make: Make) -> None:
    """`emission` and `risk_limits` among the parameters are what they are in our own runner (defect 12)."""
    processor = make(emission={"edge_trigger": True}, risk_limits={"max_position_size": 3})
    signals = feed(processor, 100, 101, 102, 103, 90)
    assert [each and (each.signal_type, each.quantity) for each in signals] == [
        None,
        None,
        ("BUY", 3),
        None,
        ("SELL", 3),
    ]


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("error", [ValueError, SystemExit])
@pytest.mark.parametrize("rules", [{"edge_trigger": True}, {"cooldown_s": 60}])
def test_a_signal_that_their_class_refuses_has_not_gone_out(
    make: Make, rules: dict[str, Any], error: type[BaseException], learned: bool
) -> None:
    """The rules of emission let the next signal of that side out, and hold those behind it back."""
    refusing = [True]

    def signal_result(**fields: Any) -> Any:
        if refusing[0]:
            raise error("not today")
        return fields["signal_type"]

    create = creator("ml_momentum" if learned else "momentum", signal_result)
    if learned:
        processor: Any = make(create, emission=rules)
    else:
        processor = create({"lookback_periods": 3, "momentum_threshold": 0.001, "emission": rules})
    assert feed(processor, 100, 101, 102, 103) == [None] * 4
    assert processor.last_outcome.reason is Reason.INVALID_SIGNAL
    assert processor.last_outcome.detail == f"signal_result raised {error.__name__}: not today"
    refusing[0] = False
    later = [tick(Decimal(104 + n), second=4 + n) for n in range(3)]
    assert [processor.process_tick(each, []) for each in later] == ["BUY", None, None]
    assert processor.outcomes == {"WARMING_UP": 2, "INVALID_SIGNAL": 2, "BUY": 1, "HOLD": 2}
    assert processor.last_outcome.metadata["held_back"] == "BUY"
    # Each instrument has its own.
    assert feed(processor, 100, 101, 102, token=2) == [None, None, "BUY"]


@pytest.mark.parametrize("deadline_ms", [float("inf"), float("nan"), 864_000_001, 0])
def test_a_budget_that_no_clock_counts_is_refused(deadline_ms: float) -> None:
    """H9: the time that a call may wait for the sidecar has a bound, the same as in our own runner."""
    with pytest.raises(StrategyLoadError, match=r"deadline_ms: expected a number above 0, 864000000 at most"):
        create_momentum({"deadline_ms": deadline_ms})


@pytest.mark.parametrize(
    ("seconds", "told"), [(-60, "s old, expected at most 30"), (600, "ahead of the clock")]
)
def test_a_tick_of_another_time_is_refused(make: Make, seconds: int, told: str) -> None:
    """H6: with a bound on the age, a tick that is older, or from the future, is STALE_TICK; it is history."""
    processor = make(max_tick_age_s=30)
    for price in (100, 101):
        now = tick(Decimal(price)).model_copy(update={"timestamp": datetime.now(UTC)})
        processor.process_tick(now, [])
    moved = tick(Decimal(102)).model_copy(
        update={"timestamp": datetime.now(UTC) + timedelta(seconds=seconds)}
    )
    assert processor.process_tick(moved, []) is None
    assert processor.last_outcome.reason is Reason.STALE_TICK
    assert told in processor.last_outcome.detail
    assert processor.outcomes == {"WARMING_UP": 2, "STALE_TICK": 1}
    if seconds < 0:  # an instrument of its own, whose first ticks come late
        late = [(Decimal(price), datetime.now(UTC) - timedelta(seconds=40)) for price in (100, 101)]
        for price, when in [*late, (Decimal(110), datetime.now(UTC))]:
            now = tick(price, token=2).model_copy(update={"timestamp": when})
            signal = processor.process_tick(now, [])
        assert signal.metadata["features"]["return_3"] == pytest.approx(0.1)
    unbounded = make()
    assert feed(unbounded, 100, 101, 102)[-1] is not None


def test_features_and_signal_may_be_two_calls(make: Make, sidecar: FakeSidecar) -> None:
    """extract_features then predict_signal is one tick and one question, at the tick's price (defect 3)."""
    processor, whole = make(), make()
    prices = (100, 101, 102, 99)
    results, rows = [], []
    for second, price in enumerate(prices):
        now = tick(Decimal(price), second=second)
        rows.append(processor.extract_features(now, [now]))
        results.append(processor.predict_signal(rows[-1]))
    expected = feed(whole, *prices)
    assert [each and (each.signal_type, each.price) for each in results] == [
        each and (each.signal_type, each.price) for each in expected
    ]
    assert processor.outcomes == whole.outcomes
    assert len(sidecar.requests) == 4
    assert all(row.dtype == np.float32 and row.shape == (2,) for row in rows)
    assert np.isnan(rows[0]).all()
    assert rows[3].tolist() == pytest.approx([99 / 101 - 1, 99])


def test_a_tick_whose_features_were_taken_is_not_counted_twice(make: Make, sidecar: FakeSidecar) -> None:
    """process_tick after extract_features of the same tick concludes it; so does another tick."""
    processor = make()
    feed(processor, 100, 101)
    now, later = tick(Decimal(102), second=2), tick(Decimal(103), second=3)
    first = processor.extract_features(now, [])
    assert processor.extract_features(now, []).tolist() == first.tolist()
    assert processor.process_tick(now, []).price == 102
    processor.extract_features(later, [])
    assert processor.process_tick(tick(Decimal(104), second=4), []).metadata["features"][
        "return_3"
    ] == pytest.approx(104 / 102 - 1)
    assert processor.outcomes == {"WARMING_UP": 2, "BUY": 3}
    assert len(sidecar.requests) == 3


def test_a_row_of_somebody_else_is_refused(make: Make) -> None:
    """Nobody vouches for a row that extract_features did not return: CONTRACT_MISMATCH."""
    processor = make()
    feed(processor, 100, 101)
    row = processor.extract_features(tick(Decimal(102), second=2), [])
    assert processor.predict_signal(row + 1) is None
    assert processor.last_outcome.reason is Reason.CONTRACT_MISMATCH
    with pytest.raises(RuntimeError, match="expected extract_features"):
        processor.predict_signal(row)
    assert processor.outcomes.total() == 3


def test_a_row_that_was_changed_is_refused(make: Make) -> None:
    """The row that was handed out may be written into; asked was another, so it is CONTRACT_MISMATCH."""
    processor = make()
    feed(processor, 100, 101)
    row = processor.extract_features(tick(Decimal(102), second=2), [])
    row[0] = -1
    assert processor.predict_signal(row) is None
    assert processor.outcomes["CONTRACT_MISMATCH"] == 1
    assert feed(processor, 103)[-1] is None  # older than the tick before: the loop goes on
    assert processor.outcomes["STALE_TICK"] == 1


def test_a_copy_of_the_tick_in_the_history_counts_once() -> None:
    """The last of the earlier ticks is this one, also where the runner hands over an equal copy of it."""
    processor = create_momentum({"lookback_periods": 2, "momentum_threshold": 0.01})
    first = tick(Decimal(100))
    assert processor.process_tick(first, [first.model_copy()]) is None
    assert processor.outcomes == {"WARMING_UP": 1}


def test_an_endpoint_goes_before_the_environment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked is the sidecar of the parameters, and only without one that of TICKSERVE_TARGET."""
    monkeypatch.setenv("TICKSERVE_TARGET", "unix:/nowhere")
    assert feed(make(), 100, 101, 102)[-1].signal_type == "BUY"


def test_security_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates, key and token file come from the variables of the commands; each makes another client."""
    asked: list[Security] = []

    def refuse(target: str, security: Security) -> None:
        asked.append(security)
        raise SecurityError(f"no file for {target}")

    monkeypatch.setitem(create_any.__globals__, "acquire", refuse)
    names = ("CA", "CERTIFICATE", "KEY", "TOKEN_FILE")
    for name in names:
        monkeypatch.setenv(f"TICKSERVE_{name}", f"/{name}")
    with pytest.raises(ValueError, match="endpoint: no file for localhost:1"):
        creator("ml_momentum")({"model": "m", "endpoint": "localhost:1"})
    assert asked == [Security(*(Path(f"/{name}") for name in names))]


def test_a_late_answer_reaches_no_tick(make: Make, sidecar: FakeSidecar) -> None:
    """H3: what comes after the deadline of its call is dropped; the next tick has its own answer or none."""
    processor = make(deadline_ms=500)
    feed(processor, 100, 101)
    sidecar.hold()
    assert processor.process_tick(tick(Decimal(102), second=2), []) is None
    assert processor.last_outcome.reason is Reason.DEADLINE_EXCEEDED
    held = sidecar.held.get(timeout=60)
    sidecar.release()
    sidecar.send(sidecar.answer(held))

    def answered() -> Any:
        return processor.process_tick(tick(Decimal(50), second=3), [])

    signal = eventually(answered, "the breaker closes")
    assert signal.signal_type == "SELL"
    assert set(processor.outcomes) <= {"WARMING_UP", "DEADLINE_EXCEEDED", "BREAKER_OPEN", "SELL", "BUY"}


def test_the_deadline_is_the_one_configured(make: Make, sidecar: FakeSidecar) -> None:
    """The sidecar is told how long the call waits: `deadline_ms`, 50 by default."""
    feed(make(deadline_ms=20_000), 100, 101, 102)
    assert 15_000_000 < sidecar.requests[-1].timeout_us <= 20_000_000
    create = creator("ml_momentum")
    usual = create({"model": "m", "endpoint": sidecar.target, "features": ["return_3", "price"]})
    feed(usual, 100, 101)
    seconds = itertools.count(2)

    def arrives() -> bool:
        # One that is not sent before its deadline is not sent at all.
        usual.process_tick(tick(Decimal(103), second=next(seconds)), [])
        return sidecar.requests[-1].timeout_us <= 50_000

    eventually(arrives, "the question arrives")
    usual.close()


def test_another_contract_is_never_a_guess(make: Make, sidecar: FakeSidecar) -> None:
    """H5: when the model changes to other features, ticks are CONTRACT_MISMATCH, until it comes back."""
    processor = make()
    feed(processor, 100, 101)
    assert processor.process_tick(tick(Decimal(102), second=2), []).signal_type == "BUY"
    sidecar.swap("m", feature_names=("price", "return_3"), version=2)
    for second in range(3, 6):
        assert processor.process_tick(tick(Decimal(100 + second), second=second), []) is None
        assert processor.last_outcome.reason is Reason.CONTRACT_MISMATCH
    eventually(lambda: processor.model is None, "the binding is renewed")
    sidecar.swap("m", feature_names=("return_3", "price"), version=3)
    eventually(lambda: processor.model, "the binding is renewed")
    assert processor.process_tick(tick(Decimal(120), second=9), []).metadata["version"] == 3


def test_two_strategies_share_one_client(make: Make, sidecar: FakeSidecar) -> None:
    """One endpoint is one client, closed by the last strategy that is closed; another endpoint is another."""
    before = threads()
    first, second = make(), make()
    assert [share.holders for share in shared_client._shares.values()] == [2]
    assert sidecar.streams == 1
    feed(first, 100, 101, 102)
    first.close()
    first.close()
    assert [share.holders for share in shared_client._shares.values()] == [1]
    assert feed(second, 100, 101, 102)[-1] is not None
    second.close()
    assert shared_client._shares == {}
    eventually(lambda: threads() <= before, "their threads end")


def test_a_strategy_nobody_holds_gives_its_client_back(sidecar: FakeSidecar) -> None:
    """The other runner closes nothing: what it lets go is closed all the same, from whatever thread."""
    config = {"model": "m", "endpoint": sidecar.target, "features": ["return_3", "price"]}
    create = creator("ml_momentum")
    held = [create(config), create(config)]
    held.pop()
    gc.collect()
    eventually(
        lambda: [share.holders for share in shared_client._shares.values()] == [1], "one is given back"
    )
    elsewhere = threading.Thread(target=held.clear)
    elsewhere.start()
    elsewhere.join()
    gc.collect()
    eventually(lambda: not shared_client._shares, "the client is closed")
    eventually(lambda: threads() == 0, "their threads end")


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"confidence_threshold": 2}, "confidence_threshold: expected a number from 0 to below 1, came 2"),
        ({"deadline_m": 5}, "unknown parameter (did you mean 'deadline_ms'?)"),
        ({"deadline_ms": 0}, "deadline_ms: expected a number above 0, 864000000 at most, came 0"),
        ({"strategy_id": "a\nb"}, "strategy_id: expected one line of at most 200 characters, came 'a\\nb'"),
        ({"timezone": "Asia/Calcuta"}, "did you mean 'Asia/Calcutta'?"),
        ({"endpoint": "nowhere"}, "endpoint: target 'nowhere': expected unix:/path or host:port"),
        ({"model": "mm"}, "MODEL_NOT_FOUND: the sidecar knows no model 'mm' (did you mean 'm'?)"),
        ({"features": ["price", "return_3"]}, "feature 0 is 'price' in the strategy and 'return_3' in"),
        ({"emission": {"cooldown": 5}}, "parameters.emission.cooldown: unknown key"),
        ({"shadow": {"model": "other"}}, "a shadow is scored by a StrategyRunner only"),
        ({"utc_means": "IST "}, "utc_means: expected a zone like 'Asia/Kolkata'"),
        ({"expected_feature_count": 5}, "expected_feature_count: "),
        ({"model": None, "model_path": "m.pkl"}, "expected a file ending in .onnx or .joblib"),
    ],
)
def test_a_wrong_configuration_fails_at_load(make: Make, parameters: dict[str, Any], told: str) -> None:
    """H9: what can never work fails when it is loaded, in the words that make the runner skip only it."""
    before = threads()
    with pytest.raises(ValueError, match=r"^Failed to load ML model from ") as caught:
        make(**parameters)
    assert told in str(caught.value)
    assert shared_client._shares == {}
    eventually(lambda: threads() <= before, "nothing goes on")


def test_a_sidecar_that_is_ready_is_taken_at_its_word(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one that is not ready may learn of a model soon; of one that is, a wrong name fails at once."""
    looks: list[OwnBinding] = []
    monkeypatch.setattr(OwnBinding, "refresh", looks.append)
    with pytest.raises(ValueError, match="MODEL_NOT_FOUND"):
        make(model="mm")
    assert looks == []


def test_meanings_that_no_side_has_fail_at_load(make: Make, sidecar: FakeSidecar) -> None:
    """A model none of whose classes means BUY or SELL is a wrong configuration."""
    sidecar.swap("m", meanings=("", ""))
    with pytest.raises(ValueError, match="no class of 'm' means BUY or SELL"):
        make()


def test_their_own_parameters_are_left_to_them(make: Make) -> None:
    """What their validator and factory read among the parameters is no error here, and changes nothing."""
    theirs = {"validator": "standard", "max_confidence": 1.0, "min_quantity": 1, "risk_multiplier": "2"}
    processor = make(**theirs, expected_feature_count=2)
    assert feed(processor, 100, 101, 102)[-1].quantity == 100


def test_a_traditional_strategy_fails_alone() -> None:
    """A rule's wrong parameter is no ValueError, at which the other runner would end its whole start."""
    with pytest.raises(
        StrategyLoadError, match=r"momentum: parameters.momentum_threshold: expected a number"
    ) as caught:
        create_momentum({"momentum_threshold": "x"})
    assert not isinstance(caught.value, ValueError)
    with pytest.raises(StrategyLoadError, match="strategy_type: expected a type or the path"):
        create_any({})


def test_a_rule_asks_nothing() -> None:
    """A traditional drop-in looks like one: no methods that the runner would take for a model's."""
    processor = create_any({"strategy_type": "momentum", "lookback_periods": 3, "momentum_threshold": 0.01})
    assert not any(hasattr(processor, name) for name in ("load_model", "extract_features", "predict_signal"))
    assert [each and each.signal_type for each in feed(processor, 100, 100, 102, 98, 98)] == [
        None,
        None,
        "BUY",
        "SELL",
        "SELL",
    ]
    assert processor.get_strategy_name() == "momentum"
    assert processor.get_required_history_length() == 3
    assert processor.supports_instrument(1)
    assert shared_client._shares == {}
    processor.close()


def test_an_own_processor_may_need_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their executor's history has room for one tick at least: one of none would hold nothing."""
    path = "fixtures_processors.create_every_tick_processor"
    monkeypatch.setattr("fixtures_processors.EveryTick.get_required_history_length", lambda _: 0)
    processor = creator(path)({"quantity": 3})
    assert processor.get_required_history_length() == 1
    assert feed(processor, 100)[0].quantity == 3


def test_a_sidecar_that_is_not_there_is_waited_for(
    make: Make, sidecar: FakeSidecar, monkeypatch: Any
) -> None:
    """H1: without a sidecar the strategy loads, says so, gives reasons, and answers when one appears."""
    monkeypatch.setattr(shared_client, "PATIENCE_S", 0.05)
    sidecar.stop()
    processor = make()
    assert processor.load_model() is False
    assert processor.model is None
    feed(processor, 100, 101, 102)
    assert processor.outcomes == {"WARMING_UP": 2, "UNAVAILABLE": 1}
    assert "not reached yet" in processor.last_outcome.detail
    sidecar.start()
    eventually(lambda: processor.model, "it is bound")
    assert processor.load_model() is True
    assert processor.process_tick(tick(Decimal(103), second=3), []).signal_type == "BUY"


def test_a_model_that_is_not_ready_is_waited_for(make: Make, sidecar: FakeSidecar, monkeypatch: Any) -> None:
    """A sidecar that has not looked at its models yet may know the model later."""
    monkeypatch.setattr(shared_client, "PATIENCE_S", 3.0)
    models = dict(sidecar.models)
    sidecar.models.clear()
    sidecar.ready = False
    processor = make()
    assert processor.model is None
    feed(processor, 100, 101, 102)
    assert processor.last_outcome.reason is Reason.MODEL_NOT_FOUND
    sidecar.models.update(models)
    assert processor.load_model() is True, "it looks at once"


def test_several_sidecars_are_asked_as_one(make: Make, sidecar: FakeSidecar) -> None:
    """Addresses with a comma between them: when the first dies, the second answers the next tick."""
    with FakeSidecar(dict(sidecar.models)) as second:
        processor = make(endpoint=f"{sidecar.target}, {second.target}")
        assert feed(processor, 100, 101, 102)[-1] is not None
        sidecar.stop()
        prices = itertools.count(103)

        def answered() -> Any:
            return processor.process_tick(tick(Decimal(next(prices)), second=3), [])

        assert eventually(answered, "the second one answers").signal_type == "BUY"
        assert second.requests


def test_threads_may_share_a_client(make: Make) -> None:
    """Executors in threads of their own, one call at a time each, get their own answers over one client."""
    processors = [make() for _ in range(4)]
    wrong: list[Any] = []

    def trade(processor: Any, up: bool) -> None:
        prices = [100 + (index if up else -index) / 10 for index in range(60)]
        side = "BUY" if up else "SELL"
        wrong.extend(each for each in feed(processor, *prices)[2:] if not each or each.signal_type != side)

    workers = [
        threading.Thread(target=trade, args=(processor, index % 2 == 0))
        for index, processor in enumerate(processors)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_questions_leave_one_after_another(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several endpoints take questions from one thread at a time, so the shared client sends so."""
    processors = [make() for _ in range(4)]
    [share] = shared_client._shares.values()
    sending, overlapped, submit = threading.Lock(), [], share.client.client.submit

    def watched(*question: Any) -> Any:
        if not sending.acquire(blocking=False):
            overlapped.append(question)
            return submit(*question)
        try:
            threading.Event().wait(0.002)  # time for another one to come in between
            return submit(*question)
        finally:
            sending.release()

    monkeypatch.setattr(share.client.client, "submit", watched)
    workers = [threading.Thread(target=feed, args=(each, *range(100, 115))) for each in processors]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert overlapped == []


def test_two_of_one_name_are_one_line_for_prometheus(make: Make) -> None:
    """Strategies that were given one name are told together: a sample twice would spoil the whole page."""
    first, second = make(strategy_id="twin"), make(strategy_id="twin")
    feed(first, 100, 101, 102)
    feed(second, 100)
    registry = CollectorRegistry()
    register_metrics(registry)
    text = generate_latest(registry).decode()
    assert text.count('ml_inference_total{outcome="WARMING_UP",strategy="twin"} 3.0') == 1
    assert text.count('ml_model_bound{strategy="twin"} 1.0') == 1
    first.close()
    second.close()
    assert "twin" not in generate_latest(registry).decode()


def test_one_of_a_name_that_cannot_ask_is_told(make: Make, sidecar: FakeSidecar) -> None:
    """`ml_model_bound` of a name that two strategies have is 1 while both can ask their models."""
    sidecar.models["late"] = replace(sidecar.models["m"], problem="loading", version=0, state=2)
    registry = CollectorRegistry()
    register_metrics(registry)
    make(strategy_id="twin")
    assert 'ml_model_bound{strategy="twin"} 1.0' in generate_latest(registry).decode()
    make(strategy_id="twin", model="late")
    assert 'ml_model_bound{strategy="twin"} 0.0' in generate_latest(registry).decode()


def test_where_the_sidecar_is_may_stand_in_the_environment(sidecar: FakeSidecar, monkeypatch: Any) -> None:
    """Without an endpoint TICKSERVE_TARGET names it, else it is where a sidecar listens by default."""
    config = {"model": "m", "features": ["return_3", "price"], "strategy_id": "named"}
    monkeypatch.setenv("TICKSERVE_TARGET", sidecar.target)
    named = creator("ml_momentum")(config)
    assert named.model is not None
    assert named.strategy_id == "named"
    named.close()
    monkeypatch.delenv("TICKSERVE_TARGET")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent/run")
    monkeypatch.setattr(shared_client, "PATIENCE_S", 0.05)
    default = creator("ml_momentum")(config)
    assert [target for target, _ in shared_client._shares] == ["unix:/nonexistent/run/tickserve.sock"]
    default.close()
    monkeypatch.setenv("TICKSERVE_TOKEN_FILE", "/nonexistent/token")
    with pytest.raises(ValueError, match="Failed to load ML model from 'm': endpoint: /nonexistent/token"):
        creator("ml_momentum")(config)


def test_a_trouble_is_logged_when_it_begins_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    """The log has a line where a reason begins or ends, not one a tick, and few where they alternate."""
    caplog.set_level(logging.INFO, "strategy_client.drop_in.journal")
    now_s = [0.0]
    journal = Journal("s", lambda: now_s[0])

    def dead(reason: Reason) -> NoSignal:
        return NoSignal("s", 1, OPEN, reason, "gone")

    for reason in (Reason.HOLD, Reason.UNAVAILABLE, Reason.UNAVAILABLE, Reason.BREAKER_OPEN):
        journal.note(dead(reason))
    assert [record.getMessage() for record in caplog.records] == ["strategy s: no signal: UNAVAILABLE gone"]
    now_s[0] += MIN_PAUSE_S
    journal.note(dead(Reason.BREAKER_OPEN))
    now_s[0] += MIN_PAUSE_S
    journal.note(dead(Reason.BELOW_THRESHOLD))
    assert [record.getMessage() for record in caplog.records][1:] == [
        "strategy s: no signal: BREAKER_OPEN gone",
        "strategy s: answers again",
    ]
