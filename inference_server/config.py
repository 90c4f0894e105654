"""The sidecar's TOML file: what flags cannot say well. Every key is optional; an unknown one is refused.

models = "models"                  # the model repository, a folder
listen = ["unix:/run/tickserve.sock", "127.0.0.1:8001"]
http = "127.0.0.1:8002"            # or "off"
control = "files"                  # or "explicit": models come and go by RPC alone
state = "/var/lib/tickserve"       # a folder of this sidecar's own, for what must outlive a restart
max_memory = "4 GiB"               # of all models together; or "512 MiB", or an integer of bytes

[model.momentum]
versions = "latest 2"              # or "latest", "all", or a list such as [3, 5]
required = true                    # not ready without it
allow_contract_change = true       # a new file may replace one of another contract or signature
labels = { stable = 3, canary = 4 }  # names of versions that callers can ask for

Folders that are not absolute are taken from where the sidecar is started.
"""

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from inference_server.core.contract import MAX_INT64, check_model_name
from inference_server.core.errors import ContractError
from inference_server.serving.policy import All, Latest, Specific, VersionPolicy
from inference_server.serving.settings import DEFAULT_SETTINGS, LabelError, ModelSettings, check_label

CONTROLS: Final[tuple[Literal["files", "explicit"], ...]] = ("files", "explicit")
UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
BYTES: Final = re.compile(rf"([0-9]{{1,19}}) ?({'|'.join(UNITS)})")


class ConfigError(Exception):
    """A file that cannot be read as configuration; the text names the file, the key and what was expected."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says; None or empty where it is silent."""

    models: Path | None = None
    listen: tuple[str, ...] = ()
    http: str | None = None
    control: Literal["files", "explicit"] | None = None
    state: Path | None = None
    max_memory_bytes: int | None = None
    settings: Mapping[str, ModelSettings] = field(default_factory=dict)
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


def parse_bytes(value: object) -> int:
    """Return a number of bytes above 0 from an integer or from a text such as "4 GiB"; ConfigError."""
    number = value if type(value) is int else 0
    if isinstance(value, str) and (match := BYTES.fullmatch(value)):
        number = int(match[1]) * UNITS[match[2]]
    if not 0 < number <= MAX_INT64:
        units = ", ".join(filter(None, UNITS))
        raise ConfigError(f'expected bytes above 0, or such as "4 GiB" (of {units}), came {value!r}')
    return number


def _config(document: Mapping[str, Any]) -> Config:
    known = ("models", "listen", "http", "control", "state", "max_memory", "model")
    _refuse_unknown(document, known, "")
    listen = _typed(document, "listen", list, "a list of addresses") or []
    if not all(isinstance(address, str) for address in listen):
        raise ConfigError(f"listen: expected a list of addresses, came {listen!r}")
    sections = _typed(document, "model", dict, "a table of models") or {}
    settings = {name: _settings(name, section) for name, section in sections.items()}
    return Config(
        models=_folder(document, "models"),
        listen=tuple(listen),
        http=_typed(document, "http", str, "HOST:PORT or 'off'"),
        control=_control(document),
        state=_folder(document, "state"),
        max_memory_bytes=_max_memory_bytes(document),
        settings=settings,
        required=tuple(name for name, section in sections.items() if section.get("required")),
    )


def _settings(name: str, section: object) -> ModelSettings:
    place = f"model.{name}"
    try:
        check_model_name(name)
    except ContractError as error:
        raise ConfigError(f"{place}: {error}") from None
    if not isinstance(section, dict):
        raise ConfigError(f"{place}: expected a table, came {section!r}")
    place += "."
    _refuse_unknown(section, ("versions", "required", "allow_contract_change", "labels"), place)
    _typed(section, "required", bool, "true or false", place)
    policy = DEFAULT_SETTINGS.policy
    if "versions" in section:
        policy = _policy(section["versions"], f"{place}versions")
    return ModelSettings(
        policy=policy,
        allow_contract_change=_typed(section, "allow_contract_change", bool, "true or false", place) or False,
        labels=_labels(section, place),
    )


def _labels(section: Mapping[str, Any], place: str) -> Mapping[str, int]:
    labels = _typed(section, "labels", dict, "a table such as { stable = 3 }", place) or {}
    for label, version in labels.items():
        try:
            check_label(label)
        except LabelError as error:
            raise ConfigError(f"{place}labels: {error}") from None
        if type(version) is not int or not 0 < version <= MAX_INT64:
            raise ConfigError(f"{place}labels.{label}: expected a version above 0, came {version!r}")
    return labels


def _control(document: Mapping[str, Any]) -> Literal["files", "explicit"] | None:
    value = document.get("control")
    for control in CONTROLS:
        if value == control:
            return control
    if value is not None:
        raise ConfigError(f"control: expected 'files' or 'explicit', came {value!r}")
    return None


def _max_memory_bytes(document: Mapping[str, Any]) -> int | None:
    try:
        return parse_bytes(document["max_memory"]) if "max_memory" in document else None
    except ConfigError as error:
        raise ConfigError(f"max_memory: {error}") from None


def _folder(document: Mapping[str, Any], key: str) -> Path | None:
    text = _typed(document, key, str, "a folder")
    if text is None:
        return None
    if not text or "\0" in text:
        raise ConfigError(f"{key}: expected a folder, came {text!r}")
    return Path(text)


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
