"""What answers now, and what can be said of everything else.

All of it lives on the event loop's thread. Look-ups read one immutable snapshot; publishing and retiring
replace it in one assignment, so a call sees either the old version or the new one, never a gap.
"""

import asyncio
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from inference_server.core.errors import NotFoundError, Reason, UnavailableError
from inference_server.core.servable import (
    ModelStatus,
    Servable,
    ServableId,
    State,
    VersionStatus,
    VettingResult,
)
from inference_server.serving.changes import Changes
from inference_server.serving.signature import Signature, shown

DEFAULT_VERSION: Final = 0
# A version by its number, 0 for the default one, or by its label.
Which = int | str


class Entry:
    """A servable in the registry, with its calls in flight counted.

    Whoever resolves an entry and wants to run it calls `acquire` before the next await, and `release` once
    the run has really ended. The servable is not closed in between.
    """

    __slots__ = (
        "__weakref__",
        "_drained",
        "available_since_ns",
        "in_flight",
        "rows_answered",
        "run_ns",
        "servable",
        "signature",
        "vetting",
    )

    def __init__(
        self, servable: Servable, available_since_ns: int, vetting: VettingResult | None = None
    ) -> None:
        self.servable: Final = servable
        self.vetting: Final = vetting
        self.signature: Final = Signature(servable)
        # How long a run takes for each of its rows, where nothing else decides.
        steady = servable.contract is not None and (vetting is None or vetting.steady)
        self.run_ns: Final = servable.warm_up_ns if steady else math.inf
        self.available_since_ns: Final = available_since_ns
        self.in_flight = 0
        self.rows_answered = 0
        self._drained: asyncio.Event | None = None

    def __repr__(self) -> str:
        state = "published" if self._drained is None else "retired"
        return f"<Entry {self.servable.id} {state}, {self.in_flight} in flight>"

    def acquire(self) -> None:
        """Count a call in."""
        self.in_flight += 1

    def release(self) -> None:
        """Count a call out; the last one out of a retired entry wakes whoever drains it."""
        self.in_flight -= 1
        if self.in_flight == 0 and self._drained is not None:
            self._drained.set()

    async def drain(self) -> Servable:
        """Wait until no call is in flight and return the servable, which is the caller's to close.

        Only for an entry that `Registry.publish` replaced or `Registry.retire` took out. Cancelling the wait
        leaves the servable open, and `drain` may be called again.
        """
        if self._drained is None:
            self._drained = asyncio.Event()
        if self.in_flight == 0:
            self._drained.set()
        await self._drained.wait()
        return self.servable

    def status(self) -> VersionStatus:
        """Say what this version is, AVAILABLE."""
        servable = self.servable
        return VersionStatus(
            id=servable.id,
            state=State.AVAILABLE,
            digest=servable.digest,
            contract=servable.contract,
            inputs=servable.inputs,
            outputs=servable.outputs,
            available_since_ns=self.available_since_ns,
            warm_up_ns=servable.warm_up_ns,
            rows_answered=self.rows_answered,
            in_flight=self.in_flight,
            vetting=self.vetting,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model stands to what is wanted of it; see `ModelStatus` for the words.

    `default_version` 0: the greatest available.
    """

    problem: str = ""
    refused: bool = False
    behind_since_ns: int = 0
    default_version: int = 0
    pinned_version: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)


DEFAULT_STANDING: Final = Standing()


class Registry:
    """The servables that answer, by model and version, and the status of every version known.

    `required` are the models without which the sidecar is not ready. None named: whoever fills the registry
    says with `require` which ones it found at its start. Swaps are counted in `changes`, where they happen.
    """

    def __init__(self, required: Collection[str] = (), changes: Changes | None = None) -> None:
        self._changes = changes or Changes()
        self._named_required = frozenset(required)
        self._found_required: frozenset[str] = frozenset()
        self._required = self._named_required
        self._entries: Mapping[ServableId, Entry] = {}
        # The snapshot that calls read: by version, by label, and 0 for the default version.
        self._snapshot: Mapping[tuple[str, Which], Entry] = {}
        self._statuses: dict[ServableId, VersionStatus] = {}
        self._standings: dict[str, Standing] = {}
        self._revision = 0
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        available = ", ".join(str(id_) for id_ in sorted(self._entries))
        return f"<Registry revision {self._revision}, available: {available or 'nothing'}>"

    # Calls.

    def resolve(self, name: str, version: Which = DEFAULT_VERSION) -> Entry:
        """Return the entry that answers for a version or a label; 0 is the default version.

        That is the greatest available, or the one that a rollback went back to. Raises NotFoundError for a
        model, version or label that is not known, and UnavailableError for one that is known and does not
        answer now; its text has the state and the reason.
        """
        entry = self._snapshot.get((name, version))
        if entry is None:
            raise self._why_not(name, version)
        return entry

    def find(self, name: str, version: Which = DEFAULT_VERSION) -> Entry | None:
        """Return the entry as `resolve` does; None where that raises."""
        return self._snapshot.get((name, version))

    # Filling it.

    def publish(
        self,
        servable: Servable,
        available_since_ns: int,
        vetting: VettingResult | None = None,
        standing: Standing | None = None,
    ) -> Entry | None:
        """Let a servable answer from now on; `available_since_ns` is wall time.

        A `standing` takes effect in the same assignment. Returns the entry that it replaces when its id was
        published before, with other bytes: the caller drains that one and closes its servable.
        """
        replaced = self._entries.get(servable.id)
        if standing is not None:
            self._standings[servable.id.name] = standing
        self._replace({**self._entries, servable.id: Entry(servable, available_since_ns, vetting)})
        self._statuses.pop(servable.id, None)
        self._bump()
        return replaced

    def retire(self, id_: ServableId) -> Entry:
        """Take a version out of the snapshot at once and return its entry.

        The status is UNLOADING from now on; the caller drains the entry, closes its servable, and then sets
        END or forgets the version. Raises KeyError for an id that is not published.
        """
        entry = self._entries[id_]
        self._replace({key: value for key, value in self._entries.items() if key != id_})
        self._statuses[id_] = VersionStatus(
            id_, State.UNLOADING, reason="waiting for calls in flight", digest=entry.servable.digest
        )
        self._bump()
        return entry

    def set_status(self, status: VersionStatus) -> None:
        """Say where a version is that is not published; of a published one the registry knows itself."""
        if status.id not in self._entries and self._statuses.get(status.id) != status:
            self._statuses[status.id] = status
            self._bump()

    def set_standing(self, name: str, standing: Standing) -> None:
        """Say how a model stands to what is wanted of it; default version and labels take effect at once."""
        before = self._standings.get(name, DEFAULT_STANDING)
        if before == standing:
            return
        if standing == DEFAULT_STANDING:
            del self._standings[name]
        else:
            self._standings[name] = standing
        if (before.default_version, before.labels) != (standing.default_version, standing.labels):
            self._replace(self._entries)
        self._bump()

    def forget(self, id_: ServableId) -> None:
        """Drop the status of a version that is gone; a published one stays."""
        if self._statuses.pop(id_, None) is not None:
            self._bump()

    def require(self, names: Collection[str]) -> None:
        """Name the required models for where none are named otherwise."""
        self._found_required = frozenset(names)
        self._settle_required()

    def require_named(self, names: Collection[str]) -> None:
        """Name the required models as the constructor does; none: those that `require` says."""
        self._named_required = frozenset(names)
        self._settle_required()

    # Looking at it.

    def describe(self, names: Collection[str] = ()) -> list[ModelStatus]:
        """Return the status of the models named, or of all, sorted by name; unknown names are left out.

        A required model of which nothing is known yet is there, and says so.
        """
        versions: dict[str, list[VersionStatus]] = {name: [] for name in (*self._required, *self._standings)}
        for id_, entry in self._entries.items():
            if not names or id_.name in names:
                versions.setdefault(id_.name, []).append(entry.status())
        for id_, status in self._statuses.items():
            versions.setdefault(id_.name, []).append(status)
        return [
            self._describe(name, versions[name]) for name in sorted(versions) if not names or name in names
        ]

    def model_ready(self, name: str, version: Which = DEFAULT_VERSION) -> bool:
        """Whether a call to this version or label would be answered now."""
        return (name, version) in self._snapshot

    def knows(self, name: str) -> bool:
        """Whether a model of this name is available, on its way, refused or required."""
        if (name, DEFAULT_VERSION) in self._snapshot or name in self._standings or name in self._required:
            return True
        return any(id_.name == name for id_ in self._statuses)

    def ready(self) -> bool:
        """Whether at least one model is available, and every required one.

        A swap never flips this: the old version is in the snapshot until the new one takes its place. Nor
        does a candidate that fails later, for what served before goes on serving.
        """
        return bool(self._snapshot) and all(self.model_ready(name) for name in self._required)

    @property
    def required(self) -> frozenset[str]:
        """The models without which it is not ready."""
        return self._required

    @property
    def revision(self) -> int:
        """Grows with every change that `describe` or `ready` would show, rows answered apart."""
        return self._revision

    async def wait_changed(self, seen_revision: int) -> int:
        """Return the revision as soon as it is not the one seen; changes in between are not told apart."""
        while self._revision == seen_revision:
            await self._changed.wait()
        return self._revision

    def _settle_required(self) -> None:
        required = self._named_required or self._found_required
        if self._required != required:
            self._required = required
            self._bump()

    def _bump(self) -> None:
        self._revision += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _replace(self, entries: Mapping[ServableId, Entry]) -> None:
        snapshot: dict[tuple[str, Which], Entry] = {}
        for id_, entry in sorted(entries.items()):
            snapshot[id_.name, id_.version] = entry
            snapshot[id_.name, DEFAULT_VERSION] = entry  # ascending order: the greatest version stays
        for name, standing in self._standings.items():
            named_versions: list[tuple[Which, int]] = [(DEFAULT_VERSION, standing.default_version)]
            named_versions += standing.labels.items()
            for which, version in named_versions:
                named = entries.get(ServableId(name, version))
                if named is not None:
                    snapshot[name, which] = named
        before = self._snapshot
        self._entries = entries
        self._snapshot = snapshot
        for (name, which), entry in snapshot.items():
            old = before.get((name, which)) if which == DEFAULT_VERSION else None
            if old is not None and old is not entry:
                self._changes.swapped(name)

    def _describe(self, name: str, versions: list[VersionStatus]) -> ModelStatus:
        standing = self._standings.get(name, DEFAULT_STANDING)
        return ModelStatus(
            name=name,
            versions=tuple(sorted(versions, key=lambda status: -status.id.version)),
            default_version=self._default_version(name),
            problem=standing.problem or ("" if versions else "required, but not found yet"),
            refused=standing.refused,
            behind_since_ns=standing.behind_since_ns,
            pinned_version=standing.pinned_version,
            labels=standing.labels,
        )

    def _default_version(self, name: str) -> int:
        entry = self._snapshot.get((name, DEFAULT_VERSION))
        return entry.servable.id.version if entry else 0

    def _why_not(self, name: str, version: Which) -> NotFoundError | UnavailableError:
        found = self.describe((name,))
        if not found:
            return NotFoundError(f"no model {shown(name)}")
        (model,) = found
        if version == DEFAULT_VERSION:
            states = "; ".join(_told(status) for status in model.versions) or model.problem
            return UnavailableError(f"model {shown(name)} has no available version: {states}")
        if isinstance(version, str):
            if version not in model.labels:
                labels = ", ".join(map(shown, sorted(model.labels))) or "none"
                return NotFoundError(
                    f"model {shown(name)} has no label {shown(version)}; it has {labels}",
                    Reason.VERSION_NOT_FOUND,
                )
            label, version = version, model.labels[version]
            states = "; ".join(_told(it) for it in model.versions if it.id.version == version)
            return UnavailableError(
                f"model {shown(name)}: label {shown(label)} names version {version}, which does not answer"
                + (f": {states}" if states else "")
            )
        for status in model.versions:
            if status.id.version == version:
                return UnavailableError(f"model {shown(name)} does not answer: {_told(status)}")
        known = ", ".join(str(status.id.version) for status in model.versions) or "none"
        return NotFoundError(
            f"model {shown(name)} has no version {version}; it has {known}", Reason.VERSION_NOT_FOUND
        )


def _told(status: VersionStatus) -> str:
    reason = f" ({status.reason})" if status.reason else ""
    return f"version {status.id.version} is {status.state.value}{reason}"
