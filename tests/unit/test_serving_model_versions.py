"""What an operator does to one model: rollback, labels, load and unload, one event at a time."""

import pytest

from inference_server.core.errors import NotFoundError, RefusedError
from inference_server.core.servable import ServableId, State
from inference_server.serving.archive import Kept, Remembered
from inference_server.serving.decisions import MAX_KEPT, RolledBack
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


def retire(version):
    return Retire(ServableId(NAME, version))


def carry_out(model, *, bad=()):
    """Do what the model asks for until it asks for nothing; digests in `bad` are refused."""
    done = []
    while action := model.next_action():
        done.append(action)
        if isinstance(action, Load):
            if action.candidate.digest in bad:
                model.refused(action.candidate, "wrong answers")
            else:
                model.published(action.candidate)
    return done


def find(model, files, *, bad=()):
    """Let a scan find these digests by version, and do what follows."""
    model.found({version: file(version, digest) for version, digest in files.items()}, ())
    return carry_out(model, bad=bad)


def fresh(policy=None, remembered=None, **settings):
    return ModelVersions(NAME, ModelSettings(policy=policy or Latest(1), **settings), remembered)


def flat_after_a_swap():
    """Return a model of the flat layout whose file "a" was replaced by "b"."""
    model = fresh()
    find(model, {1: "a"})
    find(model, {1: "b"})
    return model


# Rollback.


def test_a_rollback_brings_back_the_bytes_that_a_replaced_file_had():
    """In the flat layout the old bytes come from the archive, and the file that lies there is held."""
    model = flat_after_a_swap()
    assert model.roll_back() == RolledBack(Kept(1, "b"), Kept(1, "a"), ())
    assert model.rolling_back
    assert carry_out(model) == [Load(kept(1, "a"))]
    assert not model.rolling_back
    assert dict(model.served) == {1: "a"}
    assert model.pinned_version == 1
    assert model.problem() == "version 1 (b): held since a rollback, until its file changes"
    assert model.behind()


def test_what_was_rolled_back_stays_out_whatever_happens_to_its_file_but_a_change():
    """Touched, deleted and put back, found under another number: the digest is not picked up again."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    touched = Candidate(ServableId(NAME, 1), "b", "2")
    model.found({1: touched}, ())
    assert carry_out(model) == []
    for files in ({}, {1: "b"}, {}, {7: "b"}, {1: "b"}):
        assert find(model, files) == [], files
    assert dict(model.served) == {1: "a"}


def test_a_file_that_changes_ends_the_rollback():
    """The next file is tried; published, it is what callers get, and the pin is gone."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    assert find(model, {1: "c"}) == [Load(file(1, "c"))]
    assert dict(model.served) == {1: "c"}
    assert model.pinned_version == 0
    assert model.remembered.held == frozenset()
    assert not model.behind()


def test_a_bad_file_after_a_rollback_leaves_the_pinned_version():
    """A4, A5: what comes after a rollback is vetted like any file."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    assert find(model, {1: "bad"}, bad=["bad"]) == [Load(file(1, "bad"))]
    assert dict(model.served) == {1: "a"}
    assert model.pinned_version == 1


def test_the_old_file_put_back_by_hand_ends_the_rollback():
    """With the pinned bytes themselves in the file's place there is nothing left to hold or pin."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    assert find(model, {1: "a"}) == []
    assert model.pinned_version == 0
    assert not model.behind()


def test_a_rollback_goes_to_what_was_served_not_to_a_smaller_number():
    """Version 2 lies there but never answered: back from 3 is 1, and 2 is held as well."""
    model = fresh()
    find(model, {1: "a"})
    find(model, {1: "a", 2: "b", 3: "c"})
    assert dict(model.served) == {3: "c"}
    model.roll_back()
    assert carry_out(model) == [Load(file(1, "a")), retire(3)]
    held = "held since a rollback, until its file changes"
    assert model.problem() == f"version 2 (b): {held}; version 3 (c): {held}"
    assert {id_.version: status.state for id_, status in model.statuses().items()} == {
        2: State.END,
        3: State.END,
    }
    assert find(model, {1: "a", 2: "b", 3: "c", 4: "d"}) == [Load(file(4, "d")), retire(1)]
    assert model.remembered.held == {Kept(2, "b"), Kept(3, "c")}, "their files have not changed"


