"""The checks before loading, as serving sees them: a verdict with its steps."""

from dataclasses import dataclass
from typing import Protocol

from inference_server.core.contract import Contract
from inference_server.core.tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class Step:
    """One check: its name, whether it passed, and what it found or why it failed."""

    name: str
    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What vetting says of a file's bytes: its steps in order, the last of which failed if any did.

    Contract and specs are there as far as the steps got. `memory_bytes` is what loading and running it took
    of allocated memory, at least the file's size; 0 where it was not loaded. `steady`: the values of its
    inputs do not decide how long a run takes. `changes` names what differs from the contract that it was
    compared with, if any.
    """

    digest: str
    steps: tuple[Step, ...]
    contract: Contract | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    memory_bytes: int = 0
    steady: bool = False
    changes: tuple[str, ...] = ()

    @property
    def refusal(self) -> str:
        """Why the file is refused; empty when it is not."""
        return next((step.text for step in self.steps if not step.passed), "")

    @property
    def refused_at(self) -> str:
        """The name of the step that refuses the file; empty when none does."""
        return next((step.name for step in self.steps if not step.passed), "")


class Vetting(Protocol):
    """Judges a file's bytes without loading them into this process."""

    async def vet(self, model: bytes, expected_name: str) -> Verdict:
        """Return the verdict, within a bound of time; a file that kills the judge is a verdict too.

        Cancelled, it gives up and frees what it holds.
        """
        ...
