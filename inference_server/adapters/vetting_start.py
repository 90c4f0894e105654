"""The start of a vetting process, and the frames that go to it and come from it.

Imports little: the process is started before all that the server needs is imported, asyncio too, and loads
its own libraries meanwhile. `vetting_pipe` is how an event loop talks with it.
"""

import os
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Of each frame's length, before its bytes.
LENGTH: Final = struct.Struct(">Q")
# How a service manager is reached: a child is not to speak for its server, which may not have read them yet.
NOT_INHERITED: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
# numpy's own threads spin while they start, and would judge nothing: a model's run belongs to one thread.
ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1"}
_PR_SET_PDEATHSIG: Final = 1
CHILD: Final = (sys.executable, "-P", "-m", "inference_server.adapters.vetting_child")


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


def start_child(
    options: VettingProcessOptions | None = None, child: Sequence[str] = CHILD
) -> subprocess.Popen[bytes]:
    """Start a child and return before it is warm; OSError where it cannot be. The bounds end its command."""
    options = options or VettingProcessOptions()
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return subprocess.Popen(  # noqa: S603 - our own module
        (*child, str(options.cpu_s), str(options.memory_bytes)),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # a signal from the terminal or to the server's group is the server's to answer
        env={**ENVIRONMENT, **inherited},
    )


def end_child(child: subprocess.Popen[bytes]) -> None:
    """End a child that no event loop talks with; blocks until it has ended, which a kill brings at once."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def end_with_server() -> None:
    """Have the system end this process, a child, when its server ends, however that comes.

    Called before the child's libraries are imported, in which it would not see that its pipe is closed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - for the child only

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    requests = select.poll()
    requests.register(sys.stdin, 0)  # of a pipe it is told then that nobody writes any more, and nothing else
    if requests.poll(0):
        os._exit(1)  # the server ended before it was asked for
