"""One client a sidecar, shared by all drop-ins of this process that ask it."""

import atexit
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from strategy_client.drop_in.shared_bindings import SharedBindings
from strategy_client.events import Reason
from strategy_client.predictor.channel import check_target
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.description import Description
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.port import PendingAnswers, Question
from strategy_client.predictor.security import Security
from strategy_client.predictor.status import InferenceError, SidecarUnavailableError

# So long the strategies of one start wait, all together, for a sidecar that does not answer.
PATIENCE_S: Final = 2.0
DESCRIBE_TIMEOUT_S: Final = 2.0

Key = tuple[str, Security]


@dataclass(slots=True)
class SharedClient:
    """A `Predictor` for any number of threads, and until when a start waits for its sidecar.

    `bindings` are those of all strategies that hold it; `ready` is what the sidecar last said.
    """

    target: str
    client: InferenceClient | Endpoints
    patient_until_s: float
    ready: bool = False
    # Endpoints takes questions from one thread at a time; sending never blocks.
    _sending: threading.Lock = field(default_factory=threading.Lock, repr=False)
    bindings: SharedBindings = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.bindings = SharedBindings(self.describe)

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Send the questions as one request and return at once; see `port.Predictor`."""
        with self._sending:
            return self.client.submit(questions, deadline_ns)

    def close(self) -> None:
        """Stop renewing and close the client; `release` does so when nobody holds it."""
        self.bindings.close()
        self.client.close()

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

    Several addresses with commas between them are sidecars of the same models: the first that is well is
    asked. Raises TargetError and SecurityError.
    """
    with _lock:
        targets = [check_target(each.strip()) for each in target.split(",")]
        key = (target, security)
        share = _shares.get(key)
        if share is None:
            several = len(targets) > 1
            client = (
                Endpoints(targets, security=security)
                if several
                else InferenceClient(targets[0], security=security)
            )
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
    share.client.close()


@atexit.register
def _close_all() -> None:
    # The other runner closes nothing.
    with _lock:
        shares = list(_shares.values())
    for share in shares:
        share.client.close()
