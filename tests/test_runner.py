"""`run`: signals, drain, the bound on a shutdown, and what the status says.

In real processes (`run`), or in this one (`run_here`) where a process would show no more.
"""

from __future__ import annotations

import functools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import trio
from processes import clean_environ
from settings_files import write

import moorings
from moorings.errors import HostMismatch
from moorings.runtime.exits import ExitStatus, status_of, status_of_reason

if TYPE_CHECKING:
    from pathlib import Path

    from processes import Call, Done, Program, Start

pytestmark = pytest.mark.slow  # processes of their own, each of which takes its second

ON_TRIO = """
import trio

sleep_forever = trio.sleep_forever

async def together(*calls):
    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(*call)

async def never_stops(connections):
    with trio.CancelScope(shield=True):
        print("shielded", flush=True)
        await trio.sleep_forever()
"""

ON_ASYNCIO = """
import asyncio

async def sleep_forever():
    await asyncio.Event().wait()

async def together(*calls):
    async with asyncio.TaskGroup() as group:
        for function, *arguments in calls:
            group.create_task(function(*arguments))

async def never_stops(connections):
    print("shielded", flush=True)
    while True:
        try:
            await sleep_forever()
        except asyncio.CancelledError:
            pass

async def cancels_everything(connections):
    for task in asyncio.all_tasks():
        task.cancel()
    await sleep_forever()

async def cancels_itself(connections):
    raise asyncio.CancelledError

async def blocks_a_thread(connections):
    import threading
    print("blocked", flush=True)
    await asyncio.to_thread(threading.Event().wait)

async def leaves_by_a_task(connections):
    async def leave():
        raise SystemExit(3)

    leaving = asyncio.create_task(leave())
    try:
        await sleep_forever()
    finally:
        await asyncio.sleep(0.2)
        print("cleaned up", flush=True)

async def swallows_and_returns(connections):
    print("waiting", flush=True)
    try:
        await sleep_forever()
    except asyncio.CancelledError:
        print("swallowed", flush=True)
"""

PROGRAM = """
import signal

async def works(connections):
    database = await connections.get_database()
    await database.things.insert_one({"a": 1})
    print("found", await database.things.count_documents({}), flush=True)

async def waits(connections):
    try:
        await connections.wait_ready()
        print("waiting", flush=True)
        await sleep_forever()
    finally:
        print("cleaned up", flush=True)

async def signals(connections):
    signal.raise_signal(signal.SIGTERM)

async def is_signalled(connections):
    await together([waits, connections], [signals, connections])

async def is_signalled_in_tasks(connections):
    await together([waits, connections], [waits, connections], [signals, connections])

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

async def holds_the_loop(connections):
    print("holding", flush=True)
    while True:
        pass

async def crashes_a_hook(connections):
    connection = connections["default_local"]

    @connection.on_ready
    async def hook(database):
        raise RuntimeError("a bug in a hook")

    await sleep_forever()

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

    await together([connections.get_database], [connections.wait_ready])

async def is_not_ready(connections):
    await connections.stop("default_local")
    await connections.get_database()

async def exits_in_a_task(connections):
    await together([exits, connections])

async def interrupts_itself(connections):
    raise KeyboardInterrupt

async def exits_among_errors(connections):
    await together([exits, connections], [raises, connections])

def synchronous(connections):
    pass
"""

HOSTS = {"trio": ON_TRIO, "asyncio": ON_ASYNCIO}

Run = Callable[..., "Program"]
RunHere = Callable[..., "Done"]


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """Every promise holds on both."""
    return str(request.param)


@pytest.fixture
def run(start: Start, tmp_path: Path, host: str) -> Run:
    """Starts `moorings run`; a name is a function of the program above."""
    (tmp_path / "app.py").write_text(HOSTS[host] + PROGRAM)

    def begin(function: str | None = None, **variables: str) -> Program:
        named = () if function is None else (f"app:{function}",)
        return start("run", "--host", host, *named, **variables)

    return begin


@pytest.fixture
def run_here(call: Call, tmp_path: Path, host: str) -> RunHere:
    """As `run`, in this process; returns when it has ended."""
    (tmp_path / "app.py").write_text(HOSTS[host] + PROGRAM)

    def begin(function: str | None = None, **variables: str) -> Done:
        named = () if function is None else (f"app:{function}",)
        return call("run", "--host", host, *named, **variables)

    return begin


