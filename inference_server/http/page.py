"""The status page: what an operator looks at during trading hours. `/`, its files, and its data as JSON.

It is only read, and tells nothing that `status` and `/metrics` do not. The browser asks again every step;
a reader that is slow, gone or asleep costs nothing and holds nothing. No text that it shows is ever taken for
markup, and the browser is told to load and run nothing but the page's own files.
"""

import asyncio
import hashlib
import ipaddress
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Final

from aiohttp import web

from inference_server.core.clock import Clock
from inference_server.http.listener import Routes
from inference_server.http.page_document import Document
from inference_server.http.page_options import PageOptions
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry
from inference_server.serving.statistics import Statistics

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.Response]]

# Path, file in the package, content type.
FILES: Final = (
    ("/", "status.html", "text/html"),
    ("/status.css", "status.css", "text/css"),
    ("/status.js", "status.js", "text/javascript"),
    ("/charts.js", "charts.js", "text/javascript"),
    ("/details.js", "details.js", "text/javascript"),
    ("/status.svg", "status.svg", "image/svg+xml"),
)
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A page from the day before must not talk to the sidecar of today.
    "Cache-Control": "no-store",
}
# Longer than any that we hand out.
MAX_CURSOR: Final = 80
HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?")


class StatusPage:
    """The page and its data. Samples are taken while `run` runs."""

    def __init__(
        self,
        registry: Registry,
        drain: Drain,
        statistics: Statistics,
        clock: Clock,
        options: PageOptions,
    ) -> None:
        self._step_s: Final = options.step_s
        folder = resources.files("inference_server.http") / "page_files"
        self._files: Final = {path: (folder / name).read_bytes() for path, name, _ in FILES}
        digest = hashlib.sha256(b"\0".join(self._files.values())).hexdigest()
        self._document: Final = Document(
            registry, drain, statistics, clock, page=digest[:16], step_s=options.step_s
        )
        names = {"localhost", socket.gethostname(), *options.hosts}
        self._hosts: Final = frozenset(name.lower() for name in names)

    def __repr__(self) -> str:
        return f"<StatusPage {self._document!r}>"

    def routes(self) -> Routes:
        """Return the page's routes."""

        async def data(request: web.Request) -> web.Response:
            self._check_host(request)
            cursor = request.query.get("cursor", "")
            body = await self._document.write(cursor if len(cursor) <= MAX_CURSOR else "")
            return _response(body, "application/json")

        async def model(request: web.Request) -> web.Response:
            self._check_host(request)
            body = self._document.write_model(request.match_info["model"])
            if body is None:
                raise web.HTTPNotFound(text="no such model\n", headers=HEADERS)
            return _response(body, "application/json")

        return [
            *(web.get(path, self._file(path, content_type)) for path, _, content_type in FILES),
            web.get("/status.json", data),
            web.get("/status/{model}.json", model),
        ]

    async def run(self) -> None:
        """Take a sample each step until cancelled."""
        while True:
            await asyncio.sleep(self._step_s)
            try:
                self._document.step()
            except Exception:  # a page without its charts is a page; calls have nothing to do with it
                log.exception("the status page has no sample of this step")

    def _file(self, path: str, content_type: str) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            self._check_host(request)
            return _response(self._files[path], content_type)

        return answer

    def _check_host(self, request: web.Request) -> None:
        if not self._is_known(request.headers.get("Host", "")):
            raise web.HTTPMisdirectedRequest(
                text="This name is not known here. Use an address, or have the operator add the name "
                "to [page] hosts in its configuration.\n",
                headers=HEADERS,
            )

    def _is_known(self, host: str) -> bool:
        match = HOST.fullmatch(host)
        if match is None:
            return False
        name = match[1].lower().removesuffix(".")
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name in self._hosts or name.endswith(".localhost")
        return True


def _response(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=HEADERS)
