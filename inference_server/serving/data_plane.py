"""The request path that no protocol knows: calls in, answers or typed errors out.

There are three cases for a call that is well-formed:
1. More calls in flight than the bound, of its model or of all, or more bytes: refused at once, nothing runs.
2. A run of a model with a contract that is expected to take less than `inline_below_ns`: it runs on the
   event loop, for handing it to a thread would cost more than the run. Not so where more than its rows may
   decide how long it takes: sizes that vary, which a contract rules out, or what vetting found in the graph.
3. Any other: it runs in a thread, when it is its turn. Its caller is told when the deadline comes.

Calls of the third kind take a place while their callers wait. A caller who has his answer or has left takes
none: his run is stopped, which may take as long as one step of the model. Until it has really ended it keeps
its turn, and its servable is not closed.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference_server.core.clock import Clock
from inference_server.core.errors import (
    CancelledError,
    DeadlineExceededError,
    InternalError,
    OverloadedError,
    Reason,
    ServingError,
    UnavailableError,
)
from inference_server.core.servable import Abort, AbortedError, Servable, VettingResult
from inference_server.core.size import shown_bytes
from inference_server.core.tensor import Array, TensorSpec
from inference_server.serving.pauses import Pauses
from inference_server.serving.registry import Entry, Registry, Which
from inference_server.serving.run_threads import NoThreadError, RunThreads, ThreadsClosedError
from inference_server.serving.signature import RowNames, shown
from inference_server.serving.thread_run import ThreadRun
from inference_server.serving.turns import Turns, TurnsOptions

log: Final = logging.getLogger(__name__)
# After so long with the calls of one message, others get their turn on the event loop.
PAUSE_EVERY_NS: Final = 500_000


class Call(NamedTuple):
    """Rows for one model.

    `inputs` hold an array by input name, C-contiguous, little-endian; an array alone is for the model's only
    input. `version` is a number, 0 for the default version, or a label. Empty `outputs` ask for all. A
    `contract_hash` asks for an answer under that contract or none.
    """

    model: str
    inputs: Mapping[str, Array] | NDArray[np.float32]
    version: Which = 0
    outputs: tuple[str, ...] = ()
    contract_hash: str = ""


class Answer(NamedTuple):
    """What one servable answered: for each output its spec, with the signature's shape, and its array.

    `vetting` is what vetting said of its bytes. The run of these rows began and ended at these readings of
    the clock's monotonic time.
    """

    servable: Servable
    vetting: VettingResult | None
    specs: tuple[TensorSpec, ...]
    arrays: Sequence[Array]
    rows: int
    started_ns: int
    ended_ns: int

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Each output's."""
        return tuple(array.shape for array in self.arrays)

    @property
    def outputs(self) -> tuple[tuple[TensorSpec, Array], ...]:
        """Each output's spec and array."""
        return tuple(zip(self.specs, self.arrays, strict=True))


