"""What happens to a rollback, a pin or a contract when something else happens at the same time."""

import pytest

from inference_server.core.errors import RefusedError
from inference_server.core.servable import ServableId
from inference_server.serving.archive import Kept, Remembered
from inference_server.serving.model_versions import Load, ModelVersions, Retire
from inference_server.serving.policy import All, Latest, Specific
from inference_server.serving.repository import Candidate, Source
from inference_server.serving.settings import ModelSettings

NAME = "momentum"


def file(version, digest):
    """Make a file found for one version."""
    return Candidate(ServableId(NAME, version), digest, "1")


def kept(version, digest):
    """Make the candidate that a pin makes of kept bytes."""
    return Candidate(ServableId(NAME, version), digest, "", Source.ARCHIVE)


def fresh(policy=None, remembered=None):
    return ModelVersions(NAME, ModelSettings(policy=policy or Latest(1)), remembered)


def find(model, files):
    """Let a scan find these digests by version; nothing is carried out."""
    model.found({version: file(version, digest) for version, digest in files.items()}, ())


def carry_out(model, *, bad=()):
    """Do what the model asks for until it asks for nothing; digests in `bad` are refused."""
    done = []
    while action := model.next_action():
        done.append(action)
        assert len(done) < 20, "it does not come to rest"
        if isinstance(action, Load):
            if action.candidate.digest in bad:
                model.refused(action.candidate, "wrong answers")
            elif model.wants(action.candidate):
                model.published(action.candidate)
            else:
                model.postponed()
    return done


def swap(model, *steps):
    """Let these sets of files lie there one after another, each carried out."""
    for files in steps:
        find(model, files)
        carry_out(model)
    return model


def test_a_rollback_goes_to_the_kept_bytes_where_other_bytes_have_taken_their_number():
    """The older version's file was replaced since callers had it: it is held, and the kept bytes answer."""
    model = swap(fresh(All()), {2: "old"}, {2: "old", 3: "c"}, {2: "new", 3: "c"})
    assert dict(model.served) == {2: "new", 3: "c"}
    model.roll_back()
    assert model.next_action() == Load(kept(2, "old"))
    assert model.default_version() == 3, "until the kept bytes answer, callers get what they got"
    model.published(kept(2, "old"))
    assert carry_out(model) == [Retire(ServableId(NAME, 3))]
    assert dict(model.served) == {2: "old"}
    assert not model.rolling_back


def test_nothing_is_retired_before_a_rollback_has_come_about():
    """A third version that answers too is nobody's choice; where the rollback fails, all is as it was."""
    model = swap(fresh(All()), {2: "b"}, {2: "b", 3: "c"}, {1: "a", 3: "c"})
    carry_out(model)
    assert dict(model.served) == {1: "a", 3: "c"}
    assert model.roll_back().back_to == Kept(2, "b")
    assert carry_out(model, bad="b") == [Load(kept(2, "b"))]
    assert model.rollback_failure == "wrong answers"
    assert (model.default_version(), dict(model.served)) == (3, {1: "a", 3: "c"})


def test_a_second_rollback_keeps_to_what_answers_until_it_has_come_about():
    """Where the pin moves to bytes that have to be loaded, callers do not get the greatest meanwhile."""
    model = swap(fresh(All()), {1: "z"}, {1: "a"}, {1: "a", 3: "c"}, {1: "a", 2: "b", 3: "c"})
    model.roll_back()
    carry_out(model)
    assert (model.default_version(), dict(model.served)) == (1, {1: "a", 2: "b"})
    assert model.roll_back().back_to == Kept(1, "z")
    assert model.default_version() == 1
    carry_out(model)
    assert (model.default_version(), dict(model.served)) == (1, {1: "z", 2: "b"})


def test_going_back_to_bytes_that_were_rolled_back_under_another_number():
    """They were put back as another version and rolled back there; the next rollback lands on them."""
    model = swap(fresh(), {1: "a"}, {2: "b"}, {3: "a"})
    model.roll_back()
    carry_out(model)
    assert model.roll_back().back_to == Kept(1, "a")
    assert carry_out(model) == [Load(kept(1, "a")), Retire(ServableId(NAME, 2))]
    restarted = fresh(remembered=model.remembered)
    find(restarted, {3: "a"})
    assert carry_out(restarted) == [Load(kept(1, "a"))]
    assert restarted.default_version() == 1


def test_without_a_history_equal_bytes_are_nothing_to_go_back_to():
    """A smaller version of the same bytes answers as the one that is wrong does."""
    model = swap(fresh(All()), {1: "a", 2: "a"})
    with pytest.raises(RefusedError, match="nothing to roll back to"):
        model.roll_back()


