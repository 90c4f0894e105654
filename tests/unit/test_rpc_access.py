"""Access by bearer token: which call a token opens, and what the others are told."""

from pathlib import Path

import pytest

from inference_server.adapters.token_file import TokenOptions
from inference_server.core.errors import UnauthenticatedError
from inference_server.rpc.access import Access
from inference_server.rpc.method import CallContext, Group

PREDICT, CONTROL, OTHER = "p" * 32, "c" * 32, "o" * 32


@pytest.fixture
def access(tmp_path: Path) -> Access:
    """Tokens for both groups."""
    for name, token in (("predict", PREDICT), ("control", CONTROL)):
        (tmp_path / name).write_text(token)
    return Access.by_tokens(TokenOptions(tmp_path / "predict", tmp_path / "control"))


def call(*values: str | bytes) -> CallContext:
    """A call with these values of `authorization`, beside other metadata."""
    return CallContext(None, "ab-1", [("other", CONTROL), *(("authorization", value) for value in values)])


@pytest.mark.parametrize(
    ("group", "token", "opens"),
    [
        (Group.OPEN, OTHER, True),
        (Group.PREDICT, PREDICT, True),
        (Group.PREDICT, CONTROL, True),
        (Group.PREDICT, OTHER, False),
        (Group.CONTROL, CONTROL, True),
        (Group.CONTROL, PREDICT, False),
        (Group.CONTROL, OTHER, False),
    ],
)
def test_a_token_opens_its_group(access: Access, group: Group, token: str, opens: bool) -> None:
    """A control token opens predictions as well, not the other way round."""
    if opens:
        access.check(group, call(f"Bearer {token}"))
        return
    with pytest.raises(UnauthenticatedError) as caught:
        access.check(group, call(f"Bearer {token}"))
    assert str(caught.value) == f"the token that came does not open the {group.value} calls"


@pytest.mark.parametrize("group", list(Group))
def test_without_a_token_only_what_is_open_goes_on(access: Access, group: Group) -> None:
    """The text says how a token is to come (F10)."""
    if group is Group.OPEN:
        access.check(group, call())
        return
    with pytest.raises(UnauthenticatedError) as caught:
        access.check(group, call())
    assert str(caught.value) == (
        f"no token came; the {group.value} calls expect the metadata authorization: Bearer TOKEN"
    )


@pytest.mark.parametrize(
    "values",
    [
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (PREDICT,),
        (f"Basic {PREDICT}",),
        (f"Bearer {PREDICT}x",),
        (f"Bearer {PREDICT[:-1]}",),
        (f"Bearer {PREDICT},{PREDICT}",),
        (f"Bearer {PREDICT}", f"Bearer {PREDICT}"),
        ("Bearer \udcff",),
        (b"Bearer \xff",),
    ],
)
def test_what_is_no_token_opens_nothing(access: Access, values: tuple[str | bytes, ...]) -> None:
    """Other schemes, parts of a token, two tokens, odd bytes: refused, with nothing of them told (F10)."""
    with pytest.raises(UnauthenticatedError, match="the token that came does not open the predict calls"):
        access.check(Group.PREDICT, call(*values))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_read_as_http_does(access: Access, scheme: str) -> None:
    """Its case does not count, nor how many blanks follow."""
    access.check(Group.PREDICT, call(f"{scheme} {PREDICT}"))


def test_what_has_no_tokens_is_open(tmp_path: Path) -> None:
    """Without files everything is open; with control's alone, predictions are."""
    for group in Group:
        Access({}).check(group, call())
    (tmp_path / "control").write_text(CONTROL)
    access = Access.by_tokens(TokenOptions(control=tmp_path / "control"))
    access.check(Group.PREDICT, call())
    with pytest.raises(UnauthenticatedError):
        access.check(Group.CONTROL, call())


def test_tokens_are_exchanged_without_a_gap(access: Access, tmp_path: Path) -> None:
    """Old and new open it while both stand in the file; then the old one does not."""
    (renewal, _) = access.renewals
    before = access.state()
    for text, opening in ((f"{PREDICT}\n{OTHER}", {PREDICT, OTHER}), (OTHER, {OTHER})):
        (tmp_path / "predict").write_text(text)
        renewal.refresh()
        for token in (PREDICT, OTHER):
            if token in opening:
                access.check(Group.PREDICT, call(f"Bearer {token}"))
            else:
                with pytest.raises(UnauthenticatedError):
                    access.check(Group.PREDICT, call(f"Bearer {token}"))
    assert access.state() != before
