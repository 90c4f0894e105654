"""The request path that no protocol knows: calls in, answers or typed errors out.

There are three cases for a call that is well-formed:
1. More calls in flight than the bound: refused at once, nothing runs.
2. A run of a model with a contract that is expected to take less than `inline_below_ns`: it runs on the
   event loop, for handing it to a thread would cost more than the run. Without a contract more than its rows
   may decide how long it takes: other sizes that vary, or a loop in the model.
3. Any other: it runs in the executor, at most `runs_per_servable` at a time, so that one slow or hanging
   model cannot take every thread. Its caller is told when the deadline comes; its entry is let go only when
   the run has really ended, so no servable is closed under a run.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from inference_server.core.clock import Clock
from inference_server.core.errors import (
    DeadlineExceededError,
    InternalError,
    OverloadedError,
    ServingError,
    UnavailableError,
)
from inference_server.core.servable import Servable, VettingResult
from inference_server.core.tensor import Array, TensorSpec
from inference_server.serving.registry import Entry, Registry, Which

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
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


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What one servable answered: each output's spec (its shape as the signature has it) and array.

    `vetting` is what vetting said of its bytes.
    """

    servable: Servable
    vetting: VettingResult | None
    outputs: tuple[tuple[TensorSpec, Array], ...]


@dataclass(frozen=True, slots=True)
class DataPlaneOptions:
    """Bounds of the request path.

    A run is expected to take the servable's warm-up time for each of its rows, which overrates batches.
    """

    max_calls_in_flight: int = 1024
    inline_below_ns: int = 1_000_000
    runs_per_servable: int = 2

    def __post_init__(self) -> None:
        if self.max_calls_in_flight < 1 or self.runs_per_servable < 1 or self.inline_below_ns < 0:
            raise ValueError(f"expected bounds of at least 1 call, 1 run and 0 ns, came {self}")


@dataclass(slots=True, eq=False)
class _Run:
    """A call that was admitted: its entry is acquired, and is let go once."""

    entry: Entry
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    specs: tuple[TensorSpec, ...]
    rows: int
    in_executor: bool = False


