"""gRPC's own forms, both sides': messages in pieces, the headers of a call, the trailers, the timeouts.

However bytes are cut, the same messages or the same error come of them; the client's reading and the server's
agree; whatever stands in headers raises nothing but what a call ends with; a status comes out as it went in.
"""

from typing import Self

import grpc
from fuzz.choices import Choices

from inference_server.rpc.h2 import framing, headers
from inference_server.rpc.status import Code, StatusError
from strategy_client.predictor.h2 import framing as client_framing
from strategy_client.predictor.h2 import headers as client_headers

MAX_MESSAGE = 300
NAMES = (
    *(b":method", b":path", b":scheme", b":authority", b"te", b"content-type", b"grpc-timeout"),
    *(b"grpc-encoding", b"x", b"x-bin", b"authorization", b"grpc-accept-encoding", b":status"),
    *(b"grpc-status", b"grpc-message"),
)
VALUES = (
    *(b"POST", b"/a/b", b"application/grpc", b"application/grpc+proto", b"application/grpcweb", b"identity"),
    *(
        b"gzip",
        b"deflate",
        b"br",
        b"5m",
        b"99999999H",
        b"123456789n",
        b"AAEC",
        b"AAE=,AAE",
        b"200",
        b"0",
        b"13",
    ),
    *(b"%41%zz", b"application/grpc;x", b"503", b""),
)
TEXTS = ("a", "%", "é", "\n", "\ud800", "\U0001f600", "\x00", " ", "~", "\x7f")


class GrpcHarness:
    """Plays cases; it holds nothing between them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def __call__(self, raw: bytes) -> None:
        """Play a case; raises where something does not hold."""
        choices = Choices(raw)
        plays = (self._messages, self._headers, self._response, self._status, self._timeout)
        plays[choices.below(len(plays))](choices)

    def _messages(self, choices: Choices) -> None:
        encoding = choices.one(tuple(framing.ENCODINGS))
        form = framing.ENCODINGS[encoding]
        whole = b""
        for _ in range(choices.below(6)):
            content = choices.one((b"", b"abc", b"\0" * MAX_MESSAGE, choices.some(40)))
            if form is not None and choices.flag():
                packed = framing.zlib.compressobj(wbits=form)
                packed_content = packed.compress(content * choices.one((1, 1, 20))) + packed.flush()
                whole += framing.PREFIX.pack(1, len(packed_content)) + packed_content
            else:
                whole += framing.PREFIX.pack(choices.one((0, 0, 0, 1)), len(content)) + content
        whole += choices.some(30)
        in_one = self._read(framing.MessageReader(MAX_MESSAGE, encoding), [whole])
        in_pieces = self._read(framing.MessageReader(MAX_MESSAGE, encoding), choices.cut(whole))
        assert in_one[1] == in_pieces[1], (in_one, in_pieces)
        if in_one[1] is None:
            assert in_one == in_pieces
        else:  # what came before the error may have been taken already
            assert in_pieces[0][: len(in_one[0])] == in_one[0]
        assert all(len(message) <= MAX_MESSAGE for message in in_pieces[0])
        if form is None:
            theirs = self._read_as_client([whole])
            assert theirs == self._read_as_client(choices.cut(whole)) or theirs[1]
            if in_one[1] is None and theirs[1] is None:  # the client minds flags before the rest is there
                assert theirs == in_one

    @staticmethod
    def _read(reader: framing.MessageReader, pieces: list[bytes]) -> tuple[list[bytes], Code | None]:
        messages: list[bytes] = []
        try:
            for piece in pieces:
                for message in reader.feed(piece):
                    packed = isinstance(message, framing.Packed)
                    messages.append(message.expanded(MAX_MESSAGE) if packed else message)
                assert reader.held_bytes <= max(sum(map(len, pieces)), MAX_MESSAGE)
                if reader.broken is not None:
                    raise reader.broken
        except StatusError as error:
            return messages, error.code
        return messages, None

    @staticmethod
    def _read_as_client(pieces: list[bytes]) -> tuple[list[bytes], object]:
        reassembly = client_framing.Reassembly(MAX_MESSAGE)
        messages: list[bytes] = []
        try:
            for piece in pieces:
                messages += reassembly.feed(piece)
        except client_framing.FramingError as error:
            return messages, error.code
        return messages, None

    @staticmethod
    def _fields(choices: Choices) -> list[tuple[bytes, bytes]]:
        fields = []
        for _ in range(choices.below(10)):
            value = choices.one(VALUES) if choices.flag() else choices.some(20)
            fields.append((choices.one(NAMES), value))
        return fields

    def _headers(self, choices: Choices) -> None:
        # The library lets no request pass without a path, but for CONNECT.
        fields = [(b":path", b"/a/b"), (b":method", b"POST"), (b"content-type", b"application/grpc")]
        try:
            said = headers.read_headers([*fields, *self._fields(choices)])
        except headers.NotGrpcError as error:
            assert error.http_status in {b"405", b"415"}  # noqa: PT017 - it may raise or not
        except StatusError as error:
            assert error.code in {Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED}  # noqa: PT017
            self._comes_out(error.code, error.text)
        else:
            assert said.encoding in framing.ENCODINGS
            assert said.timeout_ns is None or said.timeout_ns >= 0
            assert all(isinstance(value, bytes) is key.endswith("-bin") for key, value in said.metadata)

    def _response(self, choices: Choices) -> None:
        fields = self._fields(choices)
        refused = client_headers.refused_by(fields)
        assert refused is None or refused.code is not grpc.StatusCode.OK
        ending = client_headers.ending_of(fields)
        assert (ending.code is grpc.StatusCode.OK) == (dict(fields).get(b"grpc-status") == b"0")
        assert client_headers.ending_of_reset(choices.below(1 << 32)).code is not grpc.StatusCode.OK

    def _status(self, choices: Choices) -> None:
        text = "".join(choices.one(TEXTS) for _ in range(choices.below(40))) * choices.one((1, 1, 30))
        text += choices.some(30).decode("utf-8", "replace")
        self._comes_out(choices.one(tuple(Code)), text)

    @staticmethod
    def _comes_out(code: Code, text: str) -> None:
        for fields in (headers.trailers(code, text), headers.trailers_only(code, text)):
            assert sum(len(name) + len(value) + 32 for name, value in fields) <= 8 << 10
            assert all(0x20 <= byte < 0x7F for _, value in fields for byte in value), fields
            ending = client_headers.ending_of(fields)
            assert ending.code.value[0] == int(code)
            if code is not Code.OK:
                whole = text[: headers.MAX_TEXT].encode("utf-8", "replace").decode()
                assert ending.details == whole, (ending.details, whole)

    @staticmethod
    def _timeout(choices: Choices) -> None:
        asked_ns = choices.below(1 << 63)
        asked_ns >>= choices.below(63)
        text = client_headers.timeout_text(asked_ns)
        fields = client_headers.request_headers(b"/a/b", b"localhost", asked_ns, ())
        said = headers.read_headers(fields)
        assert said.timeout_ns is not None
        assert len(text) <= 9
        if asked_ns < 10**17:  # above that, in hours, it is cut to what can be said
            assert asked_ns <= said.timeout_ns or asked_ns == 0, (asked_ns, text)
            assert said.timeout_ns <= max(asked_ns * 1.0001, 1) + 1
