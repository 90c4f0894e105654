"""`/metrics`, `/healthz` and `/readyz` over HTTP, on threads of their own and never on the loop's."""

import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

from strategy_client.configuration import ConfigurationError, Problem

MAX_CONNECTIONS: Final = 8
# Who says nothing for so long is let go.
IDLE_S: Final = 5.0
# A page is made at most so often: however hard it is scraped, the loop keeps its turns.
PAGE_AGE_S: Final = 0.2
STOP_S: Final = 2.0

# A status, the content's type and the content.
Answer = tuple[HTTPStatus, str, bytes]

log = logging.getLogger(__name__)


class CachedPage:
    """An answer that is made anew at most every `age_s`, by whoever asks first; the others wait for it."""

    def __init__(
        self,
        make: Callable[[], Answer],
        age_s: float = PAGE_AGE_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._age_s = age_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._made_s = -float("inf")
        self._page: Answer | None = None

    def __call__(self) -> Answer:
        """Return the page."""
        with self._lock:
            if self._page is None or self._now_s() - self._made_s >= self._age_s:
                self._page = self._make()
                self._made_s = self._now_s()
            return self._page


class ProbeServer:
    """Answers GET and HEAD of `pages`, by path; use it as a context manager.

    Making it takes the address, entering it begins to serve. Raises OSError where the address is not free.

    Bounded: more than `MAX_CONNECTIONS` at a time are closed unanswered, and one that stays silent is closed.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[], Answer]]) -> None:
        self._server = _Server((host, port), _handler_of(pages))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="tickserve-probes",
            daemon=True,
        )

    def __repr__(self) -> str:
        return f"<ProbeServer {self.address}>"

    @property
    def address(self) -> str:
        """Where it listens, as HOST:PORT."""
        host, port = self._server.server_address[:2]
        name = host if isinstance(host, str) else host.decode()
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving, if that was begun, and let the address go. May be called twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(STOP_S)
        self._server.server_close()


def read_address(text: str) -> tuple[str, int]:
    """Read HOST:PORT; port 0 lets the system choose. Raises ConfigurationError for anything else."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(Problem("--http", f"{text!r}: expected HOST:PORT, such as 127.0.0.1:9102"))
    return host, int(port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Threads that wait for a silent client hold up no end.
    block_on_close = False
    request_queue_size = 32

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        if _is_ipv6(address[0]):
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request from %s ended early: %r", client_address, request)


def _handler_of(pages: Mapping[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = IDLE_S
        server_version = "tickserve"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 its name in the base class
            log.debug(format, *args)

        def _answer(self, *, with_body: bool) -> None:
            page = pages.get(self.path.partition("?")[0])
            known = ", ".join(sorted(pages))
            status, kind, content = (
                page()
                if page is not None
                else (
                    HTTPStatus.NOT_FOUND,
                    "text/plain; charset=utf-8",
                    f"expected one of {known}\n".encode(),
                )
            )
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    return Handler


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
