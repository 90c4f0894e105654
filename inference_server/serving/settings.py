"""What an operator says of one model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from inference_server.serving.policy import Latest, VersionPolicy


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Settings of one model.

    `allow_contract_change`: a file may replace one of another contract or signature; clients bound to the old
    one then get no answers until they bind again. `labels` name versions; each takes effect once its version
    is available.
    """

    policy: VersionPolicy = field(default_factory=Latest)
    allow_contract_change: bool = False
    labels: Mapping[str, int] = field(default_factory=dict)


DEFAULT_SETTINGS: Final = ModelSettings()
