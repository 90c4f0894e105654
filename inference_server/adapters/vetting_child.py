"""The vetting process: reads model files from stdin, judges each, writes verdicts to stdout.

A frame is an 8-byte big-endian length and as many bytes. A request is two frames: the expected name in
UTF-8, and the file's bytes. The answer is one frame, the verdict as JSON text. An empty frame comes first,
as soon as the libraries are loaded. The end of stdin ends the process.

    python -m inference_server.adapters.vetting_child MEMORY_BYTES
"""

import ctypes
import os
import resource
import signal
import struct
import sys
from typing import BinaryIO, Final

from inference_server.adapters.verdict_text import write_verdict
from inference_server.adapters.vetting import vet

LENGTH: Final = struct.Struct(">Q")
_PR_SET_PDEATHSIG: Final = 1


def write_frame(stream: BinaryIO, content: bytes) -> None:
    """Write one frame and flush it."""
    stream.write(LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes:
    """Read one frame; EOFError when the stream ends before it is whole."""
    header = stream.read(LENGTH.size)
    if len(header) < LENGTH.size:
        raise EOFError
    (size,) = LENGTH.unpack(header)
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


def main() -> None:
    """Judge until stdin ends."""
    _bound(int(sys.argv[1]))
    requests = sys.stdin.buffer
    # Whatever a library prints must not end up between the frames: file descriptor 1 becomes stderr.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    write_frame(answers, b"")
    while True:
        try:
            expected_name = read_frame(requests).decode()
            model = read_frame(requests)
        except EOFError:
            return
        write_frame(answers, write_verdict(vet(model, expected_name)))


def _bound(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    if sys.platform == "linux":
        # A file that makes this process spin must not outlive a server that was killed.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
