"""Ends: in time, in order, with a report that names who was late; and nothing is left behind."""

from __future__ import annotations

import re
import signal
import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from leftovers import open_files, sockets, threads
from prometheus_client import CollectorRegistry
from pymongo.errors import PyMongoError
from settings_files import mongo, settings, write

from moorings import open_connections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mongod import Mongod, MongodFactory
    from processes import Start

    from moorings import ConnectionManager

# Processes of their own, each of which takes its second.
pytestmark = [pytest.mark.mongod, pytest.mark.slow]

SOON = 30.0
"""Seconds for what is not measured here, only waited for."""

LOCAL: dict[str, Any] = {"backend": "local"}

PROGRAM = """
import trio

async def main(connections):
    await connections.wait_ready()
    frozen = connections.database("frozen")
    try:
        await frozen.things.insert_one({})
        print("may be frozen", flush=True)
        while not await trio.Path("is-frozen").exists():
            await trio.sleep(0.01)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(frozen.things.insert_one, {})
            with trio.fail_after(10):
                while sum(e.busy for e in connections["frozen"].provider.executors) < 10:
                    await trio.sleep(0.01)
            print("stuck", flush=True)
    finally:
        print("finally", flush=True)
"""


# -- a whole program


@pytest.mark.parametrize(
    ("shutdown", "all_together"),
    [
        pytest.param(1.0, 2.0, id="brisk"),
        pytest.param(5.0, 20.0, id="defaults", marks=pytest.mark.slow),
    ],
)
def test_a_program_ends_in_time_and_names_the_connection_that_did_not(
    shutdown: float,
    all_together: float,
    mongod: Mongod,
    mongod_factory: MongodFactory,
    start: Start,
    tmp_path: Path,
) -> None:
    """Three connections, one of them frozen with ten calls under way."""
    server = mongod_factory()
    supervision = {"shutdown": shutdown}
    connections = {
        "healthy": mongo(mongod.url, supervision=supervision),
        "frozen": mongo(server.url, supervision=supervision),
        "memory": LOCAL,
    }
    write(tmp_path, settings(connections, {"shutdown_timeout": all_together}))
    (tmp_path / "app.py").write_text(PROGRAM)
    program = start("run", "app:main")
    program.said("may be frozen")
    server.freeze()
    (tmp_path / "is-frozen").touch()
    program.said("stuck")

    began = time.monotonic()
    program.signal(signal.SIGTERM)
    status = program.ended()
    took = time.monotonic() - began

    print(f"ended after {took:.2f} s, of {all_together:g} + 1 s")
    assert status == 0
    assert took < all_together + 1
    assert program.stdout.splitlines()[-1] == "finally"
    late = re.findall(r"connection '(\w+)' did not close within ([\d.]+) s", program.stderr)
    assert late == [("frozen", f"{shutdown:g}")], program.stderr


# -- calls under way


@pytest.fixture
def slow_inserts(mongod_factory: MongodFactory) -> Iterator[tuple[Mongod, Callable[[float], None]]]:
    """A server, and a function that makes its inserts take so many seconds from now on."""
    server = mongod_factory()
    with server.client() as admin:

        def slow_down(seconds: float) -> None:
            fault = {
                "failCommands": ["insert", "getMore"],
                "blockConnection": True,
                "blockTimeMS": int(seconds * 1000),
            }
            admin.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=fault)

        yield server, slow_down


def opened(url: str, **tables: Any) -> Any:
    mapping = settings({"main": mongo(url, **tables)})
    return open_connections(mapping, metrics=CollectorRegistry())


def count_of(server: Mongod) -> int:
    with server.client() as client:
        return client.app.things.count_documents({})


async def until_busy(connections: ConnectionManager, calls: int) -> None:
    """Return once so many calls are under way in threads of the present client."""
    with trio.fail_after(SOON):
        while connections["main"].provider.executors[0].busy < calls:  # type: ignore[attr-defined]
            await trio.lowlevel.checkpoint()


async def test_restart_lets_calls_of_the_old_client_finish(
    slow_inserts: tuple[Mongod, Callable[[float], None]],
) -> None:
    """Ten inserts that take a second: all succeed, though a new client took over meanwhile."""
    server, slow_down = slow_inserts
    async with opened(server.url) as connections:
        held = await connections.get_database()
        slow_down(1.0)
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(held.things.insert_one, {"_id": number})
            await until_busy(connections, 10)
            await connections.restart("main")
            assert connections["main"].generation == 2
            assert connections.database() is not held
        assert connections["main"].measurements.close_timeouts == 0
    assert count_of(server) == 10


