"""Elections: whoever holds a handle loses no more than with the bare driver beside it.

Ten workers write numbered documents through one held handle of ours, ten through a bare client
with the same URL, while the primary first steps down and is then killed. What was acknowledged is
there afterwards.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client import CollectorRegistry
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from settings_files import DEFAULTS, mongo, settings

from moorings import open_connections
from moorings.providers.motor_trio import TrioMotorClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mongod import Mongod, ReplicaSet, ReplicaSetFactory

pytestmark = [pytest.mark.mongod, pytest.mark.slow]

WORKERS = 10
STEADY = 20
"""So many further writes of each worker show that writing goes on."""
PAUSE = 0.02
"""Seconds between two writes of one worker: what is tested is not the machine."""
SOON = 90.0


@dataclass
class Writers:
    """Ten workers on one database object, and what became of their writes."""

    name: str
    database: Any
    acknowledged: list[str] = field(default_factory=list)
    done: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    news: trio.Event = field(default_factory=trio.Event)

    async def write(self, worker: int) -> None:
        """Write until cancelled. What is not the driver's error is nobody's: it ends the test."""
        number = 0
        while True:
            number += 1
            began, document = trio.current_time(), f"{self.name}-{worker}-{number}"
            try:
                await self.database.things.insert_one({"_id": document})
            except PyMongoError as error:
                self.failures[type(error).__name__] += 1
            else:
                self.acknowledged.append(document)
                self.done[worker] += 1
                news, self.news = self.news, trio.Event()
                news.set()
            self.slowest = max(self.slowest, trio.current_time() - began)
            await trio.sleep(PAUSE)

    async def wait_steady(self) -> None:
        """Return once every worker has written on."""
        wanted = {worker: self.done[worker] + STEADY for worker in range(WORKERS)}
        with trio.fail_after(SOON):
            while any(self.done[worker] < count for worker, count in wanted.items()):
                await self.news.wait()

    def __str__(self) -> str:
        return (
            f"{self.name}: {len(self.acknowledged)} acknowledged, "
            f"{sum(self.failures.values())} failed {dict(self.failures)}, "
            f"slowest {self.slowest:.2f} s"
        )


@asynccontextmanager
async def bare_database(url: str) -> AsyncIterator[Any]:
    """The same driver on trio without us: nobody supervises this client."""
    client: Any = TrioMotorClient(url)
    try:
        yield client.app
    finally:
        client.close()
        client.get_io_loop().close()


def step_down(primary: Mongod) -> None:
    with primary.client() as admin:
        admin.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)


def found_in(members: ReplicaSet) -> set[str]:
    """The documents that a majority has."""
    with members.primary().client() as client:
        things = client.app.get_collection("things", read_concern=ReadConcern("majority"))
        return {document["_id"] for document in things.find()}


@pytest.mark.parametrize(
    "election_timeout_ms",
    [
        pytest.param(1000, id="brisk"),
        pytest.param(10_000, id="defaults"),
    ],
)
async def test_a_held_handle_writes_on_through_elections(
    election_timeout_ms: int, replica_set_factory: ReplicaSetFactory
) -> None:
    # In this thread, though it blocks: servers die with the thread that started them.
    members = replica_set_factory(election_timeout_ms=election_timeout_ms)
    mapping = settings({"main": mongo(members.url, health=DEFAULTS)})
    async with (
        open_connections(mapping, metrics=CollectorRegistry()) as connections,
        bare_database(members.url) as bare,
    ):
        held = await connections.get_database()
        ours, theirs = Writers("moorings", held), Writers("bare", bare)
        async with trio.open_nursery() as nursery:
            for worker in range(WORKERS):
                nursery.start_soon(ours.write, worker)
                nursery.start_soon(theirs.write, worker)
            await both_steady(ours, theirs)

            await trio.to_thread.run_sync(lambda: step_down(members.primary()))
            await both_steady(ours, theirs)
            await trio.to_thread.run_sync(members.wait_settled)

            (await trio.to_thread.run_sync(members.primary)).kill()
            await both_steady(ours, theirs)
            nursery.cancel_scope.cancel()
        await connections.wait_ready(timeout=SOON)
        assert connections.database() is held
        assert connections["main"].generation == 1

    print(f"\n{ours}\n{theirs}")
    assert sum(ours.failures.values()) <= sum(theirs.failures.values())
    present = found_in(members)
    for writers in (ours, theirs):
        assert not set(writers.acknowledged) - present, f"{writers.name} lost acknowledged writes"


async def both_steady(*writers: Writers) -> None:
    async with trio.open_nursery() as nursery:
        for some in writers:
            nursery.start_soon(some.wait_steady)
