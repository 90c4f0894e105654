"""A history is a bounded list of ticks that features follow."""

import pytest
from fixtures_ticks import tick, ticks

from strategy_client.features import FeatureSet, feature_by_name
from strategy_client.history import Following, History, follow


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
    first = history.follow(feature)
    assert history.follow(feature_by_name("zscore_2")) is first
    assert history.follow(feature_by_name("zscore_3")) is not first
    history.follow(FeatureSet(["price", "zscore_2"]))
    assert repr(history) == "History(2 of 10 ticks, 3 followers)"


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


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit()], ids=["exit", "generator"])
def test_a_follower_that_would_end_the_program_is_let_go(error):
    """H8: what a user's feature raises need be no ordinary exception; Ctrl-C alone is passed on."""

    class Leaving:
        def update(self, price):
            raise raised

    history, raised = filled(3, [100, 101]), error
    history._followers["leaving"] = Leaving()
    history.append(tick(102))
    assert repr(history) == "History(3 of 3 ticks, 0 followers)"
    history._followers["leaving"], raised = Leaving(), KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        history.append(tick(103))


class Told:
    """Keeps what it is told."""

    def __init__(self):
        self.prices = []

    def update(self, price):
        self.prices.append(price)


def test_follow_tells_the_window_of_a_plain_list():
    """Of a list, however long, a stream is told the window's ticks and no other."""

    class Definition:
        window = 3
        stream = Told

    assert follow(ticks(range(1, 100)), Definition()).prices == [97.0, 98.0, 99.0]


def test_follow_takes_a_plain_list_as_well():
    """On a list the stream is made on the fly over the window's ticks, and stands at the last of them."""
    plain = ticks([90, 100, 101, 104])
    stream = follow(plain, feature_by_name("return_3"))
    assert stream.value() == 0.04


def test_what_follows_a_history_is_not_taken_for_another():
    """A processor on two instruments in turn, and on a list that grows, has the stream of each."""
    following = Following(feature_by_name("return_2"))
    rising, falling, plain = filled(2, [100, 110]), filled(2, [100, 90]), ticks([100, 150])
    seen = [following.on(each).value() for each in (rising, falling, plain, rising)]
    assert seen == [0.1, -0.1, 0.5, 0.1]
    rising.append(tick(121))
    plain.append(tick(300))
    assert [following.on(each).value() for each in (rising, plain, plain)] == [0.1, 1.0, 1.0]
    plain.append(tick(150))
    assert following.on(plain).value() == -0.5


def test_a_price_that_is_known_already_is_not_worked_out_again():
    """Followers are told the float that came beside the tick."""
    history = filled(3, [100])
    stream = history.follow(feature_by_name("price"))
    history.append(tick(101), 101.25)
    assert stream.value() == 101.25
