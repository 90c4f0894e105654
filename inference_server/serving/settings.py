"""What an operator says of one model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from inference_server.serving.policy import Latest, VersionPolicy

# A letter first, so that no label reads like a version.
LABEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class LabelError(ValueError):
    """A text that can be no label; it says what was expected."""


def check_label(text: str) -> None:
    """Refuse, with LabelError, what could be taken for a version or does not travel well."""
    if not LABEL.fullmatch(text):
        shown = repr(text) if len(text) <= 64 else f"{text[:64]!r}..."
        raise LabelError(f"label {shown}: expected up to 32 of a-z 0-9 _ -, beginning with a letter")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Settings of one model.

    `allow_contract_change`: a file may replace one of another contract or signature; clients bound to the old
    one then get no answers until they bind again. `labels` name versions; each takes effect once its version
    is available. `max_calls` bounds the model's calls in flight; None: by what holds for every model.
    """

    policy: VersionPolicy = field(default_factory=Latest)
    allow_contract_change: bool = False
    labels: Mapping[str, int] = field(default_factory=dict)
    max_calls: int | None = None


DEFAULT_SETTINGS: Final = ModelSettings()
