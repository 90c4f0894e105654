"""A verdict as text: back as it was, and nothing else passes for one."""

import json

import pytest
from onnx_files import score_contract

from inference_server.adapters.verdict_text import read_verdict, write_verdict
from inference_server.core.tensor import TensorSpec
from inference_server.serving.vetting import Step, Verdict

SPECS = (TensorSpec("x", "FP32", (-1, 3)),)
WHOLE = Verdict("5e" * 32, (Step("parse", passed=True, text="fine"),), score_contract(), SPECS, SPECS, 1234)


@pytest.mark.parametrize("verdict", [WHOLE, Verdict("", (Step("parse", passed=False, text="why"),))])
def test_a_verdict_comes_back_as_it_was(verdict):
    """With all there is to say, and with a reason alone."""
    assert read_verdict(write_verdict(verdict)) == verdict


ODD = {
    "no steps": {"steps": []},
    "a word for passed": {"steps": [["parse", "no", "text"]]},
    "a number for passed": {"steps": [["parse", 1, "text"]]},
    "a reason that is no text": {"steps": [["parse", False, None]]},
    "steps that are no lists": {"steps": [7]},
    "no memory": {"memory_bytes": None},
    "endless memory": {"memory_bytes": float("inf")},
    "no digest": {"digest": None},
    "a contract that is none": {"contract": "{}"},
    "a contract that is no text": {"contract": 7},
    "an input without a shape": {"inputs": [["x", "FP32"]]},
    "a datatype that is none": {"inputs": [["x", "FP12", [1]]]},
    "a datatype that is no text": {"outputs": [["x", [], [1]]]},
    "a size that is none": {"outputs": [["x", "FP32", ["many"]]]},
}


@pytest.mark.parametrize("odd", ODD)
def test_what_only_looks_like_a_verdict_is_refused(odd):
    """C9: each wrong part of an answer is a ValueError; none is taken for a pass."""
    document = json.loads(write_verdict(WHOLE)) | ODD[odd]
    with pytest.raises(ValueError):
        read_verdict(json.dumps(document).encode())


@pytest.mark.parametrize("text", [b"", b"\xff", b"{}", b"[]", b"7", b"null", b"[" * 100_000])
def test_what_is_no_verdict_at_all_is_refused(text):
    """C9: bytes of any other kind are a ValueError too."""
    with pytest.raises(ValueError):
        read_verdict(text)
