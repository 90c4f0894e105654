"""The artefact: one ONNX file that carries its contract, put in place in one step."""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import Final, Literal, get_args

import onnx

from inference_server.core.contract import METADATA_KEY, Contract
from model_export.errors import ExportError

Layout = Literal["flat", "versions"]
LAYOUTS: Final[tuple[str, ...]] = get_args(Layout)


def seal(model: onnx.ModelProto, contract: Contract) -> bytes:
    """Put the contract into the model's metadata and return the file's bytes, the same for the same input."""
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA_KEY, value=contract.to_json())
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def digest(content: bytes) -> str:
    """SHA-256, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def place(models: Path, name: str, version: int, layout: Layout) -> Path:
    """Return where the file belongs: MODELS/NAME.onnx, or MODELS/NAME/VERSION/model.onnx."""
    if layout == "flat":
        return models / f"{name}.onnx"
    return models / name / str(version) / "model.onnx"


def write(content: bytes, path: Path) -> None:
    """Write under a name that no repository reads, then rename: the file is there whole or not at all.

    Missing folders are made. Raises ExportError when the file system refuses. However it ends, short of the
    process being killed, nothing else is left behind.
    """
    # Nobody else's, were it another thread that writes the same model.
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
