"""The life cycle's logic: events in, the next action out. No I/O, no time, no tasks.

What holds for one model by itself stands in `model_versions`. Here are the models together, and which of them
something happened to, so that a change of one costs nothing for the thousand others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from inference_server.core.errors import NotFoundError
from inference_server.core.servable import ServableId, VersionStatus
from inference_server.serving.archive import Remembered
from inference_server.serving.decisions import RolledBack
from inference_server.serving.model_versions import Action, ModelVersions
from inference_server.serving.policy import VersionPolicy
from inference_server.serving.repository import Candidate
from inference_server.serving.settings import DEFAULT_SETTINGS, ModelSettings
from inference_server.serving.signature import shown


class Lifecycle:
    """The state of every model's versions.

    `settings` are by model name; others get `default`. `remembered` is what outlived a restart. `explicit`: a
    model is served only after `load`.
    """

    def __init__(
        self,
        settings: Mapping[str, ModelSettings] | None = None,
        *,
        default: ModelSettings = DEFAULT_SETTINGS,
        remembered: Mapping[str, Remembered] | None = None,
        explicit: bool = False,
    ) -> None:
        self._settings = dict(settings or {})
        self._default = default
        self._explicit = explicit
        # What is remembered of models of which nothing else is known.
        self._remembered = dict(remembered or {})
        self._models: dict[str, ModelVersions] = {}
        self._to_consider: set[str] = set()
        self._changed: set[str] = set()
        for name, what in list(self._remembered.items()):
            if what.pinned:
                self._model(name)

    def __repr__(self) -> str:
        served = [f"{name}:{version}" for name, model in self._models.items() for version in model.served]
        return f"<Lifecycle serves {', '.join(sorted(served)) or 'nothing'}>"

    # Events.

    def set_settings(self, settings: Mapping[str, ModelSettings]) -> None:
        """Take over what the operator says of every model; it replaces what was said before."""
        self._settings = dict(settings)
        for name, model in self._models.items():
            model.set_settings(self._settings.get(name, self._default))
            self._note(name)

    def set_policy(self, name: str, policy: VersionPolicy) -> None:
        """Change one model's policy."""
        settings = replace(self._settings.get(name, self._default), policy=policy)
        self.set_settings({**self._settings, name: settings})

    def found(self, candidates: Iterable[Candidate], problems: Mapping[str, tuple[str, ...]]) -> None:
        """Take over what a scan found; it replaces what the scan before found."""
        found: dict[str, dict[int, Candidate]] = {name: {} for name in (*self._models, *problems)}
        for candidate in candidates:
            found.setdefault(candidate.id.name, {})[candidate.id.version] = candidate
        for name, versions in found.items():
            model = self._model(name)
            if self._explicit and model.wanted:
                continue  # what a `load` found holds until the next one
            if model.found(versions, problems.get(name, ())):
                self._note(name)
            self._forget_unknown(name)

    def published(self, candidate: Candidate) -> None:
        """Note that the candidate answers now."""
        self._noted(candidate.id.name).published(candidate)

    def refused(self, candidate: Candidate, reason: str, *, for_room: bool = False) -> None:
        """Note that the candidate is no good, or has no room; what served before goes on."""
        self._noted(candidate.id.name).refused(candidate, reason, for_room=for_room)
        self._forget_unknown(candidate.id.name)

    def postponed(self, candidate: Candidate) -> None:
        """Note that the load was given up without a verdict; the next scan decides."""
        self._noted(candidate.id.name).postponed()
        self._forget_unknown(candidate.id.name)

    def room_freed(self) -> None:
        """Try again what was refused for want of memory."""
        for name, model in self._models.items():
            if model.room_freed():
                self._note(name)

    # What an operator does; see `ModelVersions`. NotFoundError for a model of which nothing is known.

    def load(self, name: str, found: Mapping[int, Candidate], problems: tuple[str, ...]) -> None:
        """Serve what lies there, or was handed in, from now on."""
        self._noted(name).load(found, problems)

    def unload(self, name: str) -> None:
        """Serve nothing of this model until `load`."""
        self._known(name).unload()
        self._note(name)

    def roll_back(self, name: str) -> RolledBack:
        """Pin what answered before."""
        done = self._known(name).roll_back()
        self._note(name)
        return done

    def resume(self, name: str) -> None:
        """Forget pin and holds."""
        self._known(name).resume()
        self._note(name)

    def set_label(self, name: str, label: str, version: int) -> None:
        """Let a label name an available version."""
        self._known(name).set_label(label, version)
        self._note(name)

    def remove_label(self, name: str, label: str) -> None:
        """Forget a label that was set by hand."""
        self._known(name).remove_label(label)
        self._note(name)

    # Answers.

    def next_action(self) -> Action | None:
        """Return the next thing to do and take it as under way; None when all is as it should be."""
        for name in sorted(self._to_consider):
            model = self._models.get(name)
            action = model.next_action() if model else None
            if action is not None:
                self._changed.add(name)
                return action
            self._to_consider.discard(name)
            self._forget_unknown(name)
        return None

    def take_changed(self) -> frozenset[str]:
        """Return the models to which something happened since the last call, those gone meanwhile too."""
        changed, self._changed = frozenset(self._changed), set()
        return changed

    def model(self, name: str) -> ModelVersions | None:
        """Return one model's state, to be looked at only; None where nothing is known of it."""
        return self._models.get(name)

    def names(self) -> frozenset[str]:
        """Every model that is known."""
        return frozenset(self._models)

    def statuses(self) -> dict[ServableId, VersionStatus]:
        """Return where each version is that is on its way, or did not get there."""
        return {id_: status for model in self._models.values() for id_, status in model.statuses().items()}

    def problem(self, name: str) -> str:
        """Say why what lies in the repository for a model is not what is served; empty: it is."""
        model = self._models.get(name)
        return model.problem() if model else ""

    def remembered(self, name: str) -> Remembered:
        """Return what must outlive a restart of one model, also where nothing else is known of it."""
        model = self._models.get(name)
        return model.remembered if model else self._remembered.get(name, Remembered())

    def kept_digests(self) -> frozenset[str]:
        """Return the digests of the bytes that a rollback may still want."""
        all_remembered = [*self._remembered.values(), *(model.remembered for model in self._models.values())]
        return frozenset(
            kept.digest
            for remembered in all_remembered
            for kept in (*remembered.served, *filter(None, (remembered.pinned,)))
        )

    # Within.

    def _note(self, name: str) -> None:
        self._to_consider.add(name)
        self._changed.add(name)

    def _noted(self, name: str) -> ModelVersions:
        self._note(name)
        return self._model(name)

    def _model(self, name: str) -> ModelVersions:
        model = self._models.get(name)
        if model is None:
            model = self._models[name] = ModelVersions(
                name,
                self._settings.get(name, self._default),
                self._remembered.pop(name, None),
                wanted=not self._explicit,
            )
            self._note(name)
        return model

    def _known(self, name: str) -> ModelVersions:
        model = self._models.get(name)
        if model is None:
            raise NotFoundError(f"no model {shown(name)}")
        return model

    def _forget_unknown(self, name: str) -> None:
        model = self._models.get(name)
        if model is not None and not model.known:
            del self._models[name]
            if model.remembered != Remembered():
                self._remembered[name] = model.remembered
            self._changed.add(name)
