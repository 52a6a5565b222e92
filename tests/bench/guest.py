"""What an asyncio program pays: per operation on a handle, and for the guest on its loop."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motor.motor_asyncio import AsyncIOMotorClient
from prometheus_client import CollectorRegistry
from pymongo import AsyncMongoClient

from moorings import open_connections

from .clock import clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .clock import Report

    Call = Callable[[], Awaitable[object]]

CALLS = 2000
NAP = 0.001
"""What the loop is asked to wait, in seconds."""
IDLE = 100


def run(report: Report) -> None:
    """Print the ratios of medians."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from mongod import Mongod

    with tempfile.TemporaryDirectory(prefix="moorings-bench-") as folder:
        server = Mongod(Path(folder) / "data")
        server.start()
        try:
            for backend in ("mongo", "pymongo"):
                handle, by_hand = asyncio.run(_operations(backend, server.url))
                report.add(
                    f"{backend} on asyncio: an operation on a handle / by hand",
                    handle / by_hand,
                    bound=1.05,
                    note=f"{handle * 1e6:.0f} µs against {by_hand * 1e6:.0f} µs",
                )
        finally:
            server.kill()
    alone, beside = asyncio.run(_latency())
    report.add(
        f"asyncio's latency beside {IDLE} idle connections / alone",
        statistics.median(beside) / statistics.median(alone),
        note=f"median {statistics.median(beside) * 1e6:.0f} µs against "
        f"{statistics.median(alone) * 1e6:.0f} µs, 99th percentile {_late(beside):.0f} µs "
        f"against {_late(alone):.0f} µs",
    )


def _late(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100)[-1] * 1e6


async def _operations(backend: str, url: str) -> tuple[float, float]:
    """Median seconds of an operation: on a handle, and on a client made by hand."""
    provider = {"url": url, "database_name": "bench"}
    async with _opened({"db": {"backend": backend, "provider": provider}}) as connections:
        ours = await connections.get_database()
        client: Any = (AsyncIOMotorClient if backend == "mongo" else AsyncMongoClient)(url)
        theirs = client["bench"]
        handle: list[float] = []
        by_hand: list[float] = []
        turns = [(ours, handle), (theirs, by_hand)]
        for _ in range(CALLS):  # in turns, each as often the first: noise hits both
            for database, times in turns:
                times.append(await _timed(partial(database.command, "ping")))
            turns.reverse()
        closed = client.close()
        if closed is not None:  # Motor's is synchronous
            await closed
    return statistics.median(handle), statistics.median(by_hand)


async def _latency() -> tuple[list[float], list[float]]:
    """How long the loop takes for a nap of `NAP`, in seconds: alone, and with the guest."""
    alone = [await _timed(lambda: asyncio.sleep(NAP)) for _ in range(CALLS)]
    async with _opened({f"c{i}": {"backend": "local"} for i in range(IDLE)}) as connections:
        await connections.wait_ready()
        beside = [await _timed(lambda: asyncio.sleep(NAP)) for _ in range(CALLS)]
    return alone, beside


def _opened(documents: dict[str, Any]) -> Any:
    first = next(iter(documents))
    database = {"default_document_connection": first, "documents": documents}
    return open_connections({"default": {"database": database}}, metrics=CollectorRegistry())


async def _timed(call: Call) -> float:
    began = clock()
    await call()
    return clock() - began
