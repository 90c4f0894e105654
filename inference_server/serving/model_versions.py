"""One model's versions: what lies in the repository, what is served, what an operator decided. No I/O.

The rules:
- Aspired are the versions that the policy picks from those found, leaving out what is refused or held, and
  those that a label names, and the one that is pinned.
- A version is loaded when it is aspired and its bytes are not the ones served.
- A version is retired when it is neither aspired nor labelled, an aspired one is available, and no rollback
  is under way. So a model that was available once stays available, whatever comes and goes; files that are
  deleted leave the last good versions served. Only an unload, asked for by name, takes all of them.
- A refused candidate is not tried again until its file changes, until a change of the contract is allowed, or
  until memory is freed where it was refused for want of it. Where it was to replace other bytes of the same
  version, those go on serving.
- Where a start finds none but bad files, what callers got before it is served, from the bytes kept: what
  would go on serving after a failed update also serves after a restart.
- What is pinned by a rollback is what callers get until the pin ends (see `decisions`); until it answers they
  get what they got. A file of the pinned version that came later goes before it, unless it is refused.
- A label follows to another version once that is available, and stays where it is until then.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import starmap
from typing import Final

from inference_server.core.errors import NotFoundError, RefusedError
from inference_server.core.servable import ServableId, State, VersionStatus
from inference_server.serving.archive import Kept, Remembered
from inference_server.serving.decisions import Decisions, RolledBack
from inference_server.serving.policy import Specific, aspired_versions
from inference_server.serving.repository import DIGEST_SHOWN, Candidate, Source
from inference_server.serving.settings import ModelSettings
from inference_server.serving.signature import shown

NOT_LOADED: Final = "not loaded; control is explicit"


@dataclass(frozen=True, slots=True)
class Load:
    """Vet, load and publish this candidate, then tell `published` or `refused`."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Retire:
    """Take this version out of service."""

    id: ServableId


Action = Load | Retire


@dataclass(frozen=True, slots=True)
class _Refusal:
    candidate: Candidate
    reason: str
    for_room: bool


