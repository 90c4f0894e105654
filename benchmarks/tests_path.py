"""Puts the tests' folder on the path, for the programs that they fetch; import this first, then by name."""

import sys
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parent.parent / "tests"

if str(TESTS) not in sys.path:
    sys.path.append(str(TESTS))
