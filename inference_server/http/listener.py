"""The HTTP server on its address."""

import logging
import ssl
from collections.abc import Sequence
from typing import Self

from aiohttp import web

from inference_server.adapters.certificate import Certificate
from inference_server.adapters.renewal import Renewal

log = logging.getLogger(__name__)

Routes = Sequence[web.AbstractRouteDef]


class HttpListener:
    """An HTTP server that answers."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    @classmethod
    async def start(
        cls, routes: Routes, host: str, port: int, tls: Renewal[Certificate] | None = None
    ) -> Self:
        """Bind and begin to answer these routes, by HTTPS with `tls`; OSError where it cannot.

        No caller is asked for a certificate: those who probe and scrape have none.
        """
        application = web.Application()
        application.add_routes(routes)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=_context(tls) if tls else None).start()
        except OSError:
            await runner.cleanup()
            raise
        log.info(
            "%s on %s",
            "https" if tls else "http",
            ", ".join(_shown(host, port) for host, port, *_ in runner.addresses),
        )
        return cls(runner)

    @property
    def port(self) -> int:
        """The port, as the system chose it."""
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop answering and close the connections."""
        await self._runner.cleanup()


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _context(tls: Renewal[Certificate]) -> ssl.SSLContext:
    """Return a context by which each new connection gets the certificate of that time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def hello(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: object) -> None:
        del name
        connection.context = tls.value.context

    context.set_servername_callback(hello)
    return context
