"""The archive in a folder of the sidecar's own: bytes that were served, and an operator's decisions.

FOLDER/lock                one sidecar at a time holds it
FOLDER/models/NAME.json    what is remembered of a model; NAME.json.broken is one that could not be read
FOLDER/bytes/DIGEST.onnx   bytes that were served, by their SHA-256

Files are written beside, flushed to the disk and renamed, so that a crash at any moment leaves the old or
the new one; what it leaves beside is swept at the next start. Callers get no path to see: texts say what
failed and the system's reason, and the log has the place.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

from inference_server.adapters.archive_text import DIGEST, MAX_STATE_BYTES, read_state, state_text
from inference_server.adapters.model_file import UnfitError, read_file
from inference_server.serving.archive import ArchiveError, Remembered

log: Final = logging.getLogger(__name__)

MAX_MODEL_BYTES: Final = 2 * 2**30  # more than an ONNX file can have
OURS_ALONE: Final = 0o700
LOCK_NAME: Final = "lock"
TEMPORARY_PREFIX: Final = "tickserve-temporary-"
# A temporary folder younger than this may be about to be locked.
ABANDONED_S: Final = 60.0
STATE_SUFFIX: Final = ".json"
BYTES_SUFFIX: Final = ".onnx"
PART_SUFFIX: Final = ".part"
BROKEN_SUFFIX: Final = ".broken"


class FolderArchive:
    """Implements `serving.archive.Archive` in a folder that it holds until `close`.

    The folder is made, for this user alone, where it is not there. ArchiveError where it cannot be used, or
    is used by another sidecar. `temporary`: it is removed by `close`.
    """

    def __init__(self, folder: Path, *, temporary: bool = False) -> None:
        self._folder = folder
        self._models = folder / "models"
        self._bytes = folder / "bytes"
        self._temporary = temporary
        # Of this archive alone: a thread may still write for it when the next one holds the folder.
        self._part_suffix = f".{os.urandom(4).hex()}{PART_SUFFIX}"
        with _told("the state folder cannot be used"):
            _make(folder)
            self._lock: int | None = _locked(folder / LOCK_NAME)
        try:
            with _told("the state folder cannot be used"):
                _make(self._models)
                _make(self._bytes)
                self._sweep_parts()
                self._try_writing()
        except ArchiveError:
            self.close()
            raise
        log.info("state and served bytes are kept in %s", folder)

    def __repr__(self) -> str:
        state = "closed" if self._lock is None else "temporary" if self._temporary else "open"
        return f"<FolderArchive {self._folder}, {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the folder go; nothing may be asked of the archive from then on."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if self._temporary:
            _remove_tree(self._folder)
        # Said outright, for a child process that was forked would hold on to what is only closed here.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)

    def load(self) -> Mapping[str, Remembered]:
        """Return what was remembered, by model. What cannot be read is logged, set aside, and left out."""
        found: dict[str, Remembered] = {}
        for path in _listed(self._models, STATE_SUFFIX):
            try:
                name, remembered = _read_state_file(path)
            except (UnfitError, ValueError, RecursionError) as error:
                # An error, for a version that was rolled back may come back now; no bug, so no traceback.
                log.error("cannot be read, set aside: the state in %s: %s", path, error)  # noqa: TRY400
                _set_aside(path)
            else:
                found[name] = remembered
        return found

    def remember(self, name: str, remembered: Remembered) -> None:
        """Write one model's state so that a crash leaves the old or the new one; ArchiveError."""
        try:
            text = state_text(name, remembered)
        except ValueError as error:
            raise ArchiveError(f"the state of model {name!r:.200} cannot be written: {error}") from None
        with _told(f"the state of model {name} cannot be written"):
            _write(self._models / _state_name(name), text, self._part_suffix)

    def keep(self, digest: str, model: bytes) -> None:
        """Keep these bytes, whose SHA-256 is `digest`, unless they are kept already; ArchiveError.

        Bytes that are there and have the same size are trusted; `read` checks them.
        """
        path = self._path(digest)
        with _told("the model's bytes cannot be kept"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size == len(model):
                    return
            _write(path, model, self._part_suffix)

    def read(self, digest: str) -> bytes:
        """Return bytes whose SHA-256 is `digest`; ArchiveError where they are not there or not whole."""
        path = self._path(digest)
        try:
            model, _ = read_file(path, MAX_MODEL_BYTES)
        except UnfitError as error:
            raise ArchiveError(f"the kept file of {digest[:12]} {error}") from None
        if hashlib.sha256(model).hexdigest() != digest:
            log.error("removed what is not the bytes of its name: %s", path)
            with _told(f"the kept file of {digest[:12]} is broken and cannot be removed"):
                path.unlink(missing_ok=True)
            raise ArchiveError(f"the kept file of {digest[:12]} was broken; it is removed")
        return model

    def sweep(self, digests: Collection[str]) -> None:
        """Drop the bytes of all other digests."""
        for path in _listed(self._bytes, BYTES_SUFFIX):
            digest = path.name.removesuffix(BYTES_SUFFIX)
            if DIGEST.fullmatch(digest) and digest not in digests:
                _remove(path)

    def borrow(self, folder: Path) -> None:
        """Begin with what another folder holds, as far as it can be read; nothing is changed there."""
        if os.path.isdir(folder / "models"):  # noqa: PTH112 - Path.is_dir raises where it may not look
            for path in _listed(folder / "models", STATE_SUFFIX):
                try:
                    self.remember(*_read_state_file(path))
                except (UnfitError, ValueError, RecursionError, ArchiveError) as error:
                    log.warning("cannot be read, left out: the state in %s: %s", path, error)
            for path in _listed(folder / "bytes", BYTES_SUFFIX):
                with contextlib.suppress(OSError):  # what is not there is told when it is asked for
                    (self._bytes / path.name).symlink_to(path.absolute())

    def _path(self, digest: str) -> Path:
        if not DIGEST.fullmatch(digest):
            raise ArchiveError("a digest is 64 lower-case hexadecimal digits")
        return self._bytes / f"{digest}{BYTES_SUFFIX}"

    def _sweep_parts(self) -> None:
        for folder in (self._models, self._bytes):
            for path in _listed(folder, PART_SUFFIX):
                _remove(path)

    def _try_writing(self) -> None:
        """Meet now what would be met at the first write: an open lock says nothing of the folders' modes."""
        for folder in (self._models, self._bytes):
            part = folder / f".try{self._part_suffix}"
            part.touch(mode=0o600)
            part.unlink()


def default_state_folder(models: Path, environ: Mapping[str, str]) -> Path | None:
    """Return where the state of a sidecar on this models folder belongs; None where nothing says where.

    That is in systemd's $STATE_DIRECTORY, else in the user's state folder. Links are not followed, so that
    pointing a link at another release of the models keeps the state.
    """
    state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    user, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    # A relative one is to be ignored, by the XDG Base Directory Specification.
    if state.startswith("/"):
        base = Path(state)
    elif user.startswith("/"):
        base = Path(user) / "tickserve"
    elif home.startswith("/"):
        base = Path(home) / ".local" / "state" / "tickserve"
    else:
        return None
    place = os.path.abspath(models)  # noqa: PTH100 - Path.absolute leaves ".." in
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(place))[:64] or "root"  # noqa: PTH119
    return base / f"{readable}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"


