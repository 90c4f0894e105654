"""The certificate of the TCP listeners as grpcio wants it."""

import grpc

from inference_server.adapters.certificate import Certificate
from inference_server.adapters.renewal import Renewal


def tls_credentials(tls: Renewal[Certificate]) -> grpc.ServerCredentials:
    """Return the credentials of one port: each new connection gets the certificate of that time.

    Connections that are open stay as they are. Each port needs its own, as each has to be told of a renewal.
    """
    given = tls.value

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        # Called by grpcio on a thread of its own before each handshake, so it only looks at what was read.
        nonlocal given
        if (certificate := tls.value) is given:
            return None
        given = certificate
        return _configuration(certificate)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(given),
        renewed,  # type: ignore[arg-type]  # its types leave out the None of its documentation
        require_client_authentication=given.client_ca is not None,
    )


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.chain)], certificate.client_ca
    )