def test_a_version_that_callers_went_back_to_by_files_is_what_a_rollback_goes_back_to():
    """A7: 3 is taken away for 2, then 4 comes: a rollback goes to 2, not to the 3 that was taken away."""
    model = fresh()
    find(model, {2: "b", 3: "c"})
    assert find(model, {2: "b"}) == [Load(file(2, "b")), retire(3)]
    assert model.remembered.served == (Kept(3, "c"), Kept(2, "b"))
    find(model, {2: "b", 4: "d"})
    assert model.roll_back().back_to == Kept(2, "b")


def test_a_default_that_changes_because_one_is_retired_is_remembered_too():
    """A7: with versions side by side nothing is loaded when the greatest is taken away."""
    model = fresh(All())
    find(model, {2: "b", 3: "c"})
    assert find(model, {2: "b"}) == [retire(3)]
    find(model, {2: "b", 4: "d"})
    assert model.roll_back().back_to == Kept(2, "b")


def test_a_contract_change_that_is_allowed_later_lets_the_refused_file_try_again():
    """A12: the settings alone change; it is tried once more, and other settings try nothing again."""
    model = fresh()
    find(model, {1: "a"})
    find(model, {1: "a", 2: "b"}, bad="b")
    model.set_settings(ModelSettings(policy=Latest(2)))
    assert model.next_action() is None
    model.set_settings(ModelSettings(policy=Latest(2), allow_contract_change=True))
    assert carry_out(model) == [Load(file(2, "b"))]


def test_the_version_before_goes_on_until_the_old_one_answers():
    """A4: the version rolled back is retired only once the one before is available again."""
    model = fresh()
    find(model, {1: "a"})
    find(model, {2: "b"})
    model.roll_back()
    assert model.next_action() == Load(kept(1, "a"))
    assert model.next_action() is None
    assert model.default_version() == 2
    model.published(kept(1, "a"))
    assert carry_out(model) == [retire(2)]


def test_with_versions_side_by_side_a_rollback_only_moves_the_default():
    """Under policy all the version before answers already; the one rolled back goes."""
    model = fresh(All())
    find(model, {1: "a", 2: "b"})
    find(model, {1: "a", 2: "b", 3: "c"})
    model.roll_back()
    assert not model.rolling_back
    assert model.default_version() == 2
    assert carry_out(model) == [retire(3)]
    assert find(model, {1: "a", 2: "b", 3: "c", 5: "e"}) == [Load(file(5, "e"))]
    assert model.default_version() == 5
    assert dict(model.served) == {1: "a", 2: "b", 5: "e"}, "3 stays held"


def test_a_smaller_version_does_not_end_a_rollback():
    """Under policy all, what comes below the pinned version is served beside it and is not the default."""
    model = fresh(All())
    find(model, {2: "b", 3: "c"})
    find(model, {2: "b", 3: "c", 4: "d"})
    model.roll_back()
    carry_out(model)
    find(model, {1: "a", 2: "b", 3: "c", 4: "d"})
    assert model.default_version() == model.pinned_version == 3


def test_without_a_history_the_next_smaller_version_that_answers_is_the_one_before():
    """After a start with several versions nothing was served earlier; what answers beside will do."""
    model = fresh(All())
    find(model, {1: "a", 2: "b", 4: "d"})
    assert model.roll_back().back_to == Kept(2, "b")


def test_a_rollback_with_nothing_before_is_refused_and_changes_nothing():
    """Nothing is guessed: no kept bytes and no other version, no rollback."""
    model = fresh()
    with pytest.raises(RefusedError, match="no available version"):
        model.roll_back()
    find(model, {1: "a"})
    remembered = model.remembered
    with pytest.raises(RefusedError, match=r"nothing that answered before version 1 \(a\) is kept"):
        model.roll_back()
    assert model.remembered == remembered
    assert model.next_action() is None


def test_a_rollback_whose_bytes_are_no_good_is_undone():
    """The version that was to go stays and is held no longer; the reason is told."""
    model = flat_after_a_swap()
    before = model.remembered
    model.roll_back()
    assert carry_out(model, bad=["a"]) == [Load(kept(1, "a"))]
    assert model.rollback_failure == "wrong answers"
    assert model.remembered == before
    assert dict(model.served) == {1: "b"}
    assert model.problem() == "the rollback failed: wrong answers"
    find(model, {1: "c"})
    assert dict(model.served) == {1: "c"}


