"""A transcript: what was typed, what came back, and prose between. Two runs read the same."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

SECONDS: Final = 60.0
"""How long a command may take."""

# What differs from run to run. Nothing else may: a difference would be news.
_VARYING: Final = (
    (r'("timestamp": )"[^"]+"', r'\1"…"'),
    (r'("(?:since|next_attempt_at|last_ping_seconds|down_seconds|at)": )[0-9.]+', r"\1…"),
    (r'("attempts": )\d+', r"\1…"),
    (r"\b\d+(\.\d)? m?s\b", "…"),
    (r"@\[[0-9.]+\]", "@[…]"),
)
_HEADING = "name  "  # of a table of the command line's


class Transcript:
    """Writes down what is done, with the addresses that a reader has.

    Args:
        folder: where commands run.
        environ: their environment.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = dict(environ)
        self._parts: list[str] = []
        self._addresses: dict[str, str] = {}

    @property
    def text(self) -> str:
        """All of it, as Markdown."""
        return "\n\n".join(self._parts) + "\n"

    def let(self, shown: str, real: str) -> None:
        """Write `shown` where `real` is meant, and do `real` where `shown` is typed."""
        self._addresses[shown] = real

    def say(self, text: str) -> None:
        """A paragraph, a heading or a list."""
        self._parts.append(text)

    def file(self, name: str, language: str, text: str) -> None:
        """A file of the folder: written, and shown as the reader would write it."""
        (self._folder / name).write_text(self.real(text))
        self._parts.append(f"`{name}`:\n\n```{language}\n{text}```")

    def show(self, text: str, language: str = "text") -> None:
        """Something that was said."""
        self._parts.append(f"```{language}\n{self.stable(text).rstrip()}\n```")

    def type(self, command: str, until: str = "") -> str:
        """Run a command line in a shell, show it and what it prints, and return that.

        It is run again until it prints `until`, as somebody does who waits for something.
        """
        deadline = time.monotonic() + SECONDS
        while until not in (printed := self._run(command)):
            assert time.monotonic() < deadline, printed
        self.show(f"$ {command}\n{printed}", "console")
        return printed

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", self.real(command)],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert not done.stderr, done.stderr
        return done.stdout

    def real(self, text: str) -> str:
        """`text` with the addresses of this run."""
        for shown, real in self._addresses.items():
            text = text.replace(shown, real)
        return text

    def stable(self, text: str) -> str:
        """`text` as it is in every run."""
        for shown, real in self._addresses.items():
            text = text.replace(real, shown)
        lines = [line for part in _parts(text.splitlines()) for line in part]
        return "\n".join(line.rstrip() for line in lines)


def _parts(lines: list[str]) -> Iterator[list[str]]:
    """The lines, stable, with the columns of a table as wide as what is left in them."""
    for number, line in enumerate(lines):
        if line.startswith(_HEADING):
            yield _realigned(lines[number:])
            return
        yield [_stable(line)]


def _realigned(lines: list[str]) -> list[str]:
    headings = [match.start() for match in re.finditer(r"\S+(?: \S+)*", lines[0])]
    spans = list(zip(headings, [*headings[1:], None], strict=True))
    rows = [[_stable(line[start:end].rstrip()) for start, end in spans] for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _stable(text: str) -> str:
    for varying, instead in _VARYING:
        text = re.sub(varying, instead, text)
    return text
