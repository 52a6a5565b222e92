"""Opened and closed without end, a third of the time cancelled half-way: nothing adds up."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from asyncio_fixtures import LOOPS
from prometheus_client import CollectorRegistry
from pymongo_sockets import UNCLOSED_BY_PYMONGO

from moorings import open_connections

if TYPE_CHECKING:
    from asyncio_fixtures import Run
    from mongod import Mongod

pytestmark = [pytest.mark.mongod, pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO)]


async def life(settings: dict[str, Any]) -> None:
    """Open, use, replace the client, close."""
    async with open_connections(settings, metrics=CollectorRegistry()) as connections:
        database = await connections.get_database()
        await database.things.find_one({})
        await connections.restart("db")


async def lives(settings: dict[str, Any], count: int, seed: int) -> None:
    """`count` lives, one after the other; a third are cancelled within what one of them takes."""
    random, loop = Random(seed), asyncio.get_running_loop()
    longest = 0.05
    for number in range(count):
        began = loop.time()
        living = asyncio.create_task(life(settings))
        if number % 3 == 2:
            loop.call_later(random.uniform(0.0, longest), living.cancel)
        with suppress(asyncio.CancelledError):
            await living
        if number % 3 != 2:
            longest = loop.time() - began
    gc.collect()


BACKENDS = ["local", "mongo", "pymongo"]


def on(backend: str, mongod: Mongod) -> dict[str, Any]:
    """Settings for one connection."""
    provider = {"database_name": "test"} | ({} if backend == "local" else {"url": mongod.url})
    documents = {"db": {"backend": backend, "provider": provider}}
    return {"default": {"database": {"default_document_connection": "db", "documents": documents}}}


@pytest.mark.parametrize(
    "new_loop",
    [
        pytest.param(LOOPS["asyncio"], id="asyncio"),
        pytest.param(LOOPS["uvloop"], id="uvloop", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_sockets_tasks_and_files_are_back_where_they_were(
    mongod: Mongod, on_asyncio: Run, pymongo_sockets_collected: None, backend: str
) -> None:
    on_asyncio(lambda: lives(on(backend, mongod), 12, seed=2026))


@pytest.mark.slow
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop], ids=["asyncio"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_so_they_are_after_a_thousand_lives(
    mongod: Mongod, on_asyncio: Run, pymongo_sockets_collected: None, backend: str
) -> None:
    on_asyncio(lambda: lives(on(backend, mongod), 1000, seed=2026))
