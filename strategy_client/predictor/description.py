"""What the sidecar says of the models that it serves."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass


class VersionState(enum.Enum):
    """How far a version is on its way; only an AVAILABLE one answers."""

    STATE_UNSPECIFIED = 0
    START = 1
    LOADING = 2
    AVAILABLE = 3
    UNLOADING = 4
    END = 5


class NanPolicy(enum.Enum):
    """What happens to a row that holds NaN."""

    REFUSE = "refuse"
    ACCEPT = "accept"


class OutputKind(enum.Enum):
    """What the numbers of an output are."""

    LABEL = "label"
    PROBABILITIES = "probabilities"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class OutputMeaning:
    """One output: its kind and, for a classifier, its classes in column order and what each means."""

    name: str
    kind: OutputKind
    classes: tuple[str, ...] = ()
    meanings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contract:
    """What a model promises: the part of it that a client has to know.

    `training_ranges` has the lowest and the highest value of each feature, in their order, or nothing.
    `trained_at_ns` is wall clock, nanoseconds since the epoch; 0 where the file does not say.
    """

    hash: str
    feature_names: tuple[str, ...]
    window: int
    includes_current_tick: bool
    nan_policy: NanPolicy
    outputs: tuple[OutputMeaning, ...]
    training_ranges: tuple[tuple[float, float], ...] = ()
    estimator: str = ""
    trained_at_ns: int = 0


@dataclass(frozen=True, slots=True)
class VersionDescription:
    """One version of a model. `contract` is None for a model that is served unverified."""

    version: int
    state: VersionState
    reason: str
    digest: str
    contract: Contract | None
    input_datatypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """One model; `versions` the newest first, `default_version` 0 when nothing is available."""

    name: str
    versions: tuple[VersionDescription, ...]
    default_version: int
    problem: str = ""

    def find(self, version: int = 0) -> VersionDescription | None:
        """Return the version asked for, or the default one for 0; None when there is none."""
        wanted = version or self.default_version
        return next((each for each in self.versions if each.version == wanted), None)


@dataclass(frozen=True, slots=True)
class Description:
    """All models asked for, by name, and whether the sidecar is ready."""

    models: Mapping[str, ModelDescription]
    ready: bool
