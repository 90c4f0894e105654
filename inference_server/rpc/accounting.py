"""How the calls of one message ended, told to the statistics."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from inference_server.core.clock import Clock
from inference_server.core.errors import (
    CancelledError,
    DeadlineExceededError,
    InternalError,
    Reason,
    ServingError,
)
from inference_server.rpc.status import status_of
from inference_server.serving.data_plane import Answer, RowAnswer
from inference_server.serving.registry import Registry
from inference_server.serving.statistics import NO_MODEL, Statistics, Timing

if TYPE_CHECKING:  # at run time only where traces are configured
    from inference_server.rpc.spans import RpcTrace


class Accounting:
    """Opens an account for each message that holds calls."""

    def __init__(self, statistics: Statistics, registry: Registry, clock: Clock) -> None:
        self._statistics: Final = statistics
        self._registry: Final = registry
        self._clock: Final = clock

    def open(self, deadline_ns: int | None, trace: "RpcTrace | None" = None) -> "Account":
        """Open one, at the message's arrival; what is counted is told in `trace` too."""
        return Account(self._statistics, self._registry, self._clock, deadline_ns, trace)


class Account:
    """One message that came now, with a deadline in the clock's monotonic time. Each call ends once."""

    __slots__ = ("_clock", "_deadline_ns", "_received_ns", "_registry", "_statistics", "_trace")

    def __init__(
        self,
        statistics: Statistics,
        registry: Registry,
        clock: Clock,
        deadline_ns: int | None,
        trace: "RpcTrace | None",
    ) -> None:
        self._statistics = statistics
        self._registry = registry
        self._clock = clock
        self._deadline_ns = deadline_ns
        self._trace = trace
        self._received_ns = clock.monotonic_ns()

    def __repr__(self) -> str:
        return f"<Account of a message received at {self._received_ns}>"

    @property
    def received_ns(self) -> int:
        """When the message came, in the clock's monotonic time."""
        return self._received_ns

    def answered(self, answers: Sequence[Answer | RowAnswer], input_ns: int, output_ns: int) -> None:
        """Count calls that are answered and encoded now, with the time of decoding and encoding each."""
        received_ns, wall_ns = self._received_ns, self._clock.wall_ns()
        total_ns = self._clock.monotonic_ns() - received_ns
        for answer in answers:
            id_ = answer.servable.id
            waited_ns = answer.started_ns - received_ns
            decoded_ns = min(input_ns, waited_ns)
            timing = Timing(
                waited_ns - decoded_ns,
                decoded_ns,
                answer.ended_ns - answer.started_ns,
                output_ns,
                total_ns,
            )
            self._statistics.answered(id_.name, id_.version, answer.rows, timing, wall_ns)
            if self._trace is not None:
                self._trace.answered(answer, timing)

    def failed(self, model: str, error: BaseException) -> None:
        """Count a call that ends with this error, whatever it is."""
        now_ns = self._clock.monotonic_ns()
        typed = self._typed(error, now_ns)
        known = self._registry.knows(model)
        name, version = (model, typed.version) if known else (NO_MODEL, 0)
        code, total_ns = status_of(typed).code, now_ns - self._received_ns
        self._statistics.failed(name, version, code.name, typed.reason, total_ns)
        if self._trace is not None:
            self._trace.failed(name, version, code, typed.reason, total_ns)

    def _typed(self, error: BaseException, now_ns: int) -> ServingError:
        """Return the error that it means. There are three cases.

        1. It is one already.
        2. The call was cancelled: by the transport when its deadline passed, or because the caller left.
        3. A bug.
        """
        if isinstance(error, ServingError):
            return error
        if isinstance(error, asyncio.CancelledError):
            late = self._deadline_ns is not None and now_ns >= self._deadline_ns
            return DeadlineExceededError("") if late else CancelledError("")
        return InternalError("", Reason.BUG)
