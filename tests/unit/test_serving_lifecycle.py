"""The life cycle's rules, one event at a time."""

import pytest

from inference_server.core.servable import ServableId, State
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.model_versions import Load, Retire
from inference_server.serving.policy import All, Latest, Specific
from inference_server.serving.repository import Candidate
from inference_server.serving.settings import ModelSettings


def candidate(version, digest="good", stamp="1", name="momentum"):
    """Make a file found for one version."""
    return Candidate(ServableId(name, version), f"{digest}-{version}", stamp)


def carry_out(lifecycle, *, bad=()):
    """Do what the life cycle asks for until it asks for nothing; candidates in `bad` are refused."""
    done = []
    while action := lifecycle.next_action():
        done.append(action)
        if isinstance(action, Load):
            if action.candidate in bad:
                lifecycle.refused(action.candidate, "wrong answers")
            else:
                lifecycle.published(action.candidate)
    return done


def serving(*candidates, policy=None):
    """Return a life cycle that serves these candidates."""
    lifecycle = Lifecycle(default=ModelSettings(policy=policy or Latest(1)))
    lifecycle.found(candidates, {})
    carry_out(lifecycle)
    return lifecycle


def retire(version, name="momentum"):
    return Retire(ServableId(name, version))


def test_an_empty_repository_asks_for_nothing():
    """A1: nothing found, nothing to do; files that appear later are loaded."""
    lifecycle = serving()
    assert lifecycle.next_action() is None
    lifecycle.found([candidate(1)], {})
    assert carry_out(lifecycle) == [Load(candidate(1))]


def test_the_old_version_is_retired_only_after_the_new_one_is_available():
    """A4: load first, retire after the publication, never before."""
    lifecycle = serving(candidate(1))
    lifecycle.found([candidate(1), candidate(2)], {})
    assert lifecycle.next_action() == Load(candidate(2))
    assert lifecycle.next_action() is None
    assert lifecycle.statuses()[ServableId("momentum", 2)].state is State.LOADING
    lifecycle.published(candidate(2))
    assert lifecycle.next_action() == retire(1)
    assert lifecycle.next_action() is None


def test_a_failed_version_leaves_the_old_one_and_says_why():
    """A5: the old version stays; status and problem name the version and the cause."""
    lifecycle = serving(candidate(1))
    lifecycle.found([candidate(1), candidate(2)], {})
    assert carry_out(lifecycle, bad=[candidate(2)]) == [Load(candidate(2))]
    status = lifecycle.statuses()[ServableId("momentum", 2)]
    assert (status.state, status.reason) == (State.END, "wrong answers")
    assert lifecycle.problem("momentum") == "version 2: refused: wrong answers"


def test_a_refused_file_is_tried_again_only_when_it_changes():
    """A6: the same file is not tried again; touched or mended, it is."""
    lifecycle = serving(candidate(1))
    bad = candidate(2, "bad")
    lifecycle.found([candidate(1), bad], {})
    carry_out(lifecycle, bad=[bad])
    lifecycle.found([candidate(1), bad], {})
    assert carry_out(lifecycle) == []
    touched = candidate(2, "bad", stamp="2")
    lifecycle.found([candidate(1), touched], {})
    assert carry_out(lifecycle, bad=[touched]) == [Load(touched)]
    mended = candidate(2, "good", stamp="3")
    lifecycle.found([candidate(1), mended], {})
    assert carry_out(lifecycle) == [Load(mended), retire(1)]
    assert lifecycle.problem("momentum") == ""


def test_at_the_start_a_bad_latest_version_gives_way_to_the_one_before():
    """A2: what would go on serving after a failed update also serves after a restart."""
    lifecycle = Lifecycle()
    lifecycle.found([candidate(1), candidate(2)], {})
    assert carry_out(lifecycle, bad=[candidate(2)]) == [Load(candidate(2)), Load(candidate(1))]


def test_back_to_a_smaller_version():
    """A7: with the greater version's folder removed, the smaller one is loaded, then the greater retired."""
    lifecycle = serving(candidate(2))
    lifecycle.found([candidate(1)], {})
    assert carry_out(lifecycle) == [Load(candidate(1)), retire(2)]


def test_a_version_removed_and_put_back_is_not_loaded_twice():
    """A8: gone in one scan and back in the next, with nothing else to serve, costs nothing."""
    lifecycle = serving(candidate(2))
    lifecycle.found([], {})
    assert carry_out(lifecycle) == []
    lifecycle.found([candidate(2)], {})
    assert carry_out(lifecycle) == []


