"""The life cycle's logic: events in, the next action out. No I/O, no time, no tasks.

The rules, for each model by itself:
- Aspired are the versions that the policy picks from those found, leaving out the refused ones.
- A version is loaded when it is aspired and its bytes are not the ones served.
- A version is retired when it is not aspired and an aspired one is available. So a model that was available
  once stays available, whatever comes and goes; files that are deleted leave the last good versions served.
- A refused candidate is not tried again until its file changes. Where it was to replace other bytes of the
  same version, those go on serving.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from inference_server.core.servable import ServableId, State, VersionStatus
from inference_server.serving.policy import Latest, Specific, VersionPolicy, aspired_versions
from inference_server.serving.repository import Candidate

DEFAULT_POLICY: Final = Latest(1)


@dataclass(frozen=True, slots=True)
class Load:
    """Vet, load and publish this candidate, then tell `published` or `refused`."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Retire:
    """Take this version out of service."""

    id: ServableId


Action = Load | Retire


@dataclass(slots=True)
class _Model:
    found: dict[int, Candidate] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    served: dict[int, str] = field(default_factory=dict)
    refused: dict[int, tuple[Candidate, str]] = field(default_factory=dict)
    loading: Candidate | None = None


class Lifecycle:
    """The state of every model's versions. `policies` are by model name; others get `default_policy`."""

    def __init__(
        self,
        policies: Mapping[str, VersionPolicy] | None = None,
        default_policy: VersionPolicy = DEFAULT_POLICY,
    ) -> None:
        self._policies = dict(policies or {})
        self._default_policy = default_policy
        self._models: dict[str, _Model] = {}

    def __repr__(self) -> str:
        served = [f"{name}:{version}" for name, model in self._models.items() for version in model.served]
        return f"<Lifecycle serves {', '.join(sorted(served)) or 'nothing'}>"

    # Events.

    def set_policy(self, name: str, policy: VersionPolicy) -> None:
        """Change one model's policy."""
        self._policies[name] = policy

    def found(self, candidates: Iterable[Candidate], problems: Mapping[str, tuple[str, ...]]) -> None:
        """Take over what a scan found; it replaces what the scan before found."""
        for model in self._models.values():
            model.found, model.problems = {}, ()
        for candidate in candidates:
            self._model(candidate.id.name).found[candidate.id.version] = candidate
        for name, texts in problems.items():
            self._model(name).problems = texts
        for name, model in list(self._models.items()):
            model.refused = {
                version: (candidate, reason)
                for version, (candidate, reason) in model.refused.items()
                if model.found.get(version) == candidate
            }
            if not (model.found or model.problems or model.served or model.loading):
                del self._models[name]

    def published(self, candidate: Candidate) -> None:
        """Note that the candidate answers now."""
        model = self._model(candidate.id.name)
        model.loading = None
        model.served[candidate.id.version] = candidate.digest

    def refused(self, candidate: Candidate, reason: str) -> None:
        """Note that the candidate is no good; what served before goes on."""
        model = self._model(candidate.id.name)
        model.loading = None
        if model.found.get(candidate.id.version) == candidate:  # what has come meanwhile is not refused
            model.refused[candidate.id.version] = (candidate, reason)

    def postponed(self, candidate: Candidate) -> None:
        """Note that the load was given up without a verdict; the next scan decides."""
        self._model(candidate.id.name).loading = None

    # Answers.

    def next_action(self) -> Action | None:
        """Return the next thing to do and take it as under way; None when all is as it should be.

        A Retire counts as done at once. One load at a time a model; retiring comes before loading.
        """
        for name, model in sorted(self._models.items()):
            aspired = self._aspired(name)
            if aspired & model.served.keys():
                for version in sorted(model.served.keys() - aspired):
                    del model.served[version]
                    return Retire(ServableId(name, version))
            if model.loading is None:
                for version in sorted(aspired, reverse=True):
                    if self._to_load(model, version):
                        model.loading = model.found[version]
                        return Load(model.loading)
        return None

    def names(self) -> frozenset[str]:
        """Every model that is known."""
        return frozenset(self._models)

    def statuses(self) -> dict[ServableId, VersionStatus]:
        """Return where each version is that is on its way, or did not get there."""
        told: dict[ServableId, VersionStatus] = {}
        for name, model in self._models.items():
            for version in self._aspired(name) - model.served.keys():
                candidate = model.found[version]
                state = State.LOADING if model.loading == candidate else State.START
                told[candidate.id] = VersionStatus(candidate.id, state, digest=candidate.digest)
            for version, (candidate, reason) in model.refused.items():
                if version not in model.served:
                    told[candidate.id] = VersionStatus(candidate.id, State.END, reason, candidate.digest)
        return told

    def problem(self, name: str) -> str:
        """Say why what lies in the repository for a model is not what is served; empty: it is."""
        model = self._models.get(name)
        if model is None:
            return ""
        told = list(model.problems)
        for version, (_, reason) in sorted(model.refused.items()):
            which = "the new file is refused" if version in model.served else "refused"
            told.append(f"version {version}: {which}: {reason}")
        if not self._aspired(name):  # otherwise something is on its way that takes their place
            told += [
                f"version {version}: served, but its file is gone"
                for version in sorted(model.served.keys() - model.found.keys())
            ]
        policy = self._policy(name)
        if isinstance(policy, Specific):
            told += [
                f"version {version}: wanted by the policy, but not in the repository"
                for version in sorted(policy.versions - model.found.keys() - model.served.keys())
            ]
        return "; ".join(told)

    def _model(self, name: str) -> _Model:
        return self._models.setdefault(name, _Model())

    def _policy(self, name: str) -> VersionPolicy:
        return self._policies.get(name, self._default_policy)

    def _aspired(self, name: str) -> frozenset[int]:
        model = self._models[name]
        usable = [
            version for version in model.found if version not in model.refused or version in model.served
        ]
        return aspired_versions(self._policy(name), usable)

    def _to_load(self, model: _Model, version: int) -> bool:
        return version not in model.refused and model.served.get(version) != model.found[version].digest
