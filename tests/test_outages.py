"""What the log says of outages: little, in order, and never a secret."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import trio

from moorings.errors import FailureReason
from moorings.runtime import kernel, outages
from moorings.runtime.state import State

if TYPE_CHECKING:
    import pytest
    from scripted import World
    from trio.testing import MockClock


def _lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [
        f"{record.levelname} {record.getMessage()}"
        for record in caplog.records
        if record.name == "moorings" and record.levelno >= level
    ]


async def test_all_is_well_is_no_news(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="moorings")
    async with world.open() as manager:
        await manager.get_database()
        await trio.sleep(100)
    assert _lines(caplog) == []


async def test_an_outage_is_one_warning_and_one_info(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="moorings")
    async with world.open() as manager:
        await manager.get_database()
        world["db"].refuse()
        await world.until(manager["db"], State.FAILED)
        await trio.sleep(300)
        world["db"].heal()
        await manager.get_database()
        await trio.sleep(1)
    first, last = _lines(caplog)
    assert first.startswith("WARNING")
    assert "connection lost" in first
    assert "db" in first
    assert "refused" in first
    assert last.startswith("INFO")
    assert "ready again" in last


async def test_one_that_never_came_up_is_called_that(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="moorings")
    world["db"].refuse()
    async with world.open() as manager:
        await trio.sleep(60)
        world["db"].heal()
        await manager.get_database()
    first, last = _lines(caplog)
    assert "connection not established" in first
    assert "connection ready" in last
    assert "again" not in last


async def test_a_summary_a_minute(
    world: World,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time is the machine's there: it is made to follow the virtual one."""
    # In our modules alone: the threads of drivers that other tests left behind read the real one.
    virtual = SimpleNamespace(time=time.time, monotonic=trio.current_time)
    monkeypatch.setattr(outages, "time", virtual)
    monkeypatch.setattr(kernel, "time", virtual)
    caplog.set_level(logging.INFO, logger="moorings")
    world["db"].refuse()
    async with world.open():
        await trio.sleep(185)
    lines = _lines(caplog)
    assert sum("still down" in line for line in lines) == 3
    assert len(lines) == 4


async def test_transitions_and_attempts_are_debug(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="moorings")
    world["db"].next("ping", world.fail())
    async with world.open() as manager:
        await manager.get_database()
    debug = [line for line in _lines(caplog, logging.DEBUG) if line.startswith("DEBUG")]
    assert sum("transition" in line for line in debug) == 3
    assert sum("attempt failed" in line for line in debug) == 1


async def test_a_crash_is_an_error_with_its_traceback(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="moorings")
    world["db"].next("verify", world.bug("a bug of mine"))
    async with world.open() as manager:
        await manager.get_database()
        await trio.sleep(1)
    text = "\n".join(_lines(caplog))
    assert text.count("connection crashed") == 1
    assert "a bug of mine" in caplog.text
    assert "Traceback" in caplog.text


async def test_secrets_are_redacted(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="moorings")
    secret = "hunter2-correct-horse"
    world["db"].next("ping", world.fail(FailureReason.NETWORK, f"cannot use {secret} there"))
    world["db"].next("verify", world.bug(f"bug with {secret}"))
    async with world.open(provider={"password": secret}) as manager:
        watch = manager["db"].watch()
        await manager.get_database()
        await trio.sleep(1)
        assert secret not in repr(await anext(watch))
    assert "cannot use" in caplog.text
    assert secret not in caplog.text
    assert all(secret not in repr(t.status) for t in world.transitions)


async def test_a_parked_one_is_an_error(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="moorings")
    world["db"].from_now_on("verify", world.bug())
    async with world.open(required=False, supervision={"intensity": 1}):
        await trio.sleep(1)
    parked = [line for line in _lines(caplog) if "stays failed until it is restarted" in line]
    assert len(parked) == 1
    assert parked[0].startswith("ERROR")


async def test_stopping_during_an_outage_ends_it(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="moorings")
    world["db"].refuse()
    async with world.open() as manager:
        await trio.sleep(1)
        await manager.stop("db")
        world["db"].heal()
        await manager.start("db")
        await manager.get_database()
    assert len(_lines(caplog)) == 1
