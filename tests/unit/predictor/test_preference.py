"""Which target is asked first, without sockets and with a clock that the test moves."""

import pytest

from strategy_client.predictor.preference import CALM_NS, HOLD, Health, Preference

WELL, NOT_READY, OUT = Health.WELL, Health.NOT_READY, Health.OUT
NS_PER_MS = 1_000_000


class Driven:
    """A preference among `count` targets whose pauses have no jitter."""

    def __init__(self, count: int = 2) -> None:
        self.preference = Preference(count, lambda: 1.0)
        self.now_ns = 0

    def after(self, ms: float, *healths: Health) -> list[int]:
        """Let time pass and return the order."""
        self.now_ns += int(ms * NS_PER_MS)
        return self.preference.order(healths, self.now_ns)


def test_first_that_is_well_comes_first() -> None:
    """Those that are well come before one that is not ready, and that before one that is out."""
    assert Driven(4).after(0, OUT, NOT_READY, WELL, WELL) == [2, 3, 1, 0]


def test_preferred_is_taken_back_at_once() -> None:
    """A target that fell once is first again as soon as it is well."""
    it = Driven()
    assert it.after(0, WELL, WELL) == [0, 1]
    assert it.after(1, OUT, WELL) == [1, 0]
    assert it.after(1, WELL, WELL) == [0, 1]


def test_first_connection_is_no_return() -> None:
    """A target that connects at the start and falls soon after is taken back at once like any other."""
    it = Driven()
    it.after(0, OUT, WELL)
    it.after(1, WELL, WELL)
    it.after(1, OUT, WELL)
    assert it.after(1, WELL, WELL) == [0, 1]


def test_target_that_falls_again_is_held_back_longer_each_time() -> None:
    """H4: one that answers trials and fails ticks is asked after 1, 2, 4, … 64 s, not with every trial."""
    it = Driven()
    it.after(0, WELL, WELL)
    it.after(1, OUT, WELL)
    it.after(1, WELL, WELL)
    for hold_ms in (1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 64_000):
        it.after(1, OUT, WELL)
        assert it.after(hold_ms - 1, WELL, WELL) == [1, 0]
        assert it.after(1, WELL, WELL) == [0, 1]
    assert HOLD.longest_ms == 64_000


def test_held_target_is_asked_where_no_other_is_well() -> None:
    """Held back means behind those that are well, not out."""
    it = Driven()
    for _ in range(2):
        it.after(0, WELL, WELL)
        it.after(1, OUT, WELL)
    assert it.after(1, WELL, WELL) == [1, 0]
    assert it.after(1, WELL, OUT) == [0, 1]
    assert it.after(1, WELL, NOT_READY) == [0, 1]


@pytest.mark.parametrize(("calm_ns", "held"), [(CALM_NS - NS_PER_MS, True), (CALM_NS, False)])
def test_calm_time_is_forgiving(calm_ns: int, held: bool) -> None:
    """A target that was well for the calm time since its return has a clean record, its pauses too."""
    it = Driven()
    it.after(0, WELL, WELL)
    it.after(1, OUT, WELL)
    it.after(1, WELL, WELL)
    it.after(calm_ns / NS_PER_MS, OUT, WELL)
    assert it.after(1, WELL, WELL) == ([1, 0] if held else [0, 1])


def test_calm_time_shortens_the_pauses_again() -> None:
    """After a calm time a target that falls twice is held back for the first pause again."""
    it = Driven()
    it.after(0, WELL, WELL)
    it.after(1, OUT, WELL)
    it.after(1, WELL, WELL)
    for hold_ms in (1_000, 2_000, 4_000):
        it.after(1, OUT, WELL)
        it.after(hold_ms, WELL, WELL)
    it.after(CALM_NS / NS_PER_MS, OUT, WELL)
    assert it.after(1, WELL, WELL) == [0, 1]
    it.after(1, OUT, WELL)
    assert it.after(HOLD.first_ms - 1, WELL, WELL) == [1, 0]
    assert it.after(1, WELL, WELL) == [0, 1]


def test_calm_time_counts_from_the_end_of_the_hold() -> None:
    """The time in which a target was held back proves nothing of it."""
    it = Driven()
    it.after(0, WELL, WELL)
    it.after(1, OUT, WELL)
    it.after(1, WELL, WELL)
    for _ in range(6):
        it.after(1, OUT, WELL)
        it.after(64_000, WELL, WELL)
        it.after(1, OUT, WELL)
        it.after(1, WELL, WELL)
    # Held for 64 s now; it falls when that is over and it is in use for a moment.
    it.after(64_000, WELL, WELL)
    it.after(1, OUT, WELL)
    assert it.after(1, WELL, WELL) == [1, 0]


def test_target_that_is_not_ready_counts_as_fallen() -> None:
    """A sidecar that is restarted and loads its models is not asked before it is ready."""
    it = Driven()
    it.after(0, WELL, WELL)
    assert it.after(1, NOT_READY, WELL) == [1, 0]
    assert it.after(1, WELL, WELL) == [0, 1]


def test_first_tells_and_notes_nothing() -> None:
    """Whoever looks from another thread changes no record."""
    it = Driven()
    it.after(0, WELL, WELL)
    for healths, first in (((OUT, WELL), 1), ((WELL, WELL), 0), ((OUT, OUT), None), ((OUT, NOT_READY), 1)):
        assert it.preference.first(healths, it.now_ns) == first
    it.after(1, OUT, WELL)
    assert it.after(1, WELL, WELL) == [0, 1], "only the second fall is one that `order` was told of"
