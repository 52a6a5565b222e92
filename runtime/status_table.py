"""The table of connections that terminals show, whatever their width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from .spans import duration
from .state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from .status import ConnectionStatus

_STYLES: Mapping[str, str] = {
    State.INIT: "dim",
    State.CONNECTING: "yellow",
    State.READY: "green",
    State.FAILED: "bold red",
    State.STOPPED: "dim",
}

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
_STATE = STATUS_HEADERS.index("state")
_LEFT_OUT_FIRST = ("generation", "backend", "ping", "next attempt", "since")
"""The columns that a narrow terminal goes without, in this order."""
_GAP = 2
_AROUND = 6
"""Lines that a terminal needs for what stands around the table: heads, feet and the prompt."""


def style_of(state: str) -> str:
    """The colour of a state."""
    return _STYLES.get(state, "")


def status_row(status: ConnectionStatus, now: float) -> tuple[str, ...]:
    """One connection as texts, in the order of `STATUS_HEADERS`; `now` is in Unix seconds."""
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


class StatusTable:
    """The connections, one a line, and below it why it is not ready.

    A column for the reasons would be the first to be squeezed, and it is the one that is looked
    for; so it is no column, and the less important ones go where there is no room.

    Args:
        statuses: what to show.
        now: in Unix seconds.
        fit: leave out what is taller than the terminal, those that are ready first.
    """

    def __init__(
        self, statuses: Iterable[ConnectionStatus], now: float, *, fit: bool = False
    ) -> None:
        self._statuses = tuple(statuses)
        self._now = now
        self._fit = fit

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's protocol."""
        room = console.size.height - _AROUND if self._fit else len(self._statuses) * 2
        shown, left_out = self._chosen(max(room, 2))
        rows = [status_row(status, self._now) for status in shown]
        columns = _columns([STATUS_HEADERS, *rows], options.max_width)
        yield _line(STATUS_HEADERS, columns, "bold")
        for row in rows:
            line = _line(row, columns)
            start = sum(columns[i] + _GAP for i in columns if i < _STATE)
            line.stylize(style_of(row[_STATE]), start, start + len(row[_STATE]))
            yield line
            if row[-1]:
                yield Padding(Text(row[-1], overflow="fold"), (0, 0, 0, _GAP))
        if left_out:
            ready = sum(status.state is State.READY for status in left_out)
            yield Text(f"and {len(left_out)} more, {ready} of them ready", "dim")

    def _chosen(self, room: int) -> tuple[Sequence[ConnectionStatus], Sequence[ConnectionStatus]]:
        """What to show in so many lines, and what not."""
        if sum(1 + bool(s.reason or s.error) for s in self._statuses) <= room:
            return self._statuses, ()
        first = sorted(self._statuses, key=lambda status: status.state is State.READY)
        count = lines = 0
        for status in first:
            lines += 1 + bool(status.reason or status.error)
            if lines > room - 1:
                break
            count += 1
        return first[:count], first[count:]


def _columns(rows: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """The columns that there is room for, by index, with their widths."""
    widths = {i: max(len(row[i]) for row in rows) for i in range(len(STATUS_HEADERS) - 1)}
    for name in _LEFT_OUT_FIRST:
        if sum(widths.values()) + _GAP * (len(widths) - 1) <= width:
            break
        del widths[STATUS_HEADERS.index(name)]
    return widths


def _line(row: Sequence[str], columns: Mapping[int, int], style: str = "") -> Text:
    cells = (row[i].ljust(width + _GAP) for i, width in columns.items())
    return Text("".join(cells).rstrip(), style, no_wrap=True, overflow="ellipsis")
