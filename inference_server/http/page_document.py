"""What the status page shows, as JSON. `docs/status-page.md` says what each field means.

The document has parts that are each written once a change or a step, however many read them: looking costs
calls nothing that grows with the number of onlookers. A reader names by its cursor what it has, and gets the
parts that it lacks; the others are null.
"""

import asyncio
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from inference_server.core.clock import Clock
from inference_server.core.servable import ModelStatus, VersionStatus
from inference_server.http.page_history import STEPS, History
from inference_server.http.page_journal import Event, Journal, clipped
from inference_server.serving.drain import Drain
from inference_server.serving.registry import Registry
from inference_server.serving.statistics import NO_MODEL, Statistics, VersionStatistics

FORMAT: Final = 1
NULL: Final = b"null"
# Readers lack all steps, or the last one or two: so many different beginnings are kept written.
MAX_WRITTEN: Final = 4


class Document:
    """Writes the document. It lives on the event loop's thread; calls get their turn after each model.

    `page` names the release of the page's files: a browser that shows another one loads itself again.
    """

    def __init__(
        self,
        registry: Registry,
        drain: Drain,
        statistics: Statistics,
        clock: Clock,
        *,
        page: str,
        step_s: float,
    ) -> None:
        self._registry: Final = registry
        self._drain: Final = drain
        self._statistics: Final = statistics
        self._clock: Final = clock
        self._history: Final = History(statistics, clock)
        self._journal: Final = Journal()
        self._page: Final = page
        self._step_s: Final = step_s
        self._started_ns: Final = clock.wall_ns()
        self._release: Final = importlib.metadata.version("tickserve")
        self._looked_at = -1
        self._known: frozenset[str] = frozenset()
        self._writing = asyncio.Lock()
        # What is written: the models by revision, the numbers and the steps by the number of the last step.
        self._models: tuple[int, bytes, bytes] = (-1, NULL, NULL)
        self._numbers: tuple[int, bytes] = (-1, NULL)
        self._steps: tuple[int, dict[int, bytes]] = (-1, {})

    def __repr__(self) -> str:
        return f"<Document at revision {self._registry.revision}, step {self._history.number}>"

    def step(self) -> None:
        """Take a sample of the counters, and note what changed since the last one."""
        self._look()
        self._history.step(self._known)

    async def write(self, cursor: str = "") -> bytes:
        """Return the document for a reader that has what this cursor says; any other text: nothing yet."""
        async with self._writing:
            revision, number = self._has(cursor)
            models, events = await self._write_models()
            steps = await self._write_steps(number)
            numbers = await self._write_numbers()
            shown, drawn = self._models[0], self._numbers[0]
            parts = {
                "models": NULL if revision == shown else models,
                "events": NULL if revision == shown else events,
                "numbers": NULL if number == drawn else numbers,
                "history": NULL if number == drawn else steps,
            }
        head = _json(self._head(f"{self._started_ns}.{shown}.{drawn}"))
        return head[:-1] + b"".join(b',"%s":%s' % (name.encode(), it) for name, it in parts.items()) + b"}\n"

    def write_model(self, name: str) -> bytes | None:
        """Return what is known of one model's versions in full; None: there is no such model."""
        found = self._registry.describe((name,))
        if not found:
            return None
        versions = [_version(it) | _details(it) for it in found[0].versions]
        return _json({"format": FORMAT, "name": name, "versions": versions}) + b"\n"

    def _head(self, cursor: str) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "cursor": cursor,
            "page": self._page,
            "release": self._release,
            "started_at_s": _moment(self._started_ns),
            "now_s": _moment(self._clock.wall_ns()),
            "ready": self._registry.ready() and not self._drain.begun,
            "stopping": self._drain.begun,
            "missing": sorted(it for it in self._registry.required if not self._registry.model_ready(it)),
            "rpcs_in_flight": sum(self._statistics.rpcs_in_flight.values()),
            "step_s": self._step_s,
            "steps": STEPS,
        }

    def _has(self, cursor: str) -> tuple[int, int]:
        """Return the revision and the step that a reader has; -1 where it has nothing of this run."""
        run, *rest = cursor.split(".")
        if run != str(self._started_ns) or len(rest) != 2 or not all(_is_number(it) for it in rest):
            return -1, -1
        return int(rest[0]), int(rest[1])

    def _look(self) -> list[ModelStatus] | None:
        """Compare with what was seen, where something changed; return the models then."""
        if self._looked_at == self._registry.revision:
            return None
        self._looked_at = self._registry.revision
        models = self._registry.describe()
        self._known = frozenset(model.name for model in models)
        self._journal.look(models, ready=self._registry.ready(), now_ns=self._clock.wall_ns())
        return models

    async def _write_models(self) -> tuple[bytes, bytes]:
        revision = self._registry.revision
        if self._models[0] != revision:
            models = self._look() or self._registry.describe()
            events = _json([_event(event) for event in self._journal.events])
            required = self._registry.required
            written = await _each(_json(self._model(model, model.name in required)) for model in models)
            self._models = (revision, b"[" + written + b"]", events)
        return self._models[1:]

    async def _write_numbers(self) -> bytes:
        number = self._steps[0]
        if self._numbers[0] != number:
            in_flight = {
                model.name: sum(version.in_flight for version in model.versions)
                for model in self._registry.describe()
            }
            counted = self._statistics.models
            total = _calls([it for versions in counted.values() for it in versions.values()])
            written = await _each(
                _entry(name, _calls(counted.get(name, {}).values()) | {"in_flight": in_flight[name]})
                for name in in_flight
                if name in counted or in_flight[name]
            )
            parts = {
                "total": _json(total),
                "no_model": _json(_calls(counted.get(NO_MODEL, {}).values())),
                "models": b"{" + written + b"}",
            }
            text = b",".join(b'"%s":%s' % (name.encode(), part) for name, part in parts.items())
            self._numbers = (number, b"{" + text + b"}")
        return self._numbers[1]

    async def _write_steps(self, after: int) -> bytes:
        if self._steps[0] != self._history.number:
            self._steps = (self._history.number, {})
        _, written_after = self._steps
        numbers = self._history.numbers_after(max(after, 0))
        if numbers.start not in written_after:
            series = self._history.copies()
            written = await _each(
                _entry(name, document)
                for name, document in ((name, it.document(numbers)) for name, it in series.items())
                if document
            )
            head = b'{"first":%d,"last":%d,"series":{' % (numbers.start, numbers.stop - 1)
            if len(written_after) >= MAX_WRITTEN:
                written_after.clear()
            written_after[numbers.start] = head + written + b"}}"
        return written_after[numbers.start]

    def _model(self, model: ModelStatus, required: bool) -> dict[str, Any]:
        last = self._journal.last_problem(model.name)
        return {
            "name": model.name,
            "required": required,
            "default_version": _number(model.default_version),
            "problem": clipped(model.problem),
            "refused": model.refused,
            "behind_since_s": _moment(model.behind_since_ns),
            "pinned_version": _number(model.pinned_version),
            "labels": {label: str(version) for label, version in sorted(model.labels.items())},
            "last_problem": last
            and {"text": last.text, "since_s": _moment(last.since_ns), "until_s": _moment(last.until_ns)},
            "versions": [_version(version) for version in model.versions],
        }


