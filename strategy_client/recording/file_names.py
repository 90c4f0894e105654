"""The files that a run leaves in its folder. `docs/replay.md` says what stands in them."""

from typing import Final

SIGNALS: Final = "signals.jsonl"
OUTCOMES: Final = "outcomes.jsonl"
SHADOWS: Final = "shadows.jsonl"
# How long each tick took, int64 nanoseconds, shape (ticks,), to be read by numpy.load.
LATENCY: Final = "latency.npy"
SUMMARY: Final = "summary.json"
REPORT: Final = "report.html"
