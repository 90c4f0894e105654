"""One client a sidecar, shared by all drop-ins of this process that ask it."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strategy_client.events import Reason
from strategy_client.predictor.channel import check_target
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.description import Description
from strategy_client.predictor.security import Security
from strategy_client.predictor.status import InferenceError, SidecarUnavailableError

# So long the strategies of one start wait, all together, for a sidecar that does not answer.
PATIENCE_S: Final = 2.0
DESCRIBE_TIMEOUT_S: Final = 2.0

Key = tuple[str, Security]


@dataclass(slots=True)
class SharedClient:
    """A client, and until when a start waits for its sidecar. `ready` is what the sidecar last said."""

    target: str
    client: InferenceClient
    patient_until_s: float
    ready: bool = False

    def wait_reached(self) -> bool:
        """Wait for the first connection; returns at once when a start has waited long enough for it."""
        return self.client.wait_connected(self.wait_left_s())

    def wait_left_s(self) -> float:
        """Return how much longer a start may wait for this sidecar."""
        return max(self.patient_until_s - time.monotonic(), 0.0)

    def describe(self, models: Sequence[str]) -> Description:
        """Say what is served, for bindings. Raises InferenceError; at once while there is no connection."""
        if not self.client.wait_connected(0.0):
            raise SidecarUnavailableError(Reason.UNAVAILABLE, f"{self.target}: not reached yet")
        description = self.client.describe(models, timeout_s=DESCRIBE_TIMEOUT_S)
        self.ready = description.ready
        return description

    def model_names(self) -> Sequence[str]:
        """Return the names of all models that are served; none where the sidecar does not say."""
        try:
            return tuple(self.client.describe(timeout_s=DESCRIBE_TIMEOUT_S).models)
        except InferenceError:
            return ()


@dataclass(slots=True)
class _Share:
    client: SharedClient
    holders: int = 0


_shares: dict[Key, _Share] = {}
_lock: Final = threading.Lock()


def acquire(target: str, security: Security) -> SharedClient:
    """Return the client for a sidecar, made if nobody holds one; give it back by `release`.

    Raises TargetError and SecurityError.
    """
    with _lock:
        key = (check_target(target), security)
        share = _shares.get(key)
        if share is None:
            client = InferenceClient(target, security=security)
            share = _Share(SharedClient(target, client, time.monotonic() + PATIENCE_S))
            _shares[key] = share
        share.holders += 1
        return share.client


def release(target: str, security: Security) -> None:
    """Give a client back; the last one to do so closes it."""
    with _lock:
        share = _shares[target, security]
        share.holders -= 1
        if share.holders:
            return
        del _shares[target, security]
    share.client.client.close()
