"""`python -m tests.pages`: write the pages of docs/ that are made by code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from . import diagram, settings, states
from .snippets import DOCS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MADE: Final[Mapping[str, Callable[[], str]]] = {
    "images/states.svg": diagram.svg,
    "settings.md": settings.page,
    "states.md": states.page,
}

if __name__ == "__main__":
    for name, make in MADE.items():
        (DOCS / name).write_text(make())
        sys.stdout.write(f"docs/{name}\n")
