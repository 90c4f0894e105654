"""The contract document: what is written is read back, and what is wrong is named."""

import hashlib
import json
import math

import numpy as np
import pytest
from contracts import make_contract

from inference_server.core.contract import Contract
from inference_server.core.errors import ContractError
from inference_server.core.golden import GoldenOutput, GoldenVectors


def test_a_written_contract_is_read_back_equal() -> None:
    """Reading the document gives the same contract, golden vectors and hash."""
    contract = make_contract()
    again = Contract.from_json(contract.to_json())
    assert again == contract
    assert again.hash == contract.hash
    np.testing.assert_array_equal(again.golden.inputs, contract.golden.inputs)
    assert [golden.name for golden in again.golden.outputs] == ["label", "probabilities"]
    assert again.to_json() == contract.to_json()


def test_the_hash_is_the_one_that_clients_have_seen() -> None:
    """The hash of a known contract never changes by accident: clients compare it across releases."""
    canonical = (
        '{"features":{"dtype":"FP32","includes_current_tick":true,"names":["a","b"],'
        '"nan_policy":"refuse","window":20},'
        '"outputs":[{"classes":["0","1"],"kind":"label","meanings":["SELL","BUY"],"name":"label"},'
        '{"classes":["0","1"],"kind":"probabilities","meanings":["SELL","BUY"],"name":"probabilities"}]}'
    )
    assert make_contract().hash == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"feature_names": ("b", "a")}, False),
        ({"window": 21}, False),
        ({"includes_current_tick": False}, False),
        ({"version": 9}, True),
        ({"estimator": "another"}, True),
        ({"trained_at_ns": 5}, True),
    ],
)
def test_the_hash_covers_what_must_match_and_nothing_else(change: dict[str, object], same: bool) -> None:
    """Features and outputs change the hash; version, estimator and time of training do not."""
    assert (make_contract(**change).hash == make_contract().hash) is same


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("format",), 2, "format: expected 1"),
        (("version",), 0, "version: expected an integer above 0"),
        (("version",), "3", "version: expected int"),
        (("version",), 2**63, "version: expected an integer above 0, of 64 bits"),
        (("trained_at_ns",), 2**63, "trained_at_ns: expected an integer of 64 bits"),
        (("features", "window"), 0, "features.window"),
        (("features", "window"), 2**32, "features.window: expected 1 to 4294967295"),
        (("features", "dtype"), "FP64", "features.dtype: expected FP32"),
        (("features", "names"), ["a", "a"], "stands twice"),
        (("features", "names"), "ab", "expected a list of texts"),
        (("features", "nan_policy"), "guess", "wrong form"),
        (("features", "names"), ["a", "\ud800"], "a text that is not Unicode"),
        (("training_range",), [[0, 1]], "expected 2 entries"),
        (("training_range",), [[0, 1], [2, 1]], "training_range: expected finite numbers, the smaller"),
        (("training_range",), [[0, 1], [math.nan, 1]], "training_range: expected finite"),
        (("training_range",), [[0, 1], [0, math.inf]], "training_range: expected finite"),
        (("golden", "inputs", "datatype"), "INT32", "golden.inputs: expected float32, came int32"),
        (("golden", "inputs", "shape"), [-1, 2], "shape: expected integers"),
        (("golden", "inputs", "shape"), [3.5, 2], "shape: expected integers"),
        (("golden", "outputs", 1, "atol"), math.inf, "expected tolerances of 0 or more"),
        (("golden", "outputs", 1, "rtol"), math.nan, "expected tolerances of 0 or more"),
        (("golden", "outputs", 1, "rtol"), -1, "expected tolerances of 0 or more"),
        (("model",), "../evil", "model name '../evil'"),
        (("hash",), "0" * 64, "hash: the document says"),
        (("outputs",), [], "outputs: expected at least one"),
    ],
)
def test_a_wrong_field_is_named(path: tuple[str | int, ...], value: object, text: str) -> None:
    """Whatever field is changed to something impossible, the error names it."""
    document = json.loads(make_contract().to_json())
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(ContractError, match=text.replace("[", r"\[")):
        Contract.from_json(json.dumps(document))


