"""Playing a cell: bring a connection where the fault is to find it, strike, heal, and look."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import anyio
from prometheus_client import CollectorRegistry
from pymongo.errors import AutoReconnect
from secrecy import PASSWORD, USER

from moorings import ConnectionNotReady, open_connections

from .evidence import Outcome, Trace, collapsed, counters, exposition
from .vocabulary import (
    ATTEMPTS,
    BACKOFF_MAX,
    FAILURES,
    HOOK_TIMEOUT,
    INTERVAL,
    RETRY_MAX,
    SHUTDOWN,
    TIMEOUT,
    At,
    World,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from moorings import Connection

    from .rig import Rig
    from .vocabulary import Cell

PATIENCE = 30.0
"""Seconds for what a cell measures otherwise, or does not measure."""
LOOK = 0.005
"""Seconds between two looks."""


class Gate:
    """A hook that waits, or fails, while it is told to; then it uses the database.

    When it fails, its error tells what nobody may be shown.
    """

    def __init__(self) -> None:
        self.holding = self.broken = False
        self.waiting: Any = None  # the database that a held hook was given

    async def __call__(self, database: Any) -> None:
        self.waiting = database
        while self.holding:
            await anyio.sleep(LOOK)
        if self.broken:
            raise AutoReconnect(f"cannot use mongodb://{USER}:{quote_plus(PASSWORD)}@host/")
        await database.things.find_one({})


@dataclass
class Play:
    """One cell under way."""

    cell: Cell
    rig: Rig
    connection: Connection
    registry: CollectorRegistry
    trace: Trace
    gate: Gate
    struck: float = 0.0
    healed: float = 0.0
    position: int = 0
    before: dict[str, float] = field(default_factory=dict)
    generation: int = 0
    handle: Any = None
    restarted: bool | None = None
    shown: list[str] = field(default_factory=list)

    async def arrange(self, tasks: anyio.abc.TaskGroup) -> None:
        """Bring the connection to where the fault is to find it."""
        match self.cell.at:
            case At.STARTING:
                return
            case At.CONNECTING:
                await self.until(lambda: self.gate.waiting is not None)
                self.handle = self.gate.waiting
            case At.FAILED:
                await self.until(lambda: self.connection.state == "failed")
                self.handle = self.gate.waiting
            case At.READY:
                self.handle = await self.connection.get_database(timeout=PATIENCE)
            case At.REPLACING:
                self.handle = await self.connection.get_database(timeout=PATIENCE)
                self.gate.waiting, self.gate.holding = None, True
                tasks.start_soon(self._restart)
                await self.until(lambda: self.gate.waiting is not None)
        self.mark()

    def mark(self) -> None:
        """From here on everything counts."""
        self.position = len(self.trace.seen)
        self.before = counters(self.registry, "main")
        self.generation = self.connection.generation

    async def strike(self) -> None:
        self.struck = time.monotonic()
        await self.rig.keeper.run(self.rig.strikes[self.cell.fault.name])
        self.gate.holding = self.gate.broken = False

    async def follow(self) -> None:
        """Wait for what the fault does, end it, and wait for what comes then."""
        during = [step.state for step in self.cell.during]
        if during:
            await self.until(lambda: self._states()[: len(during)] == during)
        else:
            tries = self._tries()
            await self.until(lambda: self._tries() >= tries + 3)
        self.show()
        await self.rig.keeper.run(self.rig.heal)
        self.healed = time.monotonic()
        await self.until(
            lambda: (
                self.connection.is_ready()
                and (self.cell.at is not At.REPLACING or self.restarted is not None)
            )
        )

    def outcome(self) -> Outcome:
        self.show()
        after, before = counters(self.registry, "main"), self.before
        first = self.gate.waiting if self.cell.at is At.STARTING else self.handle
        entered = self.trace.since(self.position)
        return Outcome(
            self.struck,
            self.healed,
            collapsed(entered),
            len(entered),
            {what: after[what] - before.get(what, 0.0) for what in after},
            self.connection.database() is first,
            self.connection.generation - self.generation,
            self.restarted,
            self.connection.state,
            "\n".join([*self.shown, exposition(self.registry)]),
        )

    def show(self) -> None:
        """Keep what a program could show of itself now."""
        connection = self.connection
        actor = connection._actor
        client = actor.client if actor is not None else None
        things = (
            connection,
            connection.status,
            connection.settings,
            connection.provider,
            connection._kernel,
            actor,
            client,
            client.native if client is not None else None,
            [transition for _, transition in self.trace.seen],
        )
        self.shown += [f"{thing!r} {thing}" for thing in things]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`; what has happened instead is the error."""
        limit = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > limit:
                seen = " → ".join(map(str, collapsed(self.trace.since(self.position))))
                raise AssertionError(f"{self.cell}: not within {PATIENCE:g} s; so far {seen}")
            await anyio.sleep(LOOK)

    def _tries(self) -> int:
        """Pings, and attempts that failed."""
        measurements = self.connection.measurements
        return measurements.pings + measurements.connect_failures

    def _states(self) -> list[str]:
        return [one.state for one in collapsed(self.trace.since(self.position))]

    async def _restart(self) -> None:
        try:
            await self.connection.restart()
        except ConnectionNotReady as error:
            self.shown += traceback.format_exception(error)
            self.restarted = False
        else:
            self.restarted = True


async def play(cell: Cell, rig: Rig, world: World) -> Outcome:
    """Play `cell` in the loop that this runs in."""
    registry, trace, gate = CollectorRegistry(), Trace(), Gate()
    gate.holding, gate.broken = cell.at is At.CONNECTING, cell.at is At.FAILED
    struck = time.monotonic()
    if cell.at is At.STARTING:
        await rig.keeper.run(rig.strikes[cell.fault.name])
    async with (
        open_connections(settings(rig, world), metrics=registry, observers=[trace]) as connections,
        anyio.create_task_group() as tasks,
    ):
        connection = connections["main"]
        connection.on_ready(gate)
        playing = Play(cell, rig, connection, registry, trace, gate, struck)
        await playing.arrange(tasks)
        if cell.at is not At.STARTING:
            await playing.strike()
        await playing.follow()
        outcome = playing.outcome()
        with anyio.fail_after(PATIENCE):  # whichever it is, it works
            await connection.database().things.insert_one({"cell": str(cell)})
    return outcome


def settings(rig: Rig, world: World) -> dict[str, Any]:
    """The settings of every cell's connection."""
    tables = {
        "backend": "pymongo" if world is World.PYMONGO else "mongo",
        "provider": {"url": rig.url, "database_name": "faults", **rig.credentials},
        "health": {"interval": INTERVAL, "timeout": TIMEOUT, "failures": FAILURES},
        "retry": {"initial": 0.05, "max": RETRY_MAX, "attempts": ATTEMPTS},
        "supervision": {
            "backoff_initial": 0.2,
            "backoff_max": BACKOFF_MAX,
            "shutdown": SHUTDOWN,
        },
    }
    for name, table in rig.patience.items():
        tables[name] = {**tables[name], **table}  # type: ignore[dict-item]
    database = {"default_document_connection": "main", "documents": {"main": tables}}
    return {"default": {"database": database, "runtime": {"hook_timeout": HOOK_TIMEOUT}}}
