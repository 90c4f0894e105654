"""The one table where an error meets a gRPC status code."""

import enum
from typing import Final

from inference_server.core.errors import (
    CancelledError,
    ContractMismatchError,
    DeadlineExceededError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    ServingError,
    UnauthenticatedError,
    UnavailableError,
)


class Code(enum.IntEnum):
    """The gRPC status codes that this server gives."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


CODES: Final[dict[type[ServingError], Code]] = {
    InvalidRequestError: Code.INVALID_ARGUMENT,
    NotFoundError: Code.NOT_FOUND,
    UnavailableError: Code.UNAVAILABLE,
    OverloadedError: Code.RESOURCE_EXHAUSTED,
    CancelledError: Code.CANCELLED,
    DeadlineExceededError: Code.DEADLINE_EXCEEDED,
    ContractMismatchError: Code.FAILED_PRECONDITION,
    RefusedError: Code.FAILED_PRECONDITION,
    UnauthenticatedError: Code.UNAUTHENTICATED,
    InternalError: Code.INTERNAL,
}


class StatusError(Exception):
    """How a call ends when it does not end well: a code, and a text that is safe to send."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def status_of(error: ServingError) -> StatusError:
    """Return the status that this error means to the caller."""
    return StatusError(CODES[type(error)], str(error))
