"""What is remembered of a model, as the text of its file in the archive, and back."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from inference_server.core.contract import MAX_INT64, check_model_name
from inference_server.serving.archive import Kept, Remembered
from inference_server.serving.settings import check_label

FORMAT: Final = 1
MAX_STATE_BYTES: Final = 2**20
DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def state_text(name: str, remembered: Remembered) -> bytes:
    """Return what `read_state` reads, or ValueError: nothing is written that the next start would refuse."""
    document = {
        "format": FORMAT,
        "model": name,
        "served": [_encoded_kept(kept) for kept in remembered.served],
        "pinned": None if remembered.pinned is None else _encoded_kept(remembered.pinned),
        "held": [_encoded_kept(kept) for kept in sorted(remembered.held)],
        "labels": dict(sorted(remembered.labels.items())),
    }
    text = json.dumps(document, indent=1).encode()
    if len(text) > MAX_STATE_BYTES:
        raise ValueError(f"it has {len(text)} bytes, the bound is {MAX_STATE_BYTES}")
    read_state(text)
    return text


def _encoded_kept(kept: Kept) -> dict[str, Any]:
    return {"version": kept.version, "digest": kept.digest}


def read_state(text: bytes) -> tuple[str, Remembered]:
    """Read a state file; ValueError unless it is exactly as `state_text` writes it."""
    document = json.loads(text)
    _check_keys(document, ("format", "model", "served", "pinned", "held", "labels"))
    if type(document["format"]) is not int or document["format"] != FORMAT:
        raise ValueError(f"format: expected {FORMAT}, came {document['format']!r:.200}")
    name = document["model"]
    if not isinstance(name, str):
        raise ValueError(f"model: expected a name, came {name!r:.200}")  # noqa: TRY004 - one kind of error here
    check_model_name(name)
    labels = document["labels"]
    if not isinstance(labels, dict):
        raise ValueError(f"labels: expected versions by label, came {labels!r:.200}")  # noqa: TRY004 - the same
    for label, version in labels.items():
        check_label(label)
        _check_version(version)
    pinned = document["pinned"]
    return name, Remembered(
        served=tuple(_decoded_list(document["served"])),
        pinned=None if pinned is None else _decoded_kept(pinned),
        held=frozenset(_decoded_list(document["held"])),
        labels=labels,
    )


def _decoded_list(value: object) -> Iterator[Kept]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, came {value!r:.200}")  # noqa: TRY004 - one kind of error here
    return map(_decoded_kept, value)


def _decoded_kept(value: object) -> Kept:
    document = _check_keys(value, ("version", "digest"))
    version, digest = document["version"], document["digest"]
    _check_version(version)
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise ValueError(f"digest: expected 64 lower-case hexadecimal digits, came {digest!r:.200}")
    return Kept(version, digest)


def _check_keys(value: object, keys: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(keys):
        raise ValueError(f"expected an object with {', '.join(keys)}, came {value!r:.200}")
    return value


def _check_version(value: object) -> None:
    if type(value) is not int or not 0 < value <= MAX_INT64:
        raise ValueError(f"version: expected an integer above 0, came {value!r:.200}")
