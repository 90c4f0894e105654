"""One connection of the server's HTTP/2 transport, driven by choices, and what must hold of it always.

Whatever the peer sends, however it is cut, reads or leaves: nothing raises, each call that begins ends
once, nothing is left of the connection, what it holds is bounded, and what it writes is HTTP/2 about streams
that the peer has opened, with answers to what was asked on them.
"""

import asyncio
import logging
import re
import struct
import zlib
from typing import Self

import wire_frames as h2
from fuzz.choices import Choices
from fuzz.memory_transport import MemoryTransport
from fuzz.served import EACH, MANY, MANY_WAIT, MAX_MESSAGE, PATHS, Served
from fuzz.virtual_loop import VirtualLoop
from fuzz.written import messages, read_answers
from tickserve.v1 import predictor_pb2 as wire

from inference_server.rpc.h2.connection import Connection
from inference_server.rpc.h2.rows import Row, Shared
from inference_server.rpc.incoming import RequestIds, parser
from inference_server.rpc.listener import ListenerOptions

MAX_STEPS = 150
HELD_TIMES = 4
ASKED = re.compile(r"(\d+):\d+$")
OPTIONS = ListenerOptions(
    max_message_bytes=MAX_MESSAGE,
    max_metadata_bytes=2_000,
    max_streams_per_connection=12,
    keepalive_s=60.0,
    keepalive_timeout_s=20.0,
    min_ping_interval_s=10.0,
)


