"""What is counted of a live run."""

from fixtures_ticks import tick
from live_parts import buyer

from strategy_client.configuration import StrategyConfig
from strategy_client.events import NoSignal, ProcessedTick, Reason, Signal
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors
from strategy_client.live.account import Account

AT = tick(1).timestamp
BUY = Signal("s", 1, "BUY", 1.0, 1, tick(1).last_price, AT)
HOLD = NoSignal("s", 1, AT, Reason.HOLD)


def running(account: Account, *configs: StrategyConfig) -> None:
    """Let these strategies run from now on."""
    account.run(create_executors(configs, StrategyFactory()))


def test_paper_counts_every_signal_and_another_broker_its_own() -> None:
    """A strategy with another broker only has paper too, and each broker is counted once."""
    account = Account(deadline_ms=50)
    running(account, StrategyConfig("s", buyer().strategy_type, {}, ("zerodha",), (1,)))
    account.took(ProcessedTick(0, tick(1), [BUY], 1))
    running(account, StrategyConfig("s", buyer().strategy_type, {}, ("paper",), (1,)))
    account.took(ProcessedTick(1, tick(1), [BUY], 1))
    assert account.strategies[0].signals == {("paper", "BUY"): 2, ("zerodha", "BUY"): 1}
    assert account.strategies[0].outcomes == {"BUY": 2}


def test_tick_beyond_its_deadline_is_counted() -> None:
    """One that took exactly its deadline was in time."""
    account = Account(deadline_ms=50)
    running(account, buyer("s"))
    for duration_ns in (1, 50_000_000, 50_000_001):
        account.took(ProcessedTick(0, tick(1), [HOLD], duration_ns))
    assert account.over_deadline == 1
    assert account.ticks == 3
    assert account.latency.longest_ns == 50_000_001


def test_answers_count_where_a_model_gave_one() -> None:
    """A learned strategy's HOLD that a model said is an inference; one that nobody answered is none."""
    account = Account(deadline_ms=50)
    parameters = {"model": "m", "lookback_periods": 20}
    running(account, StrategyConfig("s", "ml_momentum", parameters, ("paper",), (1,)))
    made_by = {"model": "m", "version": 2, "digest": "d", "latency_us": 300}
    said = NoSignal("s", 1, AT, Reason.BELOW_THRESHOLD, "", made_by)
    account.took(ProcessedTick(0, tick(1), [said], 900_000))
    account.took(ProcessedTick(1, tick(1), [HOLD], 900_000))
    (strategy,) = account.strategies
    assert strategy.answers == {("m", 2, "d"): 1}
    assert (strategy.inference.count, strategy.inference.sum_ns) == (1, 300_000)
    assert strategy.ticks == 2


def test_strategy_that_is_gone_keeps_its_counts() -> None:
    """Counters never get fewer: what ran before is told at the end as well."""
    account = Account(deadline_ms=50)
    running(account, buyer("s"))
    account.took(ProcessedTick(0, tick(1), [BUY], 1))
    running(account, buyer("other"))
    assert [(each.strategy_id, each.running, each.ticks) for each in account.strategies] == [
        ("s", False, 1),
        ("other", True, 0),
    ]
