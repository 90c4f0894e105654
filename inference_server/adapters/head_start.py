"""What is begun before our libraries are imported, because it takes its time beside them.

- The first vetting process starts, and loads its own libraries.
- The files of the model repository are looked at for the first time. A file counts once it was the same at
  two looks that are far enough apart; with this one the second need not wait. It is the same rule as ever,
  with no clock of a file system in it: times in a stamp are only compared with themselves.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from inference_server.adapters.first_look import FirstLook, look_at
from inference_server.adapters.vetting_start import end_child, start_child


@dataclass(frozen=True, slots=True)
class HeadStart:
    """A first vetting process and a first look at the files, where there are any."""

    child: subprocess.Popen[bytes] | None = None
    look: FirstLook = field(default_factory=FirstLook)

    @classmethod
    @contextlib.contextmanager
    def take(cls, models: Path | None = None) -> Iterator[Self]:
        """Begin for this block, with a look at this folder; at its end the child is ended."""
        try:
            child = start_child()
        except OSError:  # the first file tries again, and says then what is wrong
            child = None
        try:
            yield cls(child, FirstLook() if models is None else look_at(models))
        finally:
            if child is not None and child.poll() is None:
                end_child(child)
