"""An asyncio worker that keeps its documents with Beanie, whichever major version is installed.

It is told what to do line by line on stdin and answers on stdout.

    usage: worker.py SETTINGS
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Any

import beanie

from moorings import open_connections

# Beanie 1 calls it after Motor, Beanie 2 after PyMongo.
COLLECTION = "get_motor_collection" if version("beanie") < "2" else "get_pymongo_collection"


class Thing(beanie.Document):
    """What the worker keeps."""

    number: int


def database() -> Any:
    """The native database that Beanie works on at present."""
    return getattr(Thing, COLLECTION)().database


class Worker:
    """The commands, by name."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.initialised: list[int] = []
        self.early: list[str] = []
        connection.on_ready(self.initialise)

    async def initialise(self, database: Any) -> None:
        """Let Beanie work on `database`, before anybody is handed it."""
        before = self.connection.generation
        await asyncio.sleep(0.05)  # whoever does not wait for us gets here first
        await beanie.init_beanie(database=database, document_models=[Thing])
        if self.connection.generation != before:
            self.early.append(f"generation {before + 1} was seen before Beanie knew of it")
        self.initialised.append(before + 1)

    async def look(self) -> None:
        """Whoever sees a generation sees Beanie work on its database."""
        async for status in self.connection.watch():
            if status.state == "ready" and self.connection.database() is not None:
                ours = self.connection.database().client
                if database().client is not ours:
                    self.early.append(f"{status.generation}: Beanie is on another client")

    async def write(self, number: str) -> str:
        await self.connection.wait_ready()
        await Thing(number=int(number)).insert()
        return str(await Thing.find_all().count())

    async def wait(self, state: str) -> str:
        async for status in self.connection.watch():
            if status.state == state:
                return f"{status.state} {status.generation}"
        raise AssertionError("closed")

    async def restart(self) -> str:
        await self.connection.restart()
        return str(self.connection.generation)

    async def report(self) -> str:
        return f"{self.initialised} {self.early}"


async def main(settings: str) -> None:
    async with open_connections(settings) as connections:
        worker = Worker(connections["things"])
        looking = asyncio.create_task(worker.look())
        print("begun", flush=True)
        while line := (await asyncio.to_thread(sys.stdin.readline)).split():
            command, *arguments = line
            print(await getattr(worker, command)(*arguments), flush=True)
        looking.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]), debug=True)
