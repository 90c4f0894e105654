"""YAML files that change while a loop runs with them."""

import os
import threading
from itertools import count
from pathlib import Path

import pytest

from strategy_client.configuration import ConfigurationError
from strategy_client.factory import StrategyFactory
from strategy_client.store.yaml_store import YamlStore, YamlStoreOptions

WAIT_S = 60.0
SETTLED_NS = 1_000_000_000
TICKING = count(1_000_000_000, 1_000_000)


class Clock:
    """Nanoseconds that pass when told."""

    def __init__(self):
        self.ns = 0

    def __call__(self):
        return self.ns


def strategy(name, *, enabled=True, lookback=5, tokens="[1]"):
    return (
        f"strategy_name: {name}\nstrategy_type: momentum\ninstrument_tokens: {tokens}\n"
        f"enabled: {str(enabled).lower()}\nparameters:\n  lookback_periods: {lookback}\n"
    )


def write(file, text):
    """Write as an editor does, with a time of its own: two writes of one moment must not look alike."""
    new = file.with_name(f".{file.name}.new")
    new.write_text(text, encoding="utf-8")
    moment = next(TICKING)
    os.utime(new, ns=(moment, moment))
    new.rename(file)


class Place:
    """A store, what a loop runs with, and the clock between its looks."""

    def __init__(self, path):
        self.path = path
        self.clock = Clock()
        self.store = YamlStore(path, StrategyFactory(), YamlStoreOptions(settled_s=1.0), self.clock)
        self.now = self.store.read()

    def look(self):
        self.now = self.store.read_again(self.now)
        return {each.strategy_id: each.enabled for each in self.now.strategies}

    def settle(self):
        self.look()
        self.clock.ns += SETTLED_NS
        return self.look()

    def lookbacks(self):
        return {each.strategy_id: each.parameters["lookback_periods"] for each in self.now.strategies}


@pytest.fixture
def place(tmp_path):
    """A folder with the strategies a and b, each in a file of its own."""
    write(tmp_path / "a.yaml", strategy("a"))
    write(tmp_path / "b.yaml", strategy("b"))
    place = Place(tmp_path)
    yield place
    place.store.close()


def test_a_change_is_taken_when_the_file_is_whole(place):
    """A file that was written counts when it has stayed the same for a moment, not before."""
    write(place.path / "a.yaml", strategy("a", lookback=6))
    place.look()
    assert place.lookbacks() == {"a": 5, "b": 5}
    place.clock.ns += SETTLED_NS - 1
    place.look()
    assert place.lookbacks() == {"a": 5, "b": 5}
    place.clock.ns += 1
    place.look()
    assert place.lookbacks() == {"a": 6, "b": 5}


def test_a_file_that_is_written_slowly_is_never_taken_half(place):
    """Half a file may be YAML, of a strategy with other parameters: it counts only when writing has ended."""
    text = strategy("a", lookback=6)
    for length in range(0, len(text), 7):
        write(place.path / "a.yaml", text[:length])
        place.clock.ns += SETTLED_NS // 2
        assert place.look() == {"a": True, "b": True}
        assert place.lookbacks() == {"a": 5, "b": 5}
    write(place.path / "a.yaml", text)
    place.settle()
    assert place.lookbacks() == {"a": 6, "b": 5}


def test_half_a_file_is_not_tried_out(place, monkeypatch):
    """A user's own function never gets the parameters of half a file."""
    made = []
    create = StrategyFactory.create_processor

    def note(factory, strategy_type, parameters):
        made.append(dict(parameters))
        return create(factory, strategy_type, parameters)

    monkeypatch.setattr(StrategyFactory, "create_processor", note)
    write(place.path / "a.yaml", strategy("a", lookback=6))
    place.look()
    write(place.path / "a.yaml", strategy("a", lookback=66))
    assert place.settle() == {"a": True, "b": True}
    assert made == [{"lookback_periods": 66}]


