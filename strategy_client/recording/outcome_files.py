"""The files of a run: every outcome, the signals, and what shadows would have done."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from strategy_client.events import ProcessedTick, ShadowComparison, Signal
from strategy_client.recording.file_names import OUTCOMES, SHADOWS, SIGNALS
from strategy_client.sinks.jsonl import JsonLinesFile, OutcomeLines, ShadowRecords
from strategy_client.sinks.signal_lines import SignalLines


class OutcomeFiles:
    """Writes `outcomes.jsonl`, a line a tick, and `signals.jsonl`, a line a signal; a TickListener.

    `shadows.jsonl`, a line a comparison, is there when there is one. Use it as a context manager. Raises
    OSError where they cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.paths = {"signals": folder / SIGNALS, "outcomes": folder / OUTCOMES}
        self._shadows_path = folder / SHADOWS
        self._shadows: JsonLinesFile | None = None
        self._lines = OutcomeLines()
        self._signal_lines = SignalLines()
        self._shadow_records = ShadowRecords()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._signals = self._stack.enter_context(JsonLinesFile(self.paths["signals"]))
        self._outcomes = self._stack.enter_context(JsonLinesFile(self.paths["outcomes"]))
        # That of a run before would tell of other outcomes.
        self._shadows_path.unlink(missing_ok=True)
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
        return sum(
            file.flush() for file in (self._signals, self._outcomes, self._shadows) if file is not None
        )

    def close(self) -> None:
        """Write what is buffered. May be called twice."""
        self._stack.close()

    def took(self, processed: ProcessedTick) -> None:
        """Write a tick's outcomes."""
        self._outcomes.write_line(self._lines.line(processed.index, processed.tick, processed.outcomes))
        for outcome in processed.outcomes:
            if isinstance(outcome, Signal):
                self._signals.write_line(self._signal_lines.line(processed.index, outcome))

    def compared(self, comparison: ShadowComparison) -> None:
        """Write what a shadow would have done."""
        if self._shadows is None:
            self.paths["shadows"] = self._shadows_path
            self._shadows = self._stack.enter_context(JsonLinesFile(self._shadows_path))
        self._shadows.write(self._shadow_records.record(comparison))
