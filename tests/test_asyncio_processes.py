"""Asyncio programs as processes of their own: Ctrl-C, forks, loops that are left without a word.

Each ends by itself, with all of its clients closed and nothing but its own words on stderr.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # processes of their own, each of which takes its second

PREAMBLE = """
import asyncio, os, signal, sys, threading
from prometheus_client import CollectorRegistry
from moorings import open_connections

# Whoever runs the tests in the background has it ignored, which programs inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

SETTINGS = {"default": {"database": {
    "default_document_connection": "db",
    "documents": {"db": {"backend": "local", "provider": {"database_name": "x"}}},
}}}

def said(transition):
    print(transition.target.value, flush=True)

def opened(observer=said):
    return open_connections(SETTINGS, metrics=CollectorRegistry(), observers=(observer,))

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
"""


def run(tmp_path: Path, body: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The program's end; warnings are errors, and what nobody could raise is printed."""
    program = tmp_path / "program.py"
    program.write_text(PREAMBLE + textwrap.dedent(body))
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", *options, str(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("MOORINGS_")},
    )
    # On a busy machine asyncio's debug mode finds everything slow.
    ended.stderr = re.sub(r"(?m)^Executing .* took [\d.]+ seconds\n", "", ended.stderr)
    return ended


RUNNERS = {
    "asyncio.run": "asyncio.run(main())",
    "debug": "asyncio.run(main(), debug=True)",
    "uvloop": "import uvloop\nuvloop.run(main())",
}


@pytest.mark.parametrize(
    "runner",
    [
        pytest.param(runner, id=name, marks=() if name == "asyncio.run" else pytest.mark.slow)
        for name, runner in RUNNERS.items()
    ],
)
def test_ctrl_c_unwinds_the_block_and_closes_every_client(tmp_path: Path, runner: str) -> None:
    ended = run(
        tmp_path,
        """
        async def main():
            async with opened() as connections:
                await connections.wait_ready()
                asyncio.get_running_loop().call_later(0.1, interrupt)
                try:
                    await asyncio.Event().wait()
                finally:
                    print("finally", flush=True)

        try:
            RUNNER
        except KeyboardInterrupt:
            print("interrupted")
        """.replace("RUNNER", runner.replace("\n", "; ")),
    )
    assert ended.stdout.split() == ["connecting", "ready", "finally", "stopped", "interrupted"]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_ctrl_c_in_the_middle_of_the_kernels_work_is_not_lost(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        def interrupted(transition):
            said(transition)
            if transition.target == "ready":
                interrupt()  # now, while trio runs

        async def main():
            async with opened(interrupted) as connections:
                await asyncio.Event().wait()

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    )
    assert ended.stdout.split() == ["connecting", "ready", "stopped", "interrupted"]
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("where", ["loop", "kernel"])
def test_ctrl_c_under_a_bare_loop_still_closes_every_client(tmp_path: Path, where: str) -> None:
    """Nobody handles the signal there but trio, which must neither swallow it nor die of it."""
    ended = run(
        tmp_path,
        """
        def interrupted(transition):
            said(transition)
            if transition.target == "ready" and "WHERE" == "kernel":
                interrupt()

        async def main():
            async with opened(interrupted) as connections:
                await connections.wait_ready()
                asyncio.get_running_loop().call_later(0.1, interrupt)
                await asyncio.Event().wait()

        loop = asyncio.new_event_loop()
        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            print("interrupted")
            task.cancel()
            try:
                loop.run_until_complete(task)
            except BaseException as error:
                print(type(error).__name__)
        loop.close()
        """.replace("WHERE", where),
    )
    words = ended.stdout.split()
    assert words[:2] == ["connecting", "ready"]
    assert "interrupted" in words
    assert "stopped" in words
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_loop_that_is_closed_without_a_word_is_wound_up_at_exit(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        import logging
        logging.basicConfig(format="%(message)s")
        loop = asyncio.new_event_loop()
        block = opened()
        connections = loop.run_until_complete(block.__aenter__())
        loop.run_until_complete(connections.wait_ready())
        loop.close()
        """,
        "-Wignore::ResourceWarning",
    )
    assert ended.stdout.split() == ["connecting", "ready", "stopped"]
    assert ended.returncode == 0
    assert "an event loop was closed while connections were open in it" in ended.stderr
    assert "abandoned" not in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_forgotten_block_is_closed_in_order_by_asyncio_run(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        async def main():
            global block
            block = opened()
            connections = await block.__aenter__()
            await connections.wait_ready()

        asyncio.run(main())
        """,
    )
    assert ended.stdout.split() == ["connecting", "ready", "stopped"]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_sys_exit_in_the_block_is_the_programs_status(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        async def main():
            async with opened() as connections:
                await connections.wait_ready()
                sys.exit(7)

        asyncio.run(main())
        """,
    )
    assert ended.stdout.split() == ["connecting", "ready", "stopped"]
    assert (ended.returncode, ended.stderr) == (7, "")


def test_a_forked_child_refuses_the_parents_connections_and_opens_its_own(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        from moorings import HostMismatch

        async def child(inherited):
            for use in (inherited.database, inherited["db"].watch):
                try:
                    use()
                except HostMismatch as error:
                    assert str(os.getppid()) in str(error) and str(os.getpid()) in str(error)
                    print("refused", flush=True)
            async with opened() as connections:
                await connections.wait_ready()
                print("child", connections.database().name, flush=True)

        def fork():
            pid = os.fork()
            if pid == 0:
                asyncio._set_running_loop(None)
                status = 1
                try:
                    asyncio.run(child(found[0]))
                    status = 0
                finally:
                    sys.stdout.flush()
                    os._exit(status)
            return pid

        found = []

        async def main():
            async with opened() as connections:
                await connections.wait_ready()
                found.append(connections)
                pid = fork()
                _, status = await asyncio.to_thread(os.waitpid, pid, 0)
                await connections.restart("db")
                print("parent", status, connections["db"].generation, flush=True)

        asyncio.run(main())
        """,
    )
    assert ended.stderr == ""
    assert ended.stdout.split("\n")[2:] == [
        "refused",
        "refused",
        "connecting",
        "ready",
        "child x",
        "stopped",
        "parent 0 2",
        "stopped",
        "",
    ]
    assert ended.returncode == 0