async def test_restart_lets_an_operation_of_several_batches_finish(
    slow_inserts: tuple[Mongod, Callable[[float], None]],
) -> None:
    """Between two batches no call is under way; the old client is not closed there either."""
    server, slow_down = slow_inserts
    with server.client() as client:
        client.app.things.insert_many({"_id": number} for number in range(100))
    found: list[Any] = []
    async with opened(server.url) as connections:
        held = await connections.get_database()
        slow_down(0.1)

        async def read() -> None:
            found.extend(await held.things.find(batch_size=10).to_list(None))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await until_busy(connections, 1)
            await connections.restart("main")
    assert len(found) == 100


async def test_the_old_client_ends_between_two_pieces_of_work(mongod: Mongod) -> None:
    """Whoever holds an old handle on is told so, in the driver's words."""
    async with opened(mongod.url) as connections:
        held = await connections.get_database()
        await connections.restart("main")

        async def work_on() -> None:
            while True:
                await held.command("ping")

        with trio.fail_after(SOON), pytest.raises(PyMongoError, match="after close"):
            await work_on()
        await connections.database().command("ping")


async def test_a_stop_lets_calls_finish_that_nobody_waits_for(
    slow_inserts: tuple[Mongod, Callable[[float], None]],
) -> None:
    """A cancelled task's insert goes on in its thread; `stop` gives it the time it has."""
    server, slow_down = slow_inserts
    async with opened(server.url) as connections:
        held = await connections.get_database()
        slow_down(0.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(held.things.insert_one, {})
            await until_busy(connections, 1)
            nursery.cancel_scope.cancel()
        await connections.stop("main")
        assert connections["main"].measurements.close_timeouts == 0
        assert count_of(server) == 1


async def test_calls_that_are_stuck_are_given_up_and_counted(
    mongod_factory: MongodFactory, caplog: pytest.LogCaptureFixture
) -> None:
    server = mongod_factory()
    async with opened(server.url, supervision={"shutdown": 0.5}) as connections:
        held = await connections.get_database()
        async with trio.open_nursery() as nursery:
            server.freeze()
            nursery.start_soon(held.things.insert_one, {})
            await until_busy(connections, 1)
            nursery.cancel_scope.cancel()
        with trio.fail_after(SOON):
            await connections.stop("main")
        assert connections["main"].measurements.close_timeouts == 1
        server.kill()
    assert "connection 'main' did not close within 0.5 s" in caplog.text


@pytest.mark.parametrize("exporter", [False, True], ids=["alone", "with exporter"])
async def test_opening_may_be_cancelled_before_it_has_begun(exporter: bool) -> None:
    """Its tasks are shielded: a start that waits for their end would wait for ever."""
    mapping = settings({"main": LOCAL}, {"exporter": {"enabled": exporter, "port": 0}})
    with trio.fail_after(SOON), trio.CancelScope() as scope:
        scope.cancel()
        async with open_connections(mapping, metrics=CollectorRegistry()):
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


# -- nothing is left behind


@pytest.mark.parametrize(
    "rounds", [pytest.param(12, id="some"), pytest.param(200, id="many", marks=pytest.mark.slow)]
)
async def test_opening_and_closing_leaves_no_threads_and_no_sockets(
    rounds: int, mongod: Mongod
) -> None:
    """With cancellation at a moment of chance: before, while and after it becomes ready."""
    random = Random(20_261_123)

    async def use() -> None:
        async with opened(mongod.url) as connections:
            database = await connections.get_database()
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(database.things.count_documents, {})
            await connections.restart("main")

    await use()  # what is made once for good: caches, trio's own threads
    before = await settled()
    outcomes = []
    for _ in range(rounds):
        with trio.move_on_after(random.uniform(0.0, 0.15)) as scope:
            await use()
        outcomes.append(scope.cancelled_caught)
    after = await settled(before)
    assert no_more_than(after, before), f"threads, sockets, descriptors: {before} became {after}"
    assert any(outcomes)


async def settled(wanted: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
    """Threads, sockets and descriptors, once they stay the same or are as few as `wanted`.

    The driver's monitors end by themselves, up to half a second after `close`.
    """
    last, since = (0, 0, 0), trio.current_time()
    with trio.move_on_after(SOON):
        while True:
            now = (len(threads()), len(sockets()), len(open_files()))
            if now != last:
                last, since = now, trio.current_time()
            elif wanted is None and trio.current_time() - since > 1.0:
                break
            if wanted is not None and no_more_than(now, wanted):
                break
            await trio.sleep(0.02)
    return last


def no_more_than(now: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return all(a <= b for a, b in zip(now, wanted, strict=True))
