"""`run`: signals, drain, the bound on a shutdown, and what the status says. Real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import trio

import moorings
from moorings.errors import HostMismatch
from moorings.runtime.exits import ExitStatus, status_of, status_of_reason

if TYPE_CHECKING:
    from pathlib import Path

    from processes import Start

PROGRAM = """
import trio

async def works(connections):
    database = await connections.get_database()
    await database.things.insert_one({"a": 1})
    print("found", await database.things.count_documents({}), flush=True)

async def waits(connections):
    try:
        await connections.wait_ready()
        print("waiting", flush=True)
        await trio.sleep_forever()
    finally:
        print("cleaned up", flush=True)

async def raises(connections):
    password = "unlucky-password"
    raise ValueError("no mongodb://me:unlucky-password@host/")

async def exits(connections):
    raise SystemExit(2)

async def says_why(connections):
    raise SystemExit("for a reason")

async def needs_settings(connections):
    async with __import__("moorings").open_connections({"default": {"runtime": {"nam": "x"}}}):
        pass

async def never_stops(connections):
    with trio.CancelScope(shield=True):
        print("shielded", flush=True)
        await trio.sleep_forever()

async def holds_the_loop(connections):
    print("holding", flush=True)
    while True:
        pass

async def crashes_a_hook(connections):
    connection = connections["default_local"]

    @connection.on_ready
    async def hook(database):
        raise RuntimeError("a bug in a hook")

    await trio.sleep_forever()

async def waits_for_a_crashing_one(connections):
    on_ready = connections["default_local"].on_ready

    @on_ready
    async def hook(database):
        raise RuntimeError("a bug in a hook")

    await connections.get_database()

async def waits_for_it_in_tasks(connections):
    on_ready = connections["default_local"].on_ready

    @on_ready
    async def hook(database):
        raise RuntimeError("a bug in a hook")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connections.get_database)
        nursery.start_soon(connections.wait_ready)

async def is_not_ready(connections):
    await connections.stop("default_local")
    await connections.get_database()

async def exits_in_a_task(connections):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exits, connections)

async def interrupts_itself(connections):
    raise KeyboardInterrupt

async def exits_among_errors(connections):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exits, connections)
        nursery.start_soon(raises, connections)

def synchronous(connections):
    pass
