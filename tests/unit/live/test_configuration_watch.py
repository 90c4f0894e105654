"""Changes of the configuration on their way to the loop."""

import logging
import threading

import pytest
from live_parts import SetStore, buyer
from sidecars import PATIENCE_S, eventually

from strategy_client.configuration import Problem
from strategy_client.live.configuration_watch import ConfigurationWatch
from strategy_client.live.journal import Journal


def watching(store: SetStore, **options: object) -> tuple[ConfigurationWatch, Journal, threading.Event]:
    """A watch over a store; the event is set when it wakes the loop."""
    woken, journal = threading.Event(), Journal()
    return ConfigurationWatch(store, store.read(), journal, wake=woken.set, **options), journal, woken


def test_change_is_handed_over_once() -> None:
    """What has changed wakes the loop, which takes it; then there is nothing more to take."""
    store = SetStore(buyer())
    watch, _, woken = watching(store)
    assert watch.take() is None
    watch.start()
    store.set(buyer(enabled=False))
    assert woken.wait(PATIENCE_S)
    after = watch.take()
    assert after is not None
    assert [each.enabled for each in after.strategies] == [False]
    assert watch.take() is None
    assert watch.changes == 1
    watch.close()


def test_what_is_the_same_is_no_change() -> None:
    """A file that was only touched disturbs nobody."""
    store = SetStore(buyer())
    watch, _, woken = watching(store)
    store.set(buyer())
    watch.look()
    assert watch.take() is None
    assert not woken.is_set()
    assert watch.changes == 0


def test_problem_is_told_once_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """H9: what is wrong is one line in the log, one in the status, and counted; not again while it stays."""
    caplog.set_level(logging.INFO)
    store = SetStore(buyer())
    watch, journal, _ = watching(store)
    problem = Problem("s.yaml:3: brokers", "expected a list")
    store.set(buyer(), problems=[problem])
    watch.look()
    watch.look()
    assert watch.problems == (problem,)
    assert journal.counts == {"configuration": 1}
    assert caplog.messages == ["configuration: s.yaml:3: brokers: expected a list"]
    store.set(buyer())
    watch.look()
    assert watch.problems == ()
    assert caplog.messages[1:] == ["configuration: nothing is wrong with it any more"]


def test_problem_that_is_new_among_others_is_told() -> None:
    """H9: of many problems only those that were not there before are told, and all stand in the status."""
    store = SetStore(buyer())
    watch, journal, _ = watching(store)
    first, second, third = (Problem(name, "expected a list") for name in "abc")
    for problems in ([first, second], [second, third], [first]):
        store.set(buyer(), problems=problems)
        watch.look()
        assert watch.problems == tuple(problems)
    assert journal.counts == {"configuration": 4}


def test_someone_may_ask_for_a_look() -> None:
    """SIGHUP reads the configuration again, also where no change was noticed."""
    store = SetStore(buyer())
    looked = threading.Event()
    store.on_read = looked.set
    watch, _, _ = watching(store)
    watch.start()
    watch.ask()
    assert looked.wait(PATIENCE_S)
    watch.close()


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_store_that_raises_is_told_and_asked_again(error: type[BaseException]) -> None:
    """A store, or a user's code in it, raises or exits: what runs goes on, and the next change is taken."""
    store = SetStore(buyer())
    watch, journal, woken = watching(store)

    def fail() -> None:
        raise error("the database is gone")

    store.on_read = fail
    watch.start()
    store.set(buyer(enabled=False))
    eventually(lambda: journal.counts.get("configuration"), "it was told")
    assert journal.last is not None
    assert journal.last.text == f"the store failed: {error.__name__}: the database is gone"
    assert watch.take() is None
    # Nobody tells of the change a second time.
    store.on_read = lambda: None
    assert woken.wait(PATIENCE_S)
    watch.close()


def test_store_that_hangs_is_left_behind() -> None:
    """A database that answers nobody holds up neither the loop nor the end."""
    store = SetStore(buyer())
    watch, _, _ = watching(store)
    free = threading.Event()
    store.on_read = free.wait
    watch.start()
    watch.ask()
    watch.close(timeout_s=0.01)
    assert watch.take() is None
    free.set()


def test_age_is_that_of_the_last_look() -> None:
    """The metric says for how long nobody could read the configuration."""
    now = [0]
    store = SetStore(buyer())
    watch, _, _ = watching(store, now_ns=lambda: now[0])
    now[0] = 5_000_000_000
    assert watch.age_s == 5
    watch.look()
    assert watch.age_s == 0


def test_processors_are_made_before_the_loop_is_woken() -> None:
    """A slow processor costs the watch's thread its time, not the loop."""
    store = SetStore(buyer())
    order: list[str] = []
    watch = ConfigurationWatch(
        store,
        store.read(),
        Journal(),
        wake=lambda: order.append("wake"),
        prepare=lambda before, after: order.append(
            f"prepare {len(after.strategies) - len(before.strategies)}"
        ),
    )
    store.set(buyer(), buyer("second"))
    watch.look()
    assert order == ["prepare 1", "wake"]
