"""How `moorings status --watch` shows a change: a table that is redrawn, lines, or JSON lines."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self, assert_never

from rich.console import Group
from rich.live import Live
from rich.text import Text

from .following import Back, Gone, Removed, Told
from .screen import REFRESHES_PER_SECOND
from .status_table import StatusTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from .following import Change
    from .status import ConnectionStatus

# ruff: noqa: T201 - printing is what they are for


class View(Protocol):
    """Where changes are shown, for as long as its block runs."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *error: object) -> None:
        """Give the terminal back."""

    def show(self, change: Change) -> None:
        """Show one."""


class _Lines:
    """A line for each change of what matters: a new ping, or another attempt, is none."""

    def __init__(self) -> None:
        self._shown: dict[str, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to give back."""

    def show(self, change: Change) -> None:
        """Print it, unless it is none."""
        match change:
            case Told(status=status):
                facts = (status.state, status.reason, status.error, status.generation)
                if self._shown.get(status.name) == facts:
                    return
                self._shown[status.name] = facts
            case Removed(name=name):
                self._shown.pop(name, None)
            case Gone():
                self._shown.clear()
            case Back():
                pass
            case _:
                assert_never(change)
        self._print(change)

    def _print(self, change: Change) -> None:
        raise NotImplementedError


class JsonLines(_Lines):
    """A JSON document for each change, one a line."""

    def _print(self, change: Change) -> None:
        print(json.dumps({"at": change.at, **_document(change)}), flush=True)


def _document(change: Change) -> Mapping[str, Any]:
    match change:
        case Told(status=status):
            return {"event": "connection", "connection": asdict(status)}
        case Removed(name=name):
            return {"event": "removed", "name": name}
        case Gone(why=why):
            return {"event": "gone", "why": why}
        case Back():
            return {"event": "back"}
        case _:
            assert_never(change)


class TextLines(_Lines):
    """A line of text for each change; what happens to the program itself goes to stderr."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def _print(self, change: Change) -> None:
        at = datetime.fromtimestamp(change.at, UTC).astimezone().isoformat(timespec="seconds")
        match change:
            case Told(status=status):
                print(f"{at}  {status.name}  {_standing(status)}", flush=True)
            case Removed(name=name):
                print(f"{at}  {name}  removed", flush=True)
            case Gone(why=why):
                print(f"moorings: {at}  {self._url} is gone: {why}; waiting", file=sys.stderr)
            case Back():
                print(f"moorings: {at}  {self._url} answers again", file=sys.stderr)
            case _:
                assert_never(change)


def _standing(status: ConnectionStatus) -> str:
    why = ": ".join(part for part in (status.reason, status.error) if part)
    return f"{status.state}  {why}".rstrip()


class LiveTable:
    """The table of `moorings run`, of another program. Drawn by a thread of its own."""

    def __init__(self, console: Console, url: str) -> None:
        self._url = url
        self._statuses: dict[str, ConnectionStatus] = {}
        self._gone: Gone | None = None
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=REFRESHES_PER_SECOND,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, change: Change) -> None:
        """Have it in the table, from the next time that it is drawn."""
        # Replaced, and never changed: the other thread may be in the middle of it.
        match change:
            case Told(status=status):
                self._statuses = {**self._statuses, status.name: status}
            case Removed(name=name):
                self._statuses = {n: s for n, s in self._statuses.items() if n != name}
            case Gone():
                self._gone = change
            case Back():
                self._gone, self._statuses = None, {}
            case _:
                assert_never(change)

    def _render(self) -> Group:
        gone = self._gone
        now = time.time() if gone is None else gone.at  # what is over grows no older
        return Group(StatusTable(self._statuses.values(), now, fit=True), self._foot(gone))

    def _foot(self, gone: Gone | None) -> Text:
        if gone is None:
            return Text(f"live from {self._url}; Ctrl-C ends this", "dim")
        at = datetime.fromtimestamp(gone.at, UTC).astimezone()
        return Text(
            f"{self._url} is gone since {at:%H:%M:%S}: {gone.why}. Above is what was last known; "
            "waiting for it",
            "bold red",
        )
