"""Which signal goes to which broker."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from fixtures_signals import processed, signal
from own_threads import own_threads

from strategy_client.configuration import ConfigurationError
from strategy_client.events import Cause, NoSignal, Reason, ShadowComparison
from strategy_client.sinks import open_fan_out


def events(path: Path) -> list[dict]:
    """Return the events in a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def keys(path: Path) -> list[str]:
    """Return the keys of the events in a file."""
    return [event["key"] for event in events(path)]


def test_paper_gets_every_signal_and_another_broker_those_of_its_strategies(tmp_path: Path):
    """Paper is always a broker; zerodha gets the signals of the strategies that name it, and no other."""
    with open_fan_out([str(tmp_path / "{broker}.jsonl")]) as fan_out:
        fan_out.set_brokers({"both": ("paper", "zerodha"), "real": ("zerodha",), "paper_only": ("paper",)})
        fan_out.took(processed(*(signal(name) for name in ("both", "real", "paper_only", "unknown"))))

    assert keys(tmp_path / "paper.jsonl") == ["both:1", "real:1", "paper_only:1", "unknown:1"]
    assert keys(tmp_path / "zerodha.jsonl") == ["both:1", "real:1"]
    assert {event["broker"] for event in events(tmp_path / "zerodha.jsonl")} == {"zerodha"}


def test_what_is_no_signal_goes_nowhere(tmp_path: Path):
    """Neither a reason for no signal nor what a shadow would have done is sent."""
    told = processed(signal("up"))
    nothing = NoSignal("up", 1, told.tick.timestamp, Reason.HOLD)
    with open_fan_out([str(tmp_path / "{broker}.jsonl")]) as fan_out:
        fan_out.took(processed(nothing))
        fan_out.compared(ShadowComparison(0, told.tick, nothing, signal("shadow")))

    assert keys(tmp_path / "paper.jsonl") == []


def test_brokers_change_while_it_runs(tmp_path: Path):
    """A broker that is taken away gets nothing from the next tick on; one that is added gets a sink."""
    with open_fan_out([str(tmp_path / "{broker}.jsonl")]) as fan_out:
        fan_out.set_brokers({"up": ("zerodha",)})
        fan_out.took(processed(signal("up", second=1)))
        fan_out.set_brokers({"up": ("alpaca",)})
        fan_out.took(processed(signal("up", second=2)))

    assert len(events(tmp_path / "paper.jsonl")) == 2
    assert [event["data"]["timestamp"][-3:] for event in events(tmp_path / "zerodha.jsonl")] == ["01Z"]
    assert [event["data"]["timestamp"][-3:] for event in events(tmp_path / "alpaca.jsonl")] == ["02Z"]


def test_a_broker_has_a_sink_of_its_own_by_name(tmp_path: Path):
    """BROKER=URL is for that broker alone, and the URL without a name for all others."""
    urls = [f"zerodha=file:{tmp_path}/real.jsonl", str(tmp_path / "{broker}.jsonl")]
    with open_fan_out(urls) as fan_out:
        fan_out.set_brokers({"up": ("paper", "zerodha", "alpaca")})
        fan_out.took(processed(signal("up")))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["alpaca.jsonl", "paper.jsonl", "real.jsonl"]
    assert keys(tmp_path / "real.jsonl") == ["up:1"]


def test_a_broker_without_a_sink_is_counted_and_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Where nothing was configured for a broker its signals are counted, and the log says so once."""
    with open_fan_out({"paper": str(tmp_path / "paper.jsonl")}) as fan_out:
        fan_out.set_brokers({"up": ("zerodha",)})
        fan_out.took(processed(signal("up")))
        fan_out.took(processed(signal("up")))

    assert fan_out.unrouted == {"zerodha": 2}
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "up has the broker 'zerodha', and no sink is given for it"
    ]


def test_the_event_that_brought_the_tick_is_named_in_its_signals(tmp_path: Path):
    """A signal carries the correlation of its tick's event and names it as its cause."""
    with open_fan_out([str(tmp_path / "{broker}.jsonl")]) as fan_out:
        fan_out.took(processed(signal("up"), cause=Cause("tick-1", "correlation-1", "trace-1")))

    (event,) = events(tmp_path / "paper.jsonl")
    assert (event["causation_id"], event["correlation_id"]) == ("tick-1", "correlation-1")


