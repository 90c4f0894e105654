"""The rows to be asked, grouped by model, so that one request carries them all."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strategy_client.predictor.port import Question
from strategy_client.processors.model import PredictionRow

ModelKey = tuple[str, int, str]


@dataclass(slots=True)
class Place:
    """Where a row stands: which question, and which row of it.

    `reading` is what the answer to it was read as, and what that says of where it came from: once for all
    strategies and ticks that ask the row.
    """

    question: int
    row: int
    reading: tuple[PredictionRow, dict[str, Any]] | None = field(default=None, compare=False)


@dataclass(slots=True)
class _Group:
    index: int
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    places: dict[bytes, Place] = field(default_factory=dict)

    def features(self) -> NDArray[np.float32]:
        # Most often there is one row, and np.stack takes as long as all else here.
        return np.stack(self.rows) if len(self.rows) > 1 else self.rows[0][np.newaxis]


class QuestionSheet:
    """Collects rows for any number of strategies and ticks. Equal rows for one model are asked once.

    `apart` makes a question of each row, so that a model runs it as it runs the row of a single tick: what it
    answers to the rows of a batch may differ from that in the last bits. `size_bytes` is what the rows take.
    """

    __slots__ = ("_apart", "_groups", "size_bytes")

    def __init__(self, *, apart: bool = False) -> None:
        self.size_bytes = 0
        self._apart = apart
        # Of a group apart the key ends with its row, of any other with nothing.
        self._groups: dict[tuple[ModelKey, bytes], _Group] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, model: ModelKey, row: NDArray[np.float32]) -> Place:
        """Ask for a row, shape (n_features,), of a model: its name, version and contract hash."""
        content = row.tobytes()
        key = model, content if self._apart else b""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(len(self._groups))
        place = group.places.get(content)
        if place is None:
            place = group.places[content] = Place(group.index, len(group.rows))
            group.rows.append(row)
            self.size_bytes += len(content)
        return place

    def questions(self) -> list[Question]:
        """Return one question a model, or one a row where they are apart, in the order of being asked for."""
        return [
            Question(name, group.features(), version, contract_hash)
            for ((name, version, contract_hash), _), group in self._groups.items()
        ]