class _Bugs(logging.Handler):
    """Keeps what is logged as a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record)


class ServerCase:
    """One case: a connection, its peer's script, and the checks after it."""

    def __init__(self, raw: bytes, loop: VirtualLoop) -> None:
        self._choices = Choices(raw)
        self._loop = loop
        self._served = Served(loop)
        rows = {
            method.path: Row(method, parser(method.request), OPTIONS.max_message_bytes)
            for method in self._served.methods
        }
        self._shared = Shared(rows, loop, RequestIds(), OPTIONS, set())
        self._connection = Connection(self._shared)
        self._transport = MemoryTransport(loop, self._connection)
        self._next = 1
        self._opened: dict[int, bytes] = {}
        # Streams whose caller sent all that he has to, rightly, and asked so.
        self._asked: dict[int, list[str]] = {}
        self._whole: set[int] = set()
        self._settings = 0
        # Until something was sent that may be wrong, every answer is due.
        self._clean = True

    def run(self) -> None:
        """Play the script and check."""
        choices = self._choices
        start = choices.byte()
        self._loop.reading_s = 0.0006 if start & 4 else 0.0
        sent = b"" if start & 1 else h2.PREFACE
        self._clean = not start & 1
        if not start & 2:
            sent += h2.settings()
            self._settings += 1
        else:
            self._clean = False
        for _ in range(MAX_STEPS):
            if not choices or self._transport.lost:
                break
            sent += self._step(choices.below(24))
            if choices.below(4) < 2:
                self._deliver(sent)
                sent = b""
            self._check_bounds()
        self._deliver(sent)
        self._end()

    def _deliver(self, sent: bytes) -> None:
        for piece in self._choices.cut(sent):
            self._transport.deliver(piece)

    def _step(self, kind: int) -> bytes:
        steps = (
            *(self._call, self._call, self._whole_call, self._whole_call, self._message, self._message),
            *(self._message, self._reset, self._let, self._let, self._pass, self._pass, self._reading),
            *(self._window, self._ping, self._set, self._goaway, self._frame, self._raw, self._split),
            *(self._trailers, self._drain, self._odd_call, self._odd_message),
        )
        return steps[kind]()

    def _call(self) -> bytes:
        number, self._next = self._next, self._next + 2
        path = self._choices.one(PATHS)
        self._opened[number] = path
        self._asked[number] = []
        more = ()
        if self._choices.byte() % 8 == 1:
            more = ((b"grpc-timeout", b"%d" % self._choices.byte() + self._choices.one((b"m", b"S", b"n"))),)
            self._asked.pop(number)
        return h2.headers(number, h2.call_fields(path, *more))

    def _whole_call(self) -> bytes:
        number = self._next
        return self._call() + self._one_message(number, end=True)

    def _message(self) -> bytes:
        if not self._opened:
            return b""
        number = self._choices.one(list(self._opened))
        return self._one_message(number, end=self._choices.flag())

    def _one_message(self, number: int, *, end: bool) -> bytes:
        asked = f"{number}:{len(self._asked.get(number, ()))}"
        content = wire.PredictRequest(id=asked).SerializeToString()
        if number in self._whole:
            self._clean = False  # on a stream that its caller has ended
        if number in self._asked:
            self._asked[number].append(asked)
        if end:
            self._whole.add(number)
        return h2.data(number, h2.message(content), end_stream=end)

    def _reset(self) -> bytes:
        if not self._opened:
            return b""
        number = self._choices.one(list(self._opened))
        self._asked.pop(number, None)
        self._whole.add(number)
        return h2.reset(number, self._choices.below(16))

    def _let(self) -> bytes:
        waiting = [let for let in self._served.waiting if not let.done()]
        if waiting:
            let = self._choices.one(waiting)
            let.set_result(None)
            if self._choices.flag():
                self._loop.turn()
        return b""

    def _pass(self) -> bytes:
        seconds = self._choices.one((0.0, 0.0, 0.001, 0.1, 5.0, 30.0, 100.0))
        if seconds >= 5.0:
            self._clean = False  # who is silent may be sent away
        self._loop.run_for(seconds)
        return b""

    def _reading(self) -> bytes:
        if self._choices.flag():
            self._transport.stop_reading()
        else:
            self._transport.read()
        return b""

    def _window(self) -> bytes:
        self._clean = False
        number = self._choices.one((0, *self._opened))
        return h2.window_update(number, self._choices.one((1, 100, 70_000, 2**31 - 1, 0)))

    def _ping(self) -> bytes:
        self._clean = False
        return h2.ping() * self._choices.one((1, 1, 3, 20))

    def _set(self) -> bytes:
        self._clean = False
        self._settings += 1
        key = self._choices.one((1, 2, 3, 4, 5, 6, 8, 77))
        return h2.settings([(key, self._choices.one((0, 1, 100, 16_384, 70_000, 2**31 - 1, 2**32 - 1)))])

    def _goaway(self) -> bytes:
        self._clean = False
        return h2.goaway(self._choices.below(5), self._choices.below(15), self._choices.some(8))

    def _frame(self) -> bytes:
        self._clean = False
        kind, flags = self._choices.below(16), self._choices.byte()
        number = self._choices.one((0, 1, 2, 3, self._next, 2**31 - 1))
        if kind == h2.HEADERS:
            self._opened.setdefault(number, b"")
            self._next = max(self._next, number + 2 - number % 2 + 1 if number % 2 == 0 else number + 2)
        if kind == h2.SETTINGS:
            self._settings += 1
        return h2.frame(kind, flags, number, self._choices.some(40))

    def _raw(self) -> bytes:
        self._clean = False
        raw = self._choices.some(64)
        self._opened.setdefault(2**31 - 1, b"")  # who knows what it opens
        return raw

    def _split(self) -> bytes:
        number, self._next = self._next, self._next + 2
        path = self._choices.one(PATHS)
        self._opened[number] = path
        self._asked[number] = []
        block = h2.header_block(h2.call_fields(path, (b"x", b"y" * self._choices.byte())))
        pieces = self._choices.cut(block)
        flags = [0] * (len(pieces) - 1) + [h2.END_HEADERS]
        kinds = [h2.HEADERS] + [h2.CONTINUATION] * (len(pieces) - 1)
        split = [
            h2.frame(kind, flag, number, piece)
            for kind, flag, piece in zip(kinds, flags, pieces, strict=True)
        ]
        if self._choices.byte() % 8 == 1:
            self._clean = False
            split = split * 9
        return b"".join(split)

    def _trailers(self) -> bytes:
        self._clean = False
        if not self._opened:
            return b""
        number = self._choices.one(list(self._opened))
        return h2.headers(number, [(b"x-trailer", b"1")], end_stream=self._choices.flag())

    def _drain(self) -> bytes:
        self._clean = False
        if self._choices.byte() % 4 == 1:
            self._connection.drain()
        elif self._choices.flag():
            self._connection.drain_streams()
        return b""

    def _odd_call(self) -> bytes:
        self._clean = False
        number, self._next = self._next, self._next + 2
        self._opened[number] = b""
        fields = dict(h2.call_fields(self._choices.one((*PATHS, b"/f.F/None", b"", b"*"))))
        for _ in range(self._choices.below(4)):
            name = self._choices.one(
                (
                    *(b":method", b":path", b"content-type", b"grpc-timeout", b"grpc-encoding", b"te"),
                    *(
                        b"x-bin",
                        b"x",
                        b"authorization",
                        b":scheme",
                        b"connection",
                        b"content-length",
                        b"Upper",
                    ),
                )
            )
            fields[name] = self._choices.one(
                (
                    *(
                        b"",
                        b"GET",
                        b"gzip",
                        b"5m",
                        b"99999999H",
                        b"application/grpc+proto",
                        b"text/plain",
                        b"===",
                    ),
                    *(b"AAEC,BA", b"y" * 1_900, b"y" * 7_000, b"\xff", b"CONNECT", self._choices.some(12)),
                )
            )
            if self._choices.byte() % 8 == 1:
                fields.pop(name)
        return h2.headers(number, list(fields.items()), end_stream=self._choices.byte() % 4 == 1)

    def _odd_message(self) -> bytes:
        self._clean = False
        if not self._opened:
            return b""
        number = self._choices.one(list(self._opened))
        request = wire.PredictRequest(id="odd").SerializeToString()
        content = self._choices.one(
            (
                *(h2.message(request)[:-2], h2.message(b""), h2.message(b"\xff" * 9), h2.message(request, 1)),
                *(h2.message(zlib.compress(request), 1), h2.message(bytes(MAX_MESSAGE + 1)), b"\x00"),
                *(struct.pack(">BI", 0, MAX_MESSAGE) + bytes(MAX_MESSAGE - 5), h2.message(request) * 30),
                *(b"", self._choices.some(20)),
            )
        )
        return h2.data(number, content, end_stream=self._choices.byte() % 4 == 1)

    def _check_bounds(self) -> None:
        connection = self._connection
        assert len(connection._streams) <= OPTIONS.max_streams_per_connection + 1, connection
        held = sum(stream.call.held_bytes for stream in connection._streams.values() if stream.call)
        assert held <= HELD_TIMES * MAX_MESSAGE, f"{held} bytes of messages are held"
        self._check_failures()

    def _check_failures(self) -> None:
        assert not self._loop.failures, self._loop.failures

    def _end(self) -> None:
        if self._clean:
            self._finish()
        if not self._transport.lost:
            self._transport.vanish()
        self._loop.run_for(0.01)
        connection = self._connection
        assert connection.gone.done()
        connection.abort()  # a server that stops cuts off whatever there was when it began to
        assert not connection._streams, "streams are left"
        assert not self._shared.connections
        assert not asyncio.all_tasks(self._loop), f"tasks are left: {asyncio.all_tasks(self._loop)}"
        assert not self._loop.waiting, f"timers are left: {self._loop._scheduled}"
        assert not self._served.in_flight, f"calls have not ended: {self._served.statistics.rpcs_in_flight}"
        self._check_failures()
        self._check_written()

    def _finish(self) -> None:
        """Let all that waits go on, read all, and see that who asked rightly is answered."""
        self._transport.read()
        self._transport.deliver(h2.window_update(0, 2**30))
        for number in self._opened:
            if number in self._connection._streams:
                self._transport.deliver(h2.window_update(number, 2**30))
        for _ in range(200):
            for let in self._served.waiting:
                if not let.done():
                    let.set_result(None)
            self._loop.turn()
        left = [number for number in self._connection._streams if number in self._whole]
        assert not left, f"streams are not answered: {left}"

    def _check_written(self) -> None:
        answers = read_answers(bytes(self._transport.written), self._settings, max(self._opened, default=0))
        strange = set(answers) - set(self._opened)
        if 2**31 - 1 not in self._opened:
            assert not strange, f"answers on streams that were not opened: {strange}"
        for number, (data, status, _) in answers.items():
            ids = [wire.PredictResponse.FromString(each).id for each in messages(data)]
            named = [ASKED.match(each) for each in ids]
            assert all(each is None or int(each[1]) == number for each in named), (number, ids)
            if self._clean and status == b"0" and number in self._asked:
                self._check_answers(number, ids)

    def _check_answers(self, number: int, ids: list[str]) -> None:
        name = self._opened[number].rpartition(b"/")[2]
        asked = self._asked[number]
        if name == b"EachThree":
            assert sorted(ids) == sorted(asked), (number, ids, asked)
        elif name in EACH:
            assert ids == asked, (number, ids, asked)
        else:
            times = {b"Many": MANY, b"ManyWait": MANY_WAIT}.get(name, 1)
            assert ids == asked * times, (number, name, ids, asked)


class ServerHarness:
    """Plays cases one after the other on one loop."""

    def __init__(self) -> None:
        self._loop = VirtualLoop()
        self._bugs = _Bugs()
        self._log = logging.getLogger("inference_server")
        self._log.addHandler(self._bugs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.removeHandler(self._bugs)
        self._loop.close()

    def __call__(self, raw: bytes) -> None:
        """Play a case; raises where something does not hold."""
        self._bugs.seen.clear()
        self._loop.restart()
        with self._loop.current():
            ServerCase(raw, self._loop).run()
        assert not self._bugs.seen, [record.getMessage() for record in self._bugs.seen]
