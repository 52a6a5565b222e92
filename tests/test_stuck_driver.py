"""A driver that does not let go when it is cancelled holds no connection up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from pymongo_sockets import UNCLOSED_BY_PYMONGO
from settings_files import mongo, settings

from moorings import open_connections
from moorings.providers.pymongo_async import (
    DriverStuck,
    PyMongoHandle,
    PyMongoProvider,
    _abandonable,
)

if TYPE_CHECKING:
    from asyncio_fixtures import Run
    from mongod import Mongod

SOON = 10.0


@pytest.mark.mongod
@pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO)
@pytest.mark.usefixtures("pymongo_sockets_collected")
def test_a_client_that_ignores_cancellation_is_replaced(
    mongod: Mongod, database_name: str, on_asyncio: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PyMongo's does once its topology is left locked: its waiting swallows all cancelling."""
    health = {"interval": 0.1, "timeout": 0.2, "failures": 2}
    connection = mongo(mongod.url, database_name, health=health) | {"backend": "pymongo"}
    send = PyMongoProvider._command

    async def main() -> None:
        stuck: list[Any] = []
        released = asyncio.Event()

        async def command(self: Any, client: Any, *arguments: Any) -> None:
            if client not in stuck:
                await send(self, client, *arguments)
                return
            while not released.is_set():
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    continue

        monkeypatch.setattr(PyMongoProvider, "_command", command)
        async with open_connections(
            settings({"main": connection}), metrics=CollectorRegistry()
        ) as connections:
            held = await connections.get_database(timeout=SOON)
            stuck.append(connections["main"]._actor.client.native)
            async with asyncio.timeout(SOON):
                async for status in connections["main"].watch():
                    if status.generation == 2:
                        break
            assert await connections.get_database(timeout=SOON) is not held
            assert (await connections.database().command("ping"))["ok"] == 1.0
            released.set()

    on_asyncio(main)


@pytest.mark.mongod
@pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO)
@pytest.mark.usefixtures("pymongo_sockets_collected")
def test_a_client_whose_topology_was_left_locked_is_replaced(
    mongod: Mongod, database_name: str, on_asyncio: Run
) -> None:
    """Its server is there, and nothing that waits for the lock would ever time out."""
    health = {"interval": 0.1, "timeout": 0.3, "failures": 2}
    connection = mongo(mongod.url, database_name, health=health) | {"backend": "pymongo"}

    async def main() -> None:
        async with open_connections(
            settings({"main": connection}), metrics=CollectorRegistry()
        ) as connections:
            held = await connections.get_database(timeout=SOON)
            await held.client._topology._lock.acquire()
            async with asyncio.timeout(SOON):
                async for status in connections["main"].watch():
                    if status.generation == 2:
                        break
            assert await connections.get_database(timeout=SOON) is not held
            assert (await connections.database().command("ping"))["ok"] == 1.0
            held.client._topology._lock.release()

    on_asyncio(main)


def handle() -> PyMongoHandle:
    nothing: Any = None
    return PyMongoHandle(
        driver=nothing, database_name="x", monitor=nothing, settings=nothing, files=()
    )


async def late(seconds: float) -> None:
    """Ignores its cancellation for so long, and fails then."""
    until = asyncio.get_running_loop().time() + seconds
    while (left := until - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue
    raise OSError("nobody takes this")


async def nothing() -> None:
    """A command that succeeds."""


@pytest.mark.parametrize(("takes", "stuck"), [(0.02, False), (0.3, False), (1.0, True)])
def test_what_ends_late_is_not_stuck(takes: float, stuck: bool) -> None:
    async def main() -> list[Any]:
        loop, told = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: told.append(context))
        client = handle()
        first = asyncio.create_task(_abandonable(client, late(takes), 0.5))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        if stuck:
            with pytest.raises(DriverStuck):
                await _abandonable(client, nothing(), 0.5)
        else:
            await _abandonable(client, nothing(), 0.5)
        await asyncio.sleep(takes)
        assert not client.stuck
        return told

    assert asyncio.run(main()) == []
