"""A driver that does not let go when it is cancelled holds no connection up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from pymongo_sockets import UNCLOSED_BY_PYMONGO
from settings_files import mongo, settings

from moorings import open_connections
from moorings.providers.pymongo_async import PyMongoProvider

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
