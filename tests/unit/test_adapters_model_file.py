"""The outermost layer of an ONNX file: its version, and whether it is whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_files import score_model

from inference_server.adapters.model_file import UnfitError, read_model_version


@pytest.mark.parametrize("version", [0, 1, 300, 2**63 - 1])
def test_the_model_version_is_read(version):
    """The version is the file's `model_version`, and 0 where it has none."""
    assert read_model_version(score_model(model_version=version)) == version


def test_a_negative_version_is_read_as_such():
    """The field is signed: -1 is -1, for the caller to refuse."""
    assert read_model_version(score_model(model_version=-1)) == -1


def test_every_truncation_inside_a_field_is_noticed():
    """C1: cut at any byte, a file is incomplete, or its graph or a whole field after it is missing."""
    model = score_model(model_version=7)
    for size in range(len(model)):
        try:
            read_model_version(model[:size])
        except UnfitError:
            continue
        # What is left is whole fields with a graph among them; vetting judges those.
        assert model[size] in {0x42, 0x72, 0x28}, f"cut at {size} unnoticed"


@given(st.binary(max_size=200))
def test_random_bytes_are_incomplete_or_a_number(content):
    """D14: whatever the bytes are, the answer is a version or UnfitError."""
    try:
        version = read_model_version(content)
    except UnfitError:
        return
    assert -(2**63) <= version < 2**63
