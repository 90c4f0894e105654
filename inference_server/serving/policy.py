"""Which of the versions found are to be served: a pure function of the policy and the versions."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latest:
    """The `count` greatest versions."""

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"policy latest: expected a count of at least 1, came {self.count}")

    def __str__(self) -> str:
        return f"latest {self.count}"


@dataclass(frozen=True, slots=True)
class All:
    """Every version."""

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True, slots=True)
class Specific:
    """Exactly the versions named."""

    versions: frozenset[int]

    def __post_init__(self) -> None:
        if not self.versions or min(self.versions) < 1:
            raise ValueError("policy specific: expected at least one version, each an integer above 0")

    def __str__(self) -> str:
        return f"specific {', '.join(str(version) for version in sorted(self.versions))}"


VersionPolicy = Latest | All | Specific


def aspired_versions(policy: VersionPolicy, found: Collection[int]) -> frozenset[int]:
    """Return those of the versions found that the policy wants served."""
    match policy:
        case Latest(count):
            return frozenset(sorted(found)[-count:])
        case All():
            return frozenset(found)
        case Specific(versions):
            return versions & frozenset(found)
