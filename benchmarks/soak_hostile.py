"""The callers of a soak who misbehave: they stall, reset, flood, send what is none of HTTP/2, and vanish.

    python benchmarks/soak_hostile.py TARGET MODEL SEED

One process, a thread for each way. Every second it writes a JSON object, how often each way was gone, until
its standard input ends. Who vanishes is a child that kills itself with its calls in flight.
"""

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import tests_path  # noqa: F401 - makes the tests' frames importable
import wire_frames
from open_inference.v2 import inference_pb2 as oip
from rows import ASKED
from stress_client import infer_request
from tickserve.v1 import predictor_pb2 as wire

INFER: Final = b"/inference.GRPCInferenceService/ModelInfer"
INFER_STREAM: Final = b"/inference.GRPCInferenceService/ModelStreamInfer"
PREDICT_STREAM: Final = b"/tickserve.v1.Predictor/PredictStream"
WATCH: Final = b"/grpc.health.v1.Health/Watch"
PATHS: Final = (INFER, INFER_STREAM, PREDICT_STREAM, WATCH)
# What is sent at once stays below the bounds on calls in flight, which are for all callers together.
CALLS: Final = 40
FLOOD: Final = 2_000
CONNECTIONS: Final = 100
PATIENCE_S: Final = 5.0
VANISHED_S: Final = 30.0
TELL_S: Final = 1.0
VANISHING: Final = Path(__file__).with_name("soak_vanishing.py")
# Between one time and the next of a way.
PAUSE_S: Final = (0.2, 1.5)
# How long who stalls does that.
STALL_S: Final = (0.5, 5.0)


def connect(target: str) -> socket.socket:
    """Return a socket that is connected to unix:PATH or HOST:PORT."""
    if target.startswith("unix:"):
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(target.removeprefix("unix:"))
        return connected
    host, _, port = target.rpartition(":")
    return socket.create_connection((host, int(port)), PATIENCE_S)


