"""YAML files as a place that may change at any time."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from strategy_client.configuration import ConfigurationError
from strategy_client.factory import StrategyFactory
from strategy_client.store.file_events import FileEvents
from strategy_client.store.look import Look, Origins, first_set, next_set, origins_of
from strategy_client.store.store import StrategySet
from strategy_client.store.strategy import StrategyReader
from strategy_client.store.strategy_file import FileLook, combined, look_into, strategy_files

NS_PER_S: Final = 1_000_000_000
# Which bytes a file holds, without reading them; empty where it cannot be said, None where there is no file.
Stamp = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class YamlStoreOptions:
    """`settled_s` is how long a file must have stayed as it is before it is taken for whole, or for gone.

    `poll_s` is how often the files are looked at where no event tells of a change, as on a network's file
    system; `events` False never waits for one.
    """

    settled_s: float = 0.3
    poll_s: float = 0.25
    events: bool = True


@dataclass(frozen=True, slots=True)
class _Seen:
    """How a file was found, and since when it is so."""

    stamp: Stamp
    since_ns: int


class YamlStore:
    """A YAML file, or a folder of them; see `StrategyStore`.

    A file that changes is read at once for what it says to stop, and for all else when it has stayed the
    same for a moment: one that is half written may well be YAML, of fewer strategies or parameters. A file
    that is gone from a folder for that moment takes its strategies with it; the last one does not.
    """

    def __init__(
        self,
        path: Path,
        factory: StrategyFactory,
        options: YamlStoreOptions | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._path = path
        self._options = options or YamlStoreOptions()
        self._now_ns = now_ns
        self._reader = StrategyReader(factory)
        # Of half a file nothing is tried out: a user's own function would get parameters that nobody meant.
        self._glance = StrategyReader(None)
        self._taken: dict[Path, tuple[Stamp, FileLook]] = {}
        self._seen: dict[Path, _Seen] = {}
        self._found: Mapping[Path, Stamp] | None = None
        self._origins: Origins = {}
        self._closed = threading.Event()
        self._events = FileEvents(path, self._closed) if self._options.events else None

    def __repr__(self) -> str:
        return f"<YamlStore {self._path} {len(self._taken)} files, {len(self._unsettled())} unsettled>"

    def read(self) -> StrategySet:
        """Return all of them; see `StrategyStore`."""
        files = strategy_files(self._path)
        self._found = {file: _stamp(file) for file in files}
        self._seen = {file: _Seen(stamp, self._now_ns()) for file, stamp in self._found.items()}
        self._taken = {file: (self._found[file], look_into(file, self._reader)) for file in files}
        look = combined({file: look for file, (_, look) in self._taken.items()})
        now = first_set(look)
        self._origins = origins_of(look, now, {})
        return now

    def read_again(self, before: StrategySet) -> StrategySet:
        """Return what is configured by now; see `StrategyStore`."""
        try:
            files = strategy_files(self._path)
        except ConfigurationError as error:
            self._found = None
            return replace(before, problems=error.problems)
        self._found = {file: _stamp(file) for file in files}
        self._observe(self._found)
        self._reader.forget_wrong()
        look = self._look(self._found)
        now = next_set(before, look, self._origins)
        self._origins = origins_of(look, now, self._origins)
        return now

    def wait_for_change(self, timeout_s: float) -> bool:
        """Wait for a change of the files, or until one that changed has settled; see `StrategyStore`."""
        end_s = time.monotonic() + timeout_s
        while not self._closed.is_set():
            if self._has_changed():
                return True
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return False
            pause_s = min(left_s, self._options.poll_s)
            if self._events is not None:
                self._events.wait(pause_s)
            else:
                self._closed.wait(pause_s)
        return False

    def close(self) -> None:
        """Stop watching; see `StrategyStore`."""
        self._closed.set()

    def _has_changed(self) -> bool:
        try:
            found = {file: _stamp(file) for file in strategy_files(self._path)}
        except ConfigurationError:
            return self._found is not None
        return found != self._found or any(self._has_settled(file) for file in self._unsettled())

    def _observe(self, found: Mapping[Path, Stamp]) -> None:
        """Remember since when each file, there or gone, is as it is now."""
        now_ns = self._now_ns()
        for file in found.keys() | self._taken.keys():
            seen = self._seen.get(file)
            if seen is None or seen.stamp != found.get(file):
                self._seen[file] = _Seen(found.get(file), now_ns)
        self._seen = {file: self._seen[file] for file in found.keys() | self._taken.keys()}

    def _look(self, found: Mapping[Path, Stamp]) -> Look:
        looks: dict[Path, FileLook] = {}
        for file in sorted(found.keys() | self._taken.keys()):
            stamp, taken = self._taken.get(file, (None, FileLook()))
            if self._seen[file].stamp == stamp:
                looks[file] = taken
                continue
            settled = self._has_settled(file)
            coming = look_into(file, self._reader if settled else self._glance)
            whole = settled and found.get(file) == (_stamp(file) if file in found else None)
            if not whole:
                looks[file] = taken.still(coming)
            elif file in found:
                self._taken[file] = (self._seen[file].stamp, coming)
                looks[file] = coming
            else:
                del self._taken[file]
        return combined(looks)

    def _unsettled(self) -> list[Path]:
        taken = {file: stamp for file, (stamp, _) in self._taken.items()}
        return [file for file, seen in self._seen.items() if taken.get(file) != seen.stamp]

    def _has_settled(self, file: Path) -> bool:
        return self._now_ns() - self._seen[file].since_ns >= self._options.settled_s * NS_PER_S


def _stamp(file: Path) -> Stamp:
    try:
        found = os.stat(file)  # noqa: PTH116 - a path of text is a quarter of its time for a thousand files
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
