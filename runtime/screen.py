"""What the command line shows people: tables, settings problems, and the live view of `run`.

Colours and boxes on terminals only (`NO_COLOR` is respected); plain aligned text elsewhere, for
pipes and CI.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .redaction import redact_urls
from .status_table import StatusTable, style_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..errors import SettingsError
    from .manager import ConnectionManager

REFRESHES_PER_SECOND = 4


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], coloured: str = "") -> None:
    """Print rows to stdout.

    Args:
        headers: the columns' names.
        rows: one text per column.
        coloured: the name of the column that shows a state.
    """
    if not sys.stdout.isatty():
        _print_plain([[*headers], *map(list, rows)])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")  # half a name of a class is none
    for row in rows:
        styles = (
            style_of(cell) if name == coloured else ""
            for name, cell in zip(headers, row, strict=True)
        )
        table.add_row(*(Text(cell, style) for cell, style in zip(row, styles, strict=True)))
    Console(highlight=False).print(table)


def _print_plain(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())  # noqa: T201 - this is what the command is for


def print_problems(error: SettingsError) -> None:
    """Print every problem of the settings to stderr: where, what, and the cure."""
    console = Console(stderr=True, highlight=False)
    count = len(error.problems)
    say = "1 problem" if count == 1 else f"{count} problems"
    console.print(Text(f"moorings: the settings cannot be used: {say}", "bold red"), soft_wrap=True)
    for problem in error.problems:
        where = Text.assemble("\n", (problem.file, "bold"))
        if problem.layer:
            where.append(f" [{problem.layer}]", "cyan")
        if problem.key:
            where.append(f" {problem.key}", "cyan")
        for line in (where, f"  problem: {problem.problem}", f"  cure:    {problem.cure}"):
            text = line if isinstance(line, Text) else Text(redact_urls(line))
            console.print(text, soft_wrap=True)


class LiveView:
    """The connections as they are, redrawn below the log until stopped.

    Drawn by a thread of its own: statuses may be read from any.
    """

    def __init__(self, console: Console) -> None:
        self._manager: ConnectionManager | None = None
        self.live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=REFRESHES_PER_SECOND,
            # Only what goes to the same terminal may be drawn around: a redirected stdout is data.
            redirect_stdout=sys.stdout.isatty(),
        )

    def attach(self, manager: ConnectionManager) -> None:
        """Show this manager's connections from now on."""
        self._manager = manager

    def _render(self) -> Group:
        manager = self._manager
        if manager is None:
            return Group()
        where = "   ".join(f"{url}/  /readyz  /metrics" for url in manager.urls)
        table = StatusTable(manager.statuses(), time.time(), fit=True)
        return Group("", table, *([Text(where, "dim")] if where else []))
