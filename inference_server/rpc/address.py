"""Where the sidecar listens: a Unix socket, or a host and port."""

import contextlib
import ipaddress
import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

SOCKET_MODE: Final = 0o600
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


@contextlib.contextmanager
def private_socket(path: Path) -> Iterator[Path]:
    """Yield the name to bind; after the block the socket stands at `path`, with mode 0600.

    It is made with mode 0600, with no moment in which it is wider. grpcio removes the name that it bound when
    it stops, even if that is another server's by then; so it binds a name that nobody else uses. A socket
    file that nobody answers is left from a crash and is removed; one that somebody answers, or a file that is
    no socket, is refused with AddressError.
    """
    _remove_stale(path)
    own = _own_name(path)
    mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        yield own
    finally:
        os.umask(mask)
    own.rename(path)


def remove_socket(path: Path, inode: int) -> None:
    """Remove the socket file if it is still the one with this inode; another server's is left alone."""
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_ino == inode:
            path.unlink()


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
