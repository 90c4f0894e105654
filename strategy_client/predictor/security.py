"""How a client proves who it is, and whom it trusts: certificates, and a token."""

import contextlib
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

# What gRPC takes as a value of metadata, without blanks.
TOKEN: Final = re.compile(r"[\x21-\x7e]+")


class SecurityError(ValueError):
    """Certificates or a token that cannot be used; the text names the file and what was expected."""


@dataclass(frozen=True, slots=True)
class Security:
    """PEM files, and a file that holds a token. Without any: plaintext, and no token.

    With `ca`, the issuers whose servers are trusted, HOST:PORT is spoken to by TLS; a Unix socket never is.
    `certificate` and `key` are the client's own, for a sidecar that asks for one. Of `token_file` the first
    line that is not empty and does not begin with # is sent with each call. It is read again for each call,
    so that a token can be exchanged; the certificates are read once. Raises SecurityError where half of
    what is needed is there.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise SecurityError("expected a certificate and its key, came one of them")
        if self.certificate is not None and self.ca is None:
            raise SecurityError("expected a ca beside the certificate: who issues those of the sidecar")

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Read the certificates, or raise SecurityError; None means plaintext."""
        if self.ca is None:
            return None
        trusted = _read(self.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=trusted.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise SecurityError(f"{self.ca}: expected certificates in PEM, there is none") from None
        if self.certificate is None or self.key is None:
            return grpc.ssl_channel_credentials(trusted)
        chain, key = _read(self.certificate), _read(self.key)
        try:
            # Without the last argument it would ask at the terminal for a passphrase.
            context.load_cert_chain(self.certificate, self.key, lambda: "")
        except (OSError, ValueError):
            raise SecurityError(
                f"{self.certificate}, {self.key}: expected a certificate and its key in PEM, no passphrase"
            ) from None
        return grpc.ssl_channel_credentials(trusted, key, chain)


class Token:
    """The token of a file, read anew each time; SecurityError where there is none at the start."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._token = _token(file)

    def metadata(self) -> tuple[str, str]:
        """Return what is to be sent with a call."""
        with contextlib.suppress(SecurityError):  # it is being exchanged: the old one may still be good
            self._token = _token(self._file)
        return ("authorization", f"Bearer {self._token}")


class TokenSender(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]  # generic in its published types only
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]  # generic in its published types only
):
    """Sends a token with each of grpcio's calls."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Send one question."""
        return continuation(self._with_token(client_call_details), request)

    def intercept_stream_stream(
        self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any
    ) -> Any:
        """Open a stream."""
        return continuation(self._with_token(client_call_details), request_iterator)

    def _with_token(self, details: Any) -> "_Details":
        return _Details((*(details.metadata or ()), self._token.metadata()))


class _Details(grpc.ClientCallDetails):
    """What a call is to have in place of what it had; what is not here stays."""

    def __init__(self, metadata: tuple[tuple[str, str | bytes], ...]) -> None:
        self.metadata = metadata


def _token(file: Path) -> str:
    lines = (line.strip() for line in _read(file).decode("ascii", "replace").splitlines())
    token = next((line for line in lines if line and not line.startswith("#")), "")
    if not TOKEN.fullmatch(token):
        raise SecurityError(f"{file}: expected a token, a line without blanks")
    return token


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SecurityError(f"{file}: {error.strerror}") from None
