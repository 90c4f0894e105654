"""The sockets of the server of this machine's callers, from asked for to given back."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inference_server.core.clock import SystemClock
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.h2.server import H2Server
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.method import MethodTable
from inference_server.serving.drain import Drain

# Reserved for documentation (RFC 5737): no machine has it.
NOBODYS = "192.0.2.1"


def h2_server() -> H2Server:
    """A server of no methods."""
    return H2Server(MethodTable((), SystemClock(), Drain()), ListenerOptions())


@pytest.fixture
def server() -> Iterator[H2Server]:
    """A server that is bound to nothing yet."""
    made = h2_server()
    yield made
    made.close()


def test_the_same_place_twice_is_refused_where_it_is_bound(server: H2Server) -> None:
    """Not when the first starts to answer: the text says which address it is."""
    port = server.bind_host(Address(host="127.0.0.1"))
    with pytest.raises(
        AddressError, match=rf"^127.0.0.1:{port}: cannot listen there: Address already in use"
    ):
        server.bind_host(Address(host="127.0.0.1", port=port))


def test_a_place_is_taken_from_the_moment_it_is_bound(server: H2Server, tmp_path: Path) -> None:
    """Who asks whether somebody is there, to remove what a crash left, is answered before the start."""
    server.bind_path(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(tmp_path / "s.sock"))


def test_close_gives_the_port_back(server: H2Server) -> None:
    """Without a start."""
    port = server.bind_host(Address(host="127.0.0.1"))
    server.close()
    other = h2_server()
    assert other.bind_host(Address(host="127.0.0.1", port=port)) == port
    other.close()


def bind_name(server: H2Server, *places: tuple[Any, ...]) -> int:
    """Bind `localhost` on any port where the name means these addresses."""
    families = {2: socket.AF_INET, 4: socket.AF_INET6}
    found = [(families[len(place)], socket.SOCK_STREAM, 6, "", place) for place in places]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        return server.bind_host(Address(host="localhost"))


@pytest.mark.parametrize("hosts", [(NOBODYS, "127.0.0.1"), ("127.0.0.1", NOBODYS)])
def test_an_address_that_this_machine_has_not_is_left_out(server: H2Server, hosts: tuple[str, ...]) -> None:
    """As `localhost` names one of IPv6 in containers that have none."""
    port = bind_name(server, *[(host, 0) for host in hosts])
    with socket.create_connection(("127.0.0.1", port)):
        pass


def test_a_name_of_nothing_here_is_refused(server: H2Server) -> None:
    """There has to be one address to listen on."""
    with pytest.raises(AddressError, match=r"^localhost:0: cannot listen there: Cannot assign requested"):
        bind_name(server, (NOBODYS, 0))


def test_a_name_that_means_an_address_twice_is_bound_once(server: H2Server) -> None:
    """As a hosts file may have it."""
    assert bind_name(server, ("127.0.0.1", 0), ("127.0.0.1", 0))


def test_both_families_get_the_same_port(server: H2Server) -> None:
    """Port 0 of a name is one port on every address that the name means."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = bind_name(server, ("::1", 0, 0, 0), ("127.0.0.1", 0))
    for host in ("::1", "127.0.0.1"):
        with socket.create_connection((host, port)):
            pass
