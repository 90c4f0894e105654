"""How a command proves to a sidecar who calls, and whom it trusts: certificates, and a token."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from inference_server.adapters.renewal import RenewalError, read_small
from inference_server.adapters.token_file import TOKEN


class ProofError(Exception):
    """Certificates or a token that cannot be used; the text names the file and what was expected."""


@dataclass(frozen=True, slots=True)
class Proof:
    """PEM files, and a file whose first token is sent. Without `ca` it is plaintext."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Read the certificates, or raise ProofError; None means plaintext."""
        if (self.certificate is None) != (self.key is None):
            raise ProofError("expected --certificate and --key, came one of them")
        if self.ca is None:
            if self.certificate is not None:
                raise ProofError("expected --ca beside --certificate: who issues those of the sidecar")
            return None
        trusted = _read(self.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=trusted.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise ProofError(f"{self.ca}: expected certificates in PEM, there is none") from None
        if self.certificate is None or self.key is None:
            return grpc.ssl_channel_credentials(trusted)
        chain, key = _read(self.certificate), _read(self.key)
        try:
            # Without the last argument it would ask at the terminal for a passphrase.
            context.load_cert_chain(self.certificate, self.key, lambda: "")
        except (OSError, ValueError):
            raise ProofError(
                f"{self.certificate}, {self.key}: expected a certificate and its key in PEM, no passphrase"
            ) from None
        return grpc.ssl_channel_credentials(trusted, key, chain)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Read the token, or raise ProofError; empty where none is to be sent."""
        if self.token_file is None:
            return ()
        lines = (line.strip() for line in _read(self.token_file).splitlines())
        token = next((line for line in lines if line and not line.startswith(b"#")), b"")
        if not TOKEN.fullmatch(token):
            raise ProofError(f"{self.token_file}: expected a token, a line of A-Z a-z 0-9 . _ ~ + / - =")
        return (("authorization", f"Bearer {token.decode('ascii')}"),)


NO_PROOF: Final = Proof()


def _read(file: Path) -> bytes:
    try:
        return read_small(file)
    except RenewalError as error:
        raise ProofError(str(error)) from None