def test_rollbacks_go_back_step_by_step_as_far_as_bytes_are_kept():
    """Each goes one further back, as many times as MAX_KEPT allows."""
    model = fresh()
    for digest in "abcde":
        find(model, {1: digest})
    assert [one.digest for one in model.remembered.served] == list("abcde")[-MAX_KEPT:]
    for expected in ("d", "c"):
        model.roll_back()
        carry_out(model)
        assert dict(model.served) == {1: expected}
    with pytest.raises(RefusedError):
        model.roll_back()
    assert dict(model.served) == {1: "c"}


def test_a_load_under_way_is_given_up_by_a_rollback():
    """What is on its way when the operator says back is not what the operator wants."""
    model = flat_after_a_swap()
    model.found({1: file(1, "c")}, ())
    load = model.next_action()
    assert load == Load(file(1, "c"))
    model.roll_back()
    assert not model.wants(load.candidate)
    model.postponed()
    assert carry_out(model) == [Load(kept(1, "a"))]
    assert model.next_action() is None, "c is held too"


def test_a_rollback_outlives_a_restart():
    """With what was remembered, the pinned bytes are served and the held file is not, from the start."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    again = fresh(remembered=model.remembered)
    assert again.known
    assert find(again, {1: "b"}) == [Load(kept(1, "a"))]
    assert again.pinned_version == 1
    assert dict(again.served) == {1: "a"}
    assert again.remembered == model.remembered, "nothing is remembered twice"


def test_a_bad_file_does_not_stand_between_a_restart_and_the_pinned_version():
    """After a restart a new file is tried first; where it is refused, the pinned bytes are served."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    again = fresh(remembered=model.remembered)
    assert find(again, {1: "bad"}, bad=["bad"]) == [Load(file(1, "bad")), Load(kept(1, "a"))]
    assert dict(again.served) == {1: "a"}


def test_pinned_bytes_that_are_lost_are_told_and_the_held_file_is_still_not_served():
    """After a restart without the kept bytes there is no version at all: the operator's word holds."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    again = fresh(remembered=model.remembered)
    assert find(again, {1: "b"}, bad=["a"]) == [Load(kept(1, "a"))]
    assert dict(again.served) == {}
    assert "version 1: it was rolled back to, but: wrong answers" in again.problem()
    find(again, {1: "c"})
    assert dict(again.served) == {1: "c"}


def test_what_served_before_a_restart_serves_after_it_where_the_file_is_refused():
    """A5: the bad file that was refused before is refused again, and the kept bytes answer meanwhile."""
    model = fresh()
    find(model, {1: "a"})
    find(model, {1: "bad"}, bad=["bad"])
    again = fresh(remembered=model.remembered)
    assert find(again, {1: "bad"}, bad=["bad"]) == [Load(file(1, "bad")), Load(kept(1, "a"))]
    assert dict(again.served) == {1: "a"}
    assert again.problem() == "version 1: the new file is refused: wrong answers"
    assert again.has_refused
    assert again.remembered == model.remembered
    assert find(again, {1: "c"}) == [Load(file(1, "c"))]
    assert not again.has_refused


def test_what_served_before_a_restart_serves_after_it_where_the_file_is_not_whole():
    """C1: a file that was cut off is no candidate but a problem; the kept bytes answer until it is mended."""
    model = fresh()
    find(model, {1: "a"})
    again = fresh(remembered=model.remembered)
    again.found({}, ("the file is cut off",))
    assert carry_out(again) == [Load(kept(1, "a"))]
    assert again.problem() == "the file is cut off; version 1: served, but its file is gone"
    assert find(again, {1: "c"}) == [Load(file(1, "c"))]


def test_kept_bytes_are_served_after_a_restart_only_in_place_of_a_refused_file():
    """Without a file, where the kept bytes are no good or the refused ones, or by explicit control: none."""
    model = fresh()
    find(model, {1: "a"})
    remembered = model.remembered
    assert find(fresh(remembered=remembered), {}) == []
    again = fresh(remembered=remembered)
    assert find(again, {2: "bad"}, bad=["bad", "a"]) == [Load(file(2, "bad")), Load(kept(1, "a"))]
    assert find(fresh(remembered=remembered), {1: "a"}, bad=["a"]) == [Load(file(1, "a"))]
    explicit = ModelVersions(NAME, ModelSettings(), remembered, wanted=False)
    explicit.load({1: file(1, "bad")}, ())
    assert carry_out(explicit, bad=["bad"]) == [Load(file(1, "bad"))]


def test_pinned_bytes_that_are_lost_are_not_tried_for_ever_beside_a_bad_file():
    """A5: once a start, not again as what was served before it; and their loss is told once."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    again = fresh(remembered=model.remembered)
    again.found({1: file(1, "b"), 2: file(2, "bad")}, ())
    for expected in (file(2, "bad"), kept(1, "a")):
        assert again.next_action() == Load(expected)
        again.refused(expected, "no good")
    assert again.next_action() is None
    assert not again.busy
    assert again.problem().count("version 1: it was") == 1


