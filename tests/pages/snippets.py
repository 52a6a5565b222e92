"""The code on a page: what it says, in which language, and in which file it belongs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parents[2] / "docs"

# "`worker.py`:" above a block names its file.
_BLOCK = re.compile(r"(?:^`([\w.]+)`[^\n]*:\n\n)?^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """A block of code.

    Attributes:
        page: the page's name, without its suffix.
        number: which one of its language it is on the page, from 0.
        file: the file that the page puts it in; empty: in none.
    """

    page: str
    language: str
    number: int
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.file or self.number}"


def snippets(page: str, language: str) -> list[Snippet]:
    """The blocks of a page in one language, in order."""
    found = [m for m in _BLOCK.finditer((DOCS / f"{page}.md").read_text()) if m[2] == language]
    return [
        Snippet(page, language, number, match[1] or "", match[3])
        for number, match in enumerate(found)
    ]


def lay_out(page: str, folder: Path) -> None:
    """Write the page's files into `folder`; its first settings are settings.toml."""
    for snippet in snippets(page, "python"):
        if snippet.file:
            (folder / snippet.file).write_text(snippet.text)
    settings = [s for s in snippets(page, "toml") if s.text.startswith("[default")]
    for snippet in settings[:1]:
        (folder / "settings.toml").write_text(snippet.text)
