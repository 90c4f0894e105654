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
from inference_server.adapters.vetting import too_big
from inference_server.adapters.vetting_child import LENGTH
from inference_server.serving.vetting import Step, Verdict

log: Final = logging.getLogger(__name__)

ATTEMPTS: Final = 2
CHILD: Final = (sys.executable, "-P", "-m", "inference_server.adapters.vetting_child")
# The bytes themselves and the runtime's copy: a file of which two do not fit needs no judge.
LEAST_COPIES: Final = 2
PIECE_BYTES: Final = 2**20
CLOSED: Final = "vetting was ended before it had judged this file"


@dataclass(frozen=True, slots=True)
class VettingProcessOptions:
    """Bounds on one file's vetting, and on the child.

    `cpu_s` is processor time, which a busy or sleeping machine does not use up, counted in whole seconds and
    rounded up. `wall_s` is how long to wait for a child that does not get to work, or waits for something.
    `memory_bytes` is address space over what a warm child has; loading takes up to five times a file's size.
    `start_s` bounds the child's start, `max_answer_bytes` its answer.
    """

    cpu_s: float = 30.0
    wall_s: float = 60.0
    start_s: float = 60.0
    memory_bytes: int = 4 * 2**30
    max_answer_bytes: int = 64 * 2**20


class _NoVerdictError(Exception):
    """A child gave no verdict; the text says how."""


class _EndedError(Exception):
    """The file is at fault, beyond doubt: no second attempt; the text is the reason."""


class VettingProcess:
    """Implements `serving.vetting.Vetting`. One file at a time; the child is started when it is needed.

    `child` is the command of the vetting process, to which the bounds are added.
    """

    def __init__(self, options: VettingProcessOptions | None = None, child: Sequence[str] = CHILD) -> None:
        self._options = options or VettingProcessOptions()
        self._command = (*child, str(self._options.cpu_s), str(self._options.memory_bytes))
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._idle = False
        self._closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<VettingProcess {f'pid {self.pid}' if self.pid else 'not running'}>"

    @property
    def pid(self) -> int | None:
        """The child's process id; None while none is running."""
        return self._child.pid if self._child and self._child.returncode is None else None

    async def start(self) -> None:
        """Start the child now, so that the first file need not wait for it. Raises what a start can raise."""
        async with self._turn:
            await self._warm()

    async def close(self) -> None:
        """End the child, whatever it does, and start none again."""
        self._closed.set()
        await self._end()
        async with self._turn:  # whoever waited for it is told now; one that is just starting another ends it
            await self._end()

    async def vet(self, model: bytes, expected_name: str) -> Verdict:
        """Return the child's verdict, or one that says how it failed to give any.

        A child that ends or says nothing gets a successor that tries once more, for that may have had another
        cause. Cancelled, the call ends the child; the next one starts another.
        """
        if LEAST_COPIES * len(model) > self._options.memory_bytes:
            return await _failed(model, too_big(self._options.memory_bytes))
        reason = CLOSED
        async with self._turn:
            for _ in range(ATTEMPTS):
                try:
                    return await self._vet(model, expected_name)
                except _EndedError as error:
                    return await _failed(model, str(error))
                except _NoVerdictError as error:
                    reason = str(error)
                finally:
                    await self._end_unless_idle()
                if self._closed.is_set():
                    return await _failed(model, CLOSED)
                log.warning("%s", reason)
        return await _failed(model, reason)

    async def _vet(self, model: bytes, expected_name: str) -> Verdict:
        try:
            child = await self._warm()
            self._idle = False
            async with asyncio.timeout(self._options.wall_s):
                verdict = read_verdict(await self._ask(child, expected_name.encode(), model))
        except TimeoutError:
            text = f"vetting gave no verdict in {ATTEMPTS} attempts, the last of {self._options.wall_s:g} s"
            raise _NoVerdictError(text) from None
        except (EOFError, OSError):
            raise await self._how_it_ended() from None
        except ValueError:
            log.exception("the vetting process gave an answer that cannot be read")
            raise _EndedError("the vetting process gave an answer that cannot be read") from None
        self._idle = True
        return verdict

    async def _warm(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None and self._idle:
            return self._child
        await self._end()
        if self._closed.is_set():
            raise EOFError(CLOSED)
        self._child = child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        if self._closed.is_set():
            await self._end()
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
            # Piece by piece: the stream copies at once what the pipe does not take, and calls wait meanwhile.
            for start in range(0, len(frame), PIECE_BYTES):
                child.stdin.write(frame[start : start + PIECE_BYTES])
                await child.stdin.drain()
        return await self._read(child)

    async def _read(self, child: asyncio.subprocess.Process) -> bytes:
        if child.stdout is None:
            raise RuntimeError("the vetting process was started without pipes")
        (size,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
        if size > self._options.max_answer_bytes:
            raise ValueError(f"an answer of {size} bytes")
        return await child.stdout.readexactly(size)

    async def _how_it_ended(self) -> _NoVerdictError | _EndedError:
        child = self._child
        if child is None:
            return _NoVerdictError("the vetting process could not be started")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):  # its pipe has closed, so its end is near
                await child.wait()
        code = child.returncode
        if code is None:
            return _NoVerdictError("the vetting process stopped answering and was ended")
        if code == -signal.SIGXCPU:
            return _EndedError(
                f"vetting took more than {self._options.cpu_s:g} s of processor time and was ended"
            )
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        return _NoVerdictError(f"the vetting process {how} while it judged this file")

    async def _end_unless_idle(self) -> None:
        if not self._idle:
            await self._end()

    async def _end(self) -> None:
        child, self._child, self._idle = self._child, None, False
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


async def _failed(model: bytes, reason: str) -> Verdict:
    digest = await asyncio.to_thread(lambda: hashlib.sha256(model).hexdigest())
    return Verdict(digest, (Step("vetting", passed=False, text=reason),))
