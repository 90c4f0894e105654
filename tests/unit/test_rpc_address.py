"""Addresses: what is read, what is refused, and how a socket file is made and removed."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from inference_server.rpc.address import Address, AddressError, SocketOptions, private_socket, remove_socket


@pytest.mark.parametrize("text", ["unix:/tmp/a.sock", "127.0.0.1:8001", "[::1]:0", "localhost:65535"])
def test_an_address_reads_and_writes_the_same(text: str) -> None:
    """What is parsed prints as it was given."""
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "8001", "127.0.0.1", "127.0.0.1:65536", "::1:8001", "unix:/" + "a" * 120, "a:b"]
)
def test_an_address_that_cannot_be_read_says_what_was_expected(text: str) -> None:
    """Anything else is an AddressError."""
    with pytest.raises(AddressError, match=r"expected|at most"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("unix:/tmp/a.sock", True),
        ("127.8.9.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("example.org:1", False),
    ],
)
def test_local_is_what_only_this_machine_reaches(text: str, local: bool) -> None:
    """A Unix socket and loopback are local; anything else is not, unknown names too."""
    assert Address.parse(text).is_local is local


def test_a_socket_is_made_private(tmp_path: Path) -> None:
    """What is bound inside the block has mode 0600 from its first moment."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as server:
        with private_socket(path, SocketOptions()) as name:
            server.bind(str(name))
            assert stat.S_IMODE(name.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """A socket file that nobody answers is left from a crash and makes no trouble (F4)."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    with socket.socket(socket.AF_UNIX) as server, private_socket(path, SocketOptions()) as name:
        server.bind(str(name))
    assert path.is_socket()
    assert list(tmp_path.iterdir()) == [path]


def test_a_live_socket_is_left_alone(tmp_path: Path) -> None:
    """A second server on the same socket is refused (F4)."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        with pytest.raises(AddressError, match="another server"), private_socket(path, SocketOptions()):
            pass


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    """A file or folder in the socket's place is refused and stays."""
    path = tmp_path / "s.sock"
    path.mkdir() if kind == "folder" else path.write_text("mine")
    with pytest.raises(AddressError, match="not a socket"), private_socket(path, SocketOptions()):
        pass
    assert path.exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A socket in a folder that does not exist says so."""
    with (
        pytest.raises(AddressError, match="does not exist"),
        private_socket(tmp_path / "no" / "s.sock", SocketOptions()),
    ):
        pass


def test_another_servers_socket_is_not_removed(tmp_path: Path) -> None:
    """At its end a server removes its own socket file and no other."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(path))
        inode = path.stat().st_ino
        remove_socket(path, inode + 1)
        assert path.exists()
        remove_socket(path, inode)
        assert not path.exists()
        remove_socket(path, inode)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_a_socket_has_the_mode_that_is_asked_for(tmp_path: Path, mode: int) -> None:
    """It stands there with it from the first moment, and before that it was nobody else's."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as server, private_socket(path, SocketOptions(mode)) as name:
        server.bind(str(name))
        assert stat.S_IMODE(name.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
@pytest.mark.parametrize("owner", ["nobody", "65534", None])
@pytest.mark.parametrize("group", ["daemon", "1", None])
def test_a_socket_is_given_away(tmp_path: Path, owner: str | None, group: str | None) -> None:
    """By name or by number; what is not said stays the process's."""
    path = tmp_path / "s.sock"
    options = SocketOptions(0o660, owner, group)
    with socket.socket(socket.AF_UNIX) as server, private_socket(path, options) as name:
        server.bind(str(name))
    found = path.stat()
    expected = (65534 if owner else os.geteuid(), 1 if group else os.getegid(), 0o660)
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == expected


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (SocketOptions(owner="no-such"), "this machine has no user 'no-such'"),
        (SocketOptions(group="no-such"), "this machine has no group 'no-such'"),
    ],
)
def test_a_socket_for_nobody_is_refused(tmp_path: Path, options: SocketOptions, told: str) -> None:
    """The text names the address and who there is not; no file stays."""
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as server:
        with pytest.raises(AddressError) as caught, private_socket(path, options) as name:
            server.bind(str(name))
        assert str(caught.value) == f"unix:{path}: {told}"
    assert list(tmp_path.iterdir()) == []


GIVE = """
import os, pathlib, socket, sys
from inference_server.rpc.address import AddressError, SocketOptions, private_socket

os.setgroups([1])
os.setgid(65534)
os.setuid(65534)
for owner, group in (("root", "daemon"), ("nobody", "adm"), ("nobody", "daemon")):
    try:
        with socket.socket(socket.AF_UNIX) as server:
            with private_socket(pathlib.Path(sys.argv[1]), SocketOptions(0o660, owner, group)) as name:
                server.bind(str(name))
        print("given")
    except AddressError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_is_not_root_gives_only_to_his_own_groups() -> None:
    """A process that may not give the socket away says so, in words; to a group that it is in, it may."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, 65534, 65534)
        path = Path(folder) / "s.sock"
        arguments = [sys.executable, "-c", GIVE, str(path)]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        cannot = "(owner:group): Operation not permitted"
        assert done.stdout.splitlines() == [
            f"unix:{path}: the socket cannot be given to root:daemon {cannot}",
            f"unix:{path}: the socket cannot be given to nobody:adm {cannot}",
            "given",
        ]
        assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (1, 0o660)
