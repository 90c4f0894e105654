"""A caller who vanishes: sends the bytes that come on standard input and kills itself.

    python -IS benchmarks/soak_vanishing.py TARGET

A line is what one connection says, in hexadecimal.
"""

import os
import signal
import socket
import sys


def main() -> None:
    """Connect, send, die."""
    target = sys.argv[1]
    held = []
    for line in sys.stdin:
        if target.startswith("unix:"):
            connected = socket.socket(socket.AF_UNIX)
            connected.connect(target.removeprefix("unix:"))
        else:
            host, _, port = target.rpartition(":")
            connected = socket.create_connection((host, int(port)))
        connected.sendall(bytes.fromhex(line))
        held.append(connected)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
