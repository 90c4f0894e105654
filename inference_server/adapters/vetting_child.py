"""The vetting process: reads model files from stdin, judges each, writes verdicts to stdout.

A frame is an 8-byte big-endian length and as many bytes. A request is two frames: the expected name in
UTF-8, and the file's bytes. The answer is one frame, the verdict as JSON text. An empty frame comes first,
as soon as it is warm: the libraries are loaded and a first small model has run. The end of stdin ends it.

    python -m inference_server.adapters.vetting_child CPU_S MEMORY_BYTES

A file that takes more than CPU_S seconds of processor time ends the process by SIGXCPU. One that wants more
than MEMORY_BYTES of address space, over what the warm process has, is refused.
"""

if __name__ == "__main__":
    from inference_server.adapters.vetting_start import end_with_server

    end_with_server()

import contextlib
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from inference_server.adapters.footprint import share_one_heap
from inference_server.adapters.onnx_messages import ModelProto, NodeProto, TensorProto
from inference_server.adapters.verdict_text import write_verdict
from inference_server.adapters.vetting import vet
from inference_server.adapters.vetting_start import LENGTH

# A file whose loading recurses deeply must overflow the stack here and not in the server, whose threads have
# 2 MiB at least.
STACK_BYTES: Final = 2**20
# The ticks come first: judging a file is work that can wait for a processor.
NICENESS: Final = 10
_STATM: Final = Path("/proc/self/statm")
_OOM_SCORE: Final = Path("/proc/self/oom_score_adj")


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
    cpu_s, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
    _leave_the_server_alone()
    requests = sys.stdin.buffer
    # Whatever a library prints must not end up between the frames: file descriptor 1 becomes stderr.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    share_one_heap()
    threading.stack_size(STACK_BYTES)
    ended: list[BaseException] = []

    def judge() -> None:
        try:
            _judge(requests, answers, cpu_s, memory_bytes)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised below
            ended.append(error)

    # A thread for its stack; `concurrent.futures` would bring much that the start has to wait for.
    thread = threading.Thread(target=judge, name="judge")
    thread.start()
    thread.join()
    if ended and isinstance(ended[0], BrokenPipeError):
        os._exit(1)  # the server is gone; Python would try again at its end to write the rest
    if ended:
        raise ended[0]


def _judge(requests: BinaryIO, answers: BinaryIO, cpu_s: float, memory_bytes: int) -> None:
    vet(_first_model(), "first")  # what a process's first session costs is no file's, in time and in memory
    _bound_memory(memory_bytes)
    write_frame(answers, b"")
    while True:
        try:
            expected_name = read_frame(requests).decode()
            model = read_frame(requests)
        except EOFError:
            return
        with _bounded_cpu(cpu_s):
            answer = write_verdict(vet(model, expected_name, memory_bytes))
        del model  # it must not stand beside the next one
        write_frame(answers, answer)


def _leave_the_server_alone() -> None:
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    if sys.platform == "linux":
        # Where a machine or container has less memory than the bound, this process is to go, not the server.
        with contextlib.suppress(OSError):
            _OOM_SCORE.write_text("1000")


def _bound_memory(memory_bytes: int) -> None:
    """Bound the address space, where the system says how much of it is taken already."""
    with contextlib.suppress(OSError):
        taken_bytes = int(_STATM.read_text().split()[0]) * resource.getpagesize()
        _lower(resource.RLIMIT_AS, taken_bytes + memory_bytes)


@contextlib.contextmanager
def _bounded_cpu(cpu_s: float) -> Iterator[None]:
    _lower(resource.RLIMIT_CPU, math.ceil(time.process_time() + cpu_s))
    try:
        yield
    finally:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def _lower(limit: int, soft: int) -> None:
    _, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _first_model() -> bytes:
    """Return a model that answers its input."""
    model = ModelProto(ir_version=10)
    model.opset_import.add(domain="", version=17)
    model.graph.name = "first"
    model.graph.node.append(NodeProto(op_type="Identity", input=["x"], output=["y"]))
    for values, name in ((model.graph.input, "x"), (model.graph.output, "y")):
        tensor = values.add(name=name).type.tensor_type
        tensor.elem_type = TensorProto.FLOAT
        tensor.shape.dim.add()
        tensor.shape.dim.add(dim_value=1)
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
