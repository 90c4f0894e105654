"""A history is a bounded list of ticks that features follow."""

import pytest
from fixtures_ticks import tick, ticks

from strategy_client.features import FeatureSet, feature_by_name
from strategy_client.history import History, follow


def filled(capacity, prices):
    history = History(capacity)
    for one in ticks(prices):
        history.append(one)
    return history


def test_reads_as_the_list_that_alpha_panda_hands_over():
    """Length, indices from both ends, slices, iteration, membership and reversal are those of a list."""
    plain = ticks([1, 2, 3, 4, 5])
    history = filled(10, [1, 2, 3, 4, 5])
    assert len(history) == len(plain)
    assert [history[0], history[2], history[-1], history[-5]] == [plain[0], plain[2], plain[-1], plain[-5]]
    assert history[-3:] == plain[-3:]
    assert history[1:4:2] == plain[1:4:2]
    assert list(history) == plain
    assert list(reversed(history)) == plain[::-1]
    assert plain[2] in history
    assert bool(History(1)) is False
    with pytest.raises(IndexError):
        history[5]


def test_never_grows_beyond_its_capacity():
    """The oldest tick goes when the capacity is reached; the newest is always the last."""
    history = History(3)
    for index, one in enumerate(ticks(range(1, 1_001)), start=1):
        history.append(one)
        assert len(history) == min(index, 3)
        assert history[-1] is one
    assert [int(one.last_price) for one in history] == [998, 999, 1000]


def test_a_capacity_is_at_least_one():
    """A history without room is refused at once."""
    with pytest.raises(ValueError, match="expected at least 1 tick, came 0"):
        History(0)


def test_a_feature_starts_with_the_ticks_at_hand():
    """Asked for late, a feature knows the ticks held; from then on it is told each one."""
    history = filled(10, [100, 101, 102])
    assert history.feature("return_3") == 0.02
    history.append(tick(103))
    assert history.feature("return_3") == (103 - 101) / 101


def test_a_feature_is_followed_once():
    """Whoever asks for a feature gets the one stream that follows it: its cost is paid once a tick."""
    history = filled(10, [100, 101])
    feature = feature_by_name("zscore_2")
    first = history.follow("zscore_2", feature.stream)
    assert history.follow("zscore_2", feature.stream) is first
    history.feature("zscore_2")
    history.follow(("price", "zscore_2"), FeatureSet(["price", "zscore_2"]).stream)
    assert repr(history) == "History(2 of 10 ticks, 2 followers)"


def test_a_follower_that_raises_is_let_go(caplog):
    """H8: a user's feature that raises never stops a tick; asked for again it starts over the ticks held."""
    history = filled(3, [100, 101])
    history.feature("return_2")
    history.feature("fixtures_features:Touchy")
    history.append(tick(666))
    assert "fixtures_features:Touchy raised on" in caplog.text
    assert history.feature("return_2") == (666 - 101) / 101
    with pytest.raises(ArithmeticError):
        history.feature("fixtures_features:Touchy")
    for price in (102, 103, 104):
        history.append(tick(price))
    assert history.feature("fixtures_features:Touchy") == 104


class Told:
    """Keeps what it is told."""

    def __init__(self):
        self.prices = []

    def update(self, price):
        self.prices.append(price)


def test_follow_tells_the_window_of_a_plain_list():
    """Of a list, however long, a stream is told the window's ticks and no other."""
    assert follow(ticks(range(1, 100)), "told", Told, 3).prices == [97.0, 98.0, 99.0]


def test_follow_takes_a_plain_list_as_well():
    """On a list the stream is made on the fly over the window's ticks, and stands at the last of them."""
    plain = ticks([90, 100, 101, 104])
    stream = follow(plain, "return_3", feature_by_name("return_3").stream, 3)
    assert stream.value() == 0.04
