"""The HTTP server on its address."""

import logging
from collections.abc import Sequence
from typing import Self

from aiohttp import web

log = logging.getLogger(__name__)

Routes = Sequence[web.AbstractRouteDef]


class HttpListener:
    """An HTTP server that answers."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    @classmethod
    async def start(cls, routes: Routes, host: str, port: int) -> Self:
        """Bind and begin to answer these routes; OSError where the address cannot be had."""
        application = web.Application()
        application.add_routes(routes)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError:
            await runner.cleanup()
            raise
        log.info("http on %s", ", ".join(f"{address[0]}:{address[1]}" for address in runner.addresses))
        return cls(runner)

    @property
    def port(self) -> int:
        """The port, as the system chose it."""
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop answering and close the connections."""
        await self._runner.cleanup()
