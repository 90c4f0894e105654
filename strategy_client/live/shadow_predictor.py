"""The way to the sidecar for shadows: made when the first strategy has one, and apart from the live one."""

import threading
from collections.abc import Callable, Sequence

from strategy_client.events import Reason
from strategy_client.predictor.port import PendingAnswers, Predictor, Question, Refusal
from strategy_client.predictor.settled_answers import SettledAnswers


class ShadowPredictor:
    """A `Predictor` that `make` makes on `open`; until then it has no answer.

    A run without shadows so keeps no second connection.
    """

    def __init__(self, make: Callable[[], Predictor]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._closed = False
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        return f"<ShadowPredictor over {self._predictor!r}>"

    def open(self) -> None:
        """Connect in the background, if that was not done yet."""
        with self._lock:
            if self._predictor is None and not self._closed:
                self._predictor = self._make()

    def submit(self, questions: Sequence[Question], deadline_ns: int) -> PendingAnswers:
        """Send the questions as one request and return at once; see `port.Predictor`."""
        predictor = self._predictor
        if predictor is None:
            refusal = Refusal(Reason.UNAVAILABLE, "no shadow was configured yet")
            return SettledAnswers([refusal] * len(questions))
        return predictor.submit(questions, deadline_ns)

    def close(self) -> None:
        """Drop what is on its way and free the connection. May be called twice."""
        with self._lock:
            self._closed = True
            if self._predictor is not None:
                self._predictor.close()