"""


@pytest.fixture(autouse=True)
def program(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(PROGRAM)


# -- how it ends


def test_a_program_that_returns_ends_with_0(start: Start) -> None:
    program = start("run", "app:works")
    assert program.ended() == 0
    assert program.stdout == "found 1\n"


def test_a_program_that_raises_ends_with_1_and_its_traceback_in_the_log(start: Start) -> None:
    """The traceback shows no local variable and no credentials."""
    program = start("run", "app:raises")
    assert program.ended() == 1
    (failed,) = (line for line in program.log if line["event"] == "the program failed")
    assert "in raises" in failed["exception"]
    assert "ValueError: no mongodb://**********@host/" in failed["exception"]
    assert "mongodb://me" not in program.stderr


@pytest.mark.parametrize(
    ("function", "status"),
    [("exits", 2), ("says_why", 1), ("exits_in_a_task", 2), ("interrupts_itself", 130)],
)
def test_a_program_may_choose_its_own_status(start: Start, function: str, status: int) -> None:
    program = start("run", f"app:{function}")
    assert program.ended() == status
    assert "Traceback" not in program.stderr


def test_no_end_of_a_program_shows_a_secret(start: Start) -> None:
    """What is no `Exception` would be printed by the interpreter, which redacts nothing."""
    program = start("run", "app:exits_among_errors")
    assert program.ended() == 1
    assert [line["event"] for line in program.log][-1] == "the program failed"
    assert "mongodb://**********@host/" in program.stderr
    assert "mongodb://me" not in program.stderr


def test_a_program_that_a_connection_failed_is_told_where(start: Start) -> None:
    program = start("run", "app:is_not_ready")
    assert program.ended() == 1
    assert "in is_not_ready" in program.log[-1]["exception"]


def test_settings_that_the_program_itself_opens_are_its_own_failure(start: Start) -> None:
    """78 is for the settings that `run` was given."""
    program = start("run", "app:needs_settings")
    assert program.ended() == 1
    assert "runtime.nam" in program.stderr


@pytest.mark.parametrize(
    "function", ["crashes_a_hook", "waits_for_a_crashing_one", "waits_for_it_in_tasks"]
)
def test_a_bug_that_escalates_ends_with_70(start: Start, function: str) -> None:
    """Over its budget of restarts a required connection takes the program along.

    Whether the program waits for something else, or fails because it waits for that connection.
    """
    program = start(
        "run",
        f"app:{function}",
        MOORINGS_DATABASE__DOCUMENTS__DEFAULT_LOCAL__SUPERVISION__INTENSITY="0",
    )
    assert program.ended() == 70
    events = [line["event"] for line in program.log]
    assert "connection crashed" in events  # told late, and yet told
    assert "a bug in a hook" in program.stderr


# -- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order(start: Start, number: signal.Signals) -> None:
    """The function is cancelled, its `finally` runs, and the status is 0."""
    program = start("run", "app:waits")
    program.said("waiting")
    program.signal(number)
    assert program.ended() == 0
    assert program.stdout == "waiting\ncleaned up\n"
    assert f"{number.name}: shutting down" in program.stderr


def test_a_shutdown_may_take_for_ever(start: Start) -> None:
    """No timer can be set that far ahead."""
    program = start("run", "app:waits", MOORINGS_RUNTIME__SHUTDOWN_TIMEOUT="1e300")
    program.said("waiting")
    program.signal(signal.SIGTERM)
    assert program.ended() == 0
    assert "Traceback" not in program.stderr


SIGNALLED = """
import signal, sys, time
import moorings
from moorings.runtime import runner

settings = {
    "default": {
        "database": {
            "default_document_connection": "main",
            "documents": {"main": {"backend": "local"}},
        },
        "runtime": {"shutdown_timeout": 0.5, "exporter": {"enabled": False}},
    }
}

async def signalled_while_it_closes(connections):
    await connections.wait_ready()
    provider = connections["main"].provider
    close = provider.close

    async def signalled(client):
        signal.raise_signal(signal.SIGTERM)
        await close(client)

    provider.close = signalled

run_connections = runner._Program._run_connections

async def signalled_at_the_end(program):
    await run_connections(program)
    signal.raise_signal(signal.SIGTERM)

async def returns(connections):
    pass