def test_kept_bytes_that_had_no_room_at_a_start_are_told_and_tried_again_when_memory_is_freed():
    """A5: in place of a bad file; what was refused for another reason stays refused."""
    model = fresh()
    find(model, {1: "a"})
    again = fresh(remembered=model.remembered)
    again.found({1: file(1, "bad")}, ())
    again.refused(again.next_action().candidate, "wrong answers")
    again.refused(again.next_action().candidate, "it needs 2.0 GiB", for_room=True)
    assert again.next_action() is None
    assert again.problem() == (
        "version 1: refused: wrong answers; version 1: it was served before, but: it needs 2.0 GiB"
    )
    assert again.room_freed()
    assert carry_out(again) == [Load(kept(1, "a"))]
    assert again.problem() == "version 1: the new file is refused: wrong answers"
    assert not again.room_freed()


def test_of_what_callers_got_before_a_start_the_last_is_served_unless_it_is_held():
    """A5: one version answers, not one more for each that callers ever got; what was rolled back never."""
    history = (Kept(1, "a"), Kept(2, "b"))
    model = fresh(remembered=Remembered(served=history))
    assert find(model, {3: "bad"}, bad=["bad"]) == [Load(file(3, "bad")), Load(kept(2, "b"))]
    assert find(model, {4: "worse"}, bad=["worse"]) == [Load(file(4, "worse"))]
    assert dict(model.served) == {2: "b"}
    held = fresh(remembered=Remembered(served=history, held=frozenset({Kept(2, "b")})))
    assert find(held, {3: "bad"}, bad=["bad"]) == [Load(file(3, "bad"))]


def test_kept_bytes_that_are_no_good_stay_refused_when_memory_is_freed_and_are_told_until_a_file_serves():
    """A5: freed memory mends no bytes, and a good file ends what was told of them."""
    model = fresh(remembered=Remembered(served=(Kept(1, "a"),)))
    find(model, {1: "bad"}, bad=["bad", "a"])
    assert "it was served before, but: wrong answers" in model.problem()
    assert not model.room_freed()
    assert carry_out(model) == []
    find(model, {1: "c"})
    assert model.problem() == ""


def test_while_anything_is_served_a_refused_file_retires_nothing():
    """A5: that callers got one of the versions last is no reason to take the others out of service."""
    model = fresh(All())
    find(model, {1: "a", 2: "b"})
    assert find(model, {3: "bad"}, bad=["bad"]) == [Load(file(3, "bad"))]
    assert dict(model.served) == {1: "a", 2: "b"}


def test_a_rollback_that_failed_is_told_as_nothing_else_once_the_model_was_unloaded():
    """The bytes that it wanted are not told as what a start could not serve."""
    model = ModelVersions(NAME, ModelSettings(), wanted=False)
    for digest in "ab":
        model.load({1: file(1, digest)}, ())
        carry_out(model)
    model.roll_back()
    carry_out(model, bad=["a"])
    model.unload()
    carry_out(model)
    model.load({1: file(1, "bad")}, ())
    carry_out(model, bad=["bad"])
    assert dict(model.served) == {}
    assert "served before" not in model.problem()


def test_resume_lets_the_repository_count_again():
    """What lies there is picked up, the pinned version goes."""
    model = flat_after_a_swap()
    model.roll_back()
    carry_out(model)
    model.resume()
    assert carry_out(model) == [Load(file(1, "b"))]
    assert model.pinned_version == 0
    with pytest.raises(RefusedError, match="is not rolled back"):
        model.resume()


# The contract that must not change.


