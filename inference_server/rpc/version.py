"""How a caller names the version that it wants: by number, by label, or not at all."""

import re
from typing import Final

from inference_server.core.errors import InvalidRequestError
from inference_server.serving.registry import DEFAULT_VERSION, Which
from inference_server.serving.signature import shown

VERSION: Final = re.compile(r"[1-9][0-9]{0,18}")
LABEL: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
LABEL_FORM: Final = "a lower-case letter, then up to 31 lower-case letters, digits, '-' and '_'"


def parse_version(text: str) -> Which:
    """Return the version or label that the text names; 0 for an empty text, which lets the server choose."""
    if not text:
        return DEFAULT_VERSION
    if VERSION.fullmatch(text):
        return int(text)
    if LABEL.fullmatch(text):
        return text
    raise InvalidRequestError(
        f"model version: expected an integer above 0, a label ({LABEL_FORM}) or nothing, came {shown(text)}"
    )


def parse_label(text: str) -> str:
    """Return the label, or raise InvalidRequestError."""
    if not LABEL.fullmatch(text):
        raise InvalidRequestError(f"label: expected {LABEL_FORM}, came {shown(text)}")
    return text
