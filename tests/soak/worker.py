"""One process of a soak: many connections in one world, a worker at each, writing on.

`python -m tests.soak.worker STACK CONNECTIONS URL`. Says on stdout, as lines of JSON, what it is
asked on stdin: see `Crew` in `crew.py`. Every worker holds the handle that it was given first, and
writes one document after the other through it, whatever becomes of the connection.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
import pymongo
from prometheus_client import CollectorRegistry
from pymongo.errors import PyMongoError

from moorings import open_connections

from .holdings import count

if TYPE_CHECKING:
    from moorings import Connection, ConnectionManager

PAUSE: Final = 0.25
"""Seconds between two writes of a worker."""
PATIENCE: Final = 20.0
"""Seconds for one write: then its worker gives it up, and writes the next.

By the driver's own bound: a call that is cancelled may leave PyMongo's asynchronous client locked
(on Python 3.11)."""
START: Final = 60.0

STACKS: Final = {
    "trio": ("mongo", "trio"),
    "asyncio": ("mongo", "asyncio"),
    "pymongo": ("pymongo", "asyncio"),
}


@dataclass
class Worker:
    """Writes numbered documents. All that is not in `failed` was acknowledged."""

    name: str
    connection: Connection
    held: Any = None
    number: int = 0
    failed: list[int] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    async def work(self, going: Going) -> None:
        self.held = await self.connection.get_database(timeout=START)
        while True:
            await going.wait()
            self.number += 1
            try:
                with pymongo.timeout(PATIENCE):
                    await self.held.things.insert_one({"_id": f"{self.name}-{self.number}"})
            except PyMongoError as error:
                self.failed.append(self.number)
                self.errors[type(error).__name__] += 1
            finally:
                going.rest()
            await anyio.sleep(PAUSE)

    def is_sound(self) -> bool:
        """Whether its connection serves, and still by the handle that it holds."""
        ready = self.connection.is_ready()
        return ready and self.connection.database() is self.held


class Going:
    """Whether workers write; who pauses them waits until none is at it."""

    def __init__(self) -> None:
        self._go = anyio.Event()
        self._writing = 0
        self._idle = anyio.Event()

    async def wait(self) -> None:
        await self._go.wait()
        self._writing += 1

    def rest(self) -> None:
        self._writing -= 1
        if not self._writing:
            self._idle.set()

    def go(self) -> None:
        self._go.set()

    async def pause(self) -> None:
        self._go = anyio.Event()
        while self._writing:
            self._idle = anyio.Event()
            await self._idle.wait()


async def main(stack: str, connections: int, url: str) -> None:
    """Serve commands until the last one."""
    mapping = settings(STACKS[stack][0], connections, url)
    async with open_connections(mapping, metrics=CollectorRegistry()) as manager:
        workers = [Worker(f"{stack}-{name}", manager[name]) for name in manager]
        going = Going()
        async with anyio.create_task_group() as tasks:
            for worker in workers:
                tasks.start_soon(worker.work, going)
            await manager.wait_ready(timeout=START)
            say(connections=len(manager))
            await obey(manager, workers, going)
            tasks.cancel_scope.cancel()


async def obey(manager: ConnectionManager, workers: list[Worker], going: Going) -> None:
    """Do what is asked on stdin, until the end."""
    while True:
        # Without its starter there is no more to do: then this reads nothing.
        command = (await anyio.to_thread.run_sync(sys.stdin.readline)).strip()
        match command:
            case "write":
                going.go()
                say()
            case "pause":
                await going.pause()
                say()
            case "look":
                say(**looked(workers))
            case "count":
                say(**count().as_dict())
            case "written":
                say(workers={w.name: [w.number, w.failed] for w in workers})
            case _:
                await going.pause()
                return


def looked(workers: list[Worker]) -> dict[str, Any]:
    """How the connections are, and what was written."""
    errors: Counter[str] = Counter()
    transitions = 0
    for worker in workers:
        errors.update(worker.errors)
        transitions += sum(worker.connection.measurements.transitions)
    return {
        "ready": sum(worker.connection.is_ready() for worker in workers),
        "sound": sum(worker.is_sound() for worker in workers),
        "acknowledged": sum(w.number - len(w.failed) for w in workers),
        "failed": sum(len(w.failed) for w in workers),
        "errors": dict(errors),
        "transitions": transitions,
        "generations": max(worker.connection.generation for worker in workers),
    }


def settings(backend: str, connections: int, url: str) -> dict[str, Any]:
    """So many connections, all alike."""
    one = {
        "backend": backend,
        "provider": {"url": url, "database_name": "soak"},
        "health": {"interval": 2.0, "timeout": 1.0, "failures": 2},
        "retry": {"attempts": 3, "initial": 0.1, "max": 1.0},
        "supervision": {"backoff_initial": 0.5, "backoff_max": 3.0},
    }
    documents = {f"c{number}": one for number in range(connections)}
    return {"default": {"database": {"documents": documents}}}


def say(**what: Any) -> None:
    """Answer."""
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    # What becomes of connections is told in numbers; crashes, and clients that do not close, not.
    logging.basicConfig(level=logging.ERROR)
    stack, connections, url = sys.argv[1:]
    anyio.run(partial(main, stack, int(connections), url), backend=STACKS[stack][1])
