"""The class that the other runner's signals are made of."""

import dataclasses
from collections.abc import Callable
from typing import Any, Final

from strategy_client.configuration import ConfigurationError, Problem, import_named
from strategy_client.events import Signal

FIELDS: Final = ("signal_type", "confidence", "quantity", "price", "reasoning", "metadata")

# A class, or any function, that takes `FIELDS` by name.
SignalClass = Callable[..., Any]


def read_signal_class(given: str | SignalClass) -> SignalClass:
    """Return the class itself, or the one that a dotted path names.

    Raises ConfigurationError, its place `signal_result`, for what cannot be imported, cannot be called, or is
    a dataclass of other fields.
    """
    found = given
    if isinstance(found, str):
        module, _, name = found.rpartition(".")
        if not module:
            text = f"expected a dotted path, strategies.core.protocols.SignalResult, came {found!r}"
            raise ConfigurationError(Problem("signal_result", text))
        try:
            found = import_named(module, name)
        except ImportError as error:
            text = f"{given!r} cannot be imported: {error}"
            raise ConfigurationError(Problem("signal_result", text)) from error
    if isinstance(found, str) or not callable(found):
        raise ConfigurationError(Problem("signal_result", f"expected a class, came {found!r}"))
    if dataclasses.is_dataclass(found):
        missing = set(FIELDS) - {field.name for field in dataclasses.fields(found)}
        if missing:
            text = f"{found!r} has no field {', '.join(sorted(missing))}; expected {', '.join(FIELDS)}"
            raise ConfigurationError(Problem("signal_result", text))
    return found


def as_result(signal: Signal, signal_class: SignalClass) -> Any:
    """Return a signal as an object of that class.

    The other runner drops `reasoning` on its way out, so all that it says stands in `metadata` too.
    """
    return signal_class(
        signal_type=signal.signal_type,
        confidence=signal.confidence,
        quantity=signal.quantity,
        price=signal.price,
        reasoning=_reasoning(signal),
        metadata=dict(signal.metadata),
    )


def _reasoning(signal: Signal) -> str | None:
    model = signal.metadata.get("model")
    if model is None:
        return None
    version, digest = signal.metadata.get("version"), str(signal.metadata.get("digest", ""))
    return f"{model} version {version} ({digest[:12]}): {signal.signal_type} {signal.confidence:.4f}"
