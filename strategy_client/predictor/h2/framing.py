"""gRPC's length-prefixed messages: one byte of flags, four bytes of length, the message."""

import struct
from typing import Final

import grpc

PREFIX: Final = struct.Struct(">BI")


class FramingError(Exception):
    """Bytes that are no message of ours; `code` is what the call ends with."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


def frame(message: bytes) -> bytes:
    """Return a message, not compressed, as it stands in DATA."""
    return PREFIX.pack(0, len(message)) + message


class Reassembly:
    """Messages out of the DATA of one stream, however it is cut; none is longer than `max_bytes`."""

    __slots__ = ("_max_bytes", "_rest")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()

    def __repr__(self) -> str:
        return f"<Reassembly rest={len(self._rest)} B>"

    @property
    def partial(self) -> bool:
        """Whether the beginning of a message lies here whose end did not come."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the messages that are whole now.

        FramingError for a compressed message, and for one that is too long as soon as its prefix is there.
        """
        rest = self._rest
        # Nearly always one piece holds one message.
        if not rest and len(data) >= PREFIX.size and self._length(data) == len(data) - PREFIX.size:
            return [data[PREFIX.size :]]
        rest += data
        messages: list[bytes] = []
        begin = 0
        while len(rest) - begin >= PREFIX.size:
            end = begin + PREFIX.size + self._length(rest, begin)
            if end > len(rest):
                break
            messages.append(bytes(memoryview(rest)[begin + PREFIX.size : end]))
            begin = end
        del rest[:begin]
        return messages

    def _length(self, data: bytes | bytearray, begin: int = 0) -> int:
        flags, length = PREFIX.unpack_from(data, begin)
        if flags:
            raise FramingError(
                grpc.StatusCode.INTERNAL, f"a message with flags {flags}: compressed, which nobody asked for"
            )
        if length > self._max_bytes:
            raise FramingError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"a message of {length} bytes came; expected at most {self._max_bytes}",
            )
        return int(length)