class RowAnswer(NamedTuple):
    """What one servable answered to one row: for each of its outputs the shape, and the bytes as on the wire.

    The rest is as in `Answer`.
    """

    servable: Servable
    vetting: VettingResult | None
    shapes: tuple[tuple[int, ...], ...]
    values: Sequence[bytes]
    started_ns: int
    ended_ns: int

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Of each output."""
        return self.servable.outputs

    @property
    def rows(self) -> int:
        """One."""
        return 1


@dataclass(frozen=True, slots=True)
class DataPlaneOptions:
    """Bounds of the request path.

    No model takes more than `max_calls_per_model` of the `max_calls_in_flight`, unless it is given a bound
    of its own. The inputs of all calls in flight take at most `max_input_bytes`: few calls with much are as
    bad for the machine as many with little. A run is expected to take the servable's warm-up time for each of
    its rows, which overrates batches.
    """

    max_calls_in_flight: int = 2048
    max_calls_per_model: int = 1024
    max_input_bytes: int = 1 << 30
    inline_below_ns: int = 1_000_000
    turns: TurnsOptions = field(default_factory=TurnsOptions)

    def __post_init__(self) -> None:
        least = min(self.max_calls_in_flight, self.max_calls_per_model, self.max_input_bytes)
        if least < 1 or self.inline_below_ns < 0:
            raise ValueError(f"expected bounds of at least 1 call, 1 byte and 0 ns, came {self}")


@dataclass(slots=True, eq=False)
class _Run:
    """A call that may run now."""

    entry: Entry
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    rows: int

    @property
    def input_bytes(self) -> int:
        """What its inputs take of memory, the texts of BYTES apart."""
        return sum(array.nbytes for array in self.inputs.values())


class DataPlane:
    """Answers calls from the registry's servables. To be used on the event loop's thread.

    `clock` reads deadlines; `threads` run what is slow and are the caller's to close. `bounds` is as in
    `bound_models`.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        options: DataPlaneOptions,
        threads: RunThreads,
        bounds: Mapping[str, int] | None = None,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._options = options
        self._threads = threads
        self._pauses = Pauses()
        self._turns = Turns(options.turns)
        self._in_flight = 0
        self._input_bytes = 0
        self._in_flight_of: dict[str, int] = {}  # no model with none
        self._bounds: Mapping[str, int] = bounds or {}

    def __repr__(self) -> str:
        return f"<DataPlane {self._in_flight} of {self._options.max_calls_in_flight} calls in flight>"

    @property
    def calls_in_flight(self) -> int:
        """Calls whose callers wait for a thread or a run in one."""
        return self._in_flight

    def calls_to(self, model: str) -> tuple[int, int]:
        """Return the calls in flight to a model, and the bound on them."""
        return self._in_flight_of.get(model, 0), self._bounds.get(model, self._options.max_calls_per_model)

    def bound_models(self, bounds: Mapping[str, int]) -> None:
        """Give models bounds of their own on their calls in flight, by name, in place of all earlier ones."""
        self._bounds = bounds

    def check_room(self, model: str) -> None:
        """Raise OverloadedError where a call to this model would be refused for want of room now.

        For whoever wants to know before decoding what it holds; `answer` checks in any case.
        """
        bound = self._options.max_calls_in_flight
        if self._in_flight >= bound:
            raise OverloadedError(f"{bound} calls are in flight, which is the server's bound")
        in_flight = self._in_flight_of.get(model)
        if in_flight is None:
            return
        bound = self._options.max_calls_per_model
        if self._bounds:
            bound = self._bounds.get(model, bound)
        if in_flight >= bound:
            raise OverloadedError(
                f"{bound} calls to model {shown(model)} are in flight, which is its bound", Reason.MODEL_FULL
            )

    def answer_row(
        self,
        model: str,
        version: Which,
        contract_hash: str,
        row: bytes,
        deadline_ns: int | None,
        *,
        names: RowNames | None = None,
    ) -> RowAnswer | DeadlineExceededError | None:
        """Answer one row of float32 by its bytes, at once, where nothing stands in the way of that.

        None where something does, be it only that the run is slow, or that not all outputs are asked for:
        `answer` finds what it is. Without `names` the row is for the only input.
        """
        entry = self._registry.find(model, version)
        if entry is None or self._in_flight or entry.run_ns >= self._options.inline_below_ns:
            return None
        if not entry.signature.takes_row(contract_hash, row, names):
            return None
        started_ns = self._clock.monotonic_ns()
        if deadline_ns is not None and started_ns >= deadline_ns:
            return None
        servable = entry.servable
        values = servable.run_row(row)
        if values is None:
            return None
        ended_ns = self._clock.monotonic_ns()
        if deadline_ns is not None and ended_ns >= deadline_ns:
            return _unfinished(servable)
        entry.rows_answered += 1
        return RowAnswer(servable, entry.vetting, entry.signature.output_rows, values, started_ns, ended_ns)

    async def answer(self, calls: Sequence[Call], deadline_ns: int | None) -> list[Answer | ServingError]:
        """Answer each call, or say why not, in the order of the calls; one never fails another.

        `deadline_ns` is a reading of the clock's monotonic time. No run starts at or after it, and what has
        not finished by then is DeadlineExceededError. Between runs on the loop, others get their turn.
        Cancelled: runs that have not started never do, and those under way are told to stop.
        """
        results: dict[int, Answer | ServingError] = {}
        slow: dict[int, asyncio.Task[Answer | ServingError]] = {}
        pause_ns = self._clock.monotonic_ns() + PAUSE_EVERY_NS
        try:
            for index, call in enumerate(calls):
                if index and self._clock.monotonic_ns() >= pause_ns:
                    await self.pause()
                    pause_ns = self._clock.monotonic_ns() + PAUSE_EVERY_NS
                try:
                    run = self._admit(call, deadline_ns)
                    quick = self._is_quick(run)
                    if not quick:
                        self._check_input_bytes(run)
                except ServingError as error:
                    # Its traceback holds this frame, and so itself and all calls, until the collector comes.
                    results[index] = error.with_traceback(None)
                    continue
                if quick:
                    results[index] = self._run_now(run, deadline_ns)
                else:
                    slow[index] = self._start(run, deadline_ns)
            if slow:
                await asyncio.wait(slow.values())
                results |= {index: task.result() for index, task in slow.items()}
        finally:
            for task in slow.values():
                task.cancel()
        return [results[index] for index in range(len(calls))]

    async def pause(self) -> None:
        """Let others have the event loop: what has paused here goes on a piece at a time."""
        await self._pauses.pause()

    def _admit(self, call: Call, deadline_ns: int | None) -> _Run:
        if deadline_ns is not None and self._clock.monotonic_ns() >= deadline_ns:
            raise DeadlineExceededError(
                "the deadline passed before the start; nothing was run", Reason.EXPIRED
            )
        if self._in_flight:
            self.check_room(call.model)
        entry = self._registry.resolve(call.model, call.version)
        signature = entry.signature
        try:
            signature.check_contract(call.contract_hash)
            names, specs = signature.check_outputs(call.outputs)
            inputs = signature.check_inputs(call.inputs)
        except ServingError as error:
            error.version = entry.servable.id.version
            raise
        shape: tuple[int, ...] = ()
        for array in inputs.values():
            shape = array.shape
            break
        return _Run(entry, inputs, names, specs, shape[0] if shape else 1)

    def _check_input_bytes(self, run: _Run) -> None:
        bound = self._options.max_input_bytes
        if self._input_bytes + run.input_bytes > bound:
            raise OverloadedError(
                f"the inputs of calls in flight may take {shown_bytes(bound)}, which is the server's bound; "
                f"they take {shown_bytes(self._input_bytes)}, and these {shown_bytes(run.input_bytes)}",
                version=run.entry.servable.id.version,
            )

    def _is_quick(self, run: _Run) -> bool:
        return run.entry.run_ns * run.rows < self._options.inline_below_ns

    def _run_now(self, run: _Run, deadline_ns: int | None) -> Answer | ServingError:
        """Run on the loop. It takes no place and needs no hold on its entry: nothing comes in between."""
        result = self._execute(run, deadline_ns)
        if isinstance(result, Answer):
            run.entry.rows_answered += run.rows
        return result

    def _take_place(self, model: str, input_bytes: int) -> None:
        self._in_flight += 1
        self._input_bytes += input_bytes
        self._in_flight_of[model] = self._in_flight_of.get(model, 0) + 1

    def _free_place(self, model: str, input_bytes: int) -> None:
        self._in_flight -= 1
        self._input_bytes -= input_bytes
        left = self._in_flight_of[model] - 1
        if left:
            self._in_flight_of[model] = left
        else:
            del self._in_flight_of[model]

    def _start(self, run: _Run, deadline_ns: int | None) -> asyncio.Task[Answer | ServingError]:
        model = run.entry.servable.id.name
        input_bytes = run.input_bytes
        run.entry.acquire()
        self._take_place(model, input_bytes)
        in_thread: ThreadRun[Answer | ServingError] = ThreadRun(run.entry, self._turns, self._threads)
        task = asyncio.create_task(self._run_in_thread(run, in_thread, deadline_ns))

        # Here and not in the coroutine, whose first line a cancelled task may never reach.
        def ended(_: object) -> None:
            self._free_place(model, input_bytes)
            in_thread.leave()

        task.add_done_callback(ended)
        return task

    async def _run_in_thread(
        self, run: _Run, in_thread: ThreadRun[Answer | ServingError], deadline_ns: int | None
    ) -> Answer | ServingError:
        version = run.entry.servable.id.version
        left_s = None if deadline_ns is None else (deadline_ns - self._clock.monotonic_ns()) / 1e9
        try:
            async with asyncio.timeout(left_s):
                try:
                    result = await in_thread.run(lambda abort: self._execute(run, deadline_ns, abort))
                except ThreadsClosedError:
                    return UnavailableError("the server is shutting down", Reason.SHUTTING_DOWN, version)
                except NoThreadError:
                    return OverloadedError("the system gives the server no more threads", version=version)
        except TimeoutError:
            return _unfinished(run.entry.servable)
        if isinstance(result, Answer):
            run.entry.rows_answered += run.rows
        return result

    def _execute(
        self, run: _Run, deadline_ns: int | None, abort: Abort | None = None
    ) -> Answer | ServingError:
        """Run now, on whichever thread this is. Never raises."""
        servable = run.entry.servable
        version = servable.id.version
        started_ns = self._clock.monotonic_ns()
        if deadline_ns is not None and started_ns >= deadline_ns:
            return DeadlineExceededError(
                "the deadline passed while waiting; nothing was run", Reason.EXPIRED, version
            )
        try:
            arrays = servable.run(run.inputs, run.outputs, abort)
        except ServingError as error:
            error.version = version
            return error
        except AbortedError:
            return CancelledError("nobody waits for it any more", version=version)
        except Exception:  # a model's bug is its part's answer; it is logged, and other parts go on
            log.exception("run failed model=%s digest=%s", servable.id, servable.digest[:12])
            return InternalError(
                f"model '{servable.id}' failed; the reason is in the server's log", version=version
            )
        ended_ns = self._clock.monotonic_ns()
        if deadline_ns is not None and ended_ns >= deadline_ns:
            return _unfinished(servable)
        return Answer(servable, run.entry.vetting, run.specs, arrays, run.rows, started_ns, ended_ns)


def _unfinished(servable: Servable) -> DeadlineExceededError:
    return DeadlineExceededError("the model did not finish before the deadline", version=servable.id.version)
