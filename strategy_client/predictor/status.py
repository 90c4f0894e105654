"""The one table from gRPC status codes to reasons and to errors."""

from dataclasses import dataclass
from typing import Final

import grpc

from strategy_client.events import Reason


class InferenceError(Exception):
    """`InferenceClient.predict` or `describe` gave no answer. `reason` is the runner's word for it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class InvalidQuestionError(InferenceError):
    """The model does not take such rows; fix the call."""


class ModelNotFoundError(InferenceError):
    """There is no such model or version; fix the call."""


class ContractMismatchError(InferenceError):
    """The contract asked for is not the one served; bind again."""


class SidecarUnavailableError(InferenceError):
    """The sidecar, or the model in it, cannot answer now; go without, or try again later."""


class UnauthenticatedError(InferenceError):
    """The sidecar wants a token, or another one than came; give the client that one."""


class DeadlineExceededError(InferenceError):
    """There was no answer in time; go without."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one status code means: for one part of a call, for the call as a whole, and as an error."""

    part: Reason
    call: Reason
    error: type[InferenceError]


MEANINGS: Final = {
    grpc.StatusCode.NOT_FOUND: Meaning(Reason.MODEL_NOT_FOUND, Reason.MODEL_NOT_FOUND, ModelNotFoundError),
    grpc.StatusCode.UNAVAILABLE: Meaning(Reason.MODEL_NOT_READY, Reason.UNAVAILABLE, SidecarUnavailableError),
    grpc.StatusCode.FAILED_PRECONDITION: Meaning(
        Reason.CONTRACT_MISMATCH, Reason.CONTRACT_MISMATCH, ContractMismatchError
    ),
    # Non-finite rows never leave the client unless the contract takes them, so what the sidecar refuses is
    # the rows' form: the model is not the one this client thinks it is.
    grpc.StatusCode.INVALID_ARGUMENT: Meaning(
        Reason.CONTRACT_MISMATCH, Reason.CONTRACT_MISMATCH, InvalidQuestionError
    ),
    # A running strategy can do nothing about it, as about a sidecar that is not there; the text says which.
    grpc.StatusCode.UNAUTHENTICATED: Meaning(Reason.UNAVAILABLE, Reason.UNAVAILABLE, UnauthenticatedError),
    grpc.StatusCode.DEADLINE_EXCEEDED: Meaning(
        Reason.DEADLINE_EXCEEDED, Reason.DEADLINE_EXCEEDED, DeadlineExceededError
    ),
}
# RESOURCE_EXHAUSTED, INTERNAL, CANCELLED and every other code: go without, now.
ANY_OTHER: Final = Meaning(Reason.UNAVAILABLE, Reason.UNAVAILABLE, SidecarUnavailableError)

# What stands in gRPC's account of a connection that was not made, and what it means.
TROUBLES: Final = {
    "CERTIFICATE_VERIFY_FAILED: certificate has expired": "its certificate has expired",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not issued by one of the ca",
    "Hostname Verification Check failed": "its certificate is for another name than this",
    "WRONG_VERSION_NUMBER": "it speaks no TLS there",
    "Socket closed": "it closed the connection; it may speak TLS only, or want a certificate of this client",
}

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}


def meaning_of(code: grpc.StatusCode | int) -> Meaning:
    """Look a code up, given as gRPC's or as the number that a `PartStatus` carries."""
    if isinstance(code, int):
        code = _BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN)
    return MEANINGS.get(code, ANY_OTHER)


def error_of(error: grpc.RpcError, target: str, trouble: str = "") -> InferenceError:
    """Return the error that a failed call is raised as; `trouble` is why there may be no connection."""
    meaning = meaning_of(error.code())
    told = describe_error(error)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and trouble:
        told = f"{told}: {trouble}"
    return meaning.error(meaning.call, f"{target}: {told}")


def describe_error(error: grpc.RpcError, *, connected: bool = False) -> str:
    """Return the status and the text of a failed call on one line.

    Unless it was `connected` already, the text may be about how the connection is to be made.
    """
    details = error.details() or ""
    if error.code() is grpc.StatusCode.UNAVAILABLE and not connected:
        details = next((told for mark, told in TROUBLES.items() if mark in details), details)
    return f"{error.code().name} {details}".strip()
