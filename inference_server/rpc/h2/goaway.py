"""The last word on a connection of which the library says no more: what came is no HTTP/2, or too much."""

import struct
from typing import Final

import ngh2

GOAWAY: Final = 7
# Length in three bytes, type, flags, stream 0, last stream, error code (RFC 9113, sections 4.1 and 6.8).
FRAME: Final = struct.Struct(">HBBBIII")
MAX_STREAM: Final = (1 << 31) - 1


def last_goaway(error: ngh2.NGH2Error) -> bytes:
    """Return a GOAWAY frame that says why; which streams were processed is not known any more."""
    too_much = isinstance(error, ngh2.DenialOfServiceError)
    code = ngh2.ErrorCode.ENHANCE_YOUR_CALM if too_much else ngh2.ErrorCode.PROTOCOL_ERROR
    told = str(error).encode("ascii", "replace")[:255]
    length = 8 + len(told)
    return FRAME.pack(length >> 8, length & 0xFF, GOAWAY, 0, 0, MAX_STREAM, code) + told
