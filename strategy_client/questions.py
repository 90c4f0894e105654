"""The rows to be asked, grouped by model, so that one request carries them all."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from strategy_client.predictor.port import Question
from strategy_client.reading import Reading

ModelKey = tuple[str, int, str]


@dataclass(slots=True)
class Place:
    """Where a row stands: which question, and which row of it.

    `reading` is of the answer to it, once for all strategies and ticks that ask the row.
    """

    question: int
    row: int
    reading: Reading | None = field(default=None, compare=False)


class _Group:
    __slots__ = ("index", "places", "rows")

    def __init__(self, index: int) -> None:
        self.index = index
        self.rows: list[NDArray[np.float32]] = []
        self.places: dict[bytes, Place] = {}


class QuestionSheet:
    """Collects rows for any number of strategies and ticks. Equal rows for one model are asked once.

    `apart` makes a question of each row, so that a model runs it as it runs the row of a single tick: what it
    answers to the rows of a batch may differ from that in the last bits. `size_bytes` is what the rows take.
    """

    __slots__ = (
        "_apart",
        "_groups",
        "_last_content",
        "_last_model",
        "_last_place",
        "_last_row",
        "size_bytes",
    )

    def __init__(self, *, apart: bool = False) -> None:
        self.size_bytes = 0
        self._apart = apart
        # Of a group apart the key ends with its row, of any other with nothing.
        self._groups: dict[tuple[ModelKey, bytes], _Group] = {}
        # Most often the strategies that follow one another ask one row of one model.
        self._last_model: ModelKey | None = None
        self._last_row: NDArray[np.float32] | None = None
        self._last_content = b""
        self._last_place = Place(0, 0)

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, model: ModelKey, row: NDArray[np.float32]) -> Place:
        """Ask for a row, shape (n_features,), of a model: its name, version and contract hash.

        The row is not to be written to afterwards.
        """
        if row is not self._last_row:
            self._last_row, self._last_content = row, row.tobytes()
        elif model == self._last_model:
            return self._last_place
        content = self._last_content
        key = model, content if self._apart else b""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(len(self._groups))
        place = group.places.get(content)
        if place is None:
            place = group.places[content] = Place(group.index, len(group.rows))
            group.rows.append(row)
            self.size_bytes += len(content)
        self._last_model, self._last_place = model, place
        return place

    def questions(self) -> list[Question]:
        """Return one question a model, or one a row where they are apart, in the order of being asked for."""
        questions = []
        row: NDArray[np.float32] | None = None
        for ((name, version, contract_hash), _), group in self._groups.items():
            # Most often there is one row, and the same one for all models.
            if len(group.rows) > 1:
                row, features = None, np.stack(group.rows)
            elif group.rows[0] is not row:
                row = group.rows[0]
                features = row[np.newaxis]
            questions.append(Question(name, features, version, contract_hash))
        return questions
