"""What signals ask of a live run."""

import signal
from collections.abc import Callable

from strategy_client.commands.process_signals import Reload, Stop


class Live:
    """A run that counts how often it is asked to read its configuration again."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        self.asked = 0
        self._during = during

    def reload(self) -> None:
        """Count."""
        self.asked += 1
        self._during()


def test_hang_up_before_the_run_is_kept_for_it() -> None:
    """SIGHUP while a run is being put together neither ends it nor is lost; without one nothing is asked."""
    before = signal.getsignal(signal.SIGHUP)
    live = Live()
    with Reload() as reload:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        reload.begin(live)
        assert live.asked == 1
        signal.raise_signal(signal.SIGHUP)
        assert live.asked == 2
    assert signal.getsignal(signal.SIGHUP) is before
    quiet = Live()
    with Reload() as reload:
        reload.begin(quiet)
    assert quiet.asked == 0


def test_hang_up_in_the_midst_of_another_waits_for_nothing() -> None:
    """Two signals at once are passed on as one: the second would wait for what the first holds."""
    live = Live(during=lambda: signal.raise_signal(signal.SIGHUP))
    with Reload() as reload:
        reload.begin(live)
        signal.raise_signal(signal.SIGHUP)
        assert live.asked == 1
        signal.raise_signal(signal.SIGHUP)
        assert live.asked == 2


def test_first_signal_asks_for_the_end_and_handlers_come_back() -> None:
    """SIGTERM is noted, not raised; afterwards whoever had the signal before has it again."""
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        assert stop.asked == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop.asked == signal.SIGTERM
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
