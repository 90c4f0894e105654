"""Messages in the bytes of a stream: a flag, 1 for compressed, the length in four bytes, the message."""

import struct
import zlib
from collections.abc import Mapping
from typing import Final

from inference_server.core.size import shown_bytes
from inference_server.rpc.status import Code, StatusError

PREFIX: Final = struct.Struct(">BI")
PREFIX_BYTES: Final = PREFIX.size
# What `grpc-encoding` may say, and zlib's word for the form of it; None: not compressed.
ENCODINGS: Final[Mapping[bytes, int | None]] = {
    b"identity": None,
    b"gzip": 16 + zlib.MAX_WBITS,
    b"deflate": zlib.MAX_WBITS,
}


def frame(message: bytes, max_bytes: int) -> bytes:
    """Return an answer as it goes on the wire; StatusError, RESOURCE_EXHAUSTED, for one that is too long."""
    if len(message) > max_bytes:
        raise _too_long("an answer", len(message), max_bytes)
    return PREFIX.pack(0, len(message)) + message


class MessageReader:
    """Puts messages of at most `max_bytes` together from pieces that are cut anywhere."""

    __slots__ = ("_form", "_held", "_max_bytes")

    def __init__(self, max_bytes: int, encoding: bytes = b"identity") -> None:
        self._max_bytes = max_bytes
        self._form = ENCODINGS[encoding]
        self._held = bytearray()

    def __repr__(self) -> str:
        return f"<MessageReader with {len(self._held)} bytes of a message>"

    @property
    def held_bytes(self) -> int:
        """How many bytes wait for the rest of their message."""
        return len(self._held)

    def check_whole(self) -> None:
        """Raise StatusError where a message has begun and nothing more will come."""
        if self._held:
            raise StatusError(Code.INVALID_ARGUMENT, "expected whole messages, the last was cut off")

    def clear(self) -> None:
        """Forget the piece that is held."""
        self._held.clear()

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece and return the messages that it completes.

        Raises StatusError: RESOURCE_EXHAUSTED as soon as a message says that it is too long, or becomes so
        when it is decompressed, INTERNAL for one that is not compressed as the call's headers say.
        """
        held = self._held
        # By far the most common: a piece that is one message.
        if not held and len(data) >= PREFIX_BYTES:
            flag, length = PREFIX.unpack_from(data)
            if flag == 0 and length <= self._max_bytes and len(data) == PREFIX_BYTES + length:
                return [data[PREFIX_BYTES:]]
        held += data
        messages: list[bytes] = []
        start = 0
        while len(held) - start >= PREFIX_BYTES:
            flag, length = PREFIX.unpack_from(held, start)
            if length > self._max_bytes:
                raise _too_long("a message", length, self._max_bytes)
            end = start + PREFIX_BYTES + length
            if len(held) < end:
                break
            messages.append(self._message(flag, bytes(held[start + PREFIX_BYTES : end])))
            start = end
        del held[:start]
        return messages

    def _message(self, flag: int, raw: bytes) -> bytes:
        if flag == 0:
            return raw
        if flag != 1 or self._form is None:
            raise StatusError(Code.INTERNAL, f"expected messages that are not compressed, came flag {flag}")
        expander = zlib.decompressobj(self._form)
        try:
            message = expander.decompress(raw, self._max_bytes + 1)
        except zlib.error:
            raise StatusError(Code.INTERNAL, "expected a message compressed as grpc-encoding says") from None
        if len(message) > self._max_bytes:
            raise _too_long("a message", len(message), self._max_bytes)
        if not expander.eof:
            raise StatusError(Code.INTERNAL, "expected a whole compressed message, came a part of one")
        return message


def _too_long(what: str, count: int, max_bytes: int) -> StatusError:
    return StatusError(
        Code.RESOURCE_EXHAUSTED,
        f"expected {what} of at most {shown_bytes(max_bytes)}, came more ({count} vs. {max_bytes})",
    )
