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
from .spans import duration
from .state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..errors import SettingsError
    from .manager import ConnectionManager
    from .status import ConnectionStatus

_STYLES: Mapping[str, str] = {
    State.INIT: "dim",
    State.CONNECTING: "yellow",
    State.READY: "green",
    State.FAILED: "bold red",
    State.STOPPED: "dim",
}
_REFRESHES_PER_SECOND = 4


def style_of(state: str) -> str:
    """The colour of a state."""
    return _STYLES.get(state, "")


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
        table.add_column(header)
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
            refresh_per_second=_REFRESHES_PER_SECOND,
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
        where = "   ".join(f"{url}/  {url}/readyz  {url}/metrics" for url in manager.urls)
        table = status_table(manager.statuses(), time.time())
        return Group("", table, *([Text(where, "dim")] if where else []))


def status_table(statuses: Iterable[ConnectionStatus], now: float) -> Table:
    """A terminal's table of connections; `now` is in Unix seconds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in STATUS_HEADERS:
        table.add_column(header, overflow="ellipsis", no_wrap=header != "reason")
    for status in statuses:
        row = [Text(cell) for cell in status_row(status, now)]
        row[2].stylize(style_of(status.state))
        table.add_row(*row)
    return table


STATUS_HEADERS = (
    "name",
    "backend",
    "state",
    "since",
    "generation",
    "ping",
    "next attempt",
    "reason",
)


def status_row(status: ConnectionStatus, now: float) -> tuple[str, ...]:
    """One connection as texts, in the order of `STATUS_HEADERS`."""
    ping, upcoming = status.last_ping_seconds, status.next_attempt_at
    return (
        status.name,
        status.backend if status.required else f"{status.backend} (optional)",
        status.state,
        duration(now - status.since),
        str(status.generation),
        "" if ping is None else f"{ping * 1000:.1f} ms",
        "" if upcoming is None else f"in {duration(max(upcoming - now, 0.0))}",
        ": ".join(part for part in (status.reason, status.error) if part),
    )
