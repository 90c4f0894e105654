"""The certificate of the TCP listeners: read, tried out, and renewed while they are open."""

import base64
import logging
import re
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inference_server.adapters.renewal import Renewal, RenewalError, read_small, warn_where_others_can_read

log = logging.getLogger(__name__)

PEM_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
PEM_KEY: Final = re.compile(rb"-----BEGIN PRIVATE KEY-----(.+?)-----END PRIVATE KEY-----", re.DOTALL)
# The object identifiers of Ed25519 and Ed448.
EDWARDS: Final = (b"\x06\x03\x2b\x65\x70", b"\x06\x03\x2b\x65\x71")
# A key names its algorithm at its beginning; after that is the secret, where any bytes can be.
ALGORITHM_BYTES: Final = 16
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module has no name for.
NO_CHECK_TIME: Final = 0x200000
# Each side's turns in a handshake; TLS 1.3 needs two.
TURNS: Final = 8


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """PEM files: the certificate with what it is issued by, its key, and who issues those of callers.

    With `client_ca`, a gRPC caller without a certificate of such an issuer is not let in.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that was tried out: its key fits it and a handshake succeeds.

    `context` has it for servers of the ssl module. Times are in seconds since 1970.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    not_before_s: float
    not_after_s: float
    context: ssl.SSLContext = field(repr=False, compare=False)

    def trouble(self, now_s: float) -> str:
        """Say why nobody would accept it at this time; empty when that is not so."""
        if now_s >= self.not_after_s:
            return f"expired on {_day(self.not_after_s)}"
        if now_s < self.not_before_s:
            return f"not valid before {_day(self.not_before_s)}"
        return ""


def watch_certificate(options: TlsOptions) -> Renewal[Certificate]:
    """Read the files, or raise RenewalError where no listener could use them.

    A certificate that has expired is served all the same at the start, so that Unix sockets are: who comes by
    TCP will refuse it. A renewed one that nobody would accept does not replace one that they do.
    """
    files = [options.certificate, options.key, *filter(None, (options.client_ca,))]

    def parse(contents: Sequence[bytes], before: Certificate | None) -> Certificate:
        certificate = _read(options, contents)
        now_s = time.time()
        if trouble := certificate.trouble(now_s):
            if before is not None and not before.trouble(now_s):
                raise RenewalError(f"{options.certificate}: {trouble}")
            log.error("TLS: %s: %s", options.certificate, trouble)
        return certificate

    renewal = Renewal("TLS", files, parse)
    warn_where_others_can_read("TLS", options.key)
    return renewal


def _read(options: TlsOptions, contents: Sequence[bytes]) -> Certificate:
    chain, key, *rest = contents
    client_ca = rest[0] if rest else None
    first = PEM_CERTIFICATE.search(chain)
    if first is None:
        raise RenewalError(f"{options.certificate}: expected certificates in PEM, there is none")
    if b"PRIVATE KEY-----" not in key:
        raise RenewalError(f"{options.key}: expected a private key in PEM, there is none")
    if b"ENCRYPTED" in key:
        raise RenewalError(f"{options.key}: expected a key without a passphrase")
    if _is_edwards(key):
        raise RenewalError(f"{options.key}: expected an RSA or EC key; gRPC's TLS takes no Ed25519 or Ed448")
    if client_ca is not None:
        _check_issuers(options.client_ca, client_ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.certificate, options.key)
        facts = _rehearse(context, first[0].decode("ascii"))
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise RenewalError(f"{options.certificate}, {options.key}: {_cause(error)}") from None
    # The ssl module reads the files itself. What gRPC gets was tried out only if it read the same.
    if [read_small(options.certificate), read_small(options.key)] != [chain, key]:
        raise RenewalError(f"{options.certificate}, {options.key}: being written")
    begins_s, ends_s = (ssl.cert_time_to_seconds(str(facts[name])) for name in ("notBefore", "notAfter"))
    return Certificate(chain, key, client_ca, begins_s, ends_s, context)


def _rehearse(context: ssl.SSLContext, certificate: str) -> Mapping[str, object]:
    """Shake hands in memory with a caller that trusts this certificate, and return what it holds.

    Raises SSLError where no caller would take it for a server's; its times are not looked at.
    """
    caller = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    caller.check_hostname = False
    caller.load_verify_locations(cadata=certificate)
    caller.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = caller.wrap_bio(back, there)
    answering = context.wrap_bio(there, back, server_side=True)
    for _ in range(TURNS):
        if all([_step(side) for side in (asking, answering)]):  # noqa: C419 - each side has to have its turn
            break
    return asking.getpeercert() or {}


def _step(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _is_edwards(key: bytes) -> bool:
    match = PEM_KEY.search(key)
    if match is None:
        return False
    try:
        decoded = base64.b64decode(match[1])
    except ValueError:  # the ssl module says what is wrong with it
        return False
    return any(name in decoded[:ALGORITHM_BYTES] for name in EDWARDS)


def _check_issuers(file: Path | None, content: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise RenewalError(f"{file}: expected certificates of issuers in PEM, there is none") from None


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key is not the certificate's"
        if error.reason and error.reason != "CERTIFICATE_VERIFY_FAILED":
            return error.reason.lower().replace("_", " ")
        return getattr(error, "verify_message", "") or "expected a certificate and its key in PEM, complete"
    return getattr(error, "strerror", "") or "expected a certificate and its key in PEM, complete"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
