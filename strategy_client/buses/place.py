"""A place as the user writes it: a URL, a path, or `-`. A password in it is never shown."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

from strategy_client.configuration import ConfigurationError, Problem, did_you_mean

STANDARD: Final = "-"
FILE: Final = "file"
BROKER: Final = "{broker}"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.]*)://(.*)", re.DOTALL)
_ESCAPED: Final = "expected / ? and @ in a password as %2F %3F and %40"
_PASSWORD: Final = re.compile(r"(//[^@:]*:).*@", re.DOTALL)
# A URL whose :// is mistyped reads as a path.
_LOGIN: Final = re.compile(r":.*@", re.DOTALL)
# A login without its @ reads as a host with a port that is no number.
_NO_PORT: Final = re.compile(r":(?!//|[0-9]+(?:[,/?]|$)).+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Kind:
    """How the URLs of one bus are made. `options` are the names of those of a source or of a sink."""

    form: str
    port: int
    source: tuple[str, ...]
    sink: tuple[str, ...]
    several_hosts: bool = False
    path: str = ""


KINDS: Final[Mapping[str, Kind]] = {
    "kafka": Kind(
        "kafka://HOST:PORT[,HOST:PORT]/?topic=...",
        port=9092,
        source=("topic", "group", "from"),
        sink=("topic",),
        several_hosts=True,
    ),
    "redis": Kind(
        "redis://HOST:PORT/DB?stream=...",
        port=6379,
        source=("stream", "from"),
        sink=("stream", "max_length"),
        path="0",
    ),
    "nats": Kind(
        "nats://HOST:PORT?stream=...&subject=...",
        port=4222,
        source=("stream", "subject", "from"),
        sink=("stream", "subject"),
        several_hosts=True,
    ),
    "amqp": Kind(
        "amqp://USER:PASSWORD@HOST:PORT/VHOST?...",
        port=5672,
        source=("stream", "from"),
        sink=("queue",),
        path="/",
    ),
}
EVERY_SOURCE: Final = ("max_queued",)
EVERY_SINK: Final = ("max_queued", "max_age")
FILE_SOURCE: Final = ("follow", "from")


@dataclass(frozen=True, slots=True)
class Place:
    """`where` is what to call it in an error: `--source`, `--sink`, a key of a file.

    `path` is the file, the database or the virtual host. `hosts` is empty for a file and for `-`.
    """

    where: str
    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.scheme == STANDARD:
            return STANDARD
        if self.scheme == FILE:
            return self.path
        return f"{self.scheme}://{self.addresses}"

    @property
    def addresses(self) -> str:
        """The hosts and ports, as in the URL."""
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)

    def text(self, name: str, default: str) -> str:
        """Return an option; the default where it is absent."""
        return self.options.get(name, default)

    def one_of(self, name: str, allowed: Sequence[str]) -> str:
        """Return an option that has few values; the first of them where it is absent."""
        value = self.options.get(name, allowed[0])
        if value not in allowed:
            raise self.error(f"{name}: expected {' or '.join(allowed)}, came {value!r}")
        return value

    def whole(self, name: str, default: int) -> int:
        """Return an option that is an integer above 0."""
        value = self.options.get(name, str(default))
        if not (value.isascii() and value.isdigit() and 0 < int(value[:10]) == int(value)):
            raise self.error(f"{name}: expected an integer from 1 to 9999999999, came {value!r}")
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        """Return an option that is a number of seconds above 0."""
        value = self.options.get(name, str(default))
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise self.error(f"{name}: expected seconds above 0, came {value!r}")
        return seconds

    def error(self, text: str) -> ConfigurationError:
        """Return the error to raise for something that is wrong with this place."""
        return ConfigurationError(Problem(self.where, f"{self}: {text}"))


def read_place(url: str, where: str, known: str) -> Place:
    """Return what a URL, a path or `-` says; `known` is `source` or `sink`. Raises ConfigurationError."""
    if url == STANDARD:
        return Place(where, STANDARD)
    found = _SCHEME.fullmatch(url)
    if found is None or found[1] == FILE:
        return _read_file(url, where, known)
    scheme, rest = found[1].lower(), found[2]
    kind = KINDS.get(scheme)
    if kind is None:
        near = did_you_mean(scheme, (*KINDS, FILE))
        expected = f"{', '.join(f'{name}://' for name in KINDS)}, a file's path or {STANDARD}"
        raise _wrong(where, f"{_shown(url)}: expected {expected}, came {scheme}://{near}")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    login, _, addresses = authority.rpartition("@")
    if not login and "@" in path:
        raise _wrong(where, f"{_shown(url)}: {_ESCAPED}")
    user, _, password = login.partition(":")
    place = Place(
        where,
        scheme,
        _hosts(url, where, addresses, kind),
        unquote(user) if login else None,
        unquote(password) if ":" in login else None,
        unquote(path) or kind.path,
        {},
    )
    if kind.path == "" and path:
        raise place.error(f"expected {kind.form}, came the path /{path}")
    if scheme == "redis" and not (place.path.isascii() and place.path.isdigit()):
        raise place.error(f"expected {kind.form} with a number as DB, came {place.path!r}")
    options = (*kind.source, *EVERY_SOURCE) if known == "source" else (*kind.sink, *EVERY_SINK)
    return _with_options(place, query, options)


def _read_file(url: str, where: str, known: str) -> Place:
    path, query = url, ""
    if not url.startswith(f"{FILE}:") and _LOGIN.search(url) and not Path(url).exists():
        text = (
            f"{_LOGIN.sub(':***@', url)!r}: expected {', '.join(f'{name}://' for name in KINDS)} or file:PATH"
        )
        raise _wrong(where, text)
    if url.startswith(f"{FILE}:"):
        path, _, query = url.removeprefix(f"{FILE}:").partition("?")
        path = path.removeprefix("//") if path.startswith("///") else path
    if not path or path.startswith("//"):
        raise _wrong(where, f"{url!r}: expected a path, as in file:/var/lib/ticks.jsonl")
    options = (*FILE_SOURCE, *EVERY_SOURCE) if known == "source" else EVERY_SINK
    return _with_options(Place(where, FILE, path=path), query, options)


def _with_options(place: Place, query: str, known: Sequence[str]) -> Place:
    options: dict[str, str] = {}
    if query:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
        except ValueError:
            raise place.error("expected options as name=value&name=value behind the ?") from None
        for name, value in pairs:
            if name not in known:
                near = did_you_mean(name, known)
                raise place.error(f"{name}: no such option{near}; expected one of {', '.join(known)}")
            if name in options:
                raise place.error(f"{name}: stands twice")
            if not value:
                raise place.error(f"{name}: expected a value, came nothing")
            options[name] = value
    return Place(place.where, place.scheme, place.hosts, place.user, place.password, place.path, options)


def _hosts(url: str, where: str, addresses: str, kind: Kind) -> tuple[tuple[str, int], ...]:
    hosts = []
    for address in addresses.split(","):
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+))(?::([0-9]{1,5}))?", address)
        port = int(found[3] or kind.port) if found else 0
        if found is None or not 0 < port <= 65_535:
            if address not in url.rpartition("@")[2]:
                raise _wrong(where, f"{_shown(url)}: {_ESCAPED}")
            came = _NO_PORT.sub(":***", address)
            raise _wrong(where, f"{_shown(url)}: expected {kind.form}, came {came!r} as HOST:PORT")
        hosts.append((found[1] or found[2], port))
    if len(hosts) > 1 and not kind.several_hosts:
        raise _wrong(where, f"{_shown(url)}: expected one HOST:PORT, came {len(hosts)}")
    return tuple(hosts)


def _shown(url: str) -> str:
    return repr(_PASSWORD.sub(r"\1***@", url) if "@" in url else _NO_PORT.sub(":***", url))


def _wrong(where: str, text: str) -> ConfigurationError:
    return ConfigurationError(Problem(where, text))
