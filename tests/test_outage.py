"""A database that is not there, comes, dies, freezes and comes back: the program lives on.

Against real servers and real signals. The handle that a program holds works again each time, and
`generation` says that no client was made anew.
"""

from __future__ import annotations

import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client import CollectorRegistry
from settings_files import BRISK, DEFAULTS, bound, mongo, settings, write

from moorings import FailureReason, State, open_connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from mongod import Mongod, MongodFactory
    from processes import Program, Start

    from moorings import ConnectionManager, ConnectionStatus

pytestmark = pytest.mark.mongod

SOON = 30.0
"""Seconds for what is not measured here, only waited for."""
SLACK = 0.5
"""Seconds for the kernel's heartbeat (0.25 s), and for asking a page on a busy machine."""

PROGRAM = """
import math

async def main(connections):
    connection = connections["main"]
    held = await connection.get_database(timeout=math.inf)
    async for status in connection.watch():
        if status.state == "ready":
            await held.things.insert_one({})
            same = connection.database() is held
            print(f"wrote generation={status.generation} same={same}", flush=True)
"""

HEALTH = [
    pytest.param(BRISK, id="brisk"),
    pytest.param(DEFAULTS, id="defaults", marks=pytest.mark.slow),
]


class Watched:
    """A program under observation through its own pages."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def readiness(self) -> tuple[int, dict[str, str]]:
        """The status of /readyz, and its reasons. Liveness has to hold at every look."""
        assert self.program.get("/livez")[0] == 200, "an outage is no reason for a restart"
        status, body = self.program.get("/readyz")
        return status, json.loads(body)["reasons"]

    def seconds_until(self, condition: Callable[[int, str | None], bool], within: float) -> float:
        """How long until /readyz shows what `condition` wants; fails after `within` seconds."""
        began = time.monotonic()
        while True:
            status, reasons = self.readiness()
            took = time.monotonic() - began
            if condition(status, reasons.get("main")):
                return took
            assert took < within, f"not within {within} s: /readyz says {status} {reasons}"

    def seconds_until_down(self, within: float = SOON) -> float:
        return self.seconds_until(lambda status, _: status == 503, within)

    def seconds_until_ready(self) -> float:
        return self.seconds_until(lambda status, _: status == 200, SOON)

    def generation(self) -> int:
        (status,) = json.loads(self.program.get("/connections")[1])
        found: int = status["generation"]
        return found

    def wrote(self) -> list[str]:
        """What the program said after each write through the handle that it holds."""
        return [line for line in self.program.stdout.splitlines() if line.startswith("wrote")]

    def wait_for_writes(self, count: int) -> None:
        deadline = time.monotonic() + SOON
        while len(self.wrote()) < count:
            assert time.monotonic() < deadline, self.program.stderr
            time.sleep(0.01)


@pytest.mark.slow  # of the same outages, the test of one's own process below is the quick one
@pytest.mark.parametrize("health", HEALTH)
def test_a_program_outlives_every_outage_of_its_database(
    health: Mapping[str, float], mongod_factory: MongodFactory, start: Start, tmp_path: Path
) -> None:
    """Not there, there, killed, back, frozen, thawed: alive throughout, ready when it should be."""
    server = mongod_factory()
    server.kill()
    write(tmp_path, settings({"main": mongo(server.url, health=health)}))
    (tmp_path / "app.py").write_text(PROGRAM)
    program = start("run", "app:main")
    watched = Watched(program)

    watched.seconds_until(lambda status, reason: (status, reason) == (503, "refused"), SOON)
    assert not watched.wrote()
    server.start()
    took = {"ready after the start": watched.seconds_until_ready()}
    watched.wait_for_writes(1)

    server.kill()
    took["down after a kill"] = watched.seconds_until_down()
    server.start()
    took["ready after the restart"] = watched.seconds_until_ready()
    watched.wait_for_writes(2)

    server.freeze()
    took["down after a freeze"] = watched.seconds_until_down(bound(health) + SLACK)
    writes = len(watched.wrote())
    server.thaw()
    took["ready after the thaw"] = watched.seconds_until_ready()
    watched.wait_for_writes(writes + 1)

    print({what: f"{seconds:.2f} s" for what, seconds in took.items()})
    assert watched.generation() == 1
    assert set(watched.wrote()) == {"wrote generation=1 same=True"}
    assert program.process.poll() is None


# -- the same within one's own process


@asynccontextmanager
async def opened(server: Mongod, health: Mapping[str, float]) -> AsyncIterator[ConnectionManager]:
    mapping = settings({"main": mongo(server.url, health=health)})
    async with open_connections(mapping, metrics=CollectorRegistry()) as connections:
        yield connections


async def seconds_until(
    connections: ConnectionManager,
    condition: Callable[[ConnectionStatus], bool],
    within: float = SOON,
) -> float:
    began = trio.current_time()
    with trio.fail_after(within):
        async for status in connections["main"].watch():
            if condition(status):
                break
    return trio.current_time() - began


async def writes(database: Any) -> None:
    with trio.fail_after(SOON):
        await database.things.insert_one({})


@pytest.mark.parametrize("health", HEALTH)
async def test_a_held_handle_outlives_every_outage(
    health: Mapping[str, float], mongod_factory: MongodFactory
) -> None:
    # Started in this thread, though that blocks: a server dies with the thread that started it.
    server = mongod_factory()
    server.kill()
    async with opened(server, health) as connections:
        connection = connections["main"]
        await seconds_until(connections, lambda s: s.reason is FailureReason.REFUSED)
        assert not connections.is_ready()

        server.start()
        held = await connections.get_database(timeout=SOON)
        await writes(held)

        server.kill()
        await seconds_until(connections, lambda s: s.state is not State.READY, within=1.0)
        server.start()
        assert await connections.get_database(timeout=SOON) is held
        await writes(held)

        server.freeze()
        took = await seconds_until(
            connections, lambda s: s.state is not State.READY, within=bound(health) + SLACK
        )
        print(f"a freeze is seen after {took:.2f} s; the bound is {bound(health):.2f} s")
        server.thaw()
        assert await connections.get_database(timeout=SOON) is held
        await writes(held)
        assert connection.generation == 1


async def test_an_outage_of_one_server_leaves_the_other_alone(
    mongod: Mongod, mongod_factory: MongodFactory, database_name: str
) -> None:
    """Ten calls stuck on a frozen server, and another server's never notice."""
    frozen = mongod_factory()
    mapping = settings({"main": mongo(frozen.url), "other": mongo(mongod.url, database_name)})
    async with (
        open_connections(mapping, metrics=CollectorRegistry()) as connections,
        trio.open_nursery() as nursery,
    ):
        await connections.wait_ready()
        stuck, other = connections.database("main"), connections.database("other")
        frozen.freeze()
        for _ in range(10):
            nursery.start_soon(stuck.things.insert_one, {})
        await seconds_until(connections, lambda s: s.state is not State.READY)
        await writes(other)
        assert connections["other"].is_ready()
        assert connections["other"].measurements.transitions[-1] == 0
        nursery.cancel_scope.cancel()
        frozen.thaw()
