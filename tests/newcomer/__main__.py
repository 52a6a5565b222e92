"""`python -m tests.newcomer`: take the newcomer's walk, and write docs/newcomer.md."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as for the tests, whose tools it uses

from tests.newcomer.walk import ROOT, walk

if __name__ == "__main__":
    (ROOT / "docs" / "newcomer.md").write_text(walk())