def test_a_forked_child_may_exit_inside_the_block(tmp_path: Path) -> None:
    """The parent's connections are not the child's to close.

    What the child's end does to the parent's loop, with which it shares its descriptors, is
    asyncio's own: this parent does not use it any more.
    """
    ended = run(
        tmp_path,
        """
        async def main():
            async with opened() as connections:
                await connections.wait_ready()
                pid = os.fork()
                if pid == 0:
                    sys.exit(3)
                _, status = os.waitpid(pid, 0)
                print("child", os.waitstatus_to_exitcode(status), flush=True)
                os._exit(0)

        asyncio.run(main())
        """,
    )
    assert ended.stdout.split() == ["connecting", "ready", "child", "3"]
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_second_ctrl_c_while_clients_close_still_ends_the_process(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        """
        async def main():
            async with opened() as connections:
                await connections.wait_ready()
                connections["db"].provider.close = slowly
                loop = asyncio.get_running_loop()
                loop.call_later(0.1, interrupt)
                loop.call_later(0.4, interrupt)
                await asyncio.Event().wait()

        async def slowly(client):
            await asyncio.sleep(1.0)

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
    )
    assert ended.stdout.split()[:2] == ["connecting", "ready"]
    assert ended.stdout.split()[-1] == "interrupted"
    assert ended.returncode == 0


def test_a_task_that_holds_the_block_cleans_up_while_the_loop_is_wound_up(tmp_path: Path) -> None:
    """It is cancelled once: what its `finally` awaits is not cut short."""
    ended = run(
        tmp_path,
        """
        async def worker(ready):
            async with opened() as connections:
                await connections.wait_ready()
                ready.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.2)
                    print("cleaned", flush=True)

        async def main():
            ready = asyncio.Event()
            task = asyncio.create_task(worker(ready))
            await ready.wait()
            return task

        asyncio.run(main())
        """,
    )
    assert ended.stdout.split() == ["connecting", "ready", "stopped", "cleaned"]
    assert (ended.returncode, ended.stderr) == (0, "")