def test_a_module_that_comes_later_is_found(place, monkeypatch):
    """What could not be made is tried again when its file is written again."""
    text = strategy("c").replace("momentum", "comes_later.create")
    write(place.path / "c.yaml", text)
    assert place.settle() == {"a": True, "b": True}
    assert "comes_later" in place.now.problems[0].text
    monkeypatch.syspath_prepend(place.path)
    (place.path / "comes_later.py").write_text(
        "from strategy_client.processors.momentum import create_momentum_processor as create\n"
    )
    write(place.path / "c.yaml", text)
    assert place.settle() == {"a": True, "b": True, "c": True}


def test_a_stop_is_taken_at_once(place):
    """`enabled: false` waits for nothing."""
    write(place.path / "a.yaml", strategy("a", enabled=False, lookback=6))
    assert place.look() == {"a": False, "b": True}
    assert place.lookbacks()["a"] == 5


@pytest.mark.parametrize(
    "text",
    [
        strategy("a", enabled=False, tokens="[x]"),
        strategy("a", enabled=False, lookback=0),
        strategy("a", enabled=False) + "lookbak: 1\n",
        strategy("a", enabled=False).replace("strategy_name: a\n", ""),
        strategy("a", enabled=False).replace("strategy_type", "strategy_tipe"),
        "enabled: false\n",
        "enabled: no # stop!\n\tparameters: [\n",
        "parameters: {\nenabled: false\n",
    ],
)
def test_a_stop_works_whatever_else_is_wrong(place, text):
    """A strategy stops where its file says so, even when the file is no YAML or has lost the name."""
    write(place.path / "a.yaml", text)
    assert place.look() == {"a": False, "b": True}
    assert place.settle() == {"a": False, "b": True}
    assert place.now.problems
    assert place.lookbacks() == {"a": 5, "b": 5}


@pytest.mark.parametrize(
    "text",
    [
        strategy("a", tokens="[x]"),
        strategy("a", lookback=0),
        strategy("a").replace("strategy_name: a\n", ""),
        "a: [",
        "",
        "parameters: {\n  enabled: false\n",
        strategy("a") + "parameters: {}\n",
    ],
)
def test_what_has_become_wrong_stays_as_it_was(place, text):
    """A wrong file changes nothing, and what is wrong is told until it is mended."""
    write(place.path / "a.yaml", text)
    assert place.settle() == {"a": True, "b": True}
    assert place.lookbacks() == {"a": 5, "b": 5}
    assert all("a.yaml" in problem.place for problem in place.now.problems)
    assert place.now.problems
    assert place.look() == {"a": True, "b": True}
    assert place.now.problems
    write(place.path / "a.yaml", strategy("a", lookback=7))
    place.settle()
    assert (place.lookbacks()["a"], place.now.problems) == (7, ())


def test_a_wrong_file_starts_nothing(place):
    """A stopped strategy does not come back by a file that is wrong, whatever it says of enabled."""
    write(place.path / "a.yaml", strategy("a", enabled=False))
    assert place.settle() == {"a": False, "b": True}
    write(place.path / "a.yaml", strategy("a", lookback=0))
    assert place.settle() == {"a": False, "b": True}
    write(place.path / "a.yaml", strategy("a"))
    assert place.settle() == {"a": True, "b": True}


def test_a_file_that_is_gone_takes_its_strategy_with_it(place):
    """A file removed from the folder removes its strategies, after the moment that a rewrite may take."""
    (place.path / "a.yaml").unlink()
    assert place.look() == {"a": True, "b": True}
    assert place.settle() == {"b": True}
    assert place.now.problems == ()


def test_a_file_that_is_removed_and_written_again(place):
    """An editor that removes the file before it writes it anew stops nothing."""
    (place.path / "a.yaml").unlink()
    assert place.look() == {"a": True, "b": True}
    place.clock.ns += SETTLED_NS // 2
    write(place.path / "a.yaml", strategy("a", lookback=6))
    assert place.settle() == {"a": True, "b": True}
    assert place.lookbacks()["a"] == 6


