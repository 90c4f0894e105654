"""Messages in the bytes of a stream: a flag, 1 for compressed, the length in four bytes, the message."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Packed:
    """A message as its caller compressed it, in the `form` of zlib's; its length is that."""

    raw: bytes
    form: int

    def __len__(self) -> int:
        return len(self.raw)

    def expanded(self, max_bytes: int) -> bytes:
        """Return the message.

        Raises StatusError: RESOURCE_EXHAUSTED where it is longer than `max_bytes`, INTERNAL where it is not
        compressed as said.
        """
        message = self.expanded_if_short(max_bytes)
        if message is None:
            raise _too_long("a message", max_bytes + 1, max_bytes)
        return message

    def expanded_if_short(self, at_most: int) -> bytes | None:
        """Return the message; None where it is longer than `at_most`, which ends the work there."""
        expander = zlib.decompressobj(self.form)
        try:
            message = expander.decompress(self.raw, at_most + 1)
        except zlib.error:
            raise StatusError(Code.INTERNAL, "expected a message compressed as grpc-encoding says") from None
        if len(message) > at_most:
            return None
        if not expander.eof:
            raise StatusError(Code.INTERNAL, "expected a whole compressed message, came a part of one")
        if expander.unused_data:
            raise StatusError(Code.INTERNAL, "expected one compressed message, came more after it")
        return message


class MessageReader:
    """Puts messages of at most `max_bytes` together from pieces that are cut anywhere.

    `broken` is what is wrong with what came after the last message, None as long as nothing is:
    RESOURCE_EXHAUSTED as soon as a message says that it is too long, INTERNAL for one that is compressed and
    should not be. Nothing is to be fed after that.
    """

    __slots__ = ("_form", "_held", "_max_bytes", "broken")

    def __init__(self, max_bytes: int, encoding: bytes = b"identity") -> None:
        self.broken: StatusError | None = None
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
        """Raise StatusError: what is `broken`, or where a message has begun, as nothing more will come."""
        if self.broken is not None:
            raise self.broken
        if self._held:
            raise StatusError(Code.INVALID_ARGUMENT, "expected whole messages, the last was cut off")

    def clear(self) -> None:
        """Forget the piece that is held, and what is broken."""
        self._held.clear()
        self.broken = None

    def feed(self, data: bytes) -> list[bytes | Packed]:
        """Take the next piece and return the messages that it completes."""
        held = self._held
        # By far the most common: a piece that is one message.
        if not held and len(data) >= PREFIX_BYTES:
            flag, length = PREFIX.unpack_from(data)
            if flag == 0 and length <= self._max_bytes and len(data) == PREFIX_BYTES + length:
                return [data[PREFIX_BYTES:]]
        held += data
        messages: list[bytes | Packed] = []
        start = 0
        try:
            while len(held) - start >= PREFIX_BYTES:
                flag, length = PREFIX.unpack_from(held, start)
                if length > self._max_bytes:
                    raise _too_long("a message", length, self._max_bytes)
                end = start + PREFIX_BYTES + length
                if len(held) < end:
                    break
                messages.append(self._message(flag, bytes(held[start + PREFIX_BYTES : end])))
                start = end
        except StatusError as error:
            self.broken = error
            start = len(held)
        del held[:start]
        return messages

    def _message(self, flag: int, raw: bytes) -> bytes | Packed:
        if flag == 0:
            return raw
        if flag != 1 or self._form is None:
            raise StatusError(Code.INTERNAL, f"expected messages that are not compressed, came flag {flag}")
        return Packed(raw, self._form)


def _too_long(what: str, count: int, max_bytes: int) -> StatusError:
    return StatusError(
        Code.RESOURCE_EXHAUSTED,
        f"expected {what} of at most {shown_bytes(max_bytes)}, came more ({count} vs. {max_bytes})",
    )
