"""Sizes of memory and files, as texts show them."""

from typing import Final

UNITS: Final = ("KiB", "MiB", "GiB", "TiB")


def shown_bytes(size_bytes: int) -> str:
    """Return "120.0 MiB": one decimal in the largest unit that leaves at least 1; below 1 KiB plain bytes."""
    if size_bytes < 1024:
        return f"{size_bytes} bytes"
    size = float(size_bytes)
    for unit in UNITS:
        size /= 1024
        if round(size, 1) < 1024:
            return f"{size:.1f} {unit}"
    return f"{size:.1f} {UNITS[-1]}"
