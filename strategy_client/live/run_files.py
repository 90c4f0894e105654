"""The files of a live run: a replay's, with the latencies written as they come."""

from pathlib import Path
from typing import Final, Self

import numpy as np

from strategy_client.events import ProcessedTick, ShadowComparison
from strategy_client.recording.file_names import LATENCY
from strategy_client.recording.outcome_files import OutcomeFiles

NS_BYTES: Final = 8


class LatencyFile:
    """`latency.npy` that grows: whole after each flush, by numpy's own room for a longer shape.

    A tick's place is its index; where nobody looked at a tick there is 0. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._count = 0
        self._write_header()
        self._data_at = self._file.tell()

    def add(self, index: int, duration_ns: int) -> None:
        """Write how long a tick took; indices grow."""
        self._file.write(bytes(NS_BYTES * (index - self._count)) + duration_ns.to_bytes(NS_BYTES, "little"))
        self._count = index + 1

    def flush(self) -> int:
        """Make the file whole; return how many bytes it has."""
        self._file.seek(0)
        self._write_header()
        self._file.seek(0, 2)
        self._file.flush()
        return self._file.tell()

    def close(self) -> None:
        """Make the file whole, and close it. May be called twice."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "<i8", "fortran_order": False, "shape": (self._count,)}
        np.lib.format.write_array_header_1_0(self._file, header)


class RunFiles:
    """Writes everything that `strategy-client report` reads but the summary. Raises OSError.

    Use it as a context manager, or call `close`.
    """

    def __init__(self, folder: Path) -> None:
        self._outcomes = OutcomeFiles(folder)
        self._latency_path = folder / LATENCY

    def __enter__(self) -> Self:
        self._outcomes.__enter__()
        try:
            self._latency = LatencyFile(self._latency_path)
        except BaseException:
            self._outcomes.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def paths(self) -> dict[str, Path]:
        """The files, by what they hold; that of shadows once there is a comparison."""
        return {**self._outcomes.paths, "latency": self._latency_path}

    def took(self, processed: ProcessedTick) -> None:
        """Write a tick's outcomes, and how long it took."""
        self._outcomes.took(processed)
        self._latency.add(processed.index, processed.duration_ns)

    def compared(self, comparison: ShadowComparison) -> None:
        """Write what a shadow would have done."""
        self._outcomes.compared(comparison)

    def flush(self) -> int:
        """Hand what is buffered to the system; return how many bytes the files have together."""
        return self._outcomes.flush() + self._latency.flush()

    def close(self) -> None:
        """Write what is buffered. May be called twice."""
        try:
            self._outcomes.close()
        finally:
            self._latency.close()
