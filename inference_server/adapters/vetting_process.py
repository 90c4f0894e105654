"""Vetting in a process of its own, kept warm: a file that kills or hangs its judge costs nothing else."""

import asyncio
import contextlib
import hashlib
import logging
import signal
import subprocess
from collections.abc import Sequence
from typing import Final

from inference_server.adapters.verdict_text import read_verdict, too_big
from inference_server.adapters.vetting_pipe import VettingPipe
from inference_server.adapters.vetting_start import (
    CHILD,
    LENGTH,
    VettingProcessOptions,
    end_child,
    start_child,
)
from inference_server.serving.vetting import Step, Verdict

log: Final = logging.getLogger(__name__)

ATTEMPTS: Final = 2
# The bytes themselves and the runtime's copy: a file of which two do not fit needs no judge.
LEAST_COPIES: Final = 2
PIECE_BYTES: Final = 2**20
CLOSED: Final = "vetting was ended before it had judged this file"


class _NoVerdictError(Exception):
    """A child gave no verdict; the text says how."""


class _EndedError(Exception):
    """The file is at fault, beyond doubt: no second attempt; the text is the reason."""


class VettingProcess:
    """Implements `serving.vetting.Vetting`. One file at a time; the child is started when it is needed.

    `child` is the command of the vetting process. `started` is one that was started already by the same
    options, and has not been read from: it is the first, and ended as any other.
    """

    def __init__(
        self,
        options: VettingProcessOptions | None = None,
        child: Sequence[str] = CHILD,
        started: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self._options = options or VettingProcessOptions()
        self._command = child
        self._started = started
        self._child: VettingPipe | None = None
        self._turn = asyncio.Lock()
        self._idle = False
        self._closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<VettingProcess {f'pid {self.pid}' if self.pid else 'not running'}>"

    @property
    def pid(self) -> int | None:
        """The child's process id; None while none is running."""
        if self._child is not None:
            return self._child.pid if self._child.returncode is None else None
        return self._started.pid if self._started and self._started.poll() is None else None

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

    async def _warm(self) -> VettingPipe:
        if self._child is not None and self._child.returncode is None and self._idle:
            return self._child
        await self._end_child()
        if self._closed.is_set():
            raise EOFError(CLOSED)
        started, self._started = self._started or start_child(self._options, self._command), None
        child = self._child = await VettingPipe.open(started)
        if self._closed.is_set():
            await self._end()
        try:
            async with asyncio.timeout(self._options.start_s):
                await self._read(child)
        except TimeoutError:
            raise EOFError(f"no sign of life within {self._options.start_s:g} s") from None
        self._idle = True
        return child

    async def _ask(self, child: VettingPipe, *frames: bytes) -> bytes:
        for frame in frames:
            child.requests.write(LENGTH.pack(len(frame)))
            # Piece by piece: the stream copies at once what the pipe does not take, and calls wait meanwhile.
            for start in range(0, len(frame), PIECE_BYTES):
                child.requests.write(frame[start : start + PIECE_BYTES])
                await child.requests.drain()
        return await self._read(child)

    async def _read(self, child: VettingPipe) -> bytes:
        (size,) = LENGTH.unpack(await child.answers.readexactly(LENGTH.size))
        if size > self._options.max_answer_bytes:
            raise ValueError(f"an answer of {size} bytes")
        return await child.answers.readexactly(size)

    async def _how_it_ended(self) -> _NoVerdictError | _EndedError:
        child = self._child
        if child is None:
            return _NoVerdictError("the vetting process could not be started")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):  # its pipe has closed, so its end is near
                await child.ended()
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
        if self._started is not None:
            started, self._started = self._started, None
            end_child(started)
        await self._end_child()

    async def _end_child(self) -> None:
        child, self._child, self._idle = self._child, None, False
        if child is not None:
            await child.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


async def _failed(model: bytes, reason: str) -> Verdict:
    digest = await asyncio.to_thread(lambda: hashlib.sha256(model).hexdigest())
    return Verdict(digest, (Step("vetting", passed=False, text=reason),))
