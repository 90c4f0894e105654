"""The sidecar's TOML file: what flags cannot say well. Every key is optional; an unknown one is refused.

models = "models"
listen = ["unix:/run/tickserve.sock", "127.0.0.1:8001"]
http = "127.0.0.1:8002"            # or "off"

[model.momentum]
versions = "latest 2"              # or "all", or a list such as [3, 5]
required = true                    # not ready without it
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference_server.core.contract import check_model_name
from inference_server.core.errors import ContractError
from inference_server.serving.policy import All, Latest, Specific, VersionPolicy


class ConfigError(Exception):
    """A file that cannot be read as configuration; the text names the file, the key and what was expected."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says; None or empty where it is silent."""

    models: Path | None = None
    listen: tuple[str, ...] = ()
    http: str | None = None
    policies: Mapping[str, VersionPolicy] = field(default_factory=dict)
    required: tuple[str, ...] = ()


def read_config(path: Path | None) -> Config:
    """Read the file, or raise ConfigError; None gives a Config that says nothing."""
    if path is None:
        return Config()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    try:
        return _config(document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _config(document: Mapping[str, Any]) -> Config:
    _refuse_unknown(document, ("models", "listen", "http", "model"), "")
    sections = _typed(document, "model", dict, "a table of models") or {}
    policies: dict[str, VersionPolicy] = {}
    required: list[str] = []
    for name, section in sections.items():
        place = f"model.{name}"
        try:
            check_model_name(name)
        except ContractError as error:
            raise ConfigError(f"{place}: {error}") from None
        if not isinstance(section, dict):
            raise ConfigError(f"{place}: expected a table, came {section!r}")
        _refuse_unknown(section, ("versions", "required"), f"{place}.")
        if "versions" in section:
            policies[name] = _policy(section["versions"], f"{place}.versions")
        if _typed(section, "required", bool, "true or false", f"{place}."):
            required.append(name)
    models = _typed(document, "models", str, "a folder")
    listen = _typed(document, "listen", list, "a list of addresses") or []
    if not all(isinstance(address, str) for address in listen):
        raise ConfigError(f"listen: expected a list of addresses, came {listen!r}")
    return Config(
        models=None if models is None else Path(models),
        listen=tuple(listen),
        http=_typed(document, "http", str, "HOST:PORT or 'off'"),
        policies=policies,
        required=tuple(required),
    )


def _policy(value: object, place: str) -> VersionPolicy:
    if value == "all":
        return All()
    if isinstance(value, str) and (match := re.fullmatch(r"latest(?: ([1-9]\d{0,8}))?", value)):
        return Latest(int(match[1] or 1))
    if isinstance(value, list) and value and all(type(item) is int and item > 0 for item in value):
        return Specific(frozenset(value))
    raise ConfigError(f'{place}: expected "latest", "latest N", "all" or a list of versions, came {value!r}')


def _typed(document: Mapping[str, Any], key: str, kind: type, expected: str, place: str = "") -> Any:
    value = document.get(key)
    if value is not None and type(value) is not kind:
        raise ConfigError(f"{place}{key}: expected {expected}, came {value!r}")
    return value


def _refuse_unknown(document: Mapping[str, Any], known: Collection[str], place: str) -> None:
    for key in document:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise ConfigError(f"{place}{key}: unknown key{hint}")
