"""A start that is read without the libraries of the command line: it must come to what they come to."""

import contextlib
import dataclasses
import itertools
import os

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from inference_server import command_line
from inference_server.app import ServeOptions
from inference_server.commands import serve_configured
from inference_server.commands.serve import plain_options
from inference_server.plain_arguments import read_plain

VALUES = {
    "models": ["m", "/srv/models", "a b", "m/", ".", "~/m", " ", "m\udcff", "m=n"],
    "listen": [
        *("127.0.0.1:0", "unix:/run/x.sock", "[::1]:7", "localhost", "unix:", "0.0.0.0:1"),
        *("unix:x.sock", "unix:/\udcff", ":1", "127.0.0.1:65536", "127.0.0.1:+1", " 127.0.0.1:0", "UNIX:/x"),
    ],
    "http": ["off", "OFF", "127.0.0.1:0", "unix:/x", "nowhere", "[::1]:8", "0.0.0.0:0", "a\udcff:1"],
    "transport": ["auto", "grpcio", "h2", "quic", "H2", "h2 "],
    "control": ["files", "explicit", "other", "Files"],
    "state": ["s", "/var/lib/x", "s/", "s\udcff"],
    "log-level": ["info", "DEBUG", "loud", " info", "\u0131nfo", "WARN", "20"],
    "allow-contract-change": ["one", "two", "no name", "Ünï", "a" * 300, "one\udcff", ".one"],
}
ODD = [
    "--config",
    "x",
    "--allow-remote-plaintext",
    "--help",
    "--show-config",
    "-v",
    "",
    "--models",
    "=",
    "--",
]


def configured(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[ServeOptions, str] | None:
    """What the command line and the configuration make of it; None where they refuse it."""
    came: list[tuple[ServeOptions, str]] = []

    async def take(options: ServeOptions, level: str, _read_again: object, _head_start: object) -> None:
        came.append((options, level))

    monkeypatch.setattr(serve_configured, "serve", take)
    monkeypatch.setattr(command_line.HeadStart, "take", lambda: contextlib.nullcontext(None))
    with contextlib.suppress(SystemExit, typer.Exit):
        command_line.app(arguments, standalone_mode=True)
    return came[0] if came else None


def flags() -> st.SearchStrategy[list[str]]:
    """Flags with values, in both ways to write them, good and bad."""

    def written(pair: tuple[str, str], *, joined: bool) -> list[str]:
        flag, value = pair
        return [f"--{flag}={value}"] if joined else [f"--{flag}", value]

    pairs = st.sampled_from([(flag, value) for flag, values in VALUES.items() for value in values])
    said = st.builds(lambda pair, joined: written(pair, joined=joined), pairs, st.booleans())
    odd = st.sampled_from(ODD).map(lambda word: [word])
    plain = st.just(["--allow-remote-plaintext"])
    return st.lists(said | said | said | plain | odd, max_size=5).map(
        lambda them: list(itertools.chain(*them))
    )


def check_same(rest: list[str]) -> None:
    """The plain way gives up, or comes to the same options and level."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("TICKSERVE_CONFIG", "TICKSERVE_TARGET"):
            monkeypatch.delenv(name, raising=False)
        said = read_plain(["serve", *rest], {})
        plain = None if said is None else plain_options(said, os.environ)
        if plain is not None:
            assert plain == configured(["serve", *rest], monkeypatch)


@given(rest=flags())
def test_what_is_read_plainly_is_what_the_configuration_makes_of_it(rest: list[str]) -> None:
    """Whatever flags come: the plain way gives up, or gives the same options; what is refused it gives up."""
    check_same(rest)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(("flag", "value"), [(flag, value) for flag in VALUES for value in VALUES[flag]])
def test_each_value_is_what_the_configuration_makes_of_it(flag: str, value: str, joined: bool) -> None:
    """Odd ones too: another case, bytes that are no text, what a letter becomes in upper case."""
    check_same([f"--{flag}={value}"] if joined else [f"--{flag}", value])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
        ("STATE_DIRECTORY", "relative"),
        ("XDG_STATE_HOME", "/x"),
        ("XDG_STATE_HOME", "relative"),
        ("XDG_RUNTIME_DIR", "/run/user/1"),
        ("XDG_RUNTIME_DIR", ""),
        ("HOME", ""),
        ("NOTIFY_SOCKET", "@n"),
    ],
)
def test_the_environment_means_the_same_to_both(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of it gives a default its value, by which no key is set."""
    monkeypatch.setenv(name, value)
    said = read_plain(["serve"], os.environ)
    assert said is not None
    assert plain_options(said, os.environ) == configured(["serve"], monkeypatch)


@pytest.mark.parametrize(
    "rest",
    [
        [],
        ["--models", "m", "--listen", "127.0.0.1:0", "--listen=unix:/x.sock", "--http", "off"],
        ["--control", "explicit", "--state", "s", "--log-level", "debug", "--allow-remote-plaintext"],
        ["--allow-contract-change", "one", "--allow-contract-change=two", "--http=127.0.0.1:0"],
    ],
)
def test_a_usual_start_is_read_plainly(rest: list[str]) -> None:
    """Flags with one good value each take the short way."""
    said = read_plain(["serve", *rest], {})
    assert said is not None
    assert plain_options(said, {"HOME": "/home/x"}) is not None


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        ([], {}),
        (["status"], {}),
        (["serve", "--help"], {}),
        (["serve", "--models"], {}),
        (["serve", "--models="], {}),
        (["serve", "--models", "-x"], {}),
        (["serve", "--models", "a", "--models", "b"], {}),
        (["serve", "--allow-remote-plaintext=yes"], {}),
        (["serve", "--max-memory", "4 GiB"], {}),
        (["serve", "models"], {}),
        (["serve"], {"TICKSERVE_CONFIG": "x"}),
        (["serve"], {"TICKSERVE_MODEL__one__REQUIRED": "true"}),
        (["serve"], {"_INFERENCE_SERVER_COMPLETE": "bash_complete"}),
    ],
)
def test_all_else_is_left_to_the_command_line(arguments: list[str], environ: dict[str, str]) -> None:
    """A file, a variable, help, an odd flag or one twice: the libraries read it, and tell what is wrong."""
    assert read_plain(arguments, environ) is None


def test_the_options_compare() -> None:
    """The property above would hold of anything if options were equal whatever they hold."""
    said = read_plain(["serve"], {}) or {}
    one = plain_options(said, {})
    assert one is not None
    assert dataclasses.replace(one[0], http=None) != one[0]
