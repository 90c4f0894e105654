"""Answers that are not predictions, grouped by what the caller should do; and what is wrong with a contract.

The text of each is written for the caller: it says what was expected and what came, and holds no path,
no secret and no traceback. Which gRPC status each one meets is one table, in `rpc.status`.
"""


class ServingError(Exception):
    """Base of every error whose text may travel to the caller."""


class InvalidRequestError(ServingError):
    """The call is wrong: a name, shape, dtype, size, or a NaN where it is refused. Fix the call."""


class NotFoundError(ServingError):
    """No such model or version. Fix the call."""


class UnavailableError(ServingError):
    """Known, but not available yet, or draining. Retry within the deadline."""


class OverloadedError(ServingError):
    """More in flight than the bound. Go without now."""


class DeadlineExceededError(ServingError):
    """Could not or did not finish in time; if it expired while waiting, nothing was started."""


class ContractMismatchError(ServingError):
    """The contract asked for is not the one served. Bind again."""


class RefusedError(ServingError):
    """A model file or the server's state does not allow it; the text says what would have to change."""


class InternalError(ServingError):
    """A bug, here or in the model's runtime. The text is fixed; the traceback is in the log only."""


class ContractError(ValueError):
    """A contract that cannot be read or contradicts itself; the text names the field."""
