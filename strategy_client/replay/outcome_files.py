"""The two files of a replay: every outcome, and the signals."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from strategy_client.events import ProcessedTick, ShadowComparison, Signal
from strategy_client.sinks.jsonl import JsonLinesFile, OutcomeLines, signal_record


class OutcomeFiles:
    """Writes `outcomes.jsonl`, a line a tick, and `signals.jsonl`, a line a signal; a TickListener.

    Use it as a context manager. Raises OSError where they cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = {name: folder / f"{name}.jsonl" for name in ("signals", "outcomes")}
        self._lines = OutcomeLines()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._signals = self._stack.enter_context(JsonLinesFile(self.paths["signals"]))
        self._outcomes = self._stack.enter_context(JsonLinesFile(self.paths["outcomes"]))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def flush(self) -> int:
        """Hand what is buffered to the system; return how many bytes the files have together."""
        return self._signals.flush() + self._outcomes.flush()

    def close(self) -> None:
        """Write what is buffered. May be called twice."""
        self._stack.close()

    def took(self, processed: ProcessedTick) -> None:
        """Write a tick's outcomes."""
        self._outcomes.write_line(self._lines.line(processed.index, processed.tick, processed.outcomes))
        for outcome in processed.outcomes:
            if isinstance(outcome, Signal):
                self._signals.write(signal_record(processed.index, outcome))

    def compared(self, comparison: ShadowComparison) -> None:
        """Write nothing: a shadow is no outcome."""