def test_a_load_under_way_whose_file_is_gone_does_not_end_a_rollback():
    """What was being loaded when the operator went back is held like what lies there."""
    model = swap(fresh(), {1: "a"}, {1: "b"})
    find(model, {1: "c"})
    assert model.next_action() == Load(file(1, "c"))
    find(model, {})
    model.roll_back()
    assert not model.wants(file(1, "c"))
    model.postponed()
    carry_out(model)
    assert dict(model.served) == {1: "a"}


def test_a_bad_file_that_comes_during_a_rollback_does_not_hold_it_up():
    """C5: copied over the live file while the kept bytes are on their way; they answer all the same."""
    model = swap(fresh(), {1: "a"}, {1: "b"})
    model.roll_back()
    find(model, {1: "bad"})
    assert carry_out(model, bad=["bad"]) == [Load(file(1, "bad")), Load(kept(1, "a"))]
    assert not model.rolling_back
    assert dict(model.served) == {1: "a"}


def test_what_is_gone_back_from_does_not_stay_for_a_bad_file_in_its_place():
    """Both files are replaced during a rollback: the good one answers, and what was bad by itself no more."""
    model = swap(fresh(All()), {1: "a"}, {2: "b"})
    model.roll_back()
    find(model, {1: "c", 2: "bad"})
    carry_out(model, bad=["bad"])
    assert not model.rolling_back
    assert (model.default_version(), dict(model.served)) == (1, {1: "c"})


def test_a_file_that_takes_the_number_of_the_pin_during_a_rollback_ends_it():
    """What goes on beside it, for a refused file, does not keep the rollback waiting for ever."""
    model = swap(fresh(All()), {1: "a"}, {3: "c"}, {2: "b", 3: "c"})
    model.roll_back()
    find(model, {1: "new", 2: "bad"})
    carry_out(model, bad=["bad"])
    assert not model.rolling_back
    assert dict(model.served) == {1: "new", 2: "b"}


def test_the_bytes_that_a_rollback_went_back_to_are_good_under_any_number_after_it():
    """They lay there unserved under another number, and are picked once a new file has ended the rollback."""
    model = swap(fresh(Latest(2)), {1: "a"}, {3: "c"})
    find(model, {2: "a", 3: "c"})
    model.roll_back()
    carry_out(model)
    assert dict(model.served) == {1: "a"}
    swap(model, {2: "a", 4: "d"})
    assert dict(model.served) == {2: "a", 4: "d"}
    assert model.remembered.held == frozenset(), "what is gone when it ends is forgotten"


def test_a_file_that_comes_and_goes_during_a_rollback_lets_the_bad_one_not_back():
    """What answers is what is gone back from: it stays held until something else answers."""
    model = swap(fresh(), {1: "a"}, {1: "b"})
    model.roll_back()
    find(model, {1: "c"})
    find(model, {1: "b"})
    carry_out(model)
    assert not model.rolling_back
    assert dict(model.served) == {1: "a"}


def test_an_unload_ends_a_rollback_that_has_not_come_about():
    """Nothing is loaded any more, so whoever waits for the rollback is told; nothing is held by it."""
    model = swap(fresh(), {1: "a"}, {1: "b"})
    before = model.remembered
    model.roll_back()
    action = model.next_action()
    model.unload()
    assert not model.rolling_back
    assert model.rollback_failure == "it was unloaded meanwhile"
    assert model.remembered == before
    assert not model.wants(action.candidate)
    with pytest.raises(RefusedError, match="no available version"):
        model.roll_back()


def test_a_resume_waits_for_its_turn_behind_a_rollback():
    """Two operators at once: the one who goes back is not told that it came about when it was taken back."""
    model = swap(fresh(), {1: "a"}, {1: "b"})
    model.roll_back()
    with pytest.raises(RefusedError, match="being rolled back"):
        model.resume()
    carry_out(model)
    model.resume()


def test_a_label_that_was_set_during_a_rollback_outlives_its_failure():
    """Only the labels that the rollback itself moved go back."""
    model = swap(fresh(), {2: "b"}, {3: "c"})
    for label in ("stable", "old"):
        model.set_label(label, 3)
    assert model.roll_back().moved_labels == ("old", "stable")
    model.set_label("canary", 3)
    model.remove_label("old")
    carry_out(model, bad="b")
    assert model.rollback_failure
    assert model.labels == {"stable": 3, "canary": 3}


