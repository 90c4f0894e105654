"""A model's file, to be replaced at a given tick."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Replacement:
    """Replace a model's file just before the tick of this index, the first one being 0."""

    tick: int
    model: str
    file: Path

    @classmethod
    def parse(cls, text: str) -> "Replacement":
        """Read TICK:MODEL:FILE. Raises ValueError for anything else, or where there is no such file."""
        tick, _, rest = text.partition(":")
        model, _, file = rest.partition(":")
        if not (tick.isdecimal() and model and file):
            raise ValueError(f"{text!r}: expected TICK:MODEL:FILE, such as 50000:momentum:new.onnx")
        if not Path(file).is_file():
            raise ValueError(f"{text!r}: expected a model file, there is no {file}")
        return cls(int(tick), model, Path(file))