class ModelVersions:
    """The state of one model. `remembered` is what outlived a restart; `wanted` False: not before `load`."""

    def __init__(
        self,
        name: str,
        settings: ModelSettings,
        remembered: Remembered | None = None,
        *,
        wanted: bool = True,
    ) -> None:
        self._name: Final = name
        self._settings = settings
        self._decisions = Decisions(remembered or Remembered())
        self._explicit: Final = not wanted
        self._wanted = wanted
        self._kept_refusal: _Refusal | None = None  # of kept bytes, with nothing served
        self._found: dict[int, Candidate] = {}
        self._problems: tuple[str, ...] = ()
        self._served: dict[int, str] = {}
        self._refused: dict[int, _Refusal] = {}
        self._loading: Candidate | None = None
        self._labels: dict[str, int] = {}
        self._settle_labels()

    def __repr__(self) -> str:
        served = ", ".join(str(version) for version in sorted(self._served))
        return f"<ModelVersions {self._name} serves {served or 'nothing'}>"

    # Events.

    def found(self, found: Mapping[int, Candidate], problems: tuple[str, ...]) -> bool:
        """Take over what a scan found; it replaces what the scan before found. Says whether it differs."""
        if self._found == found and self._problems == problems:
            return False
        self._found, self._problems = dict(found), problems
        self._refused = {
            version: refusal
            for version, refusal in self._refused.items()
            if found.get(version) == refusal.candidate
        }
        self._decisions.found(self.lying)
        return True

    def published(self, candidate: Candidate) -> None:
        """Note that the candidate answers now."""
        self._loading = None
        kept = _kept(candidate)
        self._served[kept.version] = kept.digest
        around = {*self.lying.values(), *self._served.values()}
        self._decisions.published(kept, around, max(self._picked(), default=0))
        self._settle_labels()
        # Going back to a smaller number, what is to be retired for it answers a moment longer.
        if self._default_of(self._served.keys() - self._to_retire()) == kept.version:
            self._decisions.became_default(kept)

    def refused(self, candidate: Candidate, reason: str, *, for_room: bool = False) -> None:
        """Note that the candidate is no good, or has no room; what served before goes on."""
        self._loading = None
        if self._found.get(candidate.id.version) == candidate:  # what came meanwhile is not refused
            again = for_room and candidate.source is not Source.UPLOAD  # whose bytes went with the call
            self._refused[candidate.id.version] = _Refusal(candidate, reason, again)
        if self._is_pinned(candidate):
            self._decisions.pin_failed(reason, for_room=for_room)
            self._settle_labels()
        if candidate.source is Source.ARCHIVE and not self._served:
            self._kept_refusal = _Refusal(candidate, reason, for_room)

    def postponed(self) -> None:
        """Note that the load was given up without a verdict; the next scan decides."""
        self._loading = None

    def room_freed(self) -> bool:
        """Try again what was refused for want of memory; say whether there is any."""
        before = len(self._refused)
        self._refused = {version: it for version, it in self._refused.items() if not it.for_room}
        again = len(self._refused) < before
        if self._kept_refusal and self._kept_refusal.for_room:
            self._kept_refusal, again = None, True
        return self._decisions.room_freed() or again

    def set_settings(self, settings: ModelSettings) -> None:
        """Take over what the operator says of this model; what was refused for its contract may be let in."""
        if settings.allow_contract_change and not self._settings.allow_contract_change:
            self._refused = {}
        self._settings = settings
        self._settle_labels()

    # What an operator does. Each raises RefusedError where the state does not allow it, and changes nothing.

    def load(self, found: Mapping[int, Candidate], problems: tuple[str, ...]) -> None:
        """Serve what lies there, or was handed in, from now on; a refused file gets another try."""
        self._wanted = True
        self._refused = {}
        self.found(found, problems)

    def unload(self) -> None:
        """Serve nothing of this model until `load`."""
        if not self._wanted:
            raise RefusedError(f"model {self._name!r} is not loaded")
        self._wanted = False
        self._decisions.rollback_failed("it was unloaded meanwhile")
        self._settle_labels()

    def roll_back(self) -> RolledBack:
        """Pin what answered before; `rolling_back` until it answers or failed."""
        version = self.default_version()
        if not version or not self._wanted:
            raise RefusedError(f"model {self._name!r} has no available version to roll back from")
        self._refuse_while_rolling_back()
        now = Kept(version, self._served[version])
        before = self._before(now)
        labels = [label for label, named in self._labels.items() if named == now.version != before.version]
        done = RolledBack(now, before, tuple(sorted(labels)))
        came = [*self._found.values(), *filter(None, (self._loading,))]
        not_chosen = [
            kept
            for kept in map(_kept, came)
            if kept.version == before.version or kept.digest != self._served.get(kept.version)
        ]
        answers = self._served.get(before.version) == before.digest
        self._decisions.roll_back(done, not_chosen, answers=answers)
        self._settle_labels()
        return done

    def resume(self) -> None:
        """Forget pin and holds: what lies in the repository counts again."""
        self._refuse_while_rolling_back()
        if not self._decisions.resume():
            raise RefusedError(f"model {self._name!r} is not rolled back")

    def set_label(self, label: str, version: int) -> None:
        """Let a label name an available version; it wins over the settings."""
        if version not in self._served:
            available = ", ".join(str(served) for served in sorted(self._served)) or "none"
            raise RefusedError(
                f"model {self._name!r}: label {shown(label)} cannot move to version {version}, "
                f"which is not available; available: {available}"
            )
        self._decisions.set_label(label, version)
        self._settle_labels()

    def remove_label(self, label: str) -> None:
        """Forget a label that was set by hand; NotFoundError where there is none."""
        if label not in self._decisions.labels:
            hint = "; the configuration sets it" if label in self._settings.labels else ""
            raise NotFoundError(f"model {self._name!r} has no label {shown(label)} set by hand{hint}")
        self._decisions.remove_label(label)
        self._labels.pop(label)
        self._settle_labels()

    # Answers.

    def next_action(self) -> Action | None:
        """Return the next thing to do and take it as under way; None when all is as it should be.

        A Retire counts as done at once. One load at a time; retiring comes before loading.
        """
        for version in sorted(self._to_retire()):
            del self._served[version]
            if self._wanted and (default := self.default_version()):
                self._decisions.became_default(Kept(default, self._served[default]))
            return Retire(ServableId(self._name, version))
        if self._loading is None:
            for _, candidate in sorted(self._aspired().items(), reverse=True):
                if self._to_load(candidate):
                    self._loading = candidate
                    return Load(candidate)
        return None

    def wants(self, candidate: Candidate) -> bool:
        """Whether a candidate whose load has come to its end is still to be published."""
        return candidate.id.version in self._aspired() and not self._is_held(candidate)

    def replaced_by(self, candidate: Candidate) -> int:
        """Return the version whose callers get the candidate once it is published; 0: nobody's.

        A rollback replaces nothing in this sense: going back needs no permission.
        """
        version, default = candidate.id.version, self.default_version()
        if self._is_pinned(candidate):
            return 0
        if version in self._served:
            return version
        if self.rolling_back or default == self.pinned_version:
            becomes_default = version == max(self._picked(), default=0)
        else:
            becomes_default = version > default or default not in self._aspired()
        return default if becomes_default else 0

    @property
    def allow_contract_change(self) -> bool:
        """Whether a candidate may have another contract than what it replaces."""
        return self._settings.allow_contract_change

    @property
    def busy(self) -> bool:
        """Whether something is loading, or still to be loaded."""
        return self._loading is not None or any(map(self._to_load, self._aspired().values()))

    @property
    def wanted(self) -> bool:
        """Whether anything of this model is to be served."""
        return self._wanted

    @property
    def load_failure(self) -> str:
        """Why what a `load` was to serve is not what is served; empty: it is."""
        told = [*self._problems, *self._refusals_told(), *self._held_told()]
        if not self._served and not told:
            return "nothing of it lies in the repository"
        return "; ".join(told)

    @property
    def rolling_back(self) -> bool:
        """Whether a rollback has not come about yet."""
        return self._decisions.rolling_back

    @property
    def rollback_failure(self) -> str:
        """Why the last rollback did not come about; empty: it did."""
        return self._decisions.rollback_failure

    @property
    def has_refused(self) -> bool:
        """Whether a file that lies there is refused."""
        return self._wanted and bool(self._refused)

    @property
    def known(self) -> bool:
        """Whether there is anything to be said of this model."""
        return bool(self._found or self._problems or self._served or self._loading or self._decisions.pinned)

    @property
    def remembered(self) -> Remembered:
        """What must outlive a restart."""
        return self._decisions.remembered

    @property
    def served(self) -> Mapping[int, str]:
        """The digest by version of what answers."""
        return self._served

    @property
    def lying(self) -> Mapping[int, str]:
        """The digest by version of what lies there, or was handed in."""
        return {version: candidate.digest for version, candidate in self._found.items()}

    @property
    def labels(self) -> Mapping[str, int]:
        """The version by label; where that is not available, the label does not answer."""
        return dict(self._labels)

    @property
    def pinned_version(self) -> int:
        """The version that a rollback went back to; 0 without one."""
        return self._decisions.pinned.version if self._decisions.pinned else 0

    def default_version(self) -> int:
        """Return the version that callers get who name none: the pinned or the greatest one; 0: none."""
        return self._default_of(self._served)

    def statuses(self) -> dict[ServableId, VersionStatus]:
        """Return where each version is that is on its way, or did not get there."""
        told: dict[ServableId, VersionStatus] = {}

        def tell(candidate: Candidate, state: State, reason: str = "", *, refused: bool = False) -> None:
            told[candidate.id] = VersionStatus(candidate.id, state, reason, candidate.digest, refused=refused)

        for version, candidate in self._found.items():
            if version not in self._served and self._is_held(candidate):
                tell(candidate, State.END, "held since a rollback, until its file changes")
            elif not self._wanted:
                tell(candidate, State.END, NOT_LOADED)
        for version, refusal in self._refused.items():
            if version not in self._served and self._wanted:
                tell(refusal.candidate, State.END, refusal.reason, refused=True)
        for version, candidate in self._aspired().items():
            if version not in self._served:
                tell(candidate, State.LOADING if self._loading == candidate else State.START)
        return told

    def behind(self) -> bool:
        """Whether what lies in the repository is not what is served."""
        return bool(self.problem()) or self.busy

    def problem(self) -> str:
        """Say why what lies in the repository is not what is served; empty: it is, or is on its way."""
        told = list(self._problems)
        if not self._wanted:
            return "; ".join(told)
        told += [*self._refusals_told(), *self._held_told()]
        if failure := self._decisions.pin_failure:
            told.append(f"version {self.pinned_version}: it was rolled back to, but: {failure}")
        elif (lost := self._kept_refusal) and not self._served:
            told.append(f"version {lost.candidate.id.version}: it was served before, but: {lost.reason}")
        if failure := self._decisions.rollback_failure:
            told.append(f"the rollback failed: {failure}")
        # Where one is aspired, something is on its way that takes their place; an upload leaves no file.
        uploaded = any(candidate.source is Source.UPLOAD for candidate in self._found.values())
        if not self._aspired() and not uploaded:
            told += [
                f"version {version}: served, but its file is gone"
                for version in sorted(self._served.keys() - self._found.keys())
            ]
        if isinstance(self._settings.policy, Specific):
            told += [
                f"version {version}: wanted by the policy, but not in the repository"
                for version in sorted(
                    self._settings.policy.versions - self._found.keys() - self._served.keys()
                )
            ]
        told += [
            f"label {label}: wanted at version {version}, which is not available"
            for label, version in sorted(self._wanted_labels().items())
            if version not in self._served
        ]
        return "; ".join(told)

    # Within.

    def _refuse_while_rolling_back(self) -> None:
        if self.rolling_back:
            raise RefusedError(f"model {self._name!r} is being rolled back already")

    def _refusals_told(self) -> list[str]:
        return [
            f"version {version}: {'the new file is refused' if version in self._served else 'refused'}: "
            f"{refusal.reason}"
            for version, refusal in sorted(self._refused.items())
        ]

    def _held_told(self) -> list[str]:
        return [
            f"version {version} ({candidate.digest[:DIGEST_SHOWN]}): held since a rollback, "
            "until its file changes"
            for version, candidate in sorted(self._found.items())
            if self._is_held(candidate)
        ]

    def _before(self, now: Kept) -> Kept:
        """Return what callers got before; where that is not known, the next smaller version that answers."""
        if before := self._decisions.before(now):
            return before
        smaller = [
            version
            for version, digest in self._served.items()
            if version < now.version and digest != now.digest
        ]
        if not smaller:
            raise RefusedError(
                f"model {self._name!r} has nothing to roll back to: "
                f"nothing that answered before version {now.version} ({now.digest[:DIGEST_SHOWN]}) is kept"
            )
        return Kept(max(smaller), self._served[max(smaller)])

    def _usable(self) -> dict[int, Candidate]:
        """Return what may be served; a refused file counts where its version is served already, rightly."""
        served = {
            kept.version for kept in starmap(Kept, self._served.items()) if not self._decisions.is_held(kept)
        }
        return {
            version: candidate
            for version, candidate in self._found.items()
            if not self._is_held(candidate) and (version not in self._refused or version in served)
        }

    def _default_of(self, served: Collection[int]) -> int:
        """Return the default version where these of the served ones are left; 0: none."""
        for kept in filter(None, (self._decisions.back_from, self._decisions.pinned)):
            if kept.version in served and self._served[kept.version] == kept.digest:
                return kept.version
        return max(served, default=0)

    def _to_retire(self) -> set[int]:
        """Return the served versions that nothing keeps in service any more."""
        if not self._wanted:
            return set(self._served)
        aspired = self._aspired().keys()
        if self.rolling_back or not aspired & self._served.keys():
            return set()  # callers get what answers now until what they are to get instead does
        return self._served.keys() - aspired - set(self._labels.values())

    def _aspired(self) -> dict[int, Candidate]:
        if not self._wanted:
            return {}
        aspired = self._picked()
        pinned = self._decisions.pinned
        if pinned is None or self._decisions.pin_failure:
            return aspired or self._last_good()
        if pinned.version not in aspired or pinned.version in self._refused:
            aspired[pinned.version] = self._archived(pinned)
        return aspired

    def _last_good(self) -> dict[int, Candidate]:
        """Return what callers got before a restart, where that found only bad files.

        Not where there are no files: who deletes them before a start wants nothing of the model served.
        """
        history = self._decisions.remembered.served
        if self._explicit or self._served or not (history and (self._refused or self._problems)):
            return {}
        last = self._archived(history[-1])
        refused = {refusal.candidate.digest for refusal in self._refused.values()}
        lost = self._kept_refusal is not None and self._kept_refusal.candidate == last
        if lost or last.digest in refused or self._is_held(last):
            return {}
        return {last.id.version: last}

    def _archived(self, kept: Kept) -> Candidate:
        return Candidate(ServableId(self._name, kept.version), kept.digest, "", Source.ARCHIVE)

    def _picked(self) -> dict[int, Candidate]:
        """Return what the policy and the labels pick of what lies there."""
        usable = self._usable()
        versions = aspired_versions(self._settings.policy, usable) | set(self._wanted_labels().values())
        return {version: usable[version] for version in versions & usable.keys()}

    def _is_pinned(self, candidate: Candidate) -> bool:
        return self._decisions.pinned == _kept(candidate)

    def _is_held(self, candidate: Candidate) -> bool:
        return self._decisions.is_held(_kept(candidate))

    def _to_load(self, candidate: Candidate) -> bool:
        version = candidate.id.version
        refusal = self._refused.get(version)
        refused = refusal is not None and refusal.candidate == candidate
        return not refused and self._served.get(version) != candidate.digest

    def _wanted_labels(self) -> dict[str, int]:
        return {**self._settings.labels, **self._decisions.labels}

    def _settle_labels(self) -> None:
        self._labels = {
            label: version if version in self._served else self._labels.get(label, version)
            for label, version in self._wanted_labels().items()
        }


def _kept(candidate: Candidate) -> Kept:
    return Kept(candidate.id.version, candidate.digest)
