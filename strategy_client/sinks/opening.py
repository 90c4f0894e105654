"""From what the user writes to the brokers' sinks."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from strategy_client.buses.line_file import LineOutbox
from strategy_client.buses.opening import open_outbox
from strategy_client.buses.place import BROKER, FILE, STANDARD, Place, read_place
from strategy_client.buses.port import Outbox
from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.sinks.fan_out import PAPER, FanOut
from strategy_client.sinks.queued_sink import QueuedSink, SinkOptions

WHERE: Final = "--sink"
# What makes one place of a bus another than that of the next broker.
NAMING: Final = ("topic", "stream", "subject", "queue")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_NAMED: Final = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.+)", re.DOTALL)


def open_fan_out(urls: Mapping[str, str] | Sequence[str], where: str = WHERE) -> FanOut:
    """Return the sinks of all brokers; `docs/live-feeds.md` has the forms of a URL.

    A mapping has a URL for each broker. In a sequence `BROKER=URL` is for one broker and a URL alone for
    every other that a strategy has; `{broker}` in a topic, stream, subject, queue or path is the broker's
    name, and is there by default. `where` is what an error calls a URL.

    Raises ConfigurationError for a URL that is wrong, a library that is missing or a file that cannot be
    written. A bus that is not there is waited for.
    """
    places, others = _places(urls, where)
    sinks: dict[str, QueuedSink] = {}

    def make(broker: str) -> QueuedSink | None:
        return _open_sink(others, broker) if others is not None else None

    try:
        for broker, place in places.items():
            sinks[broker] = _open_sink(place, broker)
        if others is not None and PAPER not in sinks:
            sinks[PAPER] = _open_sink(others, PAPER)
    except BaseException:
        for sink in sinks.values():
            sink.close(0.0)
        raise
    return FanOut(sinks, make)


def writes_to_standard_output(urls: Sequence[str]) -> bool:
    """Whether the signals of some broker go to standard output, which is theirs alone then."""
    places, others = _places(urls, WHERE)
    return any(place.scheme == STANDARD for place in (*places.values(), others) if place is not None)


def brokers_with_a_sink(urls: Sequence[str], brokers: Iterable[str], where: str = WHERE) -> frozenset[str]:
    """Return the brokers that `open_fan_out` would have a sink for: of these, and those named in the URLs.

    Nothing is opened. Raises ConfigurationError for a URL that is wrong.
    """
    places, others = _places(urls, where)
    return frozenset(places).union(brokers if others is not None else ())


def _places(urls: Mapping[str, str] | Sequence[str], where: str) -> tuple[dict[str, Place], Place | None]:
    if isinstance(urls, Mapping):
        return {broker: _read(url, where) for broker, url in urls.items()}, None
    places: dict[str, Place] = {}
    others: Place | None = None
    for url in urls:
        named = _NAMED.fullmatch(url)
        if named is not None:
            if named[1] in places:
                raise ConfigurationError(
                    Problem(where, f"{named[1]}= stands twice; expected one sink a broker")
                )
            places[named[1]] = _read(named[2], where)
        elif others is not None:
            text = f"{others} and {_read(url, where)}: expected one URL without BROKER= before it"
            raise ConfigurationError(Problem(where, text))
        else:
            others = _read(url, where)
            _check_apart(others)
    return places, others


def _read(url: str, where: str) -> Place:
    place = read_place(url, where, "sink")
    _options(place)
    return place


def _check_apart(place: Place) -> None:
    # Where real and paper signals meet in one topic, somebody trades the paper ones.
    for name in NAMING:
        if name in place.options and BROKER not in place.options[name]:
            text = f"{name}: expected {BROKER} in it, or BROKER=URL for one broker alone"
            raise place.error(f"{text}, came {place.options[name]!r}: the signals of all brokers would meet")


def _options(place: Place) -> SinkOptions:
    default = SinkOptions()
    return SinkOptions(
        max_queued=place.whole("max_queued", default.max_queued),
        max_age_s=place.seconds("max_age", default.max_age_s),
    )


def _open_sink(place: Place, broker: str) -> QueuedSink:
    if _NAME.fullmatch(broker) is None:
        # It becomes a part of paths and topics.
        raise place.error(f"broker: expected letters, digits, - and _, came {broker!r}")
    filled = replace(
        place,
        path=place.path.replace(BROKER, broker),
        options={name: value.replace(BROKER, broker) for name, value in place.options.items()},
    )
    outbox: Outbox
    if filled.scheme in {FILE, STANDARD}:
        try:
            outbox = LineOutbox(Path(filled.path) if filled.scheme == FILE else None)
        except OSError as error:
            raise filled.error(f"expected a file that can be written: {error.strerror}") from None
    else:
        outbox = open_outbox(filled, broker)
    return QueuedSink(broker, str(filled), outbox, _options(filled))