def _version(status: VersionStatus) -> dict[str, Any]:
    return {
        "version": str(status.id.version),
        "state": status.state.value,
        "refused": status.refused,
        "reason": clipped(status.reason),
        "digest": status.digest,
        "contract_hash": status.contract.hash if status.contract else "",
        "verified": bool(status.vetting and status.vetting.verified),
        "available_since_s": _moment(status.available_since_ns),
    }


def _details(status: VersionStatus) -> dict[str, Any]:
    contract, vetting = status.contract, status.vetting
    return {
        "warm_up_us": round(status.warm_up_ns / 1e3, 1),
        "rows_answered": status.rows_answered,
        "inputs": [str(spec) for spec in status.inputs],
        "outputs": [str(spec) for spec in status.outputs],
        "vetting": vetting
        and {
            "at_s": _moment(vetting.vetted_at_ns),
            "text": clipped(vetting.text),
            "memory_bytes": vetting.memory_bytes,
        },
        "contract": contract
        and {
            "hash": contract.hash,
            "features": [
                {"name": clipped(name), "low": span.low, "high": span.high}
                for name, span in zip(contract.feature_names, contract.training_ranges, strict=True)
            ],
            "window": contract.window,
            "includes_current_tick": contract.includes_current_tick,
            "nan_policy": contract.nan_policy.value,
            "outputs": [
                {
                    "name": clipped(output.name),
                    "kind": output.kind.value,
                    "classes": [
                        {"class": clipped(class_), "meaning": meaning}
                        for class_, meaning in zip(output.classes, output.meanings, strict=True)
                    ],
                }
                for output in contract.outputs
            ],
            "estimator": clipped(contract.estimator),
            "libraries": [f"{name} {version}" for name, version in contract.libraries],
            "trained_at_s": _moment(contract.trained_at_ns),
            "golden_rows": len(contract.golden.inputs),
        },
    }


def _calls(versions: Iterable[VersionStatistics]) -> dict[str, Any]:
    """Return what was counted since the start of these versions together."""
    answered = rows = last_ns = 0
    failed: dict[tuple[str, str], int] = {}
    for version in versions:
        answered += version.answered
        rows += version.rows
        last_ns = max(last_ns, version.last_answered_ns)
        for (status, reason), durations in version.failed.items():
            key = status, reason.value
            failed[key] = failed.get(key, 0) + durations.count
    return {
        "answered": answered,
        "rows": rows,
        "last_answered_s": _moment(last_ns),
        "failed": [
            {"status": status, "reason": reason, "calls": calls}
            for (status, reason), calls in sorted(failed.items(), key=lambda it: (-it[1], it[0]))
        ],
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "at_s": _moment(event.at_ns),
        "kind": event.kind.value,
        "model": event.model,
        "version": _number(event.version),
        "digest": event.digest,
        "text": event.text,
    }


def _moment(wall_ns: int) -> float | None:
    """Return seconds since the epoch, UTC, to the millisecond; None for 0, which stands for no time."""
    return round(wall_ns / 1e9, 3) if wall_ns else None


def _number(version: int) -> str | None:
    """Return a version as text, since a browser's numbers end at 2^53; None for 0, which stands for none."""
    return str(version) if version else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _entry(name: str, value: Mapping[str, Any]) -> bytes:
    return _json(name) + b":" + _json(value)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


async def _each(parts: Iterable[bytes]) -> bytes:
    """Write one after the other, letting calls have their turn in between, and join them by commas."""
    written = []
    for part in parts:
        written.append(part)
        await asyncio.sleep(0)
    return b",".join(written)
