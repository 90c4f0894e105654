"""A few vetting processes side by side: a file that hangs its judge keeps one busy, and the others go on."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from inference_server.adapters.vetting_process import CHILD, VettingProcess, VettingProcessOptions
from inference_server.serving.vetting import Verdict

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VettingPoolOptions:
    """How many processes, each of which judges one file at a time, and the bounds on each."""

    processes: int = 2
    process: VettingProcessOptions = field(default_factory=VettingProcessOptions)


class VettingPool:
    """Implements `serving.vetting.Vetting`. A file goes to a free child, to a warm one if there is any."""

    def __init__(self, options: VettingPoolOptions | None = None, child: Sequence[str] = CHILD) -> None:
        options = options or VettingPoolOptions()
        self._all: Final = tuple(VettingProcess(options.process, child) for _ in range(options.processes))
        self._free = list(self._all)
        self._turns = asyncio.Semaphore(options.processes)
        self._warming: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<VettingPool {len(self._all) - len(self._free)} of {len(self._all)} busy>"

    @property
    def pids(self) -> tuple[int, ...]:
        """The children's process ids."""
        return tuple(process.pid for process in self._all if process.pid is not None)

    async def start(self) -> None:
        """Start the first child, and return once it is warm; the others follow in the background, one by one.

        A start is half a second of processor time: all at once, they would hold up the first model. Raises
        what the first start can raise; the others are tried again when they are needed.
        """
        await self._all[0].start()
        self._warming = asyncio.create_task(self._warm_others())

    async def close(self) -> None:
        """End all children, also those that are judging a file: that file's verdict says so."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait([self._warming])
        await asyncio.gather(*(process.close() for process in self._all))

    async def vet(self, model: bytes, expected_name: str) -> Verdict:
        """Return the verdict of a child, the first that is free. See `VettingProcess.vet`."""
        async with self._turns:
            process = next((process for process in self._free if process.pid is not None), self._free[-1])
            self._free.remove(process)
            try:
                return await process.vet(model, expected_name)
            finally:
                self._free.append(process)

    async def _warm_others(self) -> None:
        for process in self._all[1:]:
            try:
                await process.start()
            except (EOFError, OSError, ValueError):
                log.exception("a vetting process could not be started; it is tried again when it is needed")
