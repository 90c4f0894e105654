"""A few vetting processes side by side: a file that hangs its judge keeps one busy, and the others go on."""

import asyncio
import logging
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from inference_server.adapters.vetting_process import VettingProcess
from inference_server.adapters.vetting_start import CHILD, VettingProcessOptions
from inference_server.serving.vetting import Verdict

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VettingPoolOptions:
    """How many processes, each of which judges one file at a time, and the bounds on each.

    The others follow the first `others_after_s` seconds after it is warm, or after a file had to be judged:
    the files that lie there at the start are judged by then, if nothing hangs.
    """

    processes: int = 2
    others_after_s: float = 0.5
    process: VettingProcessOptions = field(default_factory=VettingProcessOptions)


class VettingPool:
    """Implements `serving.vetting.Vetting`. A file goes to a free child; the first is there from the start.

    `started` is a first child that was started already, see `VettingProcess`.
    """

    def __init__(
        self,
        options: VettingPoolOptions | None = None,
        child: Sequence[str] = CHILD,
        started: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._options: Final = options or VettingPoolOptions()
        first = VettingProcess(self._options.process, child, started)
        others = [VettingProcess(self._options.process, child) for _ in range(1, self._options.processes)]
        self._all: Final = (first, *others)
        self._free = [first]
        self._busy = 0
        self._turns = asyncio.Semaphore(1)
        self._warming: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<VettingPool {self._busy} of {len(self._all)} busy>"

    @property
    def pids(self) -> tuple[int, ...]:
        """The children's process ids."""
        return tuple(process.pid for process in self._all if process.pid is not None)

    async def start(self) -> None:
        """Start the first child, and return once it is warm; the others follow in the background, one by one.

        A start is a quarter of a second of processor time: all at once, they would hold up the first models.
        Raises what the first start can raise; the others are tried again when they are needed.
        """
        await self._all[0].start()
        self._begin_warming()

    async def close(self) -> None:
        """End all children, also those that are judging a file: that file's verdict says so."""
        self._begin_warming()  # so that nothing begins it later
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        await asyncio.gather(*(process.close() for process in self._all))

    async def vet(self, model: bytes, expected_name: str) -> Verdict:
        """Return the verdict of a child, the first that is free. See `VettingProcess.vet`."""
        self._begin_warming()
        async with self._turns:
            process = next((process for process in self._free if process.pid is not None), self._free[-1])
            self._free.remove(process)
            self._busy += 1
            try:
                return await process.vet(model, expected_name)
            finally:
                self._busy -= 1
                self._free.append(process)

    def _begin_warming(self) -> None:
        if self._warming is None:
            self._warming = asyncio.create_task(self._warm_others())

    async def _warm_others(self) -> None:
        """Let each other child take part once it is warm: no file waits for its start."""
        await asyncio.sleep(self._options.others_after_s)
        for process in self._all[1:]:
            try:
                await process.start()
            except (EOFError, OSError, ValueError):
                log.exception("a vetting process could not be started; it is tried again when it is needed")
            self._free.append(process)
            self._turns.release()
