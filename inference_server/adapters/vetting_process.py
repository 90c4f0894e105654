"""Vetting in a process of its own, kept warm: a file that kills or hangs its judge costs nothing else."""

import asyncio
import contextlib
import hashlib
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from inference_server.adapters.verdict_text import read_verdict
from inference_server.adapters.vetting_child import LENGTH
from inference_server.serving.vetting import Step, Verdict

log: Final = logging.getLogger(__name__)

ATTEMPTS: Final = 2
CHILD: Final = (sys.executable, "-P", "-m", "inference_server.adapters.vetting_child")


@dataclass(frozen=True, slots=True)
class VettingProcessOptions:
    """Bounds: on one file's vetting, on the child's start, on its address space, on its answer's length."""

    vet_s: float = 30.0
    start_s: float = 60.0
    memory_bytes: int = 16 * 2**30
    max_answer_bytes: int = 64 * 2**20


class VettingProcess:
    """Implements `serving.vetting.Vetting`. One file at a time; the child is started when it is needed.

    `child` is the command of the vetting process, to which the memory bound is added.
    """

    def __init__(self, options: VettingProcessOptions | None = None, child: Sequence[str] = CHILD) -> None:
        self._options = options or VettingProcessOptions()
        self._command = (*child, str(self._options.memory_bytes))
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._idle = False

    def __repr__(self) -> str:
        return f"<VettingProcess {f'pid {self._child.pid}' if self._child else 'not running'}>"

    @property
    def pid(self) -> int | None:
        """The child's process id; None while none is running."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Start the child now, so that the first file need not wait for it. Raises what a start can raise."""
        async with self._turn:
            await self._warm()

    async def close(self) -> None:
        """End the child."""
        async with self._turn:
            await self._end()

    async def vet(self, model: bytes, expected_name: str) -> Verdict:
        """Return the child's verdict, or one that says how it failed to give any.

        A child that ends on a file gets a successor that tries once more, for its end may have had another
        cause. Cancelled, the call ends the child; the next one starts another.
        """
        async with self._turn:
            for _ in range(ATTEMPTS):
                try:
                    return await self._vet(model, expected_name)
                except (EOFError, OSError):
                    reason = await self._how_it_ended()
                    log.warning("%s", reason)
                finally:
                    await self._end_unless_idle()
            return _failed(model, reason)

    async def _vet(self, model: bytes, expected_name: str) -> Verdict:
        child = await self._warm()
        self._idle = False
        try:
            async with asyncio.timeout(self._options.vet_s):
                verdict = read_verdict(await self._ask(child, expected_name.encode(), model))
        except TimeoutError:
            return _failed(model, f"vetting took longer than {self._options.vet_s:g} s and was ended")
        except (ValueError, KeyError, TypeError):
            log.exception("the vetting process gave an answer that cannot be read")
            return _failed(model, "the vetting process gave an answer that cannot be read")
        self._idle = True
        return verdict

    async def _warm(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        self._child, self._idle = None, False
        self._child = child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(self._options.start_s):
                await self._read(child)
        except TimeoutError:
            raise EOFError(f"no sign of life within {self._options.start_s:g} s") from None
        self._idle = True
        return child

    async def _ask(self, child: asyncio.subprocess.Process, *frames: bytes) -> bytes:
        if child.stdin is None:
            raise RuntimeError("the vetting process was started without pipes")
        for frame in frames:
            child.stdin.write(LENGTH.pack(len(frame)))
            child.stdin.write(frame)
        await child.stdin.drain()
        return await self._read(child)

    async def _read(self, child: asyncio.subprocess.Process) -> bytes:
        if child.stdout is None:
            raise RuntimeError("the vetting process was started without pipes")
        (size,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
        if size > self._options.max_answer_bytes:
            raise ValueError(f"an answer of {size} bytes")
        return await child.stdout.readexactly(size)

    async def _how_it_ended(self) -> str:
        if self._child is None:
            return "the vetting process could not be started"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):  # its pipe has closed, so its end is near
                await self._child.wait()
        code = self._child.returncode
        if code is None:
            return "the vetting process stopped answering and was ended"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"the vetting process {how} while it judged this file"

    async def _end_unless_idle(self) -> None:
        if not self._idle:
            await self._end()

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _failed(model: bytes, reason: str) -> Verdict:
    return Verdict(hashlib.sha256(model).hexdigest(), (Step("vetting", passed=False, text=reason),))
