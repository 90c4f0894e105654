"""A servable: one loaded version of a model that answers; and the states on its way there and out."""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inference_server.core.contract import Contract
from inference_server.core.tensor import Array, TensorSpec


@dataclass(frozen=True, slots=True, order=True)
class ServableId:
    """A model's name and one of its versions, an integer above 0."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


class State(enum.Enum):
    """Where a version is on its way; it only moves downwards in this list."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


class AbortedError(Exception):
    """A run was stopped by its `Abort`; nobody waits for what it would have answered."""


class Abort:
    """Tells one run that nobody waits for it any more. Safe to use from any thread, and after the run."""

    __slots__ = ("_stop", "aborted")

    def __init__(self) -> None:
        self.aborted = False
        self._stop: Callable[[], object] | None = None

    def __repr__(self) -> str:
        return f"<Abort {'told' if self.aborted else 'not told'}>"

    def abort(self) -> None:
        """Stop the run where it can be stopped; one that has not begun ends as soon as it begins."""
        self.aborted = True
        if self._stop is not None:
            self._stop()

    def on_abort(self, stop: Callable[[], object]) -> None:
        """Let `stop` be called, in whichever thread, once the run is to end; at once if it is so already.

        Called by the servable. `stop` returns at once, does no harm after the run, and may be called twice:
        each side writes first what the other one reads, so at least one of them calls it.
        """
        self._stop = stop
        if self.aborted:
            stop()


class Servable(Protocol):
    """A loaded version. `run` may be called from any thread, and by several at once, until `close`."""

    @property
    def id(self) -> ServableId:
        """Name and version."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the file, 64 lower-case hexadecimal digits."""
        ...

    @property
    def contract(self) -> Contract | None:
        """None for a model without one ("unverified")."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The signature's inputs, in the file's order."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The signature's outputs, in the file's order."""
        ...

    @property
    def warm_up_ns(self) -> int:
        """Median time of one warm-up run."""
        ...

    def run(
        self, inputs: Mapping[str, Array], outputs: Sequence[str], abort: Abort | None = None
    ) -> list[Array]:
        """Answer: one array for each name in `outputs`, in that order.

        `inputs` hold every input of the signature, with its dtype, rank and fixed sizes; the data plane has
        checked this. Raises InvalidRequestError where the model itself refuses the values or sizes, and
        AbortedError where `abort` stopped it, which may take as long as one step of the model.
        """
        ...

    def run_row(self, row: bytes) -> Sequence[bytes] | None:
        """Answer one row of the only input with all outputs, each of the shape of one row.

        `row` and what is answered are elements as they lie on the wire: row-major, little-endian. The data
        plane has checked its size. Never raises: None where it cannot, and `run` says why, or answers.
        """
        ...

    def close(self) -> None:
        """Free what it holds. Called once, off the request path, after the last `run` returned."""
        ...


@dataclass(frozen=True, slots=True)
class VettingResult:
    """What vetting said of the bytes that are served, and when, in wall time.

    `verified`: golden rows were answered as the estimator answered them; False for a model without a
    contract. `memory_bytes` is what loading and running it took of allocated memory. `steady`: the values of
    its inputs do not decide how long a run takes, only how many rows there are.
    """

    vetted_at_ns: int
    verified: bool
    text: str
    memory_bytes: int
    steady: bool = True


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What can be said of one version, at one moment.

    `vetting` is there while it is AVAILABLE. `refused`: it is at its END because of what is in its file.
    """

    id: ServableId
    state: State
    reason: str = ""
    digest: str = ""
    contract: Contract | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    available_since_ns: int = 0
    warm_up_ns: int = 0
    rows_answered: int = 0
    in_flight: int = 0
    vetting: VettingResult | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """All versions of one model, the newest first; the one that an unversioned call gets (0: none).

    `problem` says why what lies in the repository is not what is served; empty when it is. `refused`: a file
    that lies there is refused, also one that was to replace a version that answers.
    `behind_since_ns` is the wall time since when it has not been, loading included; 0 when it is.
    `pinned_version` is the one that a rollback went back to; 0 without one. `labels` hold a version by label.
    """

    name: str
    versions: tuple[VersionStatus, ...]
    default_version: int = 0
    problem: str = ""
    refused: bool = False
    behind_since_ns: int = 0
    pinned_version: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