@pytest.mark.parametrize("policy", [Latest(1), All(), Specific(frozenset({1}))])
def test_a_deleted_file_goes_on_serving_as_an_orphan(policy):
    """A9: the last version's file is gone; it serves on, and the problem says so."""
    lifecycle = serving(candidate(1), policy=policy)
    lifecycle.found([], {})
    assert carry_out(lifecycle) == []
    assert lifecycle.problem("momentum") == "version 1: served, but its file is gone"


def test_a_version_that_is_being_replaced_is_no_orphan():
    """A4: in the flat layout a swap changes the version; while the new one loads there is no problem."""
    lifecycle = serving(candidate(1))
    lifecycle.found([candidate(2)], {})
    assert lifecycle.next_action() == Load(candidate(2))
    assert lifecycle.problem("momentum") == ""
    lifecycle.refused(candidate(2), "wrong answers")
    assert lifecycle.problem("momentum") == (
        "version 2: refused: wrong answers; version 1: served, but its file is gone"
    )


def test_equal_bytes_under_another_version_are_a_version():
    """A10: a renamed folder is loaded under its new number before the old number goes."""
    lifecycle = serving(candidate(1))
    renamed = Candidate(ServableId("momentum", 3), candidate(1).digest, "1")
    lifecycle.found([renamed], {})
    assert carry_out(lifecycle) == [Load(renamed), retire(1)]


def test_the_policy_changes_while_running():
    """A11: latest to all loads the others; all to specific retires what is not named."""
    lifecycle = serving(*(candidate(version) for version in (1, 2, 3)))
    lifecycle.set_policy("momentum", All())
    assert carry_out(lifecycle) == [Load(candidate(2)), Load(candidate(1))]
    lifecycle.set_policy("momentum", Specific(frozenset({1, 9})))
    assert carry_out(lifecycle) == [retire(2), retire(3)]
    assert "version 9: wanted by the policy, but not in the repository" in lifecycle.problem("momentum")


def test_a_touched_file_is_not_loaded_again():
    """A13: another stamp with the same digest asks for nothing."""
    lifecycle = serving(candidate(1))
    lifecycle.found([candidate(1, stamp="2")], {})
    assert carry_out(lifecycle) == []


def test_other_bytes_under_the_same_version_replace_it():
    """The flat layout's swap: the new bytes are loaded and nothing is retired, for the id is the same."""
    lifecycle = serving(candidate(1))
    other = candidate(1, "other", "2")
    lifecycle.found([other], {})
    assert carry_out(lifecycle) == [Load(other)]


def test_bad_bytes_under_the_served_version_leave_it_serving_whatever_else_lies_there():
    """A5: a served version whose file went bad stays aspired; an older version does not take its place."""
    lifecycle = serving(candidate(1), candidate(2))
    bad = candidate(2, "bad", "2")
    lifecycle.found([candidate(1), bad], {})
    assert carry_out(lifecycle, bad=[bad]) == [Load(bad)]
    assert lifecycle.problem("momentum") == "version 2: the new file is refused: wrong answers"
    assert ServableId("momentum", 2) not in lifecycle.statuses()


def test_models_do_not_wait_for_each_other():
    """A2: while one model's candidate is under way, another model's action is given out."""
    lifecycle = Lifecycle()
    lifecycle.found([candidate(1, name="a"), candidate(1, name="b")], {})
    assert lifecycle.next_action() == Load(candidate(1, name="a"))
    assert lifecycle.next_action() == Load(candidate(1, name="b"))


def test_a_postponed_load_is_given_out_again():
    """A15: a file that changed before it was read is no failure; the next look decides."""
    lifecycle = Lifecycle()
    lifecycle.found([candidate(1)], {})
    lifecycle.next_action()
    lifecycle.postponed(candidate(1))
    newer = candidate(1, "newer", "2")
    lifecycle.found([newer], {})
    assert carry_out(lifecycle) == [Load(newer)]


def test_a_refusal_does_not_stick_to_the_file_that_came_meanwhile():
    """A15: two loads overlap; that the earlier file was refused says nothing of the later one."""
    lifecycle = Lifecycle()
    bad, newer = candidate(1, "bad"), candidate(1, "newer", "2")
    lifecycle.found([bad], {})
    lifecycle.next_action()
    lifecycle.found([newer], {})
    lifecycle.refused(bad, "wrong answers")
    assert carry_out(lifecycle) == [Load(newer)]


def test_a_model_that_is_gone_and_never_served_is_forgotten():
    """A model known by its problem only is unknown once the file is removed."""
    lifecycle = Lifecycle()
    lifecycle.found([], {"momentum": ("the file is empty",)})
    assert lifecycle.problem("momentum") == "the file is empty"
    lifecycle.found([], {})
    assert lifecycle.names() == frozenset()
    assert lifecycle.problem("momentum") == ""
