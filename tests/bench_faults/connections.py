"""A program with supervised connections to one server, which tells what becomes of them.

`python -m tests.bench_faults.connections WORLD URL TABLES`, TABLES being JSON: the tables of each
connection's settings, by name. Every connection has a manager of its own, so that none is a
sentinel for another. Ends when its stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import trio
from prometheus_client import CollectorRegistry

from moorings import (
    DocumentDatabaseRegistry,
    MongoProvider,
    PyMongoProvider,
    open_connections,
)

from .record import Told

if TYPE_CHECKING:
    from moorings import Transition
    from moorings.providers.contract import Notify

WORLDS = {"Motor/trio": "mongo", "Motor/asyncio": "mongo", "PyMongo": "pymongo"}

told = Told()


def _listening(provider: type[Any]) -> type[Any]:
    """A provider that tells of each heartbeat that succeeds, just before our own listener hears."""

    class Listening(provider):  # type: ignore[misc]
        async def open(self, settings: Any, notify: Notify) -> Any:
            handle = await super().open(settings, notify)
            succeeded = handle.monitor.succeeded

            def tell(event: Any) -> None:
                told.tell(self.name, "heartbeat")
                succeeded(event)

            handle.monitor.succeeded = tell
            return handle

    return Listening


def changed(transition: Transition) -> None:
    """An observer: tell of every transition."""
    told.tell(transition.connection, transition.target.value)


def _settings(world: str, url: str, name: str, tables: dict[str, Any]) -> dict[str, Any]:
    provider = {"url": url, "database_name": "bench"}
    connection = {"backend": WORLDS[world], "provider": provider} | tables
    return {"default": {"database": {"documents": {name: connection}}}}


async def main(world: str, url: str, variants: dict[str, dict[str, Any]]) -> None:
    """Hold the connections until stdin ends."""
    registry = DocumentDatabaseRegistry()
    registry.register("mongo", _listening(MongoProvider))
    registry.register("pymongo", _listening(PyMongoProvider))
    async with contextlib.AsyncExitStack() as managers:
        for name, tables in variants.items():
            await managers.enter_async_context(
                open_connections(
                    _settings(world, url, name, tables),
                    registry=registry,
                    metrics=CollectorRegistry(),
                    observers=(changed,),
                )
            )
        if world.endswith("trio"):
            await trio.to_thread.run_sync(sys.stdin.read)
        else:
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    logging.getLogger("moorings").addHandler(logging.NullHandler())
    given = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if sys.argv[1].endswith("trio"):
        trio.run(main, *given)
    else:
        asyncio.run(main(*given))
