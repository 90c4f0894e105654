"""Brokers without a sink."""

import pytest

from strategy_client.configuration import ConfigurationError, StrategyConfig
from strategy_client.sinks.opening import brokers_with_a_sink
from strategy_client.sinks.unrouted import brokers_of_all, unrouted


def config(name, *brokers, enabled=True):
    return StrategyConfig(name, "momentum", {}, brokers, (1,), enabled=enabled)


def test_what_has_no_sink_names_its_strategies_and_what_to_write():
    """A broker without a sink is one line: whose it is, what becomes of its signals, what to write."""
    (problem,) = unrouted([config("a", "paper", "zerodha"), config("b", "paper")], ["paper"])
    assert str(problem) == (
        "brokers: 'zerodha', a broker of a, has no sink: its signals are counted and go nowhere; "
        "write --sink zerodha=URL, or --sink URL for every other broker, or take zerodha out of their brokers"
    )


def test_a_name_that_is_nearly_that_of_a_sink():
    """H9: the nearest broker with a sink is named."""
    (problem,) = unrouted([config("a", "zerodha")], ["paper", "zeroda"])
    assert "'zerodha', a broker of a, has no sink (did you mean 'zeroda'?): " in problem.text


def test_paper_is_a_broker_of_every_strategy():
    """Paper gets the signals of every strategy, named or not, and is never taken out of its brokers."""
    (problem,) = unrouted([config("a", "zerodha")], ["zerodha"])
    assert problem.text.startswith("'paper', a broker of a, has no sink")
    assert problem.text.endswith("write --sink paper=URL, or --sink URL for every other broker")


def test_many_strategies_are_one_line():
    """Of many strategies the first few are named and the others counted, in one line for each broker."""
    five, six, many = ([config(f"s{number}", "x") for number in range(count)] for count in (5, 6, 1_006))
    assert "a broker of s0, s1, s2, s3, s4, has" in unrouted(five, ["paper"])[0].text
    assert "a broker of s0, s1, s2, s3, s4 and 1 more, has" in unrouted(six, ["paper"])[0].text
    assert "and 1,001 more" in unrouted(many, ["paper"])[0].text
    assert [problem.text[:7] for problem in unrouted(six, [])] == ["'paper'", "'x', a "]


def test_what_is_disabled_sends_nothing():
    """A strategy that is disabled needs no sink."""
    assert unrouted([config("a", "zerodha", enabled=False)], []) == ()
    assert brokers_of_all([config("a", "zerodha", enabled=False), config("b", "b")]) == {
        "paper": ["b"],
        "b": ["b"],
    }


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (["paper=file:p.jsonl"], {"paper"}),
        (["paper=file:p.jsonl", "x=file:x.jsonl"], {"paper", "x"}),
        (["file:{broker}.jsonl"], {"paper", "zerodha"}),
        (["x=file:x.jsonl", "file:{broker}.jsonl"], {"paper", "zerodha", "x"}),
    ],
)
def test_which_brokers_have_a_sink(tmp_path, monkeypatch, urls, expected):
    """What stands in the URLs says it, without a file being made or a bus asked."""
    monkeypatch.chdir(tmp_path)
    assert brokers_with_a_sink(urls, ["paper", "zerodha"]) == expected
    assert not list(tmp_path.iterdir())


def test_a_url_that_is_wrong_is_refused():
    """H9: a sink that a run would refuse is refused here as well."""
    with pytest.raises(ConfigurationError, match=r"--sink.*did you mean 'redis'"):
        brokers_with_a_sink(["rediss2://h"], [])