def test_a_failed_rollback_is_told_until_callers_get_something_new():
    """The problem is no more once another file answers."""
    model = swap(fresh(), {1: "a"}, {1: "b"})
    model.roll_back()
    carry_out(model, bad="a")
    assert "the rollback failed: wrong answers" in model.problem()
    swap(model, {1: "c"})
    assert model.problem() == ""
    assert not model.behind()


PINNED = Remembered(served=(Kept(1, "a"),), pinned=Kept(1, "a"), held=frozenset({Kept(1, "b")}))


def test_a_pin_that_failed_is_told_no_more_once_it_has_ended():
    """After a restart the kept bytes are lost; the next good file ends the rollback and its problem."""
    model = fresh(remembered=PINNED)
    find(model, {1: "b"})
    carry_out(model, bad="a")
    assert "it was rolled back to, but: wrong answers" in model.problem()
    swap(model, {1: "c"})
    assert model.problem() == ""


def test_a_pin_that_failed_is_told_no_more_once_its_bytes_lie_there_again():
    """The operator puts the lost bytes back by hand; another held file keeps the rollback going."""
    held = frozenset({Kept(1, "b"), Kept(2, "c")})
    model = fresh(remembered=Remembered(served=(Kept(1, "a"),), pinned=Kept(1, "a"), held=held))
    find(model, {1: "b", 2: "c"})
    carry_out(model, bad="a")
    assert "it was rolled back to, but" in model.problem()
    swap(model, {1: "a", 2: "c"})
    assert model.problem() == "version 2 (c): held since a rollback, until its file changes"


@pytest.mark.parametrize("for_room", [True, False])
def test_a_pin_that_had_no_room_is_tried_again_when_memory_is_freed(for_room):
    """A19: a want of memory is no verdict on the kept bytes; bytes that are no good are not tried again."""
    model = fresh(remembered=PINNED)
    find(model, {1: "b"})
    assert model.next_action() == Load(kept(1, "a"))
    model.refused(kept(1, "a"), "no", for_room=for_room)
    assert model.next_action() is None
    assert model.room_freed() is for_room
    assert carry_out(model) == ([Load(kept(1, "a"))] if for_room else [])


def test_a_file_that_is_not_asked_for_does_not_keep_a_rollback_going():
    """What ends it is the greatest of those that the policy picks, whatever else lies there."""
    model = swap(fresh(Specific(frozenset({1, 2}))), {1: "a"}, {1: "a", 2: "b"})
    model.roll_back()
    carry_out(model)
    assert model.pinned_version == 1
    swap(model, {2: "c", 3: "d"})
    assert (model.pinned_version, model.default_version()) == (0, 2)


def test_what_becomes_the_default_is_compared_whatever_lies_there_beside_it():
    """C4: a greater version that is not served, not picked or not yet loaded, is no excuse."""
    model = swap(fresh(Specific(frozenset({1, 2}))), {1: "a", 3: "d"})
    find(model, {1: "a", 2: "b", 3: "d"})
    assert model.replaced_by(file(2, "b")) == 1
    model = swap(fresh(All()), {1: "a"})
    find(model, {1: "a", 2: "b"})
    assert model.next_action() == Load(file(2, "b"))
    find(model, {1: "a", 2: "b", 3: "c"})
    assert model.replaced_by(file(2, "b")) == 1


def test_what_does_not_end_a_rollback_replaces_nobody():
    """C4: beside a pin, or one on its way, a smaller version becomes nobody's default; the greatest does."""
    model = swap(fresh(All()), {3: "a"}, {4: "b"}, {3: "a", 4: "b"}, {4: "b", 5: "c"})
    for to in (4, 3):
        assert model.roll_back().back_to.version == to
        find(model, {1: "x", 6: "y"})
        assert (model.replaced_by(file(1, "x")), model.replaced_by(file(6, "y"))) == (
            0,
            model.default_version(),
        )
        find(model, {})
        carry_out(model)
        assert model.default_version() == to
        find(model, {1: "x", 6: "y"})
        assert (model.replaced_by(file(1, "x")), model.replaced_by(file(6, "y"))) == (0, to)
        find(model, {})


def test_what_is_taken_away_while_it_loads_is_not_served():
    """A8: its load has come to its end, but nobody wants it any more."""
    model = swap(fresh(), {1: "a"})
    find(model, {1: "a", 9: "x"})
    assert model.next_action() == Load(file(9, "x"))
    find(model, {1: "a"})
    assert not model.wants(file(9, "x"))
