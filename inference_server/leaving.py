"""A signal to stop that comes while there is nothing yet to stop: it ends the process, and is never lost.

Python answers SIGINT by an exception, in whatever runs. Where that is a callback of the import system, the
exception is printed and passed over, and the process starts after all; where it is the initialisation of a
library, it comes out as that library's error.
"""

import os
import signal
from types import FrameType


def leave_when_told() -> None:
    """Let SIGINT end this process at once with 130, and as process 1 SIGTERM with 143.

    The system lets a process 1 pass over each signal that it has no handler for: a stop would be lost, and
    the container killed in the end. A SIGINT that is ignored, as in the background of a script, stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _leave)


def interrupt_what_runs() -> None:
    """Let SIGINT be KeyboardInterrupt again, by which a command is left that runs."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)  # the vetting process ends with its pipe
