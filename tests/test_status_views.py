"""What `moorings status --watch` makes of each change, in each of its three ways."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console
from served import connection

from moorings.errors import FailureReason
from moorings.runtime.following import Back, Gone, Removed, Told
from moorings.runtime.state import State
from moorings.runtime.status_views import JsonLines, LiveTable, TextLines

if TYPE_CHECKING:
    import pytest

    from moorings.runtime.following import Change
    from moorings.runtime.status_views import View

URL = "http://127.0.0.1:9464"
FAILED = connection("b", State.FAILED, reason=FailureReason.DNS, error="no such name")
STORY: tuple[Change, ...] = (
    Told(1.0, connection("a")),
    Told(2.0, connection("a", last_ping_seconds=0.001)),  # a new ping: no change
    Told(3.0, FAILED),
    Gone(4.0, "refused"),
    Back(5.0),
    Told(5.0, connection("a")),
    Removed(6.0, "a"),
    Told(7.0, connection("a")),
)


def show(view: View) -> None:
    with view:
        for change in STORY:
            view.show(change)


def test_as_text_each_change_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    show(TextLines(URL))
    said = capfd.readouterr()
    lines = [line.split("  ", 1) for line in said.out.splitlines()]
    assert [text for _, text in lines] == [
        "a  ready",
        "b  failed  dns: no such name",
        "a  ready",
        "a  removed",
        "a  ready",
    ]
    assert all(at.startswith(("1970", "1969")) for at, _ in lines)
    gone, back = said.err.splitlines()
    assert f"{URL} is gone: refused; waiting" in gone
    assert f"{URL} answers again" in back


def test_as_json_each_change_is_a_document(capfd: pytest.CaptureFixture[str]) -> None:
    show(JsonLines())
    said = capfd.readouterr()
    told = [json.loads(line) for line in said.out.splitlines()]
    kinds = ["connection", "connection", "gone", "back", "connection", "removed", "connection"]
    assert [document["event"] for document in told] == kinds
    assert told[1]["connection"]["reason"] == "dns"
    assert told[2] == {"at": 4.0, "event": "gone", "why": "refused"}
    assert told[5] == {"at": 6.0, "event": "removed", "name": "a"}
    assert said.err == ""


def test_on_a_terminal_the_table_is_what_holds_now() -> None:
    console = Console(width=80, height=30, force_terminal=True, record=True, color_system=None)
    table = LiveTable(console, URL)
    seen = []
    with table:
        for change in STORY:
            table.show(change)
            seen.append(rendered(table))
    assert "dns: no such name" in seen[2]
    assert "live from" in seen[2]
    assert "is gone since" in seen[3]
    assert "refused" in seen[3]
    assert "dns: no such name" in seen[3]  # the last that was known
    assert "is gone" not in seen[4]
    assert "dns" not in seen[5]  # what was before is told anew, or over
    assert "ready" in seen[5]
    assert "ready" not in seen[6]


def rendered(table: LiveTable) -> str:
    console = Console(width=80, height=30, color_system=None)
    with console.capture() as capture:
        console.print(table._render())
    return capture.get()
