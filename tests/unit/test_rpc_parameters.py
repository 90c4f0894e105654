"""Parameters of an inference request: heeded, neutral, refused by name, or the caller's own."""

import pytest
from open_inference.v2 import inference_pb2 as oip

from inference_server.core.errors import InvalidRequestError
from inference_server.rpc.parameters import read_timeout_us


def request_with(**parameters: dict) -> oip.ModelInferRequest:
    """A request whose parameters are these, each given as its oneof member and value."""
    request = oip.ModelInferRequest()
    for name, parameter in parameters.items():
        request.parameters[name].CopyFrom(oip.InferParameter(**parameter))
    return request


@pytest.mark.parametrize("kind", ["int64_param", "uint64_param"])
def test_a_timeout_is_microseconds_of_either_kind(kind: str) -> None:
    """`timeout` comes as int64 from tritonclient and as uint64 from others; without one it is 0."""
    assert read_timeout_us(request_with(timeout={kind: 1_500})) == 1_500
    assert read_timeout_us(request_with(timeout={kind: 0})) == 0
    assert read_timeout_us(oip.ModelInferRequest()) == 0


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("priority", {"uint64_param": 7}),
        ("priority", {"int64_param": 0}),
        ("triton_enable_empty_final_response", {"bool_param": True}),
        ("sequence_id", {"int64_param": 0}),
        ("sequence_id", {"string_param": ""}),
        ("sequence_start", {"bool_param": False}),
        ("sequence_end", {"bool_param": False}),
        ("binary_data_output", {"bool_param": True}),
        ("trace", {"string_param": "abc"}),
        ("weight", {"double_param": 0.5}),
        ("content_type", {"string_param": "np"}),
    ],
)
def test_what_changes_nothing_is_taken(name: str, parameter: dict) -> None:
    """D15: neutral values of the protocol's own parameters, and a caller's own of any kind, are no error."""
    assert read_timeout_us(request_with(**{name: parameter})) == 0


@pytest.mark.parametrize(
    ("name", "parameter", "text"),
    [
        ("timeout", {"string_param": "1"}, "expected int64_param or uint64_param, came string_param"),
        ("timeout", {"int64_param": -1}, "expected 0 or above, came -1"),
        ("timeout", {}, "expected int64_param or uint64_param, came none"),
        ("priority", {"double_param": 1}, "expected int64_param or uint64_param, came double_param"),
        ("priority", {"int64_param": -2}, "expected 0 or above, came -2"),
        (
            "triton_enable_empty_final_response",
            {"int64_param": 1},
            "expected bool_param, came int64_param",
        ),
        ("triton_other", {"bool_param": True}, "expected none of Triton's own but triton_enable_empty"),
        (
            "sequence_id",
            {"int64_param": 7},
            "expected '' or 0 or none, any other would not be heeded, came 7",
        ),
        ("sequence_id", {"string_param": "x"}, "any other would not be heeded, came 'x'"),
        ("sequence_start", {"bool_param": True}, "expected false or none, any other would not be heeded"),
        ("sequence_end", {"bool_param": True}, "came true"),
        ("binary_data_output", {"bool_param": False}, "expected true or none"),
        ("headers", {"string_param": "a: b"}, "expected none, it would not be heeded"),
        ("tag", {}, "expected a value, came none"),
        ("x" * 257, {"bool_param": True}, "expected a name of at most 256 characters, came 257"),
    ],
)
def test_what_would_change_the_handling_is_refused_by_name(name: str, parameter: dict, text: str) -> None:
    """D15: a parameter that is not done, of the wrong kind or without a value is named, not dropped."""
    with pytest.raises(InvalidRequestError) as caught:
        read_timeout_us(request_with(**{name: parameter}))
    assert text in str(caught.value)
    assert f"parameter '{name[:128]}" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "name", "parameter", "text"),
    [
        (
            "inputs",
            "binary_data_size",
            {"int64_param": 8},
            "input 'x': parameter 'binary_data_size': expected",
        ),
        (
            "outputs",
            "classification",
            {"int64_param": 3},
            "output 'x': parameter 'classification': expected 0",
        ),
        (
            "outputs",
            "binary_data",
            {"bool_param": False},
            "output 'x': parameter 'binary_data': expected true",
        ),
    ],
)
def test_parameters_of_tensors_are_checked_too(field: str, name: str, parameter: dict, text: str) -> None:
    """D15: what a tensor's parameter asks for is refused with the tensor's name; a tag is taken."""
    request = oip.ModelInferRequest()
    tensor = getattr(request, field).add(name="x")
    tensor.parameters["content_type"].string_param = "np"
    assert read_timeout_us(request) == 0
    tensor.parameters[name].CopyFrom(oip.InferParameter(**parameter))
    with pytest.raises(InvalidRequestError, match=text):
        read_timeout_us(request)


def test_the_number_of_parameters_is_bounded() -> None:
    """D15: 64 parameters are taken, 65 are not."""
    request = request_with(**{f"p{number}": {"bool_param": True} for number in range(64)})
    assert read_timeout_us(request) == 0
    request.parameters["last"].bool_param = True
    with pytest.raises(InvalidRequestError, match="expected at most 64 parameters, came 65"):
        read_timeout_us(request)
