"""The sheet on which strategies and ticks write the rows that are asked as one request."""

import numpy as np

from strategy_client.questions import ModelKey, Place, QuestionSheet

FIRST: ModelKey = ("m", 0, "h1")
SECOND: ModelKey = ("m", 2, "h1")


def row(*values: float) -> np.ndarray:
    """Return a row of features."""
    return np.array(values, dtype=np.float32)


def test_equal_rows_of_a_model_are_asked_once() -> None:
    """Who asks what stands there already is told where; another version of the model is another question."""
    sheet = QuestionSheet()
    place = sheet.add(FIRST, row(1, 2))
    assert sheet.add(FIRST, row(1, 2)) is place
    assert sheet.add(FIRST, row(3, 4)) == Place(0, 1)
    assert sheet.add(SECOND, row(1, 2)) == Place(1, 0)
    first, second = sheet.questions()
    assert (len(sheet), sheet.size_bytes) == (2, 3 * 8)
    assert (first.model, first.version, first.contract_hash) == FIRST
    assert first.features.tolist() == [[1, 2], [3, 4]]
    assert (second.version, second.features.tolist()) == (2, [[1, 2]])


def test_rows_apart_are_a_question_each() -> None:
    """A model runs each row as it runs that of a single tick; equal ones are asked once all the same."""
    sheet = QuestionSheet(apart=True)
    places = [sheet.add(FIRST, row(value)) for value in (1, 2, 1)]
    assert places == [Place(0, 0), Place(1, 0), Place(0, 0)]
    assert [question.features.tolist() for question in sheet.questions()] == [[[1]], [[2]]]
    assert sheet.size_bytes == 2 * 4


def test_an_empty_sheet_asks_nothing() -> None:
    """Nothing is sent for a sheet that nobody wrote on."""
    assert not QuestionSheet()
    assert QuestionSheet().questions() == []


def test_one_row_that_many_ask_in_turn_stands_where_it_was_written() -> None:
    """Strategies of one model that follow one another are told its own place, and that of no other model."""
    sheet, shared = QuestionSheet(), row(5)
    sheet.add(FIRST, row(4))
    asked = [sheet.add(model, shared) for model in (FIRST, FIRST, SECOND, SECOND, FIRST)]
    assert asked == [Place(0, 1), Place(0, 1), Place(1, 0), Place(1, 0), Place(0, 1)]
    assert [question.features.tolist() for question in sheet.questions()] == [[[4], [5]], [[5]]]


def test_models_that_are_asked_one_row_beside_others_get_their_own_rows() -> None:
    """A row alone, several rows, and the same row alone again: each question holds what was asked of it."""
    sheet, shared = QuestionSheet(), row(5, 6)
    third: ModelKey = ("n", 0, "h1")
    for model, asked in [(FIRST, shared), (SECOND, shared), (SECOND, row(7, 8)), (third, shared)]:
        sheet.add(model, asked)
    sheet.add(("o", 0, "h1"), row(9, 9))
    told = [question.features.tolist() for question in sheet.questions()]
    assert told == [[[5, 6]], [[5, 6], [7, 8]], [[5, 6]], [[9, 9]]]
    assert sheet.size_bytes == 5 * 8


def test_another_row_of_the_model_asked_last_is_another_place() -> None:
    """Of a row of its own the place is its own, also where the model is that of the row before."""
    sheet = QuestionSheet(apart=True)
    assert [sheet.add(FIRST, row(value)) for value in (1, 2, 1)] == [Place(0, 0), Place(1, 0), Place(0, 0)]
    shared = row(2)
    assert [sheet.add(model, shared) for model in (FIRST, SECOND)] == [Place(1, 0), Place(2, 0)]
