"""The texts of a signature's errors: short and printable, whatever the file and its place call things."""

import time

import numpy as np
import pytest
from servables import FunctionServable

from inference_server.core.errors import InvalidRequestError
from inference_server.core.tensor import TensorSpec
from inference_server.serving.signature import Signature, shown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "''"),
        ("a'b", '"a\'b"'),
        ("\0\n\u202e", r"'\x00\n\u202e'"),
        ("x" * 128, f"'{'x' * 128}'"),
        ("x" * 129, f"'{'x' * 128}…'"),
        ("\n" * 65, "'" + r"\n" * 64 + "…'"),
    ],
)
def test_a_name_is_shown_short_and_printable(name: str, text: str) -> None:
    """D13: quoted, escaped, and cut to 128 characters of what is shown."""
    assert shown(name) == text
    assert shown(name).isprintable()


def test_what_a_file_calls_things_is_escaped_and_lists_are_cut() -> None:
    """D13: a model, an input and an output of odd or many names still give one short plain line."""
    outputs = tuple(f"out{number}\n" for number in range(20))
    inputs = (TensorSpec("in\0", "FP32", (-1, 3)),)
    signature = Signature(FunctionServable("odd\nname", contract=None, inputs=inputs, outputs=outputs))
    with pytest.raises(InvalidRequestError) as caught:
        signature.check_outputs(["none"])
    first = ", ".join(rf"'out{number}\n'" for number in range(8))
    assert (
        str(caught.value)
        == rf"model 'odd\nname:1' has no output 'none'; expected some of {first} and 12 more"
    )
    with pytest.raises(InvalidRequestError) as caught:
        signature.check_inputs({"in\0": np.ones((1, 4), np.float32)})
    assert str(caught.value) == (
        r"model 'odd\nname:1': input 'in\x00': expected shape [?, 3], came shape [1, 4]"
    )


def test_one_of_many_outputs_asked_for_twice_is_found_at_once() -> None:
    """D2: of thousands of outputs only the last comes twice; it is named in linear time."""
    outputs = tuple(f"out{number}" for number in range(20_000))
    signature = Signature(FunctionServable(contract=None, outputs=outputs))
    began = time.thread_time()
    with pytest.raises(InvalidRequestError, match="expected each output once, came 'out19999' 2 times"):
        signature.check_outputs((*outputs, outputs[-1]))
    assert time.thread_time() - began < 1


def test_what_was_refused_or_accepted_before_decides_nothing() -> None:
    """D3, D4, D5: a wrong shape is refused each time that it comes, and after a right one of each input."""
    specs = (TensorSpec("a", "FP32", (-1, 3)), TensorSpec("b", "FP32", (-1, 2)))
    signature = Signature(FunctionServable(contract=None, inputs=specs))
    right = {"a": np.ones((1, 3), np.float32), "b": np.ones((1, 2), np.float32)}
    wrong = [
        {**right, "a": right["b"]},
        {**right, "b": right["a"]},
        {**right, "a": right["a"][:0]},
        {**right, "b": right["b"].astype(np.float64)},
    ]
    for inputs in (*wrong, *wrong, right, *wrong, *wrong, right):
        if inputs is right:
            assert signature.check_inputs(inputs) is right
            continue
        with pytest.raises(InvalidRequestError, match="expected"):
            signature.check_inputs(inputs)