def open_archive(folder: Path | None) -> FolderArchive:
    """Open the archive in this folder or, where that cannot be used, in a temporary one with a warning.

    The temporary one begins with what can be read of the folder, so that a version that was rolled back does
    not come back because a disk is read-only or another sidecar has not ended yet. ArchiveError where not
    even a temporary folder can be had.
    """
    reason = "no folder for it is known"
    if folder is not None:
        try:
            return FolderArchive(folder)
        except ArchiveError as error:
            reason = f"{error} folder={folder}"
    log.warning("rollbacks will not outlive this process: %s", reason)
    import tempfile  # noqa: PLC0415 - no start with a state folder waits for it

    with _told("no temporary folder can be made"):
        _remove_abandoned(Path(tempfile.gettempdir()))
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
    archive = FolderArchive(temporary, temporary=True)
    if folder is not None:
        archive.borrow(folder)
    return archive


def _remove_tree(folder: Path) -> None:
    import shutil  # noqa: PLC0415 - only for temporary folders

    shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(beside: Path) -> None:
    """Remove the temporary archives of sidecars that were killed: nobody else would, and they hold models."""
    for folder in beside.glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError, ArchiveError):  # ArchiveError: its sidecar lives
            found = folder.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if ours and time.time() - found.st_mtime > ABANDONED_S:
                lock = _locked(folder / LOCK_NAME)
                _remove_tree(folder)
                os.close(lock)


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn the system's error into one that holds no path."""
    try:
        yield
    except OSError as error:
        raise ArchiveError(f"{what}: {error.strerror}") from None


def _make(folder: Path) -> None:
    """Make a folder and those above it; whichever is not there is for this user alone."""
    if not folder.is_dir():
        if folder.parent != folder:
            _make(folder.parent)
        folder.mkdir(mode=OURS_ALONE, exist_ok=True)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ArchiveError("the state folder is used by another sidecar") from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _write(path: Path, content: bytes, part_suffix: str) -> None:
    part = path.with_name(f".{path.name}{part_suffix}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - opens a descriptor, not a path
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # a full disk gets its space back; the first error is the one told
            part.unlink()
        raise
    # The rename is on the disk once the folder is.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _listed(folder: Path, suffix: str) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(suffix))
    except OSError as error:
        log.warning("the state folder cannot be listed: %s", error)
        return []


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a file of the state cannot be removed: %s", error)


def _set_aside(path: Path) -> None:
    try:
        path.replace(path.with_name(f"{path.name}{BROKEN_SUFFIX}"))
    except OSError as error:
        log.warning("it cannot be set aside: %s", error)


def _read_state_file(path: Path) -> tuple[str, Remembered]:
    text, _ = read_file(path, MAX_STATE_BYTES)
    name, remembered = read_state(text)
    if path.name != _state_name(name):
        raise ValueError(f"it is the state of {name}, which belongs elsewhere")
    return name, remembered


def _state_name(model: str) -> str:
    """Return a file name that no other model has, where case counts for nothing either."""
    if model == model.lower():
        return f"{model}{STATE_SUFFIX}"
    return f"{model}~{hashlib.sha256(model.encode()).hexdigest()[:8]}{STATE_SUFFIX}"
