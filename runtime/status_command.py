"""What `moorings status` does; returns the exit status."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from rich.console import Console

from .asking import UnansweredError, connections, served_at, status_of
from .exits import ExitStatus
from .following import Follower
from .screen import print_table
from .status_table import STATUS_HEADERS, StatusTable, status_row
from .status_views import JsonLines, LiveTable, TextLines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .status import ConnectionStatus
    from .status_views import View

# ruff: noqa: T201 - printing is what this command is for


def show_status(
    files: Sequence[Path],
    env: str | None,
    url: str | None,
    as_json: bool,
    watch: bool,
) -> int:
    """Ask a running program; 69 when it does not answer."""
    url = (served_at(files, env) if url is None else url).rstrip("/")
    try:
        return _watch(url, as_json) if watch else _show_once(url, as_json)
    except UnansweredError as error:
        print(f"moorings: {url} does not answer: {error}", file=sys.stderr)
        return ExitStatus.UNAVAILABLE


def _show_once(url: str, as_json: bool) -> int:
    answer = connections(url)
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        _print([status_of(fields) for fields in answer], time.time())
    return ExitStatus.OK


def _print(statuses: Sequence[ConnectionStatus], now: float) -> None:
    if sys.stdout.isatty():
        Console(highlight=False).print(StatusTable(statuses, now))
    else:
        print_table(STATUS_HEADERS, [status_row(status, now) for status in statuses])


def _watch(url: str, as_json: bool) -> int:
    """Show what changes until somebody ends it; that somebody's signal decides the status."""
    changes = Follower(url, _say_polling).changes()
    before = signal.signal(signal.SIGTERM, _end)
    try:
        first = next(changes)  # what does not even answer at first needs no view
        with _view(url, as_json) as view:
            if not isinstance(view, LiveTable):
                threading.Thread(target=_leave_with_reader, daemon=True).start()
            view.show(first)
            for change in changes:
                view.show(change)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)
    return ExitStatus.OK


def _leave_with_reader() -> None:
    """As `tail -f` does: in a quiet night nothing would be written that could fail."""
    reader = select.poll()
    reader.register(sys.stdout.fileno(), 0)  # that it is gone is told unasked
    reader.poll()
    os._exit(128 + signal.SIGPIPE)


def _end(number: int, _: object) -> None:
    # As an exception, so that the terminal is given back.
    raise SystemExit(128 + number)


def _say_polling() -> None:
    print("moorings: it has no /events (an older version?): asked again and again", file=sys.stderr)


def _view(url: str, as_json: bool) -> View:
    console = Console(highlight=False)
    if as_json:
        return JsonLines()
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveTable(console, url)
    return TextLines(url)