assert moorings.run(signalled_while_it_closes, settings) == 0
runner._Program._run_connections = signalled_at_the_end
assert moorings.run(returns, settings) == 0
time.sleep(1.0)  # longer than a timer that was left behind would take
sys.exit(3)
"""


def test_a_signal_in_the_last_moment_changes_nothing(tmp_path: Path) -> None:
    """The shutdown it asks for is under way, and what comes after `run` lives on."""
    (tmp_path / "signalled.py").write_text(SIGNALLED)
    ended = subprocess.run(
        [sys.executable, "signalled.py"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 3, ended.stderr


def test_while_it_drains_readyz_says_503_and_the_program_goes_on(start: Start) -> None:
    program = start("run", "app:waits", MOORINGS_RUNTIME__DRAIN_DELAY="30")
    program.said("waiting")
    assert program.get("/readyz")[0] == 200
    program.signal(signal.SIGTERM)
    program.said("shutting down")
    assert program.get("/readyz")[0] == 503
    assert program.get("/livez")[0] == 200
    assert "cleaned up" not in program.stdout


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(start: Start, second: signal.Signals) -> None:
    program = start("run", "app:never_stops")
    program.said("shielded")
    program.signal(signal.SIGTERM)
    program.said("shutting down")
    program.signal(second)
    assert program.ended() == 128 + second


@pytest.mark.parametrize(
    ("function", "word"), [("never_stops", "shielded"), ("holds_the_loop", "holding")]
)
def test_what_does_not_stop_is_ended_with_70_in_time(
    start: Start, function: str, word: str
) -> None:
    """Even where the loop itself is held, and hears no signal."""
    program = start("run", f"app:{function}", MOORINGS_RUNTIME__SHUTDOWN_TIMEOUT="0.5")
    program.said(word)
    began = time.monotonic()
    program.signal(signal.SIGTERM)
    assert program.ended() == 70
    assert time.monotonic() - began < 1.5
    assert "not stopped within 0.5 s" in program.stderr


@pytest.mark.parametrize("function", ["never_stops", "holds_the_loop"])
def test_a_second_signal_ends_even_what_holds_the_loop(start: Start, function: str) -> None:
    program = start("run", f"app:{function}")
    program.said("shielded" if function == "never_stops" else "holding")
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGINT)
    program.ended()
    assert program.process.returncode in {128 + signal.SIGINT, 128 + signal.SIGTERM}


def test_a_signal_during_a_start_that_waits_stops_it(start: Start, tmp_path: Path) -> None:
    """`startup = "wait"` with the database down: nothing to wait out."""
    (tmp_path / "settings.toml").write_text(
        """
        [default.database.documents.main]
        backend = "mongo"
        provider = { url = "mongodb://127.0.0.1:1/", database_name = "x" }
        [default.runtime]
        startup = "wait"
        startup_timeout = 3600.0
        """
    )
    program = start("run")
    assert program.get("/readyz")[0] == 503
    program.signal(signal.SIGTERM)
    assert program.ended() == 0


# -- start-up


def test_a_start_that_fails_fast_says_why_with_its_status(start: Start, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        """
        [default.database.documents.main]
        backend = "mongo"
        provider = { url = "mongodb://127.0.0.1:1/", database_name = "x" }
        retry = { attempts = 1 }
        [default.runtime]
        startup = "fail_fast"
        """
    )
    program = start("run")
    assert program.ended() == 69
    assert "could not be established" in program.stderr


def test_the_function_of_the_library_returns_the_same_statuses() -> None:
    """`moorings.run` needs no command line."""

    async def works(connections: moorings.ConnectionManager) -> None:
        await connections.get_database()

    async def raises(connections: moorings.ConnectionManager) -> None:
        raise ValueError

    settings = {
        "default": {
            "database": {
                "default_document_connection": "main",
                "documents": {"main": {"backend": "local"}},
            },
            "runtime": {"exporter": {"enabled": False}},
        }
    }
    assert moorings.run(works, settings) == 0
    assert moorings.run(raises, settings) == 1
    assert moorings.run(works, {"default": {"runtime": {"nam": "x"}}}) == 78


def test_a_host_that_there_is_not_is_named() -> None:
    with pytest.raises(HostMismatch, match="'curio'"):
        moorings.run(None, {}, host="curio")


async def test_run_is_no_part_of_a_running_program() -> None:
    with pytest.raises(RuntimeError, match="inside a trio program"):
        moorings.run(None, {})
    with pytest.raises(RuntimeError, match="main one"):
        await trio.to_thread.run_sync(moorings.run, None, {})


# -- statuses


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (moorings.FailureReason.DNS, 68),
        (moorings.FailureReason.AUTH, 77),
        (moorings.FailureReason.CONFIG, 78),
        (moorings.FailureReason.SECRET, 78),
        (moorings.FailureReason.BUG, 70),
        (moorings.FailureReason.REFUSED, 69),
        (moorings.FailureReason.TLS, 69),
        (None, 69),
    ],
)
def test_every_reason_has_a_status(reason: moorings.FailureReason | None, status: int) -> None:
    assert status_of_reason(reason) == status


def test_errors_have_statuses() -> None:
    assert status_of(moorings.SettingsError()) == ExitStatus.CONFIG
    assert status_of(moorings.ConnectionNotReady("closed")) == ExitStatus.UNAVAILABLE
    assert status_of(moorings.RestartIntensityExceeded("root", "a", 4)) == ExitStatus.SOFTWARE
    assert status_of(ValueError()) == ExitStatus.FAILED
