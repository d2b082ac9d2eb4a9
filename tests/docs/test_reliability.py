"""What `docs/reliability.md` promises has the tests that it names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^\*\*(P\d+)\. (.*?)(?=^\*\*P|^## )", PAGE, re.MULTILINE | re.DOTALL)


def existing(folder: str = "tests") -> set[str]:
    """Every test function there is in a folder."""
    found = set()
    for path in (ROOT / folder).rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return found


def test_every_test_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 40
    assert named - existing() == set()


@pytest.mark.parametrize(("number", "text"), PROMISES, ids=[number for number, _ in PROMISES])
def test_a_promise_has_limits_and_a_test(number, text):
    assert "Limits: " in text
    assert re.search(r"`test_\w+`", text.rpartition("Test")[2])


def test_there_are_ten_promises_and_every_fault_has_a_test_and_an_exit_code():
    assert [number for number, _ in PROMISES] == [f"P{number}" for number in range(1, 11)]
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 28
    found = existing("tests/faults")
    for _, _, codes, named in rows:
        assert set(codes.split(", ")) <= {"0", "2", "3", "4", "5", "6", "7", "130", "143"}
        tests = set(re.findall(r"`(test_\w+)`", named))
        assert tests
        assert tests <= found
