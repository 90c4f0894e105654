"""Rows of features as a person writes them: what is taken, and what a mistake is told."""

import io
import math
from collections.abc import Sequence

import numpy as np
import pytest
from tickserve.v1 import predictor_pb2 as wire

from inference_server.commands.features import FeatureError, FeatureTable, by_name, by_position

REFUSES_NAN = wire.Contract(feature_names=["mean", "spread"], nan_policy=wire.Contract.REFUSE)
TAKES_NAN = wire.Contract(feature_names=["mean", "spread"], nan_policy=wire.Contract.ACCEPT)


def table(text: str, keep: Sequence[str] = (), contract: wire.Contract = REFUSES_NAN) -> FeatureTable:
    """A table of this text."""
    return FeatureTable("t.csv", io.StringIO(text, newline=""), contract, keep)


def rows(text: str, keep: Sequence[str] = (), contract: wire.Contract = REFUSES_NAN) -> list[list[float]]:
    """Every row of a table of this text."""
    return [row for batch in table(text, keep, contract).batches(1000) for row in batch.rows.tolist()]


def test_values_stand_in_their_order() -> None:
    """By position, one row comes of the values as they are written."""
    row = by_position(["1.5", "-2", "1e-3", "nan", "-inf"])
    assert row.dtype == np.float32
    assert row.shape == (1, 5)
    np.testing.assert_array_equal(row[0], np.array([1.5, -2, 1e-3, math.nan, -math.inf], np.float32))


@pytest.mark.parametrize("text", ["", "x", "1_000", "0x1", "1,5", "--csvv", "3.5e38", "-1e39"])
def test_what_is_no_float32_is_refused(text: str) -> None:
    """What is no number, is one only for Python, or would become infinite on its way is told as it came."""
    with pytest.raises(FeatureError, match=r"expected a (number|float32).*came"):
        by_position([text])


def test_values_by_name_come_into_the_contracts_order() -> None:
    """The order in which names are said does not count; a value may hold any sign."""
    assert by_name(["spread=-2", "mean=+1e0"], REFUSES_NAN).tolist() == [[1.0, -2.0]]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["mean=1", "2"], "2: expected NAME=VALUE, as the others are"),
        (["mean=1", "spred=2"], "spred: no such feature; did you mean 'spread'?"),
        (["mean=1", "zzz=2"], "zzz: no such feature; there are 'mean', 'spread'"),
        (["mean=1", "spread=2", "mean=1"], "mean: stands twice"),
        (["spread=2"], "missing: mean"),
        (["mean=", "spread=2"], "mean: expected a number, came ''"),
        (["mean=1=2", "spread=2"], "mean: expected a number, came '1=2'"),
        (["mean=inf", "spread=2"], "mean: expected a finite number, came 'inf'"),
        (["mean=nan", "spread=2"], "mean: expected a finite number, came 'nan'"),
    ],
)
def test_a_wrong_name_or_value_is_told(values: list[str], told: str) -> None:
    """D1: a name that is unknown, missing or said twice is refused, with the nearest there is."""
    with pytest.raises(FeatureError) as caught:
        by_name(values, REFUSES_NAN)
    assert str(caught.value) == told


def test_nan_is_for_models_that_take_it() -> None:
    """D11: NaN passes where the contract takes it, infinity nowhere."""
    assert math.isnan(by_name(["mean=nan", "spread=2"], TAKES_NAN)[0, 0])
    with pytest.raises(FeatureError, match="mean: expected a finite number or nan, came '-inf'"):
        by_name(["mean=-inf", "spread=2"], TAKES_NAN)


def test_columns_may_stand_in_any_order_and_others_are_kept() -> None:
    """The header says which column is which; what is to be kept stays beside its row, in the order asked."""
    text = 'spread,when,mean,"a, b"\n1,t0,2,"x ""y"""\n3,t1,4,\n'
    (batch,) = table(text, keep=["a, b", "when"]).batches(10)
    assert batch.rows.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert batch.kept == [['x "y"', "t0"], ["", "t1"]]


def test_rows_come_in_batches_and_none_is_lost() -> None:
    """No batch is larger than asked, and together they are the whole file."""
    text = "mean,spread\n" + "".join(f"{index},0\n" for index in range(7))
    batches = list(table(text).batches(3))
    assert [len(batch.rows) for batch in batches] == [3, 3, 1]
    assert [row[0] for batch in batches for row in batch.rows.tolist()] == list(range(7))


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_line_ends_do_not_count(ending: str) -> None:
    """A file of another system, or one without an end to its last line, has the same rows."""
    lines = ["mean,spread", "1,2", "3,4"]
    assert rows((ending or "\n").join(lines) + ending) == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("", "t.csv: empty; expected a header with the names of the features"),
        ("mean,spred", "t.csv:1: no column 'spread'; did you mean 'spred'?"),
        ("1.5,2", "t.csv:1: no column 'mean'; there are '1.5', '2'"),
        ("mean,spread,mean", "t.csv:1: column 'mean' stands 2 times"),
        (
            "mean,spread,x,y",
            "t.csv:1: no feature of the model: 'x', 'y'; --keep NAME hands a column on to the answers",
        ),
    ],
)
def test_a_wrong_header_is_told(header: str, told: str) -> None:
    """D1: a column that is missing, twice there or no feature is refused before anything is asked."""
    with pytest.raises(FeatureError) as caught:
        table(f"{header}\n1,2\n" if header else "")
    assert str(caught.value) == told


def test_a_column_to_keep_that_is_not_there_is_told() -> None:
    """What is to be kept must be there; the nearest column is named."""
    with pytest.raises(FeatureError, match=r"t\.csv:1: no column 'wen' to keep; did you mean 'when'\?"):
        table("mean,spread,when\n", keep=["wen"])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1,x", "t.csv:3: spread: expected a number, came 'x'"),
        ("1,", "t.csv:3: spread: expected a number, came ''"),
        ("1,inf", "t.csv:3: spread: expected a finite number, came 'inf'"),
        ("1,nan", "t.csv:3: spread: expected a finite number, came 'nan'"),
        ("1,1e39", "t.csv:3: spread: expected a float32, up to 3.40282e+38, came '1e39'"),
        ("1", "t.csv:3: expected 2 cells, came 1"),
        ("1,2,3", "t.csv:3: expected 2 cells, came 3"),
        ("", "t.csv:3: expected 2 cells, came 0"),
        ('1,"2', "t.csv:3: not CSV: unexpected end of data"),
    ],
)
def test_a_bad_line_is_told_after_the_rows_before_it(line: str, told: str) -> None:
    """Nothing is lost in silence: the rows before a bad line come, then its number and what was expected."""
    batches = table(f"mean,spread\n5,6\n{line}\n").batches(1000)
    assert next(batches).rows.tolist() == [[5.0, 6.0]]
    with pytest.raises(FeatureError) as caught:
        next(batches)
    assert str(caught.value).startswith(told)


def test_a_file_that_is_no_text_is_told() -> None:
    """Bytes that are no UTF-8 are named, not guessed at."""
    stream = io.TextIOWrapper(io.BytesIO(b"mean,spread\n1,\xff\n"), encoding="utf-8")
    with pytest.raises(FeatureError, match=r"t\.csv: not UTF-8"):
        list(FeatureTable("t.csv", stream, REFUSES_NAN, ()).batches(10))
