"""The model of a learned strategy: which one, what its classes mean, what it answered."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, NamedTuple

MODEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MODEL_SUFFIXES: Final = (".onnx", ".joblib")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A model by name. `version` 0 lets the sidecar choose; `endpoint` None is the runner's own sidecar.

    Raises ValueError for a name or version that no model can have.
    """

    name: str
    version: int = 0
    endpoint: str | None = None

    def __post_init__(self) -> None:
        if not MODEL_NAME.fullmatch(self.name):
            raise ValueError(
                f"model name {self.name!r}: expected up to 128 of A-Z a-z 0-9 . _ -, "
                "beginning with a letter or digit"
            )
        if self.version < 0:
            raise ValueError(f"model version {self.version}: expected an integer above 0, or 0 for any")

    @classmethod
    def from_path(cls, path: str, version: int = 0, endpoint: str | None = None) -> "ModelReference":
        """Return the model that a file stands for: NAME.onnx, NAME.joblib or NAME/VERSION/model.onnx.

        The path gives the name only: the version stays the sidecar's choice unless `version` is given, so
        that a newer one is picked up. Raises ValueError for any other path.
        """
        file = PurePosixPath(path.replace("\\", "/"))
        if file.suffix not in MODEL_SUFFIXES:
            raise ValueError(f"model path {path!r}: expected a file ending in {' or '.join(MODEL_SUFFIXES)}")
        in_version_folder = file.name == "model.onnx" and file.parent.name.isdecimal()
        return cls(file.parent.parent.name if in_version_folder else file.stem, version, endpoint)


@dataclass(frozen=True, slots=True)
class ClassMeanings:
    """A classifier's classes as text, in the order of its probability columns, and what each means.

    A meaning is BUY, SELL, HOLD, or empty where the class means none of them.
    """

    classes: tuple[str, ...] = ("0", "1")
    meanings: tuple[str, ...] = ("SELL", "BUY")

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.meanings):
            raise ValueError(f"{len(self.classes)} classes, {len(self.meanings)} meanings: expected one each")


class PredictionRow(NamedTuple):
    """What a model answered to one row; what it does not give stays empty.

    `label` is the class as text, `probabilities` one number a class in the order of `ClassMeanings`, `value`
    a regressor's number.
    """

    label: str | None = None
    probabilities: tuple[float, ...] = ()
    value: float | None = None