def test_what_a_candidate_replaces_is_what_its_callers_get_now():
    """The same version, or the default one where the candidate becomes that; else nobody's."""
    model = fresh(All())
    find(model, {2: "b", 4: "d"})
    new = {2: file(2, "x"), 3: file(3, "c"), 4: file(4, "d"), 5: file(5, "e")}
    model.found(new, ())
    assert [model.replaced_by(new[version]) for version in (2, 3, 5)] == [2, 0, 4]
    model = fresh()
    assert model.replaced_by(file(1, "a")) == 0, "the first one replaces nothing"
    find(model, {3: "c"})
    model.found({1: file(1, "a")}, ())
    assert model.replaced_by(file(1, "a")) == 3, "A7: back to a smaller number replaces the greater one"


def test_going_back_needs_no_permission():
    """A rollback may change the contract, also where the version's own file still lies there."""
    model = fresh()
    find(model, {1: "a"})
    find(model, {1: "a", 2: "b"})
    model.roll_back()
    load = model.next_action()
    assert load == Load(file(1, "a"))
    assert model.replaced_by(load.candidate) == 0


# Labels.


def test_a_label_moves_only_to_a_version_that_is_available():
    """The refusal names what is available, and the label stays."""
    model = fresh(All())
    find(model, {1: "a", 2: "b"})
    model.set_label("stable", 1)
    assert model.labels == {"stable": 1}
    with pytest.raises(
        RefusedError, match="cannot move to version 3, which is not available; available: 1, 2"
    ):
        model.set_label("stable", 3)
    assert model.labels == {"stable": 1}
    model.remove_label("stable")
    assert model.labels == {}
    with pytest.raises(NotFoundError, match="no label 'stable'"):
        model.remove_label("stable")


def test_a_labelled_version_stays_when_the_policy_moves_on():
    """Latest 1 loads the next version and leaves the labelled one, until the label leaves it."""
    model = fresh()
    find(model, {1: "a"})
    model.set_label("stable", 1)
    assert find(model, {1: "a", 2: "b"}) == [Load(file(2, "b"))]
    assert dict(model.served) == {1: "a", 2: "b"}
    model.set_label("stable", 2)
    assert carry_out(model) == [retire(1)]


def test_a_labelled_version_stays_when_its_file_is_replaced():
    """In the flat layout the next version takes the file's place; the labelled one answers on without it."""
    model = fresh()
    find(model, {1: "a"})
    model.set_label("stable", 1)
    assert find(model, {2: "b"}) == [Load(file(2, "b"))]
    assert dict(model.served) == {1: "a", 2: "b"}


def test_a_label_of_the_configuration_waits_for_its_version():
    """It names nothing that answers until then; moved to one that is not there, it stays where it was."""
    model = fresh(All(), labels={"canary": 2})
    find(model, {1: "a"})
    assert model.problem() == "label canary: wanted at version 2, which is not available"
    find(model, {1: "a", 2: "b"})
    assert model.labels == {"canary": 2}
    assert not model.behind()
    model.set_settings(ModelSettings(policy=All(), labels={"canary": 3}))
    assert model.labels == {"canary": 2}
    find(model, {1: "a", 2: "b", 3: "c"})
    assert model.labels == {"canary": 3}
    with pytest.raises(NotFoundError, match="the configuration sets it"):
        model.remove_label("canary")


def test_a_label_by_hand_wins_over_the_configuration_and_outlives_a_restart():
    """Until it is removed; then the configuration's counts."""
    model = fresh(All(), labels={"stable": 1})
    find(model, {1: "a", 2: "b"})
    model.set_label("stable", 2)
    again = fresh(All(), remembered=model.remembered, labels={"stable": 1})
    find(again, {1: "a", 2: "b"})
    assert again.labels == {"stable": 2}
    again.remove_label("stable")
    assert again.labels == {"stable": 1}


def test_labels_of_the_version_rolled_back_move_with_the_rollback():
    """Whoever asked for it by its label gets the version before as well."""
    model = fresh(labels={"stable": 2})
    find(model, {1: "a"})
    find(model, {1: "a", 2: "b"})
    assert model.roll_back().moved_labels == ("stable",)
    assert carry_out(model) == [Load(file(1, "a")), retire(2)]
    assert model.labels == {"stable": 1}


def test_a_labelled_version_is_loaded_beside_what_the_policy_wants():
    """After a restart a label finds its version again, though latest 1 would not load it."""
    model = fresh(remembered=Remembered(labels={"stable": 1}))
    assert find(model, {1: "a", 2: "b"}) == [Load(file(2, "b")), Load(file(1, "a"))]
    assert model.labels == {"stable": 1}


# Explicit control.


