"""What happened to the models: what answers since when, what was refused and why."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from inference_server.core.servable import ModelStatus

# Events that are kept.
MAX_EVENTS: Final = 50
# Reasons hold text out of files: so many characters of it are told.
MAX_TEXT: Final = 2000


class Kind(StrEnum):
    """What kind of thing happened."""

    READY = "ready"
    NOT_READY = "not_ready"
    ANSWERS = "answers"
    SILENT = "silent"
    PROBLEM = "problem"
    MENDED = "mended"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `version` 0 and the texts empty where they do not belong to it."""

    at_ns: int
    kind: Kind
    model: str = ""
    version: int = 0
    digest: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why what lies there for a model was not what is served; `until_ns` 0: it still is so."""

    text: str
    since_ns: int
    until_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Seen:
    version: int
    digest: str
    problem: str


class Journal:
    """The last events, and each model's last problem, by comparing what is with what was seen before.

    What comes and goes between two looks is not told.
    """

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._seen: dict[str, _Seen] = {}
        self._problems: dict[str, Problem] = {}
        self._ready: bool | None = None

    def __repr__(self) -> str:
        return f"<Journal of {len(self._events)} events, {len(self._problems)} models had a problem>"

    @property
    def events(self) -> Sequence[Event]:
        """The last ones, the newest first."""
        return sorted(self._events, key=lambda event: event.at_ns)[::-1]

    def last_problem(self, model: str) -> Problem | None:
        """Return what last stood in a model's way, also when it is over; None: nothing did."""
        return self._problems.get(model)

    def look(self, models: Sequence[ModelStatus], *, ready: bool, now_ns: int) -> None:
        """Compare; `now_ns` is wall time."""
        for name in self._seen.keys() - {model.name for model in models}:
            if self._seen.pop(name).version:
                self._add(Event(now_ns, Kind.SILENT, name, text="it is gone"))
            self._problems.pop(name, None)
        for model in models:
            self._look_at(model, now_ns)
        if ready is not self._ready:
            # Before the first model is there, nothing was lost.
            if ready or self._ready is not None:
                self._add(Event(now_ns, Kind.READY if ready else Kind.NOT_READY))
            self._ready = ready

    def _look_at(self, model: ModelStatus, now_ns: int) -> None:
        before = self._seen.get(model.name, _Seen(0, "", ""))
        default = next((it for it in model.versions if it.id.version == model.default_version), None)
        digest = default.digest if default else ""
        now = _Seen(model.default_version if default else 0, digest, clipped(model.problem))
        self._seen[model.name] = now
        if (now.version, now.digest) != (before.version, before.digest):
            if default is None:
                states = "; ".join(clipped(it.reason) for it in model.versions if it.reason)
                self._add(Event(now_ns, Kind.SILENT, model.name, text=states or now.problem))
            else:
                since_ns = default.available_since_ns or now_ns
                # Going back to a version that answered all the time happens now.
                at_ns = now_ns if before.version > now.version else since_ns
                self._add(Event(at_ns, Kind.ANSWERS, model.name, now.version, now.digest))
        if now.problem == before.problem:
            return
        if now.problem:
            since_ns = model.behind_since_ns or now_ns
            self._problems[model.name] = Problem(now.problem, since_ns)
            self._add(Event(now_ns, Kind.PROBLEM, model.name, text=now.problem))
        else:
            last = self._problems[model.name]
            self._problems[model.name] = replace(last, until_ns=now_ns)
            self._add(Event(now_ns, Kind.MENDED, model.name, text=before.problem))

    def _add(self, event: Event) -> None:
        self._events.append(event)


def clipped(text: str) -> str:
    """Return the text, or its beginning where it is longer than anyone reads."""
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + " …"
