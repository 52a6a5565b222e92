"""Closing never takes longer than its bound, whatever the server does not do.

Dead, frozen, cut off, or silent from the first handshake on; on every stack; while calls of the
application are stuck. By `stop()`, and by the end of the block.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio
from faults.play import settings
from faults.vocabulary import SHUTDOWN, Place, World
from prometheus_client import CollectorRegistry
from pymongo.errors import PyMongoError
from pymongo_sockets import UNCLOSED_BY_PYMONGO

from moorings import State, open_connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fault_fixtures import Rigs
    from faults.rig import Rig

    from moorings import Connection, ConnectionManager

    Begin = Callable[..., object]

pytestmark = [
    pytest.mark.mongod,
    pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO),
    pytest.mark.usefixtures("pymongo_sockets_collected"),
]

SLACK = 1.0
"""Seconds for a busy machine."""
STUCK = 3
SOON = 10.0


@dataclass(frozen=True)
class Silence:
    """How the server does not answer.

    Attributes:
        place: where it happens.
        strike: the fault's name there.
        from_the_start: before the connection is there.
    """

    place: Place
    strike: str
    from_the_start: bool = False


DEAD = Silence(Place.SERVER, "SIGKILL")
FROZEN = Silence(Place.SERVER, "SIGSTOP")
PARTITIONED = Silence(Place.NETWORK, "blackhole")
MID_HANDSHAKE = Silence(Place.NETWORK, "blackhole", from_the_start=True)

SILENCES = {
    "dead": DEAD,
    "frozen": FROZEN,
    "partitioned": PARTITIONED,
    "mid-handshake": MID_HANDSHAKE,
}


def run(world: World, body: Callable[[], Awaitable[Any]]) -> None:
    if world is World.TRIO:
        trio.run(body)
    else:
        asyncio.run(body())  # type: ignore[arg-type]


@asynccontextmanager
async def background(world: World) -> AsyncIterator[Begin]:
    """Begins tasks that are cancelled at the end of the block.

    In asyncio each is cancelled once. PyMongo's asynchronous client does not survive what anyio
    does, which cancels until the task has ended: a call that waits for a server then leaves the
    lock of the topology locked (on Python 3.11), and whoever wants it waits for ever.
    """
    if world is World.TRIO:
        async with trio.open_nursery() as nursery:
            yield nursery.start_soon
            nursery.cancel_scope.cancel()
        return
    tasks: list[asyncio.Task[None]] = []
    yield lambda function, *arguments: tasks.append(asyncio.create_task(function(*arguments)))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Stuck:
    """Calls of an application's that do not come back."""

    begun: int = 0
    errors: list[str] = field(default_factory=list)

    async def write(self, database: Any) -> None:
        self.begun += 1
        try:
            await database.things.insert_one({})
        except PyMongoError as error:
            self.errors.append(type(error).__name__)


async def fallen_silent(
    connections: ConnectionManager, rig: Rig, silence: Silence, begin: Begin
) -> Connection:
    """The connection, once its server has fallen silent and calls are under way."""
    connection = connections["main"]
    if silence.from_the_start:
        await rig.keeper.run(rig.reached)
        return connection
    database = await connection.get_database(timeout=SOON)
    await rig.keeper.run(rig.strikes[silence.strike])
    stuck = Stuck()
    for _ in range(STUCK):
        begin(stuck.write, database)
    while stuck.begun < STUCK:
        await anyio.lowlevel.checkpoint()
    return connection


@pytest.mark.parametrize(
    ("silence", "place", "world", "how"),
    [
        pytest.param(
            silence,
            silence.place,
            world,
            how,
            id=f"{name}-{world.name.lower()}-{how}",
            marks=() if (name, how) == ("frozen", "leave") else pytest.mark.slow,
        )
        for name, silence in SILENCES.items()
        for world in World
        for how in ("stop", "leave")
    ],
)
@pytest.mark.usefixtures("faulty", "nothing_left")
def test_closing_is_bounded(
    silence: Silence, place: Place, world: World, how: str, rigs: Rigs
) -> None:
    rig = rigs(place)
    took = []

    async def body() -> None:
        if silence.from_the_start:
            await rig.keeper.run(rig.strikes[silence.strike])
        mapping = settings(rig, world)
        async with background(world) as begin:
            async with open_connections(mapping, metrics=CollectorRegistry()) as connections:
                connection = await fallen_silent(connections, rig, silence, begin)
                began = time.monotonic()
                if how == "stop":
                    await connection.stop()
                    took.append(time.monotonic() - began)
                    assert connection.state is State.STOPPED
            took.append(time.monotonic() - began)

    async def bounded() -> None:
        with anyio.fail_after(2 * SOON):
            await body()

    run(world, bounded)
    print(f"closing took {took[0]:.2f} s")
    assert took[0] <= SHUTDOWN + SLACK


@pytest.mark.slow
@pytest.mark.parametrize(("place", "world"), [(Place.SERVER, world) for world in World])
@pytest.mark.usefixtures("faulty", "nothing_left")
def test_all_connections_together_close_within_the_runtimes_bound(
    place: Place, world: World, rigs: Rigs
) -> None:
    """Each of them may take longer by itself: all of them together may not."""
    rig = rigs(place)
    mapping = settings(rig, world)
    documents = mapping["default"]["database"]["documents"]
    patient = documents["main"] | {"supervision": {"shutdown": 3 * SOON}}
    documents |= dict.fromkeys(("main", "second", "third", "fourth"), patient)
    mapping["default"]["runtime"] = {"shutdown_timeout": SHUTDOWN}
    took = 0.0

    async def body() -> None:
        nonlocal took
        async with background(world) as begin:
            async with open_connections(mapping, metrics=CollectorRegistry()) as connections:
                await connections.wait_ready(timeout=SOON)
                databases = [connections.database(name) for name in connections]
                await rig.keeper.run(rig.strikes[FROZEN.strike])
                stuck = Stuck()
                for database in databases:
                    begin(stuck.write, database)
                while stuck.begun < len(databases):
                    await anyio.lowlevel.checkpoint()
                began = time.monotonic()
            took = time.monotonic() - began

    run(world, body)
    print(f"closing {len(documents)} took {took:.2f} s")
    assert took <= SHUTDOWN + SLACK
