"""What a caller may call a version, and what it is told when it may not."""

import pytest

from inference_server.core.errors import InvalidRequestError
from inference_server.rpc.version import parse_label, parse_version


@pytest.mark.parametrize(
    ("text", "which"),
    [
        ("", 0),
        ("1", 1),
        ("9223372036854775807", 2**63 - 1),
        ("canary", "canary"),
        ("a", "a"),
        ("v1", "v1"),
        ("blue-2_b", "blue-2_b"),
        ("x" * 32, "x" * 32),
    ],
)
def test_a_version_is_a_number_a_label_or_nothing(text: str, which: int | str) -> None:
    """An integer above 0 is a version, a word in the form of a label is one, and nothing is the default."""
    assert parse_version(text) == which


@pytest.mark.parametrize(
    "text",
    [
        *("01", "0", "-1", "+1", "v 1", " 1", "1\n", "canary\n", "1.0", "1e3", "²", "9223372036854775808"),
        *("Canary", "ünder", "_a", "-a", "1canary", "x" * 33, "a\0", "a/b", "../a"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(text: str) -> None:
    """D13: what is neither is told both forms and what came, with control characters escaped."""
    with pytest.raises(InvalidRequestError) as caught:
        parse_version(text)
    told = str(caught.value)
    assert told.startswith("model version: expected an integer above 0, a label (up to 32 of a-z")
    assert told.endswith(f"or nothing, came {text!r}")


@pytest.mark.parametrize("text", ["", "1", "01", "Canary", "a b", "x" * 33])
def test_a_label_has_one_form(text: str) -> None:
    """Where only a label is asked for, a number is none either."""
    with pytest.raises(InvalidRequestError, match="expected up to 32 of a-z"):
        parse_label(text)
    assert parse_label("stable") == "stable"
