"""Which module talks to which bus. Each imports its library, so only the one asked for is imported."""

import importlib
from collections.abc import Mapping
from typing import Any, Final

from strategy_client.buses.place import Place
from strategy_client.buses.port import Inbox, Outbox

# By scheme: the module, its two ends, and the extra of this package that its library comes with.
MODULES: Final[Mapping[str, tuple[str, str, str, str]]] = {
    "kafka": ("kafka", "KafkaInbox", "KafkaOutbox", "kafka"),
    "redis": ("redis_stream", "RedisInbox", "RedisOutbox", "redis"),
    "nats": ("jetstream", "JetStreamInbox", "JetStreamOutbox", "nats"),
    "amqp": ("rabbitmq", "RabbitInbox", "RabbitOutbox", "rabbitmq"),
}


def open_inbox(place: Place, *, newest: bool) -> Inbox:
    """Return a broker's messages, from the newest on or from the earliest that is kept.

    Raises ConfigurationError where the library is missing. Nothing is connected yet.
    """
    _, inbox, _, _ = MODULES[place.scheme]
    end: Inbox = getattr(_module(place), inbox)(place, newest=newest)
    return end


def open_outbox(place: Place, broker: str) -> Outbox:
    """Return a broker's place for the signals of `broker`; raises as `open_inbox`."""
    _, _, outbox, _ = MODULES[place.scheme]
    end: Outbox = getattr(_module(place), outbox)(place, broker)
    return end


def _module(place: Place) -> Any:
    name, _, _, extra = MODULES[place.scheme]
    try:
        return importlib.import_module(f"strategy_client.buses.{name}")
    except ModuleNotFoundError as error:
        text = f"{place.scheme}:// needs {error.name}: pip install 'tickserve[{extra}]'"
        raise place.error(text) from None
