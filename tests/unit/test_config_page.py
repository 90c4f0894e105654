"""docs/configuration.md, held against the configuration itself."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from inference_server.config import Config, read_config
from inference_server.config_layers import OTHER_VARIABLES, file_layer
from inference_server.config_sections import Section

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
# These follow from the machine: the page says how.
FROM_THE_MACHINE = {"listen", "state", "max_memory", "max_connections"}


def keys(section: type[Section], outer: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key that the configuration has; NAME stands for what a user calls a table."""
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        place = (*outer, name)
        if get_origin(kind) is dict and is_section(get_args(kind)[-1]):
            kind, place = get_args(kind)[-1], (*place, "NAME")
        if is_section(kind):
            yield from keys(kind, place)
        else:
            yield place


def is_section(kind: Any) -> bool:
    """Whether it is a table of the configuration."""
    return isinstance(kind, type) and issubclass(kind, Section)


def rows() -> dict[tuple[str, ...], tuple[str, str]]:
    """Each key of the page with its variable and its default."""
    found = {}
    outer: tuple[str, ...] = ()
    for line in PAGE.splitlines():
        if line.startswith("## "):
            table = re.fullmatch(r"## `\[([\w.]+)\]`", line)
            outer = tuple(table[1].split(".")) if table else ()
        elif row := re.match(r"\| `(\w+)` \| `(\w+)` \| (.+?) \| .+ \|$", line):
            found[*outer, row[1]] = row[2], row[3]
    return found


def test_the_page_has_every_key_and_no_other() -> None:
    """A key that is added or taken away is so on the page too."""
    assert sorted(rows()) == sorted(keys(Config))


def test_the_page_names_the_variables() -> None:
    """Each key's variable is the one that is read."""
    for place, (variable, _) in rows().items():
        assert variable == "TICKSERVE_" + "__".join(key if key == "NAME" else key.upper() for key in place)
    assert all(f"`{variable}`" in PAGE for variable in OTHER_VARIABLES)


def test_the_page_gives_the_defaults() -> None:
    """The default on the page is the one in effect, but for what follows from the machine."""
    defaults = Config.model_validate({"model": {"NAME": {}}}).model_dump(mode="json")
    for place, (_, told) in rows().items():
        value: Any = defaults
        for key in place:
            value = value[key]
        if place[-1] not in FROM_THE_MACHINE:
            assert told == ("none" if value is None else f"`{json.dumps(value)}`"), place


def test_the_file_on_the_page_is_good(tmp_path: Path) -> None:
    """The example is accepted, and says what it seems to say."""
    example = re.search(r"```toml\n(.+?)```", PAGE, re.DOTALL)
    assert example
    path = tmp_path / "tickserve.toml"
    path.write_text(example[1])
    config = read_config([file_layer(path)])
    assert config.required == ("es_momentum",)
    assert set(tomllib.loads(example[1])) == {"models", "listen", "max_memory", "model"}
