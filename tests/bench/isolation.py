"""Two clients, one of a server that is frozen with 50 operations waiting: what the other feels.

One process per backend and host. It says how long a call of the healthy client takes, alone and
then beside the frozen one, cancels what waits, closes both and ends; who started it measures that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from moorings import MongoProvider, PyMongoProvider

from .clock import clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from .clock import Report

ROOT = Path(__file__).parents[2]
WORLDS = ("mongo-trio", "mongo-asyncio", "pymongo-asyncio")

BOUND = 2.0
PINGS = 300
WAITING = 50
CLOSE_SECONDS = 1.0
EXIT_SECONDS = 20.0


def run(report: Report) -> None:
    """Print, for each world, the ratio of the healthy client's median latencies."""
    sys.path.insert(0, str(ROOT / "tests"))
    from mongod import servers, start_server

    for world in WORLDS:
        with servers() as running:
            healthy, frozen = start_server(running), start_server(running)
            found = measure(world, healthy.url, frozen.url, frozen.pid)
        report.add(
            f"{world}: a call beside {WAITING} stuck on a frozen server / alone",
            found.ratio,
            bound=BOUND,
            note=f"{found.beside_ms:.2f} ms against {found.alone_ms:.2f} ms, "
            f"exit {found.exit_seconds:.1f} s",
        )


@dataclass
class Found:
    """Medians of a call's latency, and how long the process took to close and end."""

    alone_ms: float
    beside_ms: float
    exit_seconds: float

    @property
    def ratio(self) -> float:
        """How many times slower it is beside the frozen server."""
        return self.beside_ms / self.alone_ms


def measure(world: str, healthy: str, frozen: str, frozen_pid: int) -> Found:
    """Run one world in a process of its own.

    Args:
        world: one of `WORLDS`.
        healthy: the URL of a server that answers.
        frozen: the URL of a server that will be frozen, and has to be ended by the caller.
        frozen_pid: its process.
    """
    command = [sys.executable, "-m", "tests.bench.isolation"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [*command, world, healthy, frozen, str(frozen_pid)],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            text=True,
        ) as program,
    ):
        assert program.stdout is not None
        said = program.stdout.readline()
        began = clock()
        try:
            status = program.wait(EXIT_SECONDS)
        finally:
            program.kill()
        ended = clock()
        errors.seek(0)
        if status or not said:
            raise RuntimeError(f"{world} ended with status {status}:\n{errors.read()}")
    return Found(**json.loads(said), exit_seconds=ended - began)


async def contest(world: str, healthy_url: str, frozen_url: str, frozen_pid: int) -> None:
    """Print the medians as JSON, then close and return."""
    provider = (MongoProvider if world.startswith("mongo") else PyMongoProvider)("bench")
    provider.close_timeout = CLOSE_SECONDS
    healthy = await _opened(provider, healthy_url)
    frozen = await _opened(provider, frozen_url)
    alone = await _median(provider, healthy)
    _freeze(frozen_pid)
    stuck = _stuck_on_trio if world.endswith("trio") else _stuck_on_asyncio
    async with stuck(provider.database(frozen)):
        beside = await _median(provider, healthy)
    print(json.dumps({"alone_ms": alone * 1e3, "beside_ms": beside * 1e3}), flush=True)
    await provider.close(healthy)
    with contextlib.suppress(TimeoutError):
        await provider.close(frozen)


def _freeze(pid: int) -> None:
    """Stop a process that somebody else has started; returns once all its threads stand."""
    os.kill(pid, signal.SIGSTOP)
    while any(_state(thread) != "T" for thread in Path(f"/proc/{pid}/task").iterdir()):
        time.sleep(0.001)


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


async def _opened(provider: Any, url: str) -> Any:
    settings = provider.settings_model(url=url, database_name="bench")
    handle = await provider.open(settings, lambda *_: None)
    await provider.ping(handle)
    await provider.database(handle).command("ping")
    return handle


async def _median(provider: Any, handle: Any) -> float:
    """Of the application's calls and of ours, whichever is slower; in seconds."""
    database = provider.database(handle)
    calls: list[float] = []
    pings: list[float] = []
    for _ in range(PINGS):
        calls.append(await _timed(database.command("ping")))
        pings.append(await _timed(provider.ping(handle)))
    return max(statistics.median(calls), statistics.median(pings))


async def _timed(call: Awaitable[object]) -> float:
    began = clock()
    await call
    return clock() - began


@contextlib.asynccontextmanager
async def _stuck_on_trio(database: Any) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for _ in range(WAITING):
            nursery.start_soon(database.command, "ping")
        yield
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _stuck_on_asyncio(database: Any) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(database.command("ping")) for _ in range(WAITING)]
    yield
    if any(task.done() for task in tasks):
        raise RuntimeError("a frozen server answered")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    arguments = (*sys.argv[1:4], int(sys.argv[4]))
    if sys.argv[1].endswith("trio"):
        trio.run(contest, *arguments)
    else:
        asyncio.run(contest(*arguments))
