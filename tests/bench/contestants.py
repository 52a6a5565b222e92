"""Who runs: bare floors, a peer, and ours. Each `life(n)` starts N, restarts one, stops all."""

from __future__ import annotations

import asyncio
import logging
import statistics
from typing import TYPE_CHECKING, Any

import trio
from outcome import Error
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from moorings import FailureReason, Settings, open_connections
from moorings.providers.contract import DocumentsDatabaseBase
from moorings.providers.registry import DocumentDatabaseRegistry
from moorings.runtime.settings import ConnectionSettings, DatabaseSettings, HealthSettings
from moorings.runtime.settings import SupervisionSettings as Supervision

from .clock import clock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from moorings import ConnectionManager

SAMPLES = 40
GAP = 0.002


class Boom(Exception):
    """A child's crash."""


# -- the floor: bare trio, one task and one event per child


class _Bare:
    __slots__ = ("ready", "task")

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.task: trio.lowlevel.Task

    async def run(self) -> None:
        while True:
            try:
                await trio.lowlevel.checkpoint()
                self.ready.set()
                self.task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)
            except Boom:
                pass


def trio_floor(n: int) -> dict[str, float]:
    """The limit for anything on trio."""

    async def main() -> dict[str, float]:
        began = clock()
        children = [_Bare() for _ in range(n)]
        async with trio.open_nursery() as nursery:
            for child in children:
                nursery.start_soon(child.run)
            for child in children:
                await child.ready.wait()
            start = clock() - began

            async def restart(index: int) -> None:
                child = children[index]
                child.ready = trio.Event()
                trio.lowlevel.reschedule(child.task, Error(Boom()))
                await child.ready.wait()

            one = await restart_some(n, restart, trio.sleep)
            stopped = clock()
            nursery.cancel_scope.cancel()
        return {"start": start, "restart": one, "stop": clock() - stopped}

    return trio.run(main)


def asyncio_floor(n: int) -> dict[str, float]:
    """Bare asyncio: what another loop can do."""

    async def main() -> dict[str, float]:
        began = clock()
        ready = [asyncio.Event() for _ in range(n)]
        parked: list[asyncio.Future[None] | None] = [None] * n

        async def child(index: int) -> None:
            while True:
                try:
                    await asyncio.sleep(0)
                    parked[index] = asyncio.get_running_loop().create_future()
                    ready[index].set()
                    await parked[index]  # type: ignore[misc]
                except Boom:
                    pass

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(i)) for i in range(n)]
            for event in ready:
                await event.wait()
            start = clock() - began

            async def restart(index: int) -> None:
                ready[index] = asyncio.Event()
                future = parked[index]
                assert future is not None
                future.set_exception(Boom())
                await ready[index].wait()

            one = await restart_some(n, restart, asyncio.sleep)
            stopped = clock()
            for task in tasks:
                task.cancel()
        return {"start": start, "restart": one, "stop": clock() - stopped}

    return asyncio.run(main())


def mode_streaming(n: int) -> dict[str, float]:
    """The peer that comes nearest: mode's services under its one-for-one supervisor."""
    from mode import Service
    from mode.supervisors import OneForOneSupervisor

    logging.getLogger("mode").setLevel(logging.CRITICAL + 1)

    class Child(Service):  # type: ignore[misc]
        def __post_init__(self) -> None:
            self.ready = asyncio.Event()

        async def on_start(self) -> None:
            await asyncio.sleep(0)

        async def on_started(self) -> None:
            self.ready.set()

    async def main() -> dict[str, float]:
        began = clock()
        children = [Child() for _ in range(n)]
        supervisor = OneForOneSupervisor(max_restarts=1e9, over=1.0)
        supervisor.add(*children)
        await supervisor.start()
        for child in children:
            await child.ready.wait()
        start = clock() - began
        stopped = clock()
        await supervisor.stop()
        return {"start": start, "stop": clock() - stopped}

    return asyncio.run(main())


# -- ours


class NoSettings(BaseModel):
    """The no-op provider's settings."""

    model_config = ConfigDict(frozen=True)


class NoopProvider(DocumentsDatabaseBase):
    """Does nothing, after one checkpoint: what is left is the runtime's own cost."""

    settings_model = NoSettings
    crash: Exception | None = None

    def endpoint(self, settings: NoSettings) -> str:
        return self.name

    async def open(self, settings: NoSettings, notify: Any) -> NoopProvider:
        await trio.lowlevel.checkpoint()
        return self

    async def ping(self, client: NoopProvider) -> None:
        if self.crash is not None:
            crash, self.crash = self.crash, None
            raise crash

    async def verify(self, client: NoopProvider) -> None:
        pass

    def database(self, client: NoopProvider) -> NoopProvider:
        return client

    async def close(self, client: NoopProvider) -> None:
        pass

    def classify(self, error: BaseException) -> FailureReason | None:
        return None


class TickingProvider(NoopProvider):
    """Counts its pings, each with a checkpoint."""

    ticks = 0

    async def ping(self, client: NoopProvider) -> None:
        TickingProvider.ticks += 1
        await trio.lowlevel.checkpoint()


REGISTRY = DocumentDatabaseRegistry()
REGISTRY.register("noop", NoopProvider)
REGISTRY.register("ticking", TickingProvider)


def settings(n: int, backend: str = "noop", interval: float = 10.0) -> Settings:
    """`n` connections, built beforehand: reading settings is not what is measured."""
    shared = {
        "backend": backend,
        "provider": NoSettings(),
        "health": HealthSettings(interval=interval),
        "supervision": Supervision(intensity=10**6, period=1.0),
    }
    documents = {f"c{i}": ConnectionSettings(**shared) for i in range(n)}
    return Settings(database=DatabaseSettings(documents=documents))


def opened(prepared: Settings) -> Any:
    """Our runtime, with metrics into a registry of its own."""
    return open_connections(prepared, registry=REGISTRY, metrics=CollectorRegistry())


def moorings(n: int, prepared: Settings) -> dict[str, float]:
    """Supervised connections, all features on, logging at INFO."""

    async def main() -> dict[str, float]:
        began = clock()
        async with opened(prepared) as connections:
            await connections.wait_ready()
            start = clock() - began
            one = await restart_some(n, crash_one(connections), trio.sleep)
            await trio.sleep(0.3)  # crashes are logged at the next heartbeat: not while we stop
            stopped = clock()
        return {"start": start, "restart": one, "stop": clock() - stopped}

    return trio.run(main)


def crash_one(connections: ConnectionManager) -> Callable[[int], Awaitable[None]]:
    """Crashes the connection with that number, and waits until it is back."""

    async def restart(index: int) -> None:
        connection = connections[f"c{index}"]
        connection._actor.inject(Boom())  # type: ignore[union-attr] # a bug, wherever it came from
        await connection.next_change()
        await connection.wait_ready()

    return restart


async def restart_some(
    n: int,
    restart: Callable[[int], Awaitable[None]],
    sleep: Callable[[float], Awaitable[object]],
) -> float:
    """The median time from a child's crash until it is back, in seconds."""
    samples = []
    for i in range(SAMPLES):
        await sleep(GAP)
        began = clock()
        await restart(i * 7 % n)
        samples.append(clock() - began)
    return statistics.median(samples)
