"""How a caller names the version that it wants: by number, by label, or not at all."""

import re
from typing import Final

from inference_server.core.contract import MAX_INT64
from inference_server.core.errors import InvalidRequestError
from inference_server.serving.registry import DEFAULT_VERSION, Which
from inference_server.serving.settings import LABEL, LabelError, check_label
from inference_server.serving.signature import shown

VERSION: Final = re.compile(r"[1-9][0-9]{0,18}")


def parse_version(text: str) -> Which:
    """Return the version or label that the text names; 0 for an empty text, which lets the server choose."""
    if not text:
        return DEFAULT_VERSION
    if VERSION.fullmatch(text) and (version := int(text)) <= MAX_INT64:
        return version
    if LABEL.fullmatch(text):
        return text
    raise InvalidRequestError(
        "model version: expected an integer above 0, a label (up to 32 of a-z 0-9 _ -, beginning with a "
        f"letter) or nothing, came {shown(text)}"
    )


def parse_label(text: str) -> str:
    """Return the label, or raise InvalidRequestError."""
    try:
        check_label(text)
    except LabelError as error:
        raise InvalidRequestError(str(error)) from None
    return text