# -- how it ends


def test_a_program_that_returns_ends_with_0(run: Run) -> None:
    program = run("works")
    assert program.ended() == 0
    assert program.stdout == "found 1\n"


def test_a_program_that_raises_ends_with_1_and_its_traceback_in_the_log(run_here: RunHere) -> None:
    """The traceback shows no local variable and no credentials."""
    program = run_here("raises")
    assert program.ended() == 1
    (failed,) = (line for line in program.log if line["event"] == "the program failed")
    assert "in raises" in failed["exception"]
    assert "ValueError: no mongodb://**********@host/" in failed["exception"]
    assert "mongodb://me" not in program.stderr


@pytest.mark.parametrize(
    ("function", "status"),
    [("exits", 2), ("says_why", 1), ("exits_in_a_task", 2), ("interrupts_itself", 130)],
)
def test_a_program_may_choose_its_own_status(run_here: RunHere, function: str, status: int) -> None:
    program = run_here(function)
    assert program.ended() == status
    assert "Traceback" not in program.stderr


def test_no_end_of_a_program_shows_a_secret(run: Run, host: str) -> None:
    """What is no `Exception` would be printed by the interpreter, which redacts nothing."""
    program = run("exits_among_errors")
    if host == "trio":
        assert program.ended() == 1
        assert [line["event"] for line in program.log][-1] == "the program failed"
        assert "mongodb://**********@host/" in program.stderr
    else:  # where a wish to exit does not wait for others' errors
        assert program.ended() == 2
    assert "mongodb://me" not in program.stderr


def test_a_program_that_a_connection_failed_is_told_where(run_here: RunHere) -> None:
    program = run_here("is_not_ready")
    assert program.ended() == 1
    assert "in is_not_ready" in program.log[-1]["exception"]


def test_settings_that_the_program_itself_opens_are_its_own_failure(run_here: RunHere) -> None:
    """78 is for the settings that `run` was given."""
    program = run_here("needs_settings")
    assert program.ended() == 1
    assert "runtime.nam" in program.stderr


@pytest.mark.parametrize(
    "function", ["crashes_a_hook", "waits_for_a_crashing_one", "waits_for_it_in_tasks"]
)
def test_a_bug_that_escalates_ends_with_70(run_here: RunHere, function: str) -> None:
    """Over its budget of restarts a required connection takes the program along.

    Whether the program waits for something else, or fails because it waits for that connection.
    """
    program = run_here(
        function,
        MOORINGS_DATABASE__DOCUMENTS__DEFAULT_LOCAL__SUPERVISION__INTENSITY="0",
    )
    assert program.ended() == 70
    events = [line["event"] for line in program.log]
    assert "connection crashed" in events  # told late, and yet told
    assert "a bug in a hook" in program.stderr


# -- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order(run: Run, number: signal.Signals) -> None:
    """The function is cancelled, its `finally` runs, and the status is 0."""
    program = run("waits")
    program.said("waiting")
    program.signal(number)
    assert program.ended() == 0
    assert program.stdout == "waiting\ncleaned up\n"
    assert f"{number.name}: shutting down" in program.stderr


def test_a_signal_stops_tasks_of_the_programs_own(run_here: RunHere) -> None:
    """Cancellations in a group are no errors."""
    program = run_here("is_signalled_in_tasks")
    assert program.status == 0
    assert program.stdout.count("cleaned up") == 2


def test_a_shutdown_may_take_for_ever(run_here: RunHere) -> None:
    """No timer can be set that far ahead."""
    program = run_here("is_signalled", MOORINGS_RUNTIME__SHUTDOWN_TIMEOUT="1e300")
    assert program.status == 0
    assert "Traceback" not in program.stderr


SIGNALLED = """
import signal, sys, threading
import moorings
from moorings.runtime.program import Program

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

run = Program.run

async def signalled_at_the_end(program, forever):
    await run(program, forever)
    signal.raise_signal(signal.SIGTERM)

async def returns(connections):
    pass

assert moorings.run(signalled_while_it_closes, settings, host=sys.argv[1]) == 0
Program.run = signalled_at_the_end
assert moorings.run(returns, settings, host=sys.argv[1]) == 0
for thread in threading.enumerate():
    if isinstance(thread, threading.Timer):
        thread.join()  # one that was left behind would end the process with another status
sys.exit(3)
"""


