"""What every transport makes of a call that comes in: its id, and messages out of bytes."""

import itertools
import secrets
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from inference_server.core.errors import InvalidRequestError
from inference_server.rpc.fields import FieldBound
from inference_server.rpc.method import CallContext, Method
from inference_server.rpc.status import Code, StatusError, status_of


class RequestIds:
    """Ids that no other call in this process has, nor likely one of another process."""

    def __init__(self) -> None:
        self._prefix: Final = secrets.token_hex(4)
        self._numbers: Final = itertools.count(1)

    def __call__(self) -> str:
        """Return the next."""
        return f"{self._prefix}-{next(self._numbers)}"


Parser = Callable[[bytes], Any]


def parser(kind: type[Message]) -> Parser:
    """Return what makes a message of bytes.

    It raises StatusError, INVALID_ARGUMENT, for bytes that are none of its kind or that hold too much.
    """
    bound = FieldBound(kind)

    def parse(raw: bytes) -> Message:
        try:
            bound.check(raw)
            return kind.FromString(raw)
        except InvalidRequestError as error:
            raise status_of(error) from None
        except DecodeError:
            text = f"expected a {kind.DESCRIPTOR.full_name}, came {len(raw)} bytes that are none"
            raise StatusError(Code.INVALID_ARGUMENT, text) from None

    return parse


def read_only_message(method: Method, call: CallContext, parse: Parser, raw: bytes) -> Any:
    """Parse the one message of a call, or let the method refuse the call and raise StatusError."""
    try:
        return parse(raw)
    except StatusError as error:
        method.refuse(call, error)
        raise
