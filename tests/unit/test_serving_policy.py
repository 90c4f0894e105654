"""The version policy: a pure function."""

import pytest

from inference_server.serving.policy import All, Latest, Specific, aspired_versions


def test_latest_takes_the_greatest_versions():
    """Latest n aspires the n greatest numbers, in whatever order they were found."""
    assert aspired_versions(Latest(2), [3, 10, 9]) == {9, 10}
    assert aspired_versions(Latest(), [3, 10, 9]) == {10}


def test_all_takes_every_version():
    """All aspires whatever is found."""
    assert aspired_versions(All(), [1, 5]) == {1, 5}


def test_specific_takes_only_what_is_found():
    """Specific aspires the versions named, without those that are not there."""
    assert aspired_versions(Specific(frozenset({1, 7})), [1, 2]) == {1}


@pytest.mark.parametrize("policy", [Latest(3), All(), Specific(frozenset({4}))])
def test_nothing_found_aspires_nothing(policy):
    """No policy invents a version."""
    assert aspired_versions(policy, []) == frozenset()


@pytest.mark.parametrize(
    "make", [lambda: Latest(0), lambda: Specific(frozenset()), lambda: Specific(frozenset({0}))]
)
def test_a_policy_that_could_never_serve_is_refused(make):
    """Latest 0, and specific without a version or with version 0, are refused when they are made."""
    with pytest.raises(ValueError, match="policy"):
        make()
