"""What the log says of outages and crashes, and when it says it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio

from moorings import RestartIntensityExceeded, open_connections
from moorings.runtime.log_records import STRUCTURE, one_line
from moorings.runtime.outages import SUMMARY_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from moorings import ConnectionManager

SETTINGS: dict[str, Any] = {
    "default": {
        "database": {
            "default_document_connection": "main",
            "documents": {"main": {"backend": "local"}},
        }
    }
}


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moorings")


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        getattr(record, STRUCTURE)["event"]
        for record in caplog.records
        if hasattr(record, STRUCTURE)
    ]


def crash(manager: ConnectionManager, times: int = 1) -> None:
    """Let the next runs of a hook fail with what no provider classifies."""
    left = times

    @manager["main"].on_ready
    async def hook(_: object) -> None:
        nonlocal left
        if left:
            left -= 1
            raise RuntimeError("a bug at mongodb://me:unlucky@host/")


async def until(manager: ConnectionManager, condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not condition():
            await manager.kernel.next_change()


async def test_an_outage_is_one_warning_and_one_line_after_it(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.abc.Clock
) -> None:
    async with open_connections(SETTINGS) as manager:
        connection = manager["main"]
        await connection.wait_ready()
        connection.provider.faults.refuse()
        await until(manager, lambda: not connection.is_ready())
        await trio.sleep(20)
        connection.provider.faults.heal()
        await until(manager, connection.is_ready)
    assert events(caplog) == ["connection lost", "connection ready again"]
    lost, again = (r for r in caplog.records if hasattr(r, STRUCTURE))
    assert lost.levelno == logging.WARNING
    assert lost.getMessage().startswith("connection lost connection=main reason=")
    assert again.levelno == logging.INFO
    assert getattr(again, STRUCTURE)["attempts"] > 3


async def test_the_first_connect_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    async with open_connections(SETTINGS) as manager:
        await manager.wait_ready()
    assert events(caplog) == []


async def test_a_crash_is_told_after_the_recovery(caplog: pytest.LogCaptureFixture) -> None:
    """Rendering a traceback would hold the recovery up. Nothing is lost, nor out of order."""
    async with open_connections(SETTINGS) as manager:
        crash(manager)
        await manager.wait_ready()
        assert events(caplog) == []
        manager.kernel.flush_log()
        assert events(caplog) == ["connection crashed", "connection lost", "connection ready"]


async def test_a_crash_is_told_at_the_next_heartbeat(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.abc.Clock
) -> None:
    async with open_connections(SETTINGS) as manager:
        crash(manager)
        await manager.wait_ready()
        await trio.sleep(0.3)
        assert events(caplog)[0] == "connection crashed"


async def test_a_crash_is_told_when_the_manager_closes_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_connections(SETTINGS) as manager:
        crash(manager)
        await manager.wait_ready()
    assert events(caplog)[0] == "connection crashed"


async def test_a_crash_is_told_before_the_escalation(caplog: pytest.LogCaptureFixture) -> None:
    """The order of the log is the order of what happened."""
    with pytest.raises(RestartIntensityExceeded):  # noqa: PT012 - the block is what ends
        async with open_connections(SETTINGS) as manager:
            crash(manager, times=100)
            await trio.sleep_forever()
    told = [record.getMessage() for record in caplog.records]
    critical = next(i for i, text in enumerate(told) if "failed: supervisor" in text)
    assert told[0].startswith("connection crashed")
    assert not any(text.startswith("connection crashed") for text in told[critical:])


async def test_a_record_has_the_time_of_the_crash_and_its_redacted_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_connections(SETTINGS) as manager:
        crash(manager)
        await manager.wait_ready()
        ready_since = manager["main"].status.since
    crashed = next(r for r in caplog.records if "crashed" in r.getMessage())
    assert crashed.created <= ready_since
    assert crashed.msecs == pytest.approx(crashed.created % 1 * 1000)
    assert crashed.exc_text is not None
    assert "in hook" in crashed.exc_text
    assert "RuntimeError: a bug at mongodb://**********@host/" in crashed.exc_text
    assert "unlucky" not in caplog.text


async def test_an_outage_that_lasts_is_told_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_connections(SETTINGS) as manager:
        connection = manager["main"]
        await connection.wait_ready()
        connection.provider.faults.refuse()
        await until(manager, lambda: not connection.is_ready())
        log = manager.kernel._outages
        began = log._outages["main"].began
        for seconds in range(0, int(3.5 * SUMMARY_INTERVAL), 5):
            log.summarise(began + seconds)
    assert events(caplog).count("connection still down") == 3


async def test_what_is_filtered_out_is_not_even_made(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.CRITICAL, "moorings")
    monkeypatch.setattr(
        "moorings.runtime.log_records.LogEvent.tell", lambda *_: pytest.fail("was told")
    )
    async with open_connections(SETTINGS) as manager:
        crash(manager)
        await manager.wait_ready()
        assert not manager.kernel._outages._kept


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("refused", "x=refused"),
        ("two words", 'x="two words"'),
        ('a "quote"', r'x="a \"quote\""'),
        ("a=b", 'x="a=b"'),
        ("", 'x=""'),
        ("two\nlines", r'x="two\nlines"'),
        (1.5, "x=1.5"),
        (None, "x=None"),
    ],
)
def test_a_line_stays_one_line_and_its_values_apart(value: object, shown: str) -> None:
    assert one_line("it happened", {"x": value}) == f"it happened {shown}"
