"""The parts of a sidecar that HTTP tells of; apart, so that they can be named before HTTP is imported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from inference_server.adapters.certificate import Certificate
from inference_server.adapters.renewal import Renewal
from inference_server.core.clock import Clock
from inference_server.serving.changes import Changes
from inference_server.serving.data_plane import DataPlane
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry
from inference_server.serving.statistics import Statistics


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts, and what is taken of which bound.

    `memory` is what all models take, in bytes, and the bound on it; `max_calls` the bound on calls in flight.
    """

    registry: Registry
    changes: Changes
    drain: Drain
    statistics: Statistics
    data_plane: DataPlane
    clock: Clock
    tls: Renewal[Certificate] | None
    renewals: Sequence[Renewal[Any]]
    memory: tuple[Callable[[], int], int]
    max_calls: int
