"""The HTTP side of a live run."""

import http.client
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus

import pytest

from strategy_client.configuration import ConfigurationError
from strategy_client.live.probes import MAX_CONNECTIONS, Answer, CachedPage, ProbeServer, read_address

OK: Answer = HTTPStatus.OK, "text/plain", b"fine\n"


def serving(**pages: Callable[[], Answer]) -> ProbeServer:
    """A server on a free port of loopback."""
    return ProbeServer("127.0.0.1", 0, {f"/{name}": page for name, page in pages.items()})


def ask(server: ProbeServer, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    """Ask over a connection of its own."""
    host, _, port = server.address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type", ""), response.read()
    finally:
        connection.close()


def test_pages_are_served_by_path() -> None:
    """GET gives the page, HEAD its head, and a path that is not there names those that are."""
    with serving(metrics=lambda: OK) as server:
        assert ask(server, "/metrics?x=1") == (200, "text/plain", b"fine\n")
        assert ask(server, "/metrics", "HEAD") == (200, "text/plain", b"")
        assert ask(server, "/nothing") == (404, "text/plain; charset=utf-8", b"expected one of /metrics\n")
        assert ask(server, "/metrics", "POST")[0] == 501


def test_status_of_a_page_is_its_answer() -> None:
    """A probe that finds the loop dead answers 503."""
    with serving(healthz=lambda: (HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"dead\n")) as server:
        assert ask(server, "/healthz")[::2] == (503, b"dead\n")


def test_page_that_waits_holds_up_no_other() -> None:
    """A scrape that takes long does not make the probe of the loop's life fail."""
    free = threading.Event()

    def slow() -> Answer:
        free.wait(60)
        return OK

    with serving(metrics=slow, healthz=lambda: OK) as server:
        scrape = threading.Thread(target=ask, args=(server, "/metrics"))
        scrape.start()
        assert ask(server, "/healthz")[0] == 200
        free.set()
        scrape.join(60)


def test_more_connections_than_the_bound_are_closed() -> None:
    """Whoever opens connections and says nothing takes a bounded number of threads, not all there are."""
    with serving(metrics=lambda: OK) as server:
        host, _, port = server.address.rpartition(":")
        idle = [socket.create_connection((host, int(port)), timeout=60) for _ in range(MAX_CONNECTIONS)]
        more = socket.create_connection((host, int(port)), timeout=60)
        assert more.recv(1) == b""
        more.close()
        for each in idle:
            each.close()


def test_page_is_made_once_for_all_who_ask_at_once() -> None:
    """However hard it is scraped, it is made so often and no more."""
    now, made = [0.0], [0]

    def make() -> Answer:
        made[0] += 1
        return OK

    page = CachedPage(make, age_s=0.2, now_s=lambda: now[0])
    assert [page() for _ in range(100)] == [OK] * 100
    assert made == [1]
    now[0] = 0.2
    page()
    assert made == [2]


def test_address_is_read() -> None:
    """HOST:PORT, with an IPv6 address in brackets."""
    assert read_address("127.0.0.1:9102") == ("127.0.0.1", 9102)
    assert read_address("[::1]:0") == ("::1", 0)


@pytest.mark.parametrize("text", ["9102", ":9102", "localhost", "localhost:", "localhost:70000", "a:b"])
def test_other_address_is_refused(text: str) -> None:
    """The message names the option, what came, and what was expected."""
    with pytest.raises(ConfigurationError, match=r"--http: .*expected HOST:PORT, such as"):
        read_address(text)


def test_ipv6_is_served() -> None:
    """Loopback may be the one of IPv6."""
    with ProbeServer("::1", 0, {"/metrics": lambda: OK}) as server:
        assert server.address.startswith("[::1]:")
        assert ask(server, "/metrics")[0] == 200
