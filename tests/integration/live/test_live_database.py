"""A live run whose strategies are rows of a table that other programs change."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Database, postgresql, sqlite
from live_parts import PushSource, Told, live_run, outcomes
from sidecars import eventually

from strategy_client.store import open_store


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A table with one strategy on one instrument."""
    with sqlite(tmp_path) if request.param == "sqlite" else postgresql() as place:
        place.create_table()
        place.put(instruments="[1]", parameters='{"momentum_threshold": "0.01", "lookback_periods": 2}')
        yield place


def test_inactive_row_stops_the_strategy_at_the_next_tick(database: Database) -> None:
    """`is_active = false` is taken while no tick comes, and so is a new row; a wrong one changes nothing."""
    source = PushSource()
    with live_run(open_store(database.place), source) as live:
        told = Told()
        live.loop._listeners = (*live.loop._listeners, told)
        source.push(1, 2, 3)
        eventually(lambda: len(told.ticks) == 3, "three ticks")
        database.set("trend", "is_active", value=False)
        eventually(lambda: not live.runner.executors[0].enabled, "it is off")
        source.push(4)
        eventually(lambda: len(told.ticks) == 4, "the next tick")
        database.put(id="other", instruments="[1]", parameters='{"lookback_periods": 2}')
        eventually(lambda: len(live.runner.executors) == 2, "the new row runs")
        database.set("other", "parameters", '{"lookback_periods": "no"}')
        eventually(live.view.degraded, "the wrong row is told")
        database.set("trend", "is_active", value=True)
        eventually(
            lambda: (
                {each.strategy_id: each.enabled for each in live.runner.executors}
                == {"trend": True, "other": True}
            ),
            "it is on again, and the wrong one goes on as it was",
        )
        source.push(5, 6)
        eventually(lambda: len(told.ticks) == 6, "the last ticks")
    came = [
        {outcome.strategy_id: text for outcome, text in zip(tick.outcomes, line, strict=True)}
        for tick, line in zip(told.ticks, outcomes(told.ticks), strict=True)
    ]
    assert [line["trend"] for line in came] == ["WARMING_UP", "BUY", "BUY", "DISABLED", "BUY", "BUY"]
    assert [line["other"] for line in came[4:]] == ["WARMING_UP", "BUY"]