def test_nothing_is_served_before_it_is_asked_for():
    """What lies there is known and told as not loaded."""
    model = ModelVersions(NAME, ModelSettings(), wanted=False)
    assert find(model, {1: "a"}) == []
    (status,) = model.statuses().values()
    assert (status.state, status.reason) == (State.END, "not loaded; control is explicit")
    model.load({1: file(1, "a")}, ())
    assert carry_out(model) == [Load(file(1, "a"))]
    assert model.load_failure == ""


def test_unload_takes_every_version_and_load_brings_them_back():
    """Labelled and pinned versions too; A16: a load under way is not published."""
    model = fresh(All())
    find(model, {1: "a", 2: "b"})
    model.set_label("stable", 1)
    model.found({1: file(1, "a"), 2: file(2, "b"), 3: file(3, "c")}, ())
    load = model.next_action()
    model.unload()
    assert carry_out(model) == [retire(1), retire(2)]
    assert not model.wants(load.candidate)
    assert model.busy, "the load has not ended"
    model.postponed()
    assert not model.busy
    with pytest.raises(RefusedError, match="is not loaded"):
        model.unload()
    model.load({1: file(1, "a")}, ())
    assert carry_out(model) == [Load(file(1, "a"))]


def test_what_is_not_wanted_is_not_refused():
    """Once a model is unloaded, nothing is said of a file that was refused before."""
    model = fresh()
    find(model, {1: "a", 2: "bad"}, bad=["bad"])
    assert model.has_refused
    model.unload()
    carry_out(model)
    assert (model.has_refused, model.problem()) == (False, "")


def test_an_unload_makes_no_version_the_one_that_callers_got():
    """What is taken out first leaves another for a moment, which no rollback is to go back to."""
    model = fresh(All())
    find(model, {1: "a"})
    find(model, {1: "a", 2: "b"})
    model.roll_back()
    before = model.remembered
    model.unload()
    assert carry_out(model) == [retire(1), retire(2)]
    assert model.remembered == before


def test_a_load_says_why_it_did_not_come_about():
    """Refused, held, or nothing there: the old version stays, and asking again tries again."""
    model = fresh()
    model.load({}, ())
    assert carry_out(model) == []
    assert model.load_failure == "nothing of it lies in the repository"
    model.load({1: file(1, "a")}, ())
    carry_out(model)
    model.load({1: file(1, "bad")}, ())
    assert carry_out(model, bad=["bad"]) == [Load(file(1, "bad"))]
    assert "the new file is refused: wrong answers" in model.load_failure
    assert dict(model.served) == {1: "a"}
    model.load({1: file(1, "bad")}, ())
    assert carry_out(model) == [Load(file(1, "bad"))]
    assert model.load_failure == ""
    model.roll_back()
    carry_out(model)
    model.load({1: file(1, "bad")}, ())
    assert carry_out(model) == []
    assert "held since a rollback" in model.load_failure


def test_a_refused_upload_is_told_by_itself_and_until_the_unload():
    """An upload leaves no file to be gone; once unloaded, what was refused before is only not loaded."""

    def upload(version, digest):
        return Candidate(ServableId(NAME, version), digest, "1", Source.UPLOAD)

    model = fresh()
    model.load({7: upload(7, "a")}, ())
    carry_out(model)
    model.load({8: upload(8, "bad")}, ())
    carry_out(model, bad=["bad"])
    assert model.load_failure == model.problem() == "version 8: refused: wrong answers"
    model.unload()
    carry_out(model)
    assert {it.reason for it in model.statuses().values()} == {"not loaded; control is explicit"}


# Memory.


def test_what_had_no_room_is_tried_again_when_memory_is_freed():
    """A19: what was refused for want of memory gets another try, what was refused otherwise does not."""
    model = fresh(All())
    model.found({1: file(1, "a"), 2: file(2, "b")}, ())
    model.refused(model.next_action().candidate, "it needs 2.0 GiB", for_room=True)
    model.refused(model.next_action().candidate, "wrong answers")
    assert model.next_action() is None
    assert model.room_freed()
    assert carry_out(model) == [Load(file(2, "b"))]
    assert not model.room_freed()


def test_the_repr_says_what_is_served():
    """For logs and assertions."""
    model = fresh(Specific(frozenset({1, 2})))
    assert repr(model) == "<ModelVersions momentum serves nothing>"
    find(model, {1: "a", 2: "b"})
    assert repr(model) == "<ModelVersions momentum serves 1, 2>"
