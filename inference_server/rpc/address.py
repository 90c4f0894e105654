"""Where the sidecar listens: a Unix socket, or a host and port."""

import contextlib
import grp
import ipaddress
import os
import pwd
import re
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

# What the socket has until all that is configured holds for it.
PRIVATE_MODE: Final = 0o600
# What `sockaddr_un.sun_path` holds on Linux, its closing NUL left out.
MAX_SOCKET_PATH: Final = 107


class AddressError(Exception):
    """An address that cannot be read, or that must not or cannot be listened on."""


@dataclass(frozen=True, slots=True)
class Address:
    """`unix:/path/to.sock` or `HOST:PORT`; port 0 lets the system choose."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address; AddressError says what was expected."""
        if text.startswith("unix:"):
            path = Path(text.removeprefix("unix:"))
            if not path.is_absolute():
                path = Path.cwd() / path
            if max(len(os.fsencode(name)) for name in (path, _own_name(path))) > MAX_SOCKET_PATH:
                raise AddressError(f"{text}: a socket's path has at most {MAX_SOCKET_PATH} bytes")
            return cls(path=path)
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+):(\d{1,5})", text)
        if match is None or int(match[2]) > 65535:
            raise AddressError(f"{text}: expected unix:/PATH or HOST:PORT")
        return cls(host=match[1].strip("[]"), port=int(match[2]))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def with_port(self, port: int) -> "Address":
        """Return the same address with the port that the system chose."""
        return self if self.path is not None else Address(host=self.host, port=port)

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_plaintext(address: Address, *, allowed: bool) -> None:
    """Raise AddressError where what is said in plaintext could be heard on other machines."""
    if not address.is_local and not allowed:
        raise AddressError(
            f"{address}: other machines could reach it and there is no TLS; configure [tls], listen on a "
            "Unix socket or a loopback address, or say --allow-remote-plaintext"
        )


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """Who may connect to a Unix socket: its mode, and its owner and group by name; None: the process's."""

    mode: int = 0o600
    owner: str | None = None
    group: str | None = None


@contextlib.contextmanager
def private_socket(path: Path, options: SocketOptions) -> Iterator[Path]:
    """Yield the name to bind; after the block the socket stands at `path`, as the options say.

    It is made with mode 0600 and given its owner before its mode, so there is no moment in which it is wider
    than asked for. grpcio removes the name that it bound when it stops, even if that is another server's by
    then; so it binds a name that nobody else uses. A socket file that nobody answers is left from a crash and
    is removed; one that somebody answers, or a file that is no socket, is refused with AddressError, and so
    are an owner and group that there are not or that this process may not give.
    """
    _remove_stale(path)
    own = _own_name(path)
    mask = os.umask(0o777 & ~PRIVATE_MODE)
    try:
        yield own
    finally:
        os.umask(mask)
    try:
        _give(own, options)
    except AddressError as error:
        own.unlink()
        raise AddressError(f"unix:{path}: {error}") from None
    _put_in_place(own, path)


def _put_in_place(own: Path, path: Path) -> None:
    """Give the socket its name; of two servers that are started at once one gets it."""
    try:
        os.link(own, path)
    except FileExistsError:
        own.unlink()
        raise AddressError(f"unix:{path}: another server has just taken it") from None
    except OSError:  # no hard links here, or none of a socket that was given away
        own.rename(path)
    else:
        own.unlink()


def remove_socket(path: Path, inode: int) -> None:
    """Remove the socket file if it is still the one with this inode; another server's is left alone."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _give(path: Path, options: SocketOptions) -> None:
    user = _number("user", options.owner, lambda name: pwd.getpwnam(name).pw_uid)
    group = _number("group", options.group, lambda name: grp.getgrnam(name).gr_gid)
    try:
        if (user, group) != (-1, -1):
            os.chown(path, user, group)
        path.chmod(options.mode)
    except OSError as error:
        to = f"{options.owner or ''}:{options.group or ''}"
        raise AddressError(f"the socket cannot be given to {to} (owner:group): {error.strerror}") from None


def _number(kind: str, name: str | None, look_up: Callable[[str], int]) -> int:
    """Return the number of a user or group; a number stands for itself, in containers they have no names."""
    if name is None:
        return -1  # what `chown` leaves as it is
    if name.isdecimal():
        return int(name)
    try:
        return look_up(name)
    except KeyError:
        raise AddressError(f"this machine has no {kind} {name!r}") from None


def _own_name(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}")


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise AddressError(f"unix:{path}: the folder {path.parent} does not exist") from None
        return
    if not stat.S_ISSOCK(mode):
        raise AddressError(f"unix:{path}: there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise AddressError(f"unix:{path}: {error.strerror}") from None
        else:
            raise AddressError(f"unix:{path}: another server is listening there")
