"""Who may call what: bearer tokens by group of RPCs."""

import hmac
from collections.abc import Mapping
from typing import Final, Self

from inference_server.adapters.renewal import Renewal
from inference_server.adapters.token_file import Digests, TokenOptions, digest, watch_tokens
from inference_server.core.errors import UnauthenticatedError
from inference_server.rpc.method import CallContext, Group

METADATA_KEY: Final = "authorization"
SCHEME: Final = "bearer"
# A token of the second opens the first as well.
OPENED_BY: Final = {
    Group.OPEN: (),
    Group.PREDICT: (Group.PREDICT, Group.CONTROL),
    Group.CONTROL: (Group.CONTROL,),
}


class Access:
    """Lets calls in by the token that they bring, for the groups that have tokens; the others are open."""

    def __init__(self, tokens: Mapping[Group, Renewal[Digests]]) -> None:
        self._tokens: Final = tokens

    @classmethod
    def by_tokens(cls, options: TokenOptions) -> Self:
        """Read the files of tokens, or raise RenewalError."""
        files = {Group.PREDICT: options.predict, Group.CONTROL: options.control}
        return cls({group: watch_tokens(file) for group, file in files.items() if file})

    def __repr__(self) -> str:
        groups = ", ".join(group.value for group in self._tokens)
        return f"<Access by token to {groups or 'nothing'}>"

    @property
    def renewals(self) -> tuple[Renewal[Digests], ...]:
        """The files, to be watched."""
        return tuple(self._tokens.values())

    def state(self) -> tuple[Digests, ...]:
        """Return what the checks go by now; equal until a file of tokens is renewed."""
        return tuple(renewal.value for renewal in self._tokens.values())

    def check(self, group: Group, call: CallContext) -> None:
        """Raise UnauthenticatedError unless the call may go on."""
        if group not in self._tokens:
            return
        came = [value for key, value in call.metadata if key == METADATA_KEY]
        if not came:
            raise UnauthenticatedError(
                f"no token came; the {group.value} calls expect the metadata {METADATA_KEY}: Bearer TOKEN"
            )
        # Two of them: a proxy added its own, and which one was meant is not guessed.
        if len(came) > 1 or not self._opens(group, came[0]):
            raise UnauthenticatedError(f"the token that came does not open the {group.value} calls")

    def _opens(self, group: Group, came: str | bytes) -> bool:
        scheme, _, token = (came if isinstance(came, str) else came.decode("latin-1")).partition(" ")
        if scheme.lower() != SCHEME:
            return False
        # All digests are compared, each in constant time: how long it takes tells nothing of a token.
        hashed = digest(token.strip().encode("utf-8", "replace"))
        known = [each for by in OPENED_BY[group] if by in self._tokens for each in self._tokens[by].value]
        return sum([hmac.compare_digest(hashed, each) for each in known]) > 0
