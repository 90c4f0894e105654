"""Another configuration taken over between two ticks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from live_parts import PushSource, SetStore, buyer, live_run

from strategy_client.configuration import StrategyConfig
from strategy_client.live.session import LiveRun
from strategy_client.sinks import open_fan_out
from strategy_client.sinks.fan_out import FanOut


class Between:
    """A live run that is never started, and whose configuration changes between two of its ticks."""

    def __init__(self, *strategies: StrategyConfig, fan_out: FanOut | None = None) -> None:
        self.store = SetStore(*strategies)
        self.fan_out = fan_out
        self.live: LiveRun = live_run(self.store, PushSource(), fan_out=fan_out)

    def close(self) -> None:
        """Let go of what the run holds."""
        self.live._watch.close()
        self.live._bindings.close()
        self.live._built.close()
        if self.fan_out is not None:
            self.fan_out.close()

    def change(self, *strategies: StrategyConfig) -> dict[str, bool]:
        """Configure something else, take it over, and return what is enabled."""
        self.store.set(*strategies)
        self.live._watch.look()
        self.live.loop._apply_changes()
        return {each.strategy_id: each.enabled for each in self.live.runner.executors}

    @property
    def problems(self) -> list[str]:
        """What is wrong with the configuration, as the status says it."""
        return [str(problem) for problem in self.live.view.parts.watch.problems]


@pytest.fixture
def between() -> Iterator[Between]:
    """Strategies a and b, and c that is switched off."""
    made = Between(buyer("a"), buyer("b"), buyer("c", enabled=False))
    yield made
    made.close()


WRONG = buyer("b", 2, supports=1)


def test_refused_line_up_starts_nothing(between: Between) -> None:
    """A refused line-up stops what it says to stop, and starts nothing: not with the parameters of before."""
    assert between.change(buyer("a", enabled=False), WRONG, buyer("c", wanted=1)) == {
        "a": False,
        "b": True,
        "c": False,
    }
    assert between.problems == ["instrument_tokens: strategy 'b' does not support instrument 2"]


def test_refused_line_up_without_a_strategy_stops_it(between: Between) -> None:
    """A strategy that a refused line-up does not name stops; the others go on as they were."""
    assert between.change(WRONG) == {"a": False, "b": True, "c": False}


def test_what_was_refused_is_taken_when_it_is_mended(between: Between) -> None:
    """After a refusal the next line-up is compared with what runs, and taken."""
    between.change(buyer("a", enabled=False), WRONG)
    assert between.change(buyer("a"), buyer("b", 2)) == {"a": True, "b": True}
    assert between.problems == []


def test_processor_that_exits_refuses_its_line_up(between: Between, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's code that calls sys.exit while a line-up is put together ends neither loop nor session."""

    def leave(*_: object) -> bool:
        raise SystemExit(3)

    with monkeypatch.context() as patched:
        # The runner asks again for every line-up, also of those that stay.
        patched.setattr("live_parts.Buyer.supports_instrument", leave)
        now = between.change(buyer("a", enabled=False), buyer("b"), buyer("d"))
    assert now == {"a": False, "b": True, "c": False}
    assert between.problems == ["could not be taken over: SystemExit: 3"]
    assert between.live.journal.counts == {"configuration": 3}
    assert between.change(buyer("a"), buyer("b"), buyer("d")) == {"a": True, "b": True, "d": True}


def test_nothing_new_disturbs_nothing(between: Between) -> None:
    """Without a change the loop keeps its line-up, the very same objects."""
    before = between.live.runner.executors
    between.change(buyer("a"), buyer("b"), buyer("c", enabled=False))
    assert between.live.runner.executors is before
    assert between.problems == []


def test_brokers_follow(between: Between) -> None:
    """A broker that is added reaches the executor that goes on, and its history is kept."""
    kept = between.live.runner.executors[0]
    between.change(replace(buyer("a"), active_brokers=("paper", "zerodha")), buyer("b"))
    assert between.live.runner.executors[0] is kept
    assert kept.config.active_brokers == ("paper", "zerodha")


def test_broker_without_a_sink_is_told_once(tmp_path: Path) -> None:
    """At the start and after a change a broker without a sink is told, once for as long as it is so."""
    both = replace(buyer("a"), active_brokers=("paper", "zerodha"))
    made = Between(both, fan_out=open_fan_out([f"paper=file:{tmp_path}/paper.jsonl"]))
    assert made.live.journal.last is not None
    assert made.live.journal.last.text.startswith("'zerodha', a broker of a, has no sink: ")
    made.change(both, buyer("b"))
    assert made.live.journal.counts == {"sink": 1}
    made.change(buyer("a"), buyer("b"))
    made.change(both, buyer("b"))
    assert made.live.journal.counts == {"sink": 2}
    made.close()


def test_without_sinks_paper_is_no_problem() -> None:
    """A run without any sink is one to look at: paper is not missed, another broker is."""
    made = Between(buyer("a"))
    assert made.live.journal.counts == {}
    made.change(replace(buyer("a"), active_brokers=("zerodha",)))
    assert made.live.journal.counts == {"sink": 1}
    made.close()
