"""Every test says what it proves, and every case that trusted systems of this kind test has one of ours."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
# How many there are of life cycle, swap under load, files, inputs, deadlines, operation, parity, and client.
GROUPS = {"A": 21, "B": 6, "C": 11, "D": 16, "E": 9, "F": 10, "G": 5, "H": 10}
CASES = {f"{group}{number}" for group, count in GROUPS.items() for number in range(1, count + 1)}


@pytest.fixture(scope="module")
def docstrings():
    """The docstring of each test, by file and name."""
    return {
        f"{path.relative_to(TESTS)}::{node.name}": ast.get_docstring(node) or ""
        for path in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    }


def test_every_test_says_what_it_proves(docstrings):
    """More than a word, in sentences that end."""
    assert len(docstrings) > 100
    wrong = [name for name, text in docstrings.items() if not re.fullmatch(r".{10,}[.)?]", text, re.DOTALL)]
    assert wrong == []


def test_every_case_has_a_test_that_names_it(docstrings):
    """The numbers are stable, so that a case's tests are found by them."""
    named = {case for text in docstrings.values() for case in re.findall(r"\b[A-H]\d{1,2}\b", text)}
    assert CASES - named == set()
