"""From what the user writes to a feed."""

from collections.abc import Collection
from pathlib import Path

from strategy_client.buses.line_file import LineInbox
from strategy_client.buses.opening import open_inbox
from strategy_client.buses.place import FILE, STANDARD, Place, read_place
from strategy_client.buses.port import Inbox
from strategy_client.configuration import TicksConfig
from strategy_client.sources.bad_line import BadLines
from strategy_client.sources.message_source import MessageSource
from strategy_client.sources.recorded_source import RecordedSource
from strategy_client.sources.source import TickSource
from strategy_client.sources.tick_file import open_ticks

START = ("newest", "earliest")
WHERE = "--source"
# A message grows old on its bus, so it is fetched at once. A line is as old as when it is read: of many that
# wait here the last ones would be stale before the loop comes to them.
MAX_MESSAGES = 10_000
MAX_LINES = 64


def open_source(
    url: str, columns: TicksConfig, tokens: Collection[int] | None, bad: BadLines, where: str = WHERE
) -> TickSource:
    """Return the feed that a URL, a path or `-` names; `docs/live-feeds.md` has their forms.

    Ticks of other instruments than `tokens` are passed over; it is looked at for each tick, so that a
    set that changes is followed. None lets all pass. `where` is what an error calls the URL.

    Raises ConfigurationError for a URL that is wrong or a library that is missing, BadFileError for a file
    that cannot be read. A broker that is not there is waited for.
    """
    place = read_place(url, where, "source")
    max_queued = place.whole("max_queued", MAX_LINES if place.scheme in {FILE, STANDARD} else MAX_MESSAGES)
    if place.scheme == FILE and place.one_of("follow", ("no", "yes")) == "no":
        if "from" in place.options:
            raise place.error("from: expected with follow=yes only; without it a file is read from its start")
        return RecordedSource(open_ticks(Path(place.path), columns, None, bad), tokens)
    inbox: Inbox
    if place.scheme in {FILE, STANDARD}:
        inbox = _open_lines(place)
    else:
        inbox = open_inbox(place, newest=place.one_of("from", START) == "newest")
    return MessageSource(str(place), inbox, columns, tokens, bad, max_queued=max_queued)


def _open_lines(place: Place) -> LineInbox:
    if place.scheme == STANDARD:
        return LineInbox(None)
    path = Path(place.path)
    if path.is_dir():
        raise place.error("expected a file, came a folder")
    # All of the file by default: whoever follows a file in a test or a demonstration writes it first.
    return LineInbox(path, follow=True, newest=place.one_of("from", START[::-1]) == "newest")