def test_counts_are_by_broker(tmp_path: Path):
    """Each broker's counts tell what became of its signals."""
    with open_fan_out([str(tmp_path / "{broker}.jsonl")]) as fan_out:
        fan_out.set_brokers({"up": ("zerodha",)})
        fan_out.took(processed(signal("up"), signal("down")))

    assert {broker: (counts.taken, counts.sent) for broker, counts in fan_out.counts.items()} == {
        "paper": (2, 2),
        "zerodha": (1, 1),
    }


def test_nothing_is_opened_after_the_end(tmp_path: Path):
    """A change of configuration after the end opens no sink, and a late signal is a dropped one."""
    fan_out = open_fan_out([str(tmp_path / "{broker}.jsonl")])
    fan_out.close()
    fan_out.close()
    fan_out.set_brokers({"up": ("zerodha",)})
    fan_out.took(processed(signal("up")))

    assert not (tmp_path / "zerodha.jsonl").exists()
    assert (fan_out.counts["paper"].taken, fan_out.counts["paper"].dropped) == (1, 1)


def test_signals_are_appended_to_a_file_that_is_there(tmp_path: Path):
    """A restart in mid-session keeps the signals of the morning."""
    for _ in range(2):
        with open_fan_out({"paper": str(tmp_path / "paper.jsonl")}) as fan_out:
            fan_out.took(processed(signal("up")))

    assert keys(tmp_path / "paper.jsonl") == ["up:1", "up:1"]


def test_standard_output_takes_the_signals_of_all_brokers(capfd: pytest.CaptureFixture[str]):
    """`-` writes an event a line, whichever broker it is for."""
    with open_fan_out(["-"]) as fan_out:
        fan_out.set_brokers({"up": ("zerodha",)})
        fan_out.took(processed(signal("up")))

    lines = capfd.readouterr().out.splitlines()
    assert sorted(json.loads(line)["broker"] for line in lines) == ["paper", "zerodha"]


@pytest.mark.parametrize(
    ("urls", "text"),
    [
        (["a.jsonl", "b.jsonl"], "--sink: a.jsonl and b.jsonl: expected one URL without BROKER= before it"),
        (["paper=-", "paper=-"], "--sink: paper= stands twice; expected one sink a broker"),
        (
            ["kafka://k/?topic=signals"],
            "--sink: kafka://k:9092: topic: expected {broker} in it, or BROKER=URL for one broker alone, "
            "came 'signals': the signals of all brokers would meet",
        ),
        (["/no/such/folder/x.jsonl"], "expected a file that can be written: No such file or directory"),
        (["paper=-", "zerodha=redis://h/x"], "expected redis://HOST:PORT/DB?stream=... with a number as DB"),
    ],
)
def test_sinks_that_cannot_be_are_named(urls: Sequence[str], text: str):
    """What is wrong with a sink is told before anything is sent, with what was expected."""
    before = own_threads("signals-")
    with pytest.raises(ConfigurationError) as raised:
        open_fan_out(urls)

    assert text in str(raised.value)
    assert own_threads("signals-") - before == set()


def test_a_brokers_name_is_no_way_out_of_a_folder(tmp_path: Path):
    """A broker's name becomes part of a path or topic: one with a slash is refused and changes nothing."""
    with open_fan_out([str(tmp_path / "{broker}.jsonl")]) as fan_out:
        fan_out.set_brokers({"up": ("zerodha",)})
        with pytest.raises(ConfigurationError, match="broker: expected letters, digits, - and _"):
            fan_out.set_brokers({"up": ("alpaca", "../evil")})
        fan_out.took(processed(signal("up")))

    assert keys(tmp_path / "zerodha.jsonl") == ["up:1"]
