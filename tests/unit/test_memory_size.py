"""Sizes in texts."""

import pytest

from inference_server.core.size import shown_bytes


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (120 * 1024**2, "120.0 MiB"),
        (4 * 1024**3, "4.0 GiB"),
        (3 * 1024**4, "3.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_a_size_is_shown_in_the_largest_unit_that_fits(size_bytes, shown):
    """A19: the numbers that a refusal names have one decimal and a binary unit."""
    assert shown_bytes(size_bytes) == shown
