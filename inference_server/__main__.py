"""`python -m inference_server` is `inference-server`, and process 1 of a container."""

import os
import signal
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)


if os.getpid() == 1:
    # The system lets a process 1 pass over each signal that it has no handler for. `serve` has its own once
    # everything is imported; until then a stop would be lost, and the container killed in the end. For SIGINT
    # Python has one.
    signal.signal(signal.SIGTERM, _leave)

from inference_server.cli import main  # noqa: E402 - the import is what takes the time

main()
