"""Answers that are not predictions, grouped by what the caller should do; and what is wrong with a contract.

The text of each is written for the caller: it says what was expected and what came, and holds no path,
no secret and no traceback. Which gRPC status each one meets is one table, in `rpc.status`. The `reason` is
for whoever counts them: a word of a short list, finer than the status.
"""

import enum
from typing import ClassVar


class Reason(enum.StrEnum):
    """Why a call did not end with a prediction. Values are labels of metrics: they do not change."""

    INVALID_REQUEST = "invalid_request"
    NON_FINITE = "non_finite"
    MODEL_NOT_FOUND = "model_not_found"
    VERSION_NOT_FOUND = "version_not_found"
    MODEL_NOT_READY = "model_not_ready"
    SHUTTING_DOWN = "shutting_down"
    SERVER_FULL = "server_full"
    MODEL_FULL = "model_full"
    EXPIRED = "expired"
    TOO_SLOW = "too_slow"
    CANCELLED = "cancelled"
    CONTRACT_MISMATCH = "contract_mismatch"
    REFUSED = "refused"
    UNAUTHENTICATED = "unauthenticated"
    MODEL_FAILED = "model_failed"
    BUG = "bug"


class ServingError(Exception):
    """Base of every error whose text may travel to the caller.

    `version` is that of the servable that was meant, 0 where no servable had been found yet.
    """

    usual_reason: ClassVar[Reason] = Reason.BUG

    def __init__(self, text: str, reason: Reason | None = None, version: int = 0) -> None:
        super().__init__(text)
        self.reason = reason or self.usual_reason
        self.version = version


class InvalidRequestError(ServingError):
    """The call is wrong: a name, shape, dtype, size, or a NaN where it is refused. Fix the call."""

    usual_reason = Reason.INVALID_REQUEST


class NotFoundError(ServingError):
    """No such model or version. Fix the call."""

    usual_reason = Reason.MODEL_NOT_FOUND


class UnavailableError(ServingError):
    """Known, but not available yet, or draining. Retry within the deadline."""

    usual_reason = Reason.MODEL_NOT_READY


class OverloadedError(ServingError):
    """More in flight than the bound. Go without now."""

    usual_reason = Reason.SERVER_FULL


class DeadlineExceededError(ServingError):
    """Could not or did not finish in time; where the reason is EXPIRED, nothing was started."""

    usual_reason = Reason.TOO_SLOW


class CancelledError(ServingError):
    """The caller went away. Nobody reads this; it is counted."""

    usual_reason = Reason.CANCELLED


class ContractMismatchError(ServingError):
    """The contract asked for is not the one served. Bind again."""

    usual_reason = Reason.CONTRACT_MISMATCH


class RefusedError(ServingError):
    """A model file or the server's state does not allow it; the text says what would have to change."""

    usual_reason = Reason.REFUSED


class UnauthenticatedError(ServingError):
    """No token that opens this RPC came with the call. Send one."""

    usual_reason = Reason.UNAUTHENTICATED


class InternalError(ServingError):
    """A bug, here or in the model's runtime. The text is fixed; the traceback is in the log only."""

    usual_reason = Reason.MODEL_FAILED


class ContractError(ValueError):
    """A contract that cannot be read or contradicts itself; the text names the field."""
