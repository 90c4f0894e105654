"""The messages of an ONNX file, without the `onnx` package around them.

Vetting only parses. Importing `onnx` brings its checker, its helpers and numpy types of their own, which take
longer than ONNX Runtime does, and every start waits for its vetting process. So the one generated module is
run from the package's folder. protobuf keeps one class for each message of a pool, whoever asks for it:
`onnx`, imported in the same process before or after, has the very same classes.
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

__all__ = ["AttributeProto", "GraphProto", "ModelProto", "NodeProto", "TensorProto", "ValueInfoProto"]

MODULE: Final = "onnx_ml_pb2"


def _messages() -> Any:
    package = importlib.util.find_spec("onnx")
    place = Path(package.origin).with_name(f"{MODULE}.py") if package and package.origin else None
    if place is None or not place.is_file():  # a release that keeps it elsewhere, or nothing of it is there
        return importlib.import_module("onnx")
    spec = importlib.util.spec_from_file_location(f"{__name__}.{MODULE}", place)
    if spec is None or spec.loader is None:
        return importlib.import_module("onnx")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if not TYPE_CHECKING:
    _found = _messages()
    AttributeProto = _found.AttributeProto
    GraphProto = _found.GraphProto
    ModelProto = _found.ModelProto
    NodeProto = _found.NodeProto
    TensorProto = _found.TensorProto
    ValueInfoProto = _found.ValueInfoProto
