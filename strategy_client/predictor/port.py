"""The client's side of the sidecar, as the runner sees it: ask, go on, collect before the deadline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from strategy_client.events import Reason


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Rows for one model.

    `features` is float32, C-contiguous, shape (rows, n_features). `version` 0 lets the sidecar choose.
    `contract_hash` is the one this client is bound to; empty asks for no check.
    """

    model: str
    features: NDArray[np.float32]
    version: int = 0
    contract_hash: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What one version of a model answered: for each output an array whose first axis is the rows."""

    model: str
    version: int
    digest: str
    contract_hash: str
    outputs: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """No prediction for a question, and why."""

    reason: Reason
    detail: str


Answer = Prediction | Refusal


class PendingAnswers(Protocol):
    """Questions that are on their way."""

    @property
    def request_id(self) -> str:
        """The id that the sidecar's log knows this request by; empty when nothing was sent."""
        ...

    @property
    def settled(self) -> bool:
        """Whether `result` would return at once: answered, refused, or past the deadline."""
        ...

    def result(self) -> Sequence[Answer]:
        """Return one answer for each question, in order; wait for them until the deadline, no longer.

        Never raises: what went wrong is a Refusal. An answer that comes after the deadline is dropped.
        """
        ...


class Predictor(Protocol):
    """A sidecar, or something that passes the same contract suite."""

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Send the questions as one request and return at once.

        `deadline_ns` is a reading of `time.monotonic_ns`. Never raises and never blocks on the network.
        """
        ...

    def close(self) -> None:
        """Drop what is on its way and free the connection."""
        ...