def test_a_signal_in_the_last_moment_changes_nothing(tmp_path: Path, host: str) -> None:
    """The shutdown it asks for is under way, and what comes after `run` lives on."""
    (tmp_path / "signalled.py").write_text(SIGNALLED)
    ended = subprocess.run(
        [sys.executable, "signalled.py", host],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 3, ended.stderr


def test_while_it_drains_readyz_says_503_and_the_program_goes_on(run: Run) -> None:
    program = run("waits", MOORINGS_RUNTIME__DRAIN_DELAY="30")
    program.said("waiting")
    assert program.get("/readyz")[0] == 200
    program.signal(signal.SIGTERM)
    program.said("shutting down")
    assert program.get("/readyz")[0] == 503
    assert program.get("/livez")[0] == 200
    assert "cleaned up" not in program.stdout


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(run: Run, second: signal.Signals) -> None:
    program = run("never_stops")
    program.said("shielded")
    program.signal(signal.SIGTERM)
    program.said("shutting down")
    program.signal(second)
    assert program.ended() == 128 + second


@pytest.mark.parametrize(
    ("function", "word"), [("never_stops", "shielded"), ("holds_the_loop", "holding")]
)
def test_what_does_not_stop_is_ended_with_70_in_time(run: Run, function: str, word: str) -> None:
    """Even where the loop itself is held, and hears no signal."""
    program = run(function, MOORINGS_RUNTIME__SHUTDOWN_TIMEOUT="0.5")
    program.said(word)
    began = time.monotonic()
    program.signal(signal.SIGTERM)
    assert program.ended() == 70
    assert time.monotonic() - began < 1.5
    assert "not stopped within 0.5 s" in program.stderr


def test_a_second_signal_ends_even_what_holds_the_loop(run: Run) -> None:
    program = run("holds_the_loop")
    program.said("holding")
    program.signal(signal.SIGTERM)
    program.signal(signal.SIGINT)
    program.ended()
    assert program.process.returncode in {128 + signal.SIGINT, 128 + signal.SIGTERM}


WRITES = """
import sys, time
import moorings

async def main(connections):
    print("ready", file=sys.stderr, flush=True)
    {writing}

moorings.run(main, {{"default": {{
    "database": {{"documents": {{"main": {{"backend": "local"}}}}}},
    "runtime": {{"shutdown_timeout": 0.5, "exporter": {{"enabled": False}}}},
}}}})
"""


@pytest.mark.parametrize("signals", [1, 2])
@pytest.mark.parametrize("reader", ["gone", "paused"])
def test_a_reader_of_its_output_does_not_hold_up_its_end(
    tmp_path: Path, reader: str, signals: int
) -> None:
    writing = {
        "gone": "sys.stdout.write('x')\n    while True: time.sleep(0.1)",
        "paused": "while True: print('x' * 1000)",
    }[reader]
    program = subprocess.Popen(
        [sys.executable, "-c", WRITES.format(writing=writing)],
        cwd=tmp_path,
        env=clean_environ(PYTHONUNBUFFERED=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    try:
        assert b"ready" in program.stderr.readline()
        if reader == "gone":
            program.stdout.close()
        time.sleep(0.3)
        for _ in range(signals):
            program.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        assert program.wait(10) == (70 if signals == 1 else 128 + signal.SIGTERM)
    finally:
        program.kill()
        program.stdout.close()
        program.stderr.close()


def test_a_signal_during_a_start_that_waits_stops_it(run: Run, tmp_path: Path) -> None:
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
    program = run()
    assert program.get("/readyz")[0] == 503
    program.signal(signal.SIGTERM)
    assert program.ended() == 0


# -- cancellation as asyncio has it


@pytest.fixture
def run_on_asyncio(start: Start, tmp_path: Path) -> Run:
    (tmp_path / "app.py").write_text(ON_ASYNCIO + PROGRAM)
    return functools.partial(start, "run", "--host", "asyncio")


@pytest.fixture
def run_here_on_asyncio(call: Call, tmp_path: Path) -> RunHere:
    (tmp_path / "app.py").write_text(ON_ASYNCIO + PROGRAM)
    return functools.partial(call, "run", "--host", "asyncio")


def test_a_function_that_swallows_its_cancellation_and_returns_has_returned(
    run_on_asyncio: Run,
) -> None:
    program = run_on_asyncio("app:swallows_and_returns")
    program.said("waiting")
    program.signal(signal.SIGTERM)
    assert program.ended() == 0
    assert "swallowed" in program.stdout


@pytest.mark.parametrize("function", ["cancels_itself", "cancels_everything"])
def test_a_cancellation_that_nobody_asked_for_is_a_failure(
    run_here_on_asyncio: RunHere, function: str
) -> None:
    """Closed in order all the same."""
    program = run_here_on_asyncio(f"app:{function}")
    assert program.ended() == 1
    assert "the program failed" in program.stderr
    assert "never awaited" not in program.stderr


# -- start-up


def test_a_start_that_fails_fast_says_why_with_its_status(
    run_here: RunHere, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text(
        """
        [default.database.documents.main]
        backend = "mongo"
        provider = { url = "mongodb://127.0.0.1:1/", database_name = "x" }
        retry = { attempts = 1 }
        health = { timeout = 1.0 }
        [default.runtime]
        startup = "fail_fast"
        """
    )
    program = run_here()
    assert program.ended() == 69
    assert "could not be established" in program.stderr


def test_the_function_of_the_library_returns_the_same_statuses(host: str) -> None:
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
    assert moorings.run(works, settings, host=host) == 0
    assert moorings.run(raises, settings, host=host) == 1
    assert moorings.run(works, {"default": {"runtime": {"nam": "x"}}}, host=host) == 78


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


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_while_the_loop_waits_for_a_thread(
    run_on_asyncio: Run, second: signal.Signals
) -> None:
    """`asyncio.run` waits for threads at its very end, when all of ours has stopped."""
    program = run_on_asyncio("app:blocks_a_thread")
    program.said("blocked")
    program.signal(signal.SIGTERM)
    program.said("shutting down")
    program.signal(second)
    assert program.ended() == 128 + second


def test_a_thread_that_never_ends_is_left_behind_with_70(run_on_asyncio: Run) -> None:
    program = run_on_asyncio("app:blocks_a_thread", MOORINGS_RUNTIME__SHUTDOWN_TIMEOUT="0.5")
    program.said("blocked")
    program.signal(signal.SIGTERM)
    assert program.ended() == 70


def test_a_task_that_exits_lets_the_function_clean_up(run_on_asyncio: Run) -> None:
    program = run_on_asyncio("app:leaves_by_a_task")
    assert program.ended() == 3
    assert "cleaned up" in program.stdout


# -- SIGHUP


def in_memory(*names: str, interval: float = 10.0) -> dict[str, dict[str, object]]:
    """Settings of connections that need no server."""
    local = {"backend": "local", "health": {"interval": interval}}
    return {"default": {"database": {"documents": dict.fromkeys(names, local)}}}


def told(program: Program, text: str) -> list[str]:
    return [line["level"] for line in program.log if text in line["event"]]


def test_a_hangup_reloads_the_settings_and_says_what_has_changed(run: Run, tmp_path: Path) -> None:
    """The program goes on meanwhile."""
    write(tmp_path, in_memory("kept", "gone"))
    program = run("waits")
    program.said("waiting")
    write(tmp_path, in_memory("kept", "new", interval=5.0))
    program.signal(signal.SIGHUP)
    line = program.said("settings reloaded")
    assert "added: new; removed: gone; updated: kept" in line
    (kept, _) = json.loads(program.get("/connections")[1])
    assert (kept["name"], kept["generation"]) == ("kept", 1)
    program.signal(signal.SIGTERM)
    assert program.ended() == 0
    assert told(program, "reloaded") == ["info"]


def test_a_hangup_with_bad_settings_says_why_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path, in_memory("kept"))
    program = run("waits")
    program.said("waiting")
    file.write_text(file.read_text().replace("interval", "intervall"))
    program.signal(signal.SIGHUP)
    line = program.said("not reloaded, nothing has changed")
    assert "database.documents.kept.health.intervall" in line
    assert program.get("/readyz")[0] == 200
    program.signal(signal.SIGTERM)
    assert program.ended() == 0
    assert told(program, "reloaded") == ["error"]


def test_a_hangup_does_not_end_a_start_that_waits(run: Run, tmp_path: Path) -> None:
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
    program = run()
    assert program.get("/readyz")[0] == 503
    program.signal(signal.SIGHUP)
    assert program.get("/livez")[0] == 200
    program.signal(signal.SIGTERM)
    assert program.ended() == 0
    assert "reloaded" not in program.stderr