class DataPlane:
    """Answers calls from the registry's servables. To be used on the event loop's thread.

    `clock` reads deadlines; `executor` runs what is slow and is the caller's to shut down.
    """

    def __init__(
        self, registry: Registry, clock: Clock, options: DataPlaneOptions, executor: Executor
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._options = options
        self._executor = executor
        self._in_flight = 0
        self._turns: WeakKeyDictionary[Entry, asyncio.Semaphore] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<DataPlane {self._in_flight} of {self._options.max_calls_in_flight} calls in flight>"

    @property
    def calls_in_flight(self) -> int:
        """Calls admitted whose run has not ended, those of callers that have left among them."""
        return self._in_flight

    async def answer(self, calls: Sequence[Call], deadline_ns: int | None) -> list[Answer | ServingError]:
        """Answer each call, or say why not, in the order of the calls; one never fails another.

        `deadline_ns` is a reading of the clock's monotonic time. No run starts at or after it, and what has
        not finished by then is DeadlineExceededError. Between runs on the loop, others get their turn.
        Cancelled: runs that have not started never do; those under way end by themselves and are dropped.
        """
        results: dict[int, Answer | ServingError] = {}
        quick: dict[int, _Run] = {}
        slow: dict[int, asyncio.Task[Answer | ServingError]] = {}
        try:
            for index, call in enumerate(calls):
                try:
                    run = self._admit(call, deadline_ns)
                except ServingError as error:
                    results[index] = error
                    continue
                if self._is_quick(run):
                    quick[index] = run
                else:
                    slow[index] = self._start(run, deadline_ns)
            await self._run_on_loop(quick, results, deadline_ns)
            if slow:
                await asyncio.wait(slow.values())
                results |= {index: task.result() for index, task in slow.items()}
        finally:
            for run in quick.values():
                self._let_go(run)
            for task in slow.values():
                task.cancel()
        return [results[index] for index in range(len(calls))]

    def _admit(self, call: Call, deadline_ns: int | None) -> _Run:
        if deadline_ns is not None and self._clock.monotonic_ns() >= deadline_ns:
            raise DeadlineExceededError("the deadline passed before the start; nothing was run")
        bound = self._options.max_calls_in_flight
        if self._in_flight >= bound:
            raise OverloadedError(f"{bound} calls are in flight, which is the bound")
        entry = self._registry.resolve(call.model, call.version)
        signature = entry.signature
        signature.check_contract(call.contract_hash)
        names, specs = signature.check_outputs(call.outputs)
        inputs = signature.check_inputs(call.inputs)
        shape = next(iter(inputs.values())).shape if inputs else ()
        entry.acquire()
        self._in_flight += 1
        return _Run(entry, inputs, names, specs, rows=shape[0] if shape else 1)

    def _is_quick(self, run: _Run) -> bool:
        servable = run.entry.servable
        expected_ns = servable.warm_up_ns * run.rows
        return servable.contract is not None and expected_ns < self._options.inline_below_ns

    def _let_go(self, run: _Run, result: Answer | ServingError | None = None) -> None:
        if isinstance(result, Answer):
            run.entry.rows_answered += run.rows
        self._in_flight -= 1
        run.entry.release()

    async def _run_on_loop(
        self, runs: dict[int, _Run], results: dict[int, Answer | ServingError], deadline_ns: int | None
    ) -> None:
        """Empty `runs` into `results`; what a cancellation leaves in it has not run."""
        pause_ns = self._clock.monotonic_ns() + self._options.inline_below_ns
        for index in list(runs):
            if self._clock.monotonic_ns() >= pause_ns:
                await asyncio.sleep(0)
                pause_ns = self._clock.monotonic_ns() + self._options.inline_below_ns
            run = runs[index]
            results[index] = self._execute(run, deadline_ns)
            del runs[index]
            self._let_go(run, results[index])

    def _start(self, run: _Run, deadline_ns: int | None) -> asyncio.Task[Answer | ServingError]:
        task = asyncio.create_task(self._run_in_executor(run, deadline_ns))
        # Here and not in the coroutine, whose first line a cancelled task may never reach.
        task.add_done_callback(lambda _: None if run.in_executor else self._let_go(run))
        return task

    async def _run_in_executor(self, run: _Run, deadline_ns: int | None) -> Answer | ServingError:
        loop = asyncio.get_running_loop()
        turns = self._turns.setdefault(run.entry, asyncio.Semaphore(self._options.runs_per_servable))

        def ended(future: Future[Answer | ServingError]) -> None:
            turns.release()
            self._let_go(run, None if future.cancelled() else future.result())

        left_s = None if deadline_ns is None else (deadline_ns - self._clock.monotonic_ns()) / 1e9
        try:
            async with asyncio.timeout(left_s):
                await turns.acquire()
                try:
                    future = self._executor.submit(self._execute, run, deadline_ns)
                except RuntimeError:  # what an executor raises once it is shut down
                    turns.release()
                    return UnavailableError("the server is shutting down")
                run.in_executor = True
                future.add_done_callback(lambda future: loop.call_soon_threadsafe(ended, future))
                # Cancelled before the run started, the future never runs; after that, it runs to its end.
                # Either way `ended` comes, once.
                return await asyncio.wrap_future(future)
        except TimeoutError:
            return DeadlineExceededError("the model did not finish before the deadline")

    def _execute(self, run: _Run, deadline_ns: int | None) -> Answer | ServingError:
        """Run now, on whichever thread this is. Never raises."""
        if self._late(deadline_ns):
            return DeadlineExceededError("the deadline passed while waiting; nothing was run")
        servable = run.entry.servable
        try:
            arrays = servable.run(run.inputs, run.outputs)
        except ServingError as error:
            return error
        except Exception:  # a model's bug is its part's answer; it is logged, and other parts go on
            log.exception("run failed model=%s digest=%s", servable.id, servable.digest[:12])
            return InternalError(f"model '{servable.id}' failed; the reason is in the server's log")
        if self._late(deadline_ns):
            return DeadlineExceededError("the model did not finish before the deadline")
        return Answer(servable, run.entry.vetting, tuple(zip(run.specs, arrays, strict=True)))

    def _late(self, deadline_ns: int | None) -> bool:
        return deadline_ns is not None and self._clock.monotonic_ns() >= deadline_ns
