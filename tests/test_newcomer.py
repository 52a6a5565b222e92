"""docs/newcomer.md is what happens: it is walked, as a newcomer would, and compared."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from newcomer.walk import walk

pytestmark = [pytest.mark.operators, pytest.mark.mongod]

PAGE = Path(__file__).parents[1] / "docs" / "newcomer.md"


def test_the_walk_is_as_it_was_written_down() -> None:
    """`python -m tests.newcomer` writes it down anew."""
    written, seen = PAGE.read_text().splitlines(), walk().splitlines()
    differ = "\n".join(difflib.unified_diff(written, seen, "written", "seen", lineterm="", n=1))
    assert not differ, differ
