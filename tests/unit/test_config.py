"""The sidecar's TOML file: what it says, and what a wrong one is told."""

from pathlib import Path

import pytest

from inference_server.config import Config, ConfigError, parse_bytes, read_config
from inference_server.serving.policy import All, Latest, Specific
from inference_server.serving.settings import DEFAULT_SETTINGS, LabelError, ModelSettings, check_label


def write(tmp_path: Path, text: str) -> Path:
    """Write a configuration file."""
    path = tmp_path / "tickserve.toml"
    path.write_text(text)
    return path


def test_no_file_says_nothing() -> None:
    """Without a file everything is left to flags and defaults."""
    assert read_config(None) == Config()


def test_every_key_is_read(tmp_path: Path) -> None:
    """Each documented key ends up in the Config."""
    path = write(
        tmp_path,
        """
        models = "m"
        listen = ["unix:/tmp/a.sock"]
        http = "off"
        control = "explicit"
        state = "s"
        max_memory = "4 GiB"
        [model.a]
        versions = "latest 2"
        required = true
        [model.b]
        versions = "all"
        [model.c]
        versions = [3, 5]
        [model.d]
        versions = "latest"
        [model.e]
        allow_contract_change = true
        labels = { stable = 3, canary-2 = 4 }
        [model.f]
        required = false
        """,
    )
    assert read_config(path) == Config(
        models=Path("m"),
        listen=("unix:/tmp/a.sock",),
        http="off",
        control="explicit",
        state=Path("s"),
        max_memory_bytes=4 * 2**30,
        settings={
            "a": ModelSettings(Latest(2)),
            "b": ModelSettings(All()),
            "c": ModelSettings(Specific(frozenset({3, 5}))),
            "d": ModelSettings(Latest(1)),
            "e": ModelSettings(allow_contract_change=True, labels={"stable": 3, "canary-2": 4}),
            "f": DEFAULT_SETTINGS,
        },
        required=("a",),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modles = 'm'", "modles: unknown key; did you mean 'models'"),
        ("zzz = 1", "zzz: unknown key; known are models, listen, http, control, state, max_memory, model"),
        ("models = 3", "models: expected a folder, came 3"),
        ("models = ''", "models: expected a folder, came ''"),
        ('state = "a\\u0000b"', r"state: expected a folder, came 'a\x00b'"),
        ("state = true", "state: expected a folder, came True"),
        ("control = 'watch'", "control: expected 'files' or 'explicit', came 'watch'"),
        ("control = true", "control: expected 'files' or 'explicit', came True"),
        ("max_memory = '4 GB'", """max_memory: expected bytes above 0, or such as "4 GiB" (of KiB, MiB"""),
        ("max_memory = 0", "max_memory: expected bytes above 0"),
        ("max_memory = 1.5", "max_memory: expected bytes above 0"),
        ("listen = 'unix:/a'", "listen: expected a list of addresses"),
        ("listen = [1]", "listen: expected a list of addresses"),
        ("[model.a]\nversion = 'all'", r"model.a.version: unknown key; did you mean 'versions'"),
        ("[model.a]\nversions = 'newest'", 'model.a.versions: expected "latest"'),
        ("[model.a]\nversions = []", "model.a.versions: expected"),
        ("[model.a]\nversions = [0]", "model.a.versions: expected"),
        ("[model.a]\nrequired = 1", "model.a.required: expected true or false"),
        ("[model.a]\nallow_contract_change = 'yes'", "model.a.allow_contract_change: expected true or false"),
        ("[model.a]\nlabels = ['stable']", "model.a.labels: expected a table such as { stable = 3 }"),
        ("[model.a]\nlabels = { Stable = 3 }", "model.a.labels: label 'Stable': expected up to 32 of a-z"),
        ("[model.a]\nlabels = { 3 = 3 }", "model.a.labels: label '3': expected up to 32 of a-z"),
        ("[model.a]\nlabels = { '' = 3 }", "model.a.labels: label '': expected up to 32 of a-z"),
        ("[model.a]\nlabels = { a = 0 }", "model.a.labels.a: expected a version above 0, came 0"),
        ("[model.a]\nlabels = { a = true }", "model.a.labels.a: expected a version above 0, came True"),
        (
            "[model.a]\nlabels = { a = 9223372036854775808 }",
            "model.a.labels.a: expected a version above 0, came 9223372036854775808",
        ),
        ("[model.'../x']\nrequired = true", "model name '../x'"),
        ("model.a = 3", "model.a: expected a table"),
        ("models = ", "not a TOML file"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(tmp_path: Path, text: str, told: str) -> None:
    """The error names file, key, what was expected and the nearest valid name."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file is one clear line."""
    with pytest.raises(ConfigError, match=r"no\.toml: No such file"):
        read_config(tmp_path / "no.toml")


@pytest.mark.parametrize(
    ("value", "n_bytes"),
    [
        (1, 1),
        (2**63 - 1, 2**63 - 1),
        ("1048576", 2**20),
        ("1 KiB", 2**10),
        ("512 MiB", 512 * 2**20),
        ("4GiB", 4 * 2**30),
        ("2 TiB", 2 * 2**40),
    ],
)
def test_bytes_are_an_integer_or_have_a_unit(value: object, n_bytes: int) -> None:
    """A bound on memory is written as an integer, or with a binary unit after it."""
    assert parse_bytes(value) == n_bytes


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, 2**63, 1.0, True, None),
        *("", "0", "GiB", "-1 GiB", "1.5 GiB", "4 GB", "4 gib", "4  GiB", " 4", "4\n", "\uff19"),
        *("9223372036854775808", "8388608 TiB", "9" * 20),
    ],
)
def test_what_is_no_number_of_bytes_is_refused(value: object) -> None:
    """Another unit, a fraction, nothing, or more than 64 bits hold: refused, with what was expected."""
    with pytest.raises(ConfigError, match='expected bytes above 0, or such as "4 GiB"'):
        parse_bytes(value)


@pytest.mark.parametrize("label", ["a", "stable", "canary-2", "a_b", "a" * 32])
def test_labels_are_short_plain_words(label: str) -> None:
    """A label is a lower-case word that travels in any protocol."""
    check_label(label)


@pytest.mark.parametrize("label", ["", "A", "3", "-a", "a b", "a.b", "a\n", "ä", "a" * 33, "x" * 100_000])
def test_what_is_no_label_is_refused(label: str) -> None:
    """D13: what could be taken for a version, or does not travel, is refused in a text that stays short."""
    with pytest.raises(LabelError, match=r"label '.*expected up to 32 of a-z 0-9 _ -") as caught:
        check_label(label)
    assert len(str(caught.value)) < 200
