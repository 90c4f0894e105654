"""A vetting process on the event loop: its two pipes as streams, and its end."""

import asyncio
import subprocess
from typing import Final, Self

from inference_server.adapters.vetting_start import end_child

# Nobody tells the loop of the end of a process that it did not start. It is asked for only where it is near.
POLL_S: Final = 0.002


class VettingPipe:
    """What goes to a child as `requests`, and comes from it as `answers`; the frames are the child's."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        requests: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        answering: asyncio.BaseTransport,
    ) -> None:
        self._process: Final = process
        self._answering: Final = answering
        self.requests: Final = requests
        self.answers: Final = answers

    def __repr__(self) -> str:
        return f"<VettingPipe pid {self.pid} {'runs' if self.returncode is None else 'ended'}>"

    @classmethod
    async def open(cls, process: subprocess.Popen[bytes]) -> Self:
        """Take over a child that nothing was read from yet, with its pipes."""
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the vetting process was started without pipes")
        loop = asyncio.get_running_loop()
        answers = asyncio.StreamReader(loop=loop)
        answering: asyncio.BaseTransport | None = None
        try:
            answering, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(answers, loop=loop), process.stdout
            )
            # A stream's protocol for its flow control; nothing is read from this pipe.
            asking, protocol = await loop.connect_write_pipe(
                lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), loop=loop),
                process.stdin,
            )
        except BaseException:
            if answering is not None:
                answering.close()
            end_child(process)
            raise
        return cls(process, asyncio.StreamWriter(asking, protocol, None, loop), answers, answering)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How the child ended, -N where signal N ended it; None while it runs."""
        return self._process.poll()

    async def ended(self) -> None:
        """Return once the child has ended. To be asked where that is near."""
        while self.returncode is None:  # noqa: ASYNC110 - the kernel sets no event of ours
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        """End the child, whatever it does, and close its pipes."""
        self._process.kill()
        if not self.requests.is_closing():  # the loop closes it by itself once the child has ended
            self.requests.transport.abort()
        self._answering.close()
        try:
            await self.ended()
        finally:
            self._process.wait()  # cancelled meanwhile: it was killed, so this takes no time