class Hostile:
    """One way of misbehaving is one method; each makes its own connections and leaves none."""

    def __init__(self, target: str, model: str, seed: str) -> None:
        self._target = target
        self._random = random.Random(seed)  # noqa: S311 - for variety
        request = infer_request(model, ASKED[:4])
        part = wire.PredictPart(model=model, rows=4, features=ASKED[:4].tobytes())
        predict = wire.PredictRequest(id="x", parts=[part]).SerializeToString()
        self._messages = {
            INFER: request.SerializeToString(),
            INFER_STREAM: request.SerializeToString(),
            PREDICT_STREAM: predict,
            WATCH: b"",
        }
        large = oip.ModelInferRequest(model_name=model)
        large.inputs.add(name="features", datatype="FP32", shape=(1_000, 4))
        large.raw_input_contents.append(ASKED[:1].tobytes() * 1_000)
        self._large = large.SerializeToString()
        self.stopped = threading.Event()

    def ways(self) -> dict[str, Callable[[], None]]:
        """Return them by name."""
        return {
            "stall: read nothing": self.read_nothing,
            "stall: half a message": self.half_a_message,
            "stall: half a frame": self.half_a_frame,
            "reset": self.reset,
            "reset: flood": self.reset_flood,
            "flood: pings": lambda: self._flood(wire_frames.ping()),
            "flood: settings": lambda: self._flood(wire_frames.settings([(4, 70_000)])),
            "flood: empty data": self.empty_data,
            "flood: connections": self.connections,
            "flood: headers": self.headers,
            "garbage": self.garbage,
            "vanish": self.vanish,
        }

    def read_nothing(self) -> None:
        """Ask for more than the socket holds, with windows wide open, and do not read."""
        with self._connected() as connected:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wide = wire_frames.settings([(4, 2**31 - 1)]) + wire_frames.window_update(0, 2**30)
            self._send(connected, wide)
            for number in range(CALLS):
                self._send(connected, self._call(INFER, 2 * number + 1, self._large))
            self.stopped.wait(self._random.uniform(*STALL_S))

    def half_a_message(self) -> None:
        """Begin messages and never end them; sometimes reset them."""
        with self._connected() as connected:
            for number, path in enumerate(PATHS):
                stream = 2 * number + 1
                half = wire_frames.message(self._messages[path] + bytes(1_000))[:-900]
                begun = wire_frames.headers(stream, wire_frames.call_fields(path))
                self._send(connected, begun + wire_frames.data(stream, half))
            self.stopped.wait(self._random.uniform(*STALL_S))
            if self._random.random() < 0.5:
                self._send(connected, b"".join(wire_frames.reset(2 * n + 1) for n in range(len(PATHS))))

    def half_a_frame(self) -> None:
        """Stop in the middle of a frame."""
        with self._connected() as connected:
            whole = self._call(INFER, 1, self._messages[INFER])
            self._send(connected, whole[: self._random.randrange(len(whole))])
            self.stopped.wait(self._random.uniform(*STALL_S))

    def reset(self) -> None:
        """Take back calls in every state."""
        with self._connected() as connected:
            sent = bytearray()
            for number in range(CALLS):
                path = self._random.choice(PATHS)
                whole = self._call(path, 2 * number + 1, self._messages[path])
                sent += whole if self._random.random() < 0.5 else self._open(path, 2 * number + 1)
                sent += wire_frames.reset(2 * number + 1)
            self._send(connected, bytes(sent))
            self._read(connected)

    def reset_flood(self) -> None:
        """Open and take back as fast as it goes (CVE-2023-44487)."""
        with self._connected() as connected:
            for number in range(0, FLOOD * 2, 2):
                self._send(connected, self._open(INFER, number + 1) + wire_frames.reset(number + 1))

    def empty_data(self) -> None:
        """Send DATA frames with nothing in them."""
        with self._connected() as connected:
            self._send(connected, self._open(INFER, 1) + wire_frames.data(1, b"") * FLOOD)
            self._read(connected)

    def connections(self) -> None:
        """Connect a hundred times, say nothing or little, and leave."""
        with contextlib.ExitStack() as stack:
            for number in range(CONNECTIONS):
                connected = stack.enter_context(self._connected(preface=bool(number % 3)))
                if number % 2:
                    self._send(connected, self._open(PREDICT_STREAM, 1))

    def headers(self) -> None:
        """Send metadata without end, in CONTINUATION frames (CVE-2024-27316)."""
        with self._connected() as connected:
            fields = wire_frames.header_block(wire_frames.call_fields(INFER, (b"x", bytes(b"y" * 8_000))))
            self._send(connected, wire_frames.frame(wire_frames.HEADERS, 0, 1, fields))
            for _ in range(FLOOD // 10):
                more = wire_frames.header_block([(b"x", b"y" * 8_000)])
                self._send(connected, wire_frames.frame(wire_frames.CONTINUATION, 0, 1, more))

    def garbage(self) -> None:
        """Send anything, after a preface or without."""
        with self._connected(preface=self._random.random() < 0.5) as connected:
            self._send(connected, self._random.randbytes(self._random.randrange(1, 5_000)))
            self._read(connected)

    def vanish(self) -> None:
        """Let a process die by SIGKILL while its calls are in flight."""
        calls = [self._call(path, 1, message) for path, message in self._messages.items()]
        calls.append(self._call(INFER, 1, self._large))
        said = wire_frames.PREFACE + wire_frames.settings()
        subprocess.run(  # noqa: S603 - our own script
            [sys.executable, "-IS", str(VANISHING), self._target],
            input="\n".join((said + call).hex() for call in calls).encode(),
            check=False,
            timeout=VANISHED_S,
        )

    def _flood(self, once: bytes) -> None:
        with self._connected() as connected:
            for _ in range(FLOOD // 100):
                self._send(connected, once * 100)

    @contextlib.contextmanager
    def _connected(self, *, preface: bool = True) -> Iterator[socket.socket]:
        with connect(self._target) as connected:
            connected.settimeout(PATIENCE_S)
            if preface:
                self._send(connected, wire_frames.PREFACE + wire_frames.settings())
            yield connected

    @staticmethod
    def _send(connected: socket.socket, raw: bytes) -> None:
        with contextlib.suppress(OSError):  # sent away, or not read from: as it should be
            connected.sendall(raw)

    @staticmethod
    def _read(connected: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connected.recv(1 << 16)

    @staticmethod
    def _open(path: bytes, stream: int) -> bytes:
        return wire_frames.headers(stream, wire_frames.call_fields(path))

    def _call(self, path: bytes, stream: int, message: bytes) -> bytes:
        sent = wire_frames.message(message)
        return self._open(path, stream) + wire_frames.data(stream, sent, end_stream=path in {INFER, WATCH})


def repeat(way: Callable[[], None], hostile: Hostile, done: dict[str, int], name: str) -> None:
    """Go one way again and again, with pauses."""
    pause = random.Random(name)  # noqa: S311 - for variety
    while not hostile.stopped.wait(pause.uniform(*PAUSE_S)):
        with contextlib.suppress(OSError):  # the sidecar takes no more connections just now
            way()
        done[name] += 1


def main() -> None:
    """Misbehave until the input ends."""
    target, model, seed = sys.argv[1:]
    hostile = Hostile(target, model, seed)
    done = dict.fromkeys(hostile.ways(), 0)
    threads = [
        threading.Thread(target=repeat, args=(way, hostile, done, name))
        for name, way in hostile.ways().items()
    ]
    for thread in threads:
        thread.start()
    threading.Thread(target=lambda: (sys.stdin.read(), hostile.stopped.set()), daemon=True).start()
    while not hostile.stopped.wait(TELL_S):
        print(json.dumps(done), flush=True)
    for thread in threads:
        thread.join()
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
