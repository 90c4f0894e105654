"""What a row of an answer is read as, and what is raised where the answer lacks it."""

import numpy as np
import pytest

from strategy_client.binding import Bound
from strategy_client.predictor.port import Prediction
from strategy_client.processors.model import PredictionRow

BOUND = Bound("h", accepts_nan=False, meanings=None, label="l", probabilities="p", value="v")


def answer(labels: object, probabilities: object, values: object) -> Prediction:
    """Return an answer of these outputs."""
    outputs = {"l": np.array(labels), "p": np.array(probabilities), "v": np.array(values)}
    return Prediction("m", 1, "d", "h", outputs)


@pytest.mark.parametrize("rows", [1, 3])
def test_each_row_is_read_as_plain_values(rows: int) -> None:
    """A row alone, and one among several, is text, numbers and a number."""
    three = answer(
        [7, 8, 9][:rows], [[0.5, 0.25], [1.0, 2.0], [3.0, 4.0]][:rows], [[1.5], [2.5], [3.5]][:rows]
    )
    wanted = [
        PredictionRow("7", (0.5, 0.25), 1.5),
        PredictionRow("8", (1.0, 2.0), 2.5),
        PredictionRow("9", (3.0, 4.0), 3.5),
    ]
    read = [BOUND.read_row(three, row) for row in range(rows)]
    assert read == wanted[:rows]
    assert {type(number) for row in read for number in row.probabilities} == {float}


def test_a_row_that_did_not_come_is_told_as_such() -> None:
    """Whoever sent it: one row too few, and no rows at all, are errors of an index."""
    with pytest.raises(IndexError, match="index 1 is out of bounds"):
        BOUND.read_row(answer([7, 8], [[0.5, 0.25]], [1.5, 2.5]), 1)
    with pytest.raises(IndexError, match="too many indices"):
        BOUND.read_row(answer([7], 0.5, [1.5]), 0)
