"""The outermost layer of an ONNX file: its version, and whether it is whole."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_files import score_model

from inference_server.adapters.model_file import (
    IncompleteError,
    UnfitError,
    is_there,
    read_file,
    read_model_version,
)


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


@pytest.mark.parametrize("whole_bytes", [0, 1], ids=["nothing written", "a field short of its end"])
def test_zeros_that_keep_the_place_of_what_is_to_come_are_not_a_whole_file(whole_bytes):
    """C2: a copy into space that was reserved ahead ends in zeros: it is not whole, which is told at once.

    Each zero looks like a small field; walked one by one, these would keep a processor busy for minutes.
    """
    begun = score_model() * whole_bytes
    with pytest.raises(IncompleteError, match="not a whole ONNX file"):
        read_model_version(begun + bytes(2**24))


def test_a_file_of_countless_small_fields_is_refused_at_a_bound():
    """C1: bytes that read as one empty field after another are given up, however many there are."""
    with pytest.raises(IncompleteError, match="100000 fields or more"):
        read_model_version(b"\x08\x00" * 2**20)


def test_what_is_no_file_leaves_no_descriptor(tmp_path):
    """C3: a folder or pipe in the file's place is told as such, and nothing stays open."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(UnfitError, match=f"is a {name}, not a file"):
            read_file(tmp_path / name, 100)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_what_cannot_be_looked_at_counts_as_there(tmp_path):
    """C3: absent is only what has no entry: a dangling link is there, and so is what no one may look at."""
    assert not is_there(tmp_path / "absent")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert is_there(tmp_path / "dangling")
    (tmp_path / "file").touch()
    assert is_there(tmp_path / "file" / "below a file")
    assert not is_there(tmp_path / "dangling" / "below nothing")


@given(st.binary(max_size=200))
def test_random_bytes_are_incomplete_or_a_number(content):
    """D14: whatever the bytes are, the answer is a version or UnfitError."""
    try:
        version = read_model_version(content)
    except UnfitError:
        return
    assert -(2**63) <= version < 2**63