@pytest.mark.parametrize("field", ["model", "features", "outputs", "golden", "training_range"])
def test_a_missing_field_is_named(field: str) -> None:
    """A document without a field says which one is missing."""
    document = json.loads(make_contract().to_json())
    del document[field]
    with pytest.raises(ContractError, match=f"'{field}' is missing"):
        Contract.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"x"', pytest.param("[" * 100_000, id="deep")])
def test_text_that_is_no_document_is_refused(text: str) -> None:
    """Anything that is not a JSON object is a ContractError."""
    with pytest.raises(ContractError):
        Contract.from_json(text)


def test_golden_rows_that_differ_are_named_worst_first() -> None:
    """A wrong probability is found with its row and size, a right one within tolerance is not."""
    golden = make_contract().golden
    label, probabilities = (output.expected.copy() for output in golden.outputs)
    assert golden.mismatches({"label": label, "probabilities": probabilities + 5e-7}) == []
    probabilities[1, 0] += 0.01
    probabilities[2, 0] += 0.5
    found = golden.mismatches({"label": label, "probabilities": probabilities})
    assert [(mismatch.row, mismatch.output) for mismatch in found] == [
        (2, "probabilities"),
        (1, "probabilities"),
    ]
    assert "off by 0.5" in str(found[0])


@pytest.mark.parametrize("came", [np.nan, np.inf, -np.inf])
def test_a_non_finite_answer_never_fits_a_finite_one(came: float) -> None:
    """NaN or infinity in place of a number is a mismatch, however wide the tolerance."""
    golden = GoldenVectors(
        np.zeros((1, 1), np.float32), (GoldenOutput("value", np.array([1.0]), atol=1e30, rtol=1e30),)
    )
    assert len(golden.mismatches({"value": np.array([came])})) == 1


@pytest.mark.parametrize("both", [np.nan, np.inf, -np.inf])
def test_the_same_non_finite_answer_fits(both: float) -> None:
    """Where the estimator itself answers NaN or infinity, the same is expected."""
    golden = GoldenVectors(
        np.zeros((1, 1), np.float32), (GoldenOutput("value", np.array([both]), atol=0, rtol=0),)
    )
    assert golden.mismatches({"value": np.array([both])}) == []


def test_an_answer_of_another_shape_is_an_error() -> None:
    """A model that answers in another shape is refused with both shapes named."""
    golden = make_contract().golden
    label, probabilities = (output.expected for output in golden.outputs)
    with pytest.raises(ContractError, match="has shape"):
        golden.mismatches({"label": label, "probabilities": probabilities[:, :1]})


def test_an_output_stands_once() -> None:
    """Two outputs of one name are refused, whatever the golden vectors say of them."""
    contract = make_contract()
    golden = GoldenVectors(contract.golden.inputs, contract.golden.outputs * 2)
    with pytest.raises(ContractError, match="outputs: a name stands twice"):
        make_contract(outputs=contract.outputs * 2, golden=golden)
    with pytest.raises(ContractError, match=r"golden\.outputs: expected exactly"):
        make_contract(golden=golden)


@pytest.mark.parametrize("label", [np.array(["BUY", "BUY", "SELL"], object), np.array([1, 1, 0])])
def test_a_text_for_a_number_is_an_error(label: np.ndarray) -> None:
    """A model that answers texts where numbers are expected, or the other way, is refused with both named."""
    other = np.array(["1", "1", "0"], object) if label.dtype.kind == "i" else np.array([1, 1, 0])
    golden = GoldenVectors(np.zeros((3, 1), np.float32), (GoldenOutput("label", label, atol=0, rtol=0),))
    with pytest.raises(ContractError, match="is of dtype"):
        golden.mismatches({"label": other})
