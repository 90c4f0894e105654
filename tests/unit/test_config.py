"""The sidecar's TOML file: what it says, and what a wrong one is told."""

from pathlib import Path

import pytest

from inference_server.config import Config, ConfigError, read_config
from inference_server.serving.policy import All, Latest, Specific


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
        [model.a]
        versions = "latest 2"
        required = true
        [model.b]
        versions = "all"
        [model.c]
        versions = [3, 5]
        [model.d]
        versions = "latest"
        """,
    )
    assert read_config(path) == Config(
        models=Path("m"),
        listen=("unix:/tmp/a.sock",),
        http="off",
        policies={"a": Latest(2), "b": All(), "c": Specific(frozenset({3, 5})), "d": Latest(1)},
        required=("a",),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modles = 'm'", "modles: unknown key; did you mean 'models'"),
        ("zzz = 1", "zzz: unknown key; known are models, listen, http, model"),
        ("models = 3", "models: expected a folder, came 3"),
        ("listen = 'unix:/a'", "listen: expected a list of addresses"),
        ("listen = [1]", "listen: expected a list of addresses"),
        ("[model.a]\nversion = 'all'", r"model.a.version: unknown key; did you mean 'versions'"),
        ("[model.a]\nversions = 'newest'", 'model.a.versions: expected "latest"'),
        ("[model.a]\nversions = []", "model.a.versions: expected"),
        ("[model.a]\nversions = [0]", "model.a.versions: expected"),
        ("[model.a]\nrequired = 1", "model.a.required: expected true or false"),
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
