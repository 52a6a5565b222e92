"""`python -m tests.faults > docs/faults.md`: the table of faults, for people."""

from __future__ import annotations

from .page import page

if __name__ == "__main__":
    print(page(), end="")
