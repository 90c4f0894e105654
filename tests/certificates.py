"""Certificates for tests: an authority, and what it issues as files."""

import datetime as dt
import socket
import ssl
from pathlib import Path

import grpc
import trustme

NAMES = ("localhost", "127.0.0.1")


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str = "ca", above: "Authority | None" = None) -> None:
        """`above` is the authority that vouches for this one; without it, it does so itself."""
        self._ca = above._ca.create_child_ca() if above else trustme.CA()
        self._folder = folder
        self.pem = self._ca.cert_pem.bytes()
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.pem)

    def issue(self, name: str, *names: str, days: float = 1.0) -> tuple[Path, Path]:
        """Write NAME.pem and NAME.key, valid until so many days from now, and return the two."""
        chain, key = self.pair(*names, days=days)
        files = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        for file, content in zip(files, (chain, key), strict=True):
            file.touch(mode=0o600)
            file.write_bytes(content)
        return files

    def pair(self, *names: str, days: float = 1.0, begins_in_days: float = -2.0) -> tuple[bytes, bytes]:
        """Return a certificate and its key."""
        now = dt.datetime.now(dt.UTC)
        issued = self._ca.issue_cert(
            *(names or NAMES),
            not_before=now + dt.timedelta(days=begins_in_days),
            not_after=now + dt.timedelta(days=days),
        )
        return b"".join(pem.bytes() for pem in issued.cert_chain_pems), issued.private_key_pem.bytes()


def credentials(issuer: bytes, own: tuple[bytes, bytes] | None = None) -> grpc.ChannelCredentials:
    """Return a caller's credentials: whose servers it trusts, and its own certificate."""
    chain, key = own or (None, None)
    return grpc.ssl_channel_credentials(issuer, key, chain)


def served_certificate(port: int, version: ssl.TLSVersion | None = None) -> bytes:
    """Return the certificate that a new connection to this port gets, as DER; OSError where there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port), 60) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(binary_form=True) or b""
