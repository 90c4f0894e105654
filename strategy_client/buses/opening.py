"""Which module talks to which bus. Each imports its library, so only the one asked for is imported."""

from strategy_client.buses.place import Place
from strategy_client.buses.port import Inbox, Outbox


def open_inbox(place: Place, *, newest: bool) -> Inbox:
    """Return a broker's messages, from the newest on or from the earliest that is kept.

    Raises ConfigurationError where the library is missing. Nothing is connected yet.
    """
    raise place.error(f"{newest} not yet")


def open_outbox(place: Place, broker: str) -> Outbox:
    """Return a broker's place for the signals of `broker`; raises as `open_inbox`."""
    raise place.error(f"{broker} not yet")
