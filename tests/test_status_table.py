"""The table that terminals show: at any width and height, what is looked for is there."""

from __future__ import annotations

import pytest
from rich.console import Console
from served import connection

from moorings.errors import FailureReason
from moorings.runtime.state import State
from moorings.runtime.status_table import STATUS_HEADERS, StatusTable, status_row

NOW = 10_000.0
ERROR = "ServerSelectionTimeoutError: localhost:27017: [Errno 111] Connection refused"
STATUSES = [
    connection("default_mongo", since=NOW - 3723, generation=3, last_ping_seconds=0.0012),
    connection(
        "reporting_warehouse",
        State.FAILED,
        required=False,
        since=NOW - 62,
        reason=FailureReason.REFUSED,
        error=ERROR,
        next_attempt_at=NOW + 12,
    ),
]


def shown(*statuses: object, width: int, height: int = 50, fit: bool = False) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(StatusTable(statuses or STATUSES, NOW, fit=fit))  # type: ignore[arg-type]
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_status_is_a_row_of_texts() -> None:
    row = dict(zip(STATUS_HEADERS, status_row(STATUSES[1], NOW), strict=True))
    assert row == {
        "name": "reporting_warehouse",
        "backend": "local (optional)",
        "state": "failed",
        "since": "1 m 2 s",
        "generation": "0",
        "ping": "",
        "next attempt": "in 12 s",
        "reason": f"refused: {ERROR}",
    }
    assert status_row(STATUSES[0], NOW)[5] == "1.2 ms"


def test_no_error_is_taken_for_markup() -> None:
    assert "[Errno 111]" in shown(width=200)[3]


def test_where_there_is_room_every_column_is_shown() -> None:
    head, ready, failed, why = shown(width=100)
    assert head.split("  ")[0] == "name"
    assert all(name in head for name in ("backend", "generation", "ping", "next attempt"))
    assert ready.split() == [
        "default_mongo",
        "local",
        "ready",
        "1",
        "h",
        "2",
        "m",
        "3",
        "1.2",
        "ms",
    ]
    assert "failed" in failed
    assert "in 12 s" in failed
    assert why == f"  refused: {ERROR}"


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_where_there_is_little_names_states_and_reasons_stay(width: int) -> None:
    """Each whole, and no line wider than the terminal."""
    lines = shown(width=width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for word in ("default_mongo", "ready", "reporting_warehouse", "failed", "refused:"):
        assert word in text
    assert ERROR.replace(" ", "") in text.replace(" ", "")
    if width >= 60:
        assert "in 12 s" in text


def test_what_is_taller_than_the_terminal_leaves_out_what_is_ready() -> None:
    many = [connection(f"c{n}") for n in range(1000)]
    lines = shown(*many, STATUSES[1], width=100, height=24, fit=True)
    assert len(lines) <= 24
    assert "reporting_warehouse" in lines[1]
    left = 1001 - (len(lines) - 3)
    assert lines[-1] == f"and {left} more, {left} of them ready"


def test_without_connections_there_is_a_head() -> None:
    assert len(shown(width=80)[0]) > 0
    console = Console(width=80)
    with console.capture() as capture:
        console.print(StatusTable((), NOW, fit=True))
    assert capture.get().split()[0] == "name"