def test_a_file_that_is_renamed_keeps_its_strategy(place):
    """To rename a file changes nothing of the strategy in it, at no moment."""
    (place.path / "a.yaml").rename(place.path / "c.yml")
    assert place.look() == {"a": True, "b": True}
    assert place.settle() == {"a": True, "b": True}


def test_an_emptied_folder_changes_nothing(place):
    """A folder without a file, as one that is not mounted, stops nothing by accident, and says so."""
    for name in ("a", "b"):
        (place.path / f"{name}.yaml").unlink()
    assert place.settle() == {"a": True, "b": True}
    assert "expected 1 to 1000 files" in str(place.now.problems[0])
    write(place.path / "b.yaml", strategy("b"))
    assert place.settle() == {"b": True}


def test_a_place_that_is_gone_changes_nothing(tmp_path):
    """A single file that cannot be read changes nothing, and says so."""
    write(tmp_path / "a.yaml", strategy("a"))
    place = Place(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").unlink()
    assert place.settle() == {"a": True}
    assert "cannot be read: No such file" in str(place.now.problems[0])


def test_a_file_that_comes_brings_its_strategies(place):
    """A new file is taken, in the order of the files' names; a hidden one is what a copy writes first."""
    write(place.path / "0.yaml", strategy("c"))
    (place.path / ".hidden.yaml").write_text("{")
    assert list(place.settle()) == ["c", "a", "b"]
    assert place.now.problems == ()


def test_a_strategy_that_is_renamed_in_its_file(place):
    """Another name in the file is another strategy: the old one is gone."""
    write(place.path / "a.yaml", strategy("z"))
    assert place.settle() == {"z": True, "b": True}


def test_a_name_that_comes_to_stand_twice(place):
    """Neither of two strategies of one name is taken; the one that ran stays as it was, or stops."""
    write(place.path / "b.yaml", strategy("a", lookback=9))
    assert place.settle() == {"a": True}
    assert place.lookbacks() == {"a": 5}
    assert "'a' stands twice" in str(place.now.problems[0])
    write(place.path / "b.yaml", strategy("a", lookback=9, enabled=False))
    assert place.settle() == {"a": False}


def test_a_list_of_strategies(tmp_path):
    """In a list an item that is wrong, has no name, or is gone is told from the others."""
    items = {name: f"- {strategy(name)}".replace("\n", "\n  ").rstrip(" ") for name in "abc"}

    def write_list(*texts):
        write(tmp_path / "s.yaml", "strategies:\n" + "".join(texts))

    write_list(*items.values())
    place = Place(tmp_path / "s.yaml")
    assert place.look() == {"a": True, "b": True, "c": True}
    write_list(items["a"], items["c"])
    assert place.settle() == {"a": True, "c": True}
    write_list(items["a"].replace("strategy_name: a", "strategy_nam: a"), items["c"])
    assert place.settle() == {"a": True, "c": True}
    write_list(items["a"].replace("strategy_name: a", "x: 1").replace("true", "false"), items["c"])
    assert place.settle() == {"a": False, "c": True}
    write_list(items["a"], items["c"].replace("true", "false"), "  broken: [\n")
    assert place.settle() == {"a": False, "c": False}
    write(tmp_path / "s.yaml", "strategies: []\n")
    assert place.settle() == {"a": False, "c": False}


def test_columns_that_have_become_wrong_stay(tmp_path):
    """How ticks are read stays as it was when it has become wrong."""
    write(tmp_path / "s.yaml", strategy("a") + "ticks: {time: t}\n")
    place = Place(tmp_path / "s.yaml")
    write(tmp_path / "s.yaml", strategy("a") + "ticks: {time: 5}\n")
    place.settle()
    assert place.now.ticks.time == "t"
    write(tmp_path / "s.yaml", strategy("a") + "ticks: {time: u}\n")
    place.settle()
    assert place.now.ticks.time == "u"


def test_a_start_without_any_file(tmp_path):
    """To start there must be something to read."""
    store = YamlStore(tmp_path, StrategyFactory())
    with pytest.raises(ConfigurationError, match="expected 1 to 1000 files"):
        store.read()
    store.close()


@pytest.fixture(params=[True, False], ids=["events", "polling"])
def watched(request, tmp_path):
    """A file in a folder and its store in real time, with file events and without."""
    write(tmp_path / "a.yaml", strategy("a"))
    options = YamlStoreOptions(settled_s=0.05, poll_s=0.02, events=request.param)
    store = YamlStore(tmp_path / "a.yaml", StrategyFactory(), options)
    yield store
    store.close()


def test_a_wait_ends_at_a_change_and_when_it_has_settled(watched, tmp_path):
    """A wait tells of a change at once, and again when the file can be taken; then no more."""
    now = watched.read()
    assert not watched.wait_for_change(0.05)
    write(tmp_path / "a.yaml", strategy("a", lookback=6))
    while now.strategies[0].parameters["lookback_periods"] == 5:
        assert watched.wait_for_change(WAIT_S)
        now = watched.read_again(now)
    assert not watched.wait_for_change(0.05)


def test_a_wait_ends_when_the_file_goes_and_comes(watched, tmp_path):
    """A file that is gone is told once, and its return too."""
    now = watched.read()
    (tmp_path / "a.yaml").unlink()
    while not now.problems:
        assert watched.wait_for_change(WAIT_S)
        now = watched.read_again(now)
    assert len(now.strategies) == 1
    while watched.wait_for_change(0.1):  # that it is gone for good is no change any more
        now = watched.read_again(now)
    write(tmp_path / "a.yaml", strategy("a"))
    while now.problems:
        assert watched.wait_for_change(WAIT_S)
        now = watched.read_again(now)
    assert len(now.strategies) == 1


def test_close_ends_a_wait(watched):
    """A wait in another thread ends when the store is closed, and close may be called twice."""
    watched.read()
    ended = []
    waiting = threading.Thread(target=lambda: ended.append(watched.wait_for_change(3600.0)))
    waiting.start()
    watched.close()
    watched.close()
    waiting.join(WAIT_S)
    assert ended == [False]


def test_a_link_that_is_turned_is_a_change(tmp_path):
    """A folder behind a link, as Kubernetes mounts a ConfigMap, is read anew when the link is turned."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.yaml", strategy(name))
    link = tmp_path / "now"
    link.symlink_to("one")
    store = YamlStore(link, StrategyFactory(), YamlStoreOptions(settled_s=0.02, poll_s=0.02))
    now = store.read()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(link)
    while [each.strategy_id for each in now.strategies] != ["two"]:
        assert store.wait_for_change(WAIT_S)
        now = store.read_again(now)
    store.close()


def test_where_there_are_no_events_it_is_looked_now_and_then(tmp_path, monkeypatch, caplog):
    """A system that gives no file events is told of once, and changes are found all the same."""

    def refuse(*args, **kwargs):
        raise OSError("no space left on device, of watches")

    monkeypatch.setattr("watchfiles.watch", refuse)
    write(tmp_path / "a.yaml", strategy("a"))
    store = YamlStore(tmp_path / "a.yaml", StrategyFactory(), YamlStoreOptions(settled_s=0.0, poll_s=0.02))
    now = store.read()
    assert not store.wait_for_change(0.1)
    write(Path(tmp_path / "a.yaml"), strategy("a", enabled=False))
    assert store.wait_for_change(WAIT_S)
    assert not store.read_again(now).strategies[0].enabled
    assert caplog.text.count("no file events") == 1
    store.close()


def test_a_stop_is_there_soon(tmp_path):
    """With the options that a run has, the first look after a write has the stop."""
    write(tmp_path / "a.yaml", strategy("a"))
    store = YamlStore(tmp_path / "a.yaml", StrategyFactory())
    now = store.read()
    write(tmp_path / "a.yaml", strategy("a", enabled=False))
    assert store.wait_for_change(WAIT_S)
    assert not store.read_again(now).strategies[0].enabled
    store.close()
