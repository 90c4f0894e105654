"""Where the values of the configuration come from: flags, over environment variables, over one TOML file.

A variable is TICKSERVE_ and the key in capitals, with __ before each key of a table; a model's name stays as
it is: TICKSERVE_MAX_MEMORY, TICKSERVE_MODEL__momentum__REQUIRED. What begins with { or [ is read as JSON, so
that TICKSERVE_MODEL can hold the whole table. An empty variable says nothing.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PREFIX: Final = "TICKSERVE_"
# Variables that are read elsewhere: the file itself, and the options of the commands that call a sidecar.
OTHER_VARIABLES: Final = (
    "TICKSERVE_CONFIG",
    "TICKSERVE_TARGET",
    "TICKSERVE_CA",
    "TICKSERVE_CERTIFICATE",
    "TICKSERVE_KEY",
    "TICKSERVE_TOKEN_FILE",
)
# Kubernetes gives these to each container beside a Service whose name is, or begins with, tickserve.
SERVICE_LINK: Final = re.compile(
    r"TICKSERVE_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
SERVICE_LINK_URL: Final = re.compile(r"(tcp|udp|sctp)://")

Place = tuple[str, ...]  # the keys that lead to a value, from the outermost table inwards


class ConfigError(Exception):
    """Configuration that cannot be used: which file, variable or flag, the key, and what was expected."""


class VariableText(str):
    """The text of an environment variable: what is no text in TOML, such as a number, is written in it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source, nested as in TOML, and what that source calls the places that it names."""

    values: Mapping[str, Any]
    names: Mapping[Place, str]

    def has(self, place: Place) -> bool:
        """Tell whether this source says something of a place."""
        values: object = self.values
        for key in place:
            if not isinstance(values, Mapping) or key not in values:
                return False
            values = values[key]
        return True

    def name(self, place: Place) -> str:
        """Return what a person knows a place by: its flag or variable, or the file and the key in it."""
        origin, rest = self._named(place)
        return ": ".join(filter(None, (origin, ".".join(rest))))

    def origin(self, place: Place) -> str:
        """Return the flag, the variable or the file that says something of a place."""
        return self._named(place)[0]

    def beside(self, place: Place, key: str) -> str:
        """Return what another key of the same table is called, for a hint."""
        name = self.names.get(place)
        return key if name is None else name[: len(name) - len(place[-1])] + key.upper()

    def _named(self, place: Place) -> tuple[str, Place]:
        for size in range(len(place), -1, -1):
            if place[:size] in self.names:
                return self.names[place[:size]], place[size:]
        # A table of which only keys are said, each by a name of its own.
        return next(name for inner, name in self.names.items() if inner[: len(place)] == place), ()


def file_layer(path: Path) -> Layer:
    """Read a TOML file, or raise ConfigError."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    return Layer(values, {(): str(path)})


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Read the variables that are a key's; whether there is such a key is not asked here."""
    found = {_place(name): (name, _read(text)) for name, text in environ.items() if _is_key(name, text)}
    return named_layer(found)


def named_layer(found: Mapping[Place, tuple[str, Any]]) -> Layer:
    """Return the layer of values that each have a place and a name of their own."""
    values: dict[str, Any] = {}
    for place in sorted(found, key=len):  # what is said of one key wins over a table that holds it
        nested: Any = found[place][1]
        for key in reversed(place):
            nested = {key: nested}
        values = merged(values, nested)
    return Layer(values, {place: name for place, (name, _) in found.items()})


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, the upper one winning; tables that both have are merged."""
    result = dict(lower)
    for key, value in upper.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]  # `both` looked at it
    return result


def source(layers: Sequence[Layer], place: Place) -> Layer | None:
    """Return the layer that a place's value comes from, the first that has one; None: the default."""
    return next((layer for layer in layers if layer.has(place)), None)


def _is_key(name: str, text: str) -> bool:
    if not name.startswith(PREFIX) or name in OTHER_VARIABLES or not text:
        return False
    # A variable that ends in _PORT may be a mistake of the operator's: Kubernetes' own holds an address.
    may_be_own = name.endswith("_PORT") and not re.search("_SERVICE_PORT$|_PORT_[0-9]+_", name)
    is_link = SERVICE_LINK.fullmatch(name) and (not may_be_own or SERVICE_LINK_URL.match(text))
    return not is_link


def _place(name: str) -> Place:
    keys = name.removeprefix(PREFIX).split("__")
    is_model = keys[0].lower() == "model"
    return tuple(key if is_model and index == 1 else key.lower() for index, key in enumerate(keys))


def _read(text: str) -> Any:
    if text.startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError:  # such as [::1]:8002; a list that is none is refused where a list is expected
            pass
    return VariableText(text)
