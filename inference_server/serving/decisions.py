"""What an operator decided about one model, and which versions callers got one after another. No I/O.

A rollback holds what answered until then, and whatever else lies there or is on its way without being served,
and pins what answered before. Where the pinned bytes have to be loaded first, the rollback is under way until
they answer, or are refused and it is undone. What is held stays out until its file changes. The pin ends when
a file that came later is published as what the policy would have callers get.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from inference_server.serving.archive import Kept, Remembered

# How many default versions a rollback can go back through, the one that answers included.
MAX_KEPT: Final = 3


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What a rollback did. `moved_labels` named the version that it went back from."""

    back_from: Kept
    back_to: Kept
    moved_labels: tuple[str, ...]


class Decisions:
    """Changes what is remembered of one model, event by event."""

    def __init__(self, remembered: Remembered) -> None:
        self._remembered = remembered
        # A rollback that has not come about yet, and what was remembered before it.
        self._under_way: tuple[RolledBack, Remembered] | None = None
        self._rollback_failure = ""
        self._pin_failure = ""
        self._pin_wants_room = False

    def __repr__(self) -> str:
        pinned = f"{self.pinned.version} pinned" if self.pinned else "nothing pinned"
        return f"<Decisions {pinned}, {len(self._remembered.held)} held>"

    @property
    def remembered(self) -> Remembered:
        """What must outlive a restart."""
        return self._remembered

    @property
    def pinned(self) -> Kept | None:
        """What a rollback went back to."""
        return self._remembered.pinned

    @property
    def labels(self) -> Mapping[str, int]:
        """The labels that were set by hand."""
        return self._remembered.labels

    @property
    def rolling_back(self) -> bool:
        """Whether a rollback has not come about yet."""
        return self._under_way is not None

    @property
    def back_from(self) -> Kept | None:
        """What answers until a rollback has come about; None without one under way."""
        return self._under_way[0].back_from if self._under_way else None

    @property
    def rollback_failure(self) -> str:
        """Why the last rollback did not come about; empty: it did."""
        return self._rollback_failure

    @property
    def pin_failure(self) -> str:
        """Why what is pinned cannot be served; empty: it can."""
        return self._pin_failure

    def is_held(self, kept: Kept) -> bool:
        """Whether these bytes are not to be served, under any number but that of the pin."""
        return kept != self.pinned and any(held.digest == kept.digest for held in self._remembered.held)

    def before(self, now: Kept) -> Kept | None:
        """Return what callers got before they got this; None where that is not known."""
        return next((kept for kept in reversed(self._remembered.served) if kept.digest != now.digest), None)

    def found(self, digests: Mapping[int, str]) -> None:
        """Take note of what lies there, by version.

        What is held stays so while its file is gone, and while it lies there under another number; what a
        rollback goes back from also until that has come about.
        """
        held = frozenset(
            kept
            for kept in self._remembered.held
            if kept == self.back_from or digests.get(kept.version, kept.digest) == kept.digest
        )
        pinned = self.pinned
        if pinned and not held and digests.get(pinned.version) == pinned.digest:
            self._unpin(held)
        else:
            self._remembered = replace(self._remembered, held=held)

    def published(self, kept: Kept, around: Collection[str], wanted_version: int) -> None:
        """Take note of a version that answers now.

        `around` are the digests of all that lies there or answers, `wanted_version` the one of what lies
        there that callers would get.
        """
        if kept == self.pinned:
            self._under_way = None
            self._pin_failure = ""
        elif self.pinned and kept.version in (wanted_version, self.pinned.version):
            good = self.pinned.digest
            held = {held for held in self._remembered.held if held.digest in around and held.digest != good}
            self._unpin(frozenset(held))

    def became_default(self, kept: Kept) -> None:
        """Take note of what callers get from now on."""
        self._rollback_failure = ""
        if self._remembered.served[-1:] != (kept,):
            served = (*self._remembered.served, kept)[-MAX_KEPT:]
            self._remembered = replace(self._remembered, served=served)

    def pin_failed(self, reason: str, *, for_room: bool = False) -> None:
        """Take note that what is pinned cannot be served; a rollback that has not come about is undone."""
        if self._under_way is None:
            self._pin_failure, self._pin_wants_room = reason, for_room
        else:
            self.rollback_failed(reason)

    def room_freed(self) -> bool:
        """Try what is pinned again where it was refused for want of memory; say whether it was."""
        again = bool(self._pin_failure) and self._pin_wants_room
        if again:
            self._pin_failure = ""
        return again

    def rollback_failed(self, reason: str) -> None:
        """Undo a rollback that has not come about; labels that were set since then stay."""
        if self._under_way is None:
            return
        done, before = self._under_way
        moved_back = {
            label: before.labels.get(label, 0)
            for label in done.moved_labels
            if self.labels.get(label) == done.back_to.version
        }
        labels = {label: version for label, version in {**self.labels, **moved_back}.items() if version}
        self._remembered = replace(before, labels=labels)
        self._under_way = None
        self._rollback_failure = reason

    def roll_back(self, done: RolledBack, not_chosen: Collection[Kept], *, answers: bool) -> None:
        """Pin and hold; `answers`: what it goes back to is available already."""
        history = self._remembered.served
        back_to = done.back_to
        self._under_way = None if answers else (done, self._remembered)
        self._rollback_failure = self._pin_failure = ""
        self._remembered = replace(
            self._remembered,
            served=history[: history.index(back_to) + 1] if back_to in history else (back_to,),
            pinned=back_to,
            held=(self._remembered.held | frozenset(not_chosen) | {done.back_from}) - {back_to},
            labels={**self.labels, **dict.fromkeys(done.moved_labels, back_to.version)},
        )

    def resume(self) -> bool:
        """Forget pin and holds; say whether there were any."""
        if not self.pinned and not self._remembered.held:
            return False
        self._unpin(frozenset())
        return True

    def set_label(self, label: str, version: int) -> None:
        """Let a label name a version."""
        self._remembered = replace(self._remembered, labels={**self.labels, label: version})

    def remove_label(self, label: str) -> None:
        """Forget a label."""
        labels = {name: version for name, version in self.labels.items() if name != label}
        self._remembered = replace(self._remembered, labels=labels)

    def _unpin(self, held: frozenset[Kept]) -> None:
        self._remembered = replace(self._remembered, pinned=None, held=held)
        self._under_way = None
        self._pin_failure = ""
