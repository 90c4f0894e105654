"""What is the same from answer to answer of a version, written once."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from inference_server.core.servable import Servable
from inference_server.serving.data_plane import Answer, RowAnswer

WrittenT = TypeVar("WrittenT")


class AnswerTemplates(Generic[WrittenT]):
    """The template of each servable's last answer, good for the next one where that is of the same form.

    `write` makes it of an answer, its encoded outputs and no values. A servable that is gone is forgotten.
    """

    def __init__(self, write: Callable[[Answer | RowAnswer, Sequence[bytes]], WrittenT]) -> None:
        self._write = write
        self._last: WeakKeyDictionary[Servable, tuple[tuple[object, ...], WrittenT]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<AnswerTemplates of {len(self._last)} servables>"

    def of(self, answer: Answer | RowAnswer, raws: Sequence[bytes] = ()) -> WrittenT:
        """Return the template, which is not to be written to.

        `raws` are the encoded outputs, where how long they are is of the form.
        """
        form = answer.vetting, answer.specs, answer.shapes, *map(len, raws)
        last = self._last.get(answer.servable)
        if last is not None and last[0] == form:
            return last[1]
        written = self._write(answer, raws)
        self._last[answer.servable] = form, written
        return written
