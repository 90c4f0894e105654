"""A script that becomes the command given to it, and ends with the process that started it.

    python leash.py PARENT_PID COMMAND...

Whoever is killed by SIGKILL stops nothing that it started. On Linux the kernel does so, by SIGTERM; elsewhere
the command is an orphan then. It imports nothing of ours, so that the command is not held up.
"""

import ctypes
import os
import signal
import sys
from typing import Final

SET_PARENT_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def main(parent: int, command: list[str]) -> None:
    """Become the command, unless the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() == parent:
        os.execv(command[0], command)  # noqa: S606 our own command, and no shell wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
