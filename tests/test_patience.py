"""How long a ping of MongoDB waits for a server: not longer than anybody may still answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from pymongo.errors import ServerSelectionTimeoutError
from pymongo_sockets import UNCLOSED_BY_PYMONGO

from moorings.errors import FailureReason
from moorings.providers.mongo import MongoProvider
from moorings.providers.pymongo_async import PyMongoProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from mongod import MongodFactory

pytestmark = [
    pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO),
    pytest.mark.usefixtures("pymongo_sockets_collected"),
]

PATIENCE = 20.0
"""Seconds that a command may take which should end long before."""
BRIEFLY = 1.0
"""Seconds that a command may take which should take them, or the better half of them."""
SOON = 10.0

Provider = MongoProvider | PyMongoProvider

STACKS: dict[str, tuple[type[Provider], Callable[..., Any]]] = {
    "mongo-trio": (MongoProvider, trio.run),
    "mongo-asyncio": (MongoProvider, lambda main: asyncio.run(main())),
    "pymongo": (PyMongoProvider, lambda main: asyncio.run(main())),
}


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> tuple[type[Provider], Callable[..., Any]]:
    """A provider, and what runs a coroutine function in its world."""
    return STACKS[request.param]


@pytest.fixture
def refused() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which somebody listens who never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def opened(make: type[Provider], url: str, seconds: float) -> AsyncIterator[tuple[Any, Any]]:
    provider = make("main")
    provider.command_timeout, provider.close_timeout = seconds, 1.0
    settings = provider.settings_model.model_validate({"url": url, "database_name": "app"})
    handle = await provider.open(settings, lambda *_: None)  # type: ignore[arg-type]
    try:
        yield provider, handle
    finally:
        await provider.close(handle)


async def failed_ping(provider: Any, handle: Any) -> tuple[FailureReason | None, float]:
    """Why a ping failed, and how long that took."""
    began = time.monotonic()
    with pytest.raises(ServerSelectionTimeoutError) as caught:
        await provider.ping(handle)
    assert "Timeout:" not in provider.describe(caught.value)
    return provider.classify(caught.value), time.monotonic() - began


def last_looked_at(handle: Any) -> float:
    (server,) = handle.driver.topology_description.server_descriptions().values()
    found: float = server.last_update_time
    return found


def test_a_ping_ends_as_soon_as_the_server_has_refused(stack: Any, refused: str) -> None:
    make, run = stack

    async def main() -> None:
        async with opened(make, f"mongodb://{refused}/", PATIENCE) as (provider, handle):
            reason, took = await failed_ping(provider, handle)
            assert reason is FailureReason.REFUSED
            assert took < PATIENCE / 4

    run(main)


def test_a_refusal_from_before_is_no_answer(stack: Any, refused: str) -> None:
    """Each ping has the driver look again."""
    make, run = stack

    async def main() -> None:
        async with opened(make, f"mongodb://{refused}/", PATIENCE) as (provider, handle):
            await failed_ping(provider, handle)
            began = time.monotonic()
            await failed_ping(provider, handle)
            assert last_looked_at(handle) >= began

    run(main)


def test_as_soon_as_all_members_of_a_set_have_refused(stack: Any) -> None:
    make, run = stack
    with contextlib.ExitStack() as open_ports:
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
        for one in sockets:
            open_ports.enter_context(one)
        ports = [one.getsockname()[1] for one in sockets]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)

    async def main() -> None:
        url = f"mongodb://{hosts}/?replicaSet=rs0"
        async with opened(make, url, PATIENCE) as (provider, handle):
            reason, took = await failed_ping(provider, handle)
            assert reason is FailureReason.REFUSED
            assert took < PATIENCE / 4

    run(main)


def test_a_server_that_has_not_refused_may_still_answer(
    stack: Any, refused: str, silent: str
) -> None:
    make, run = stack

    async def main() -> None:
        async with opened(make, f"mongodb://{refused},{silent}/", BRIEFLY) as (provider, handle):
            _, took = await failed_ping(provider, handle)
            assert took >= 0.4 * BRIEFLY

    run(main)


@pytest.mark.mongod
def test_where_members_answer_an_election_is_waited_for(
    stack: Any, refused: str, mongod_factory: MongodFactory
) -> None:
    """A member that has yet to find its set stands for one of a set without a primary."""
    make, run = stack
    member = mongod_factory("--replSet", "rs0")

    async def main() -> None:
        url = f"mongodb://{member.address},{refused}/?replicaSet=rs0"
        async with opened(make, url, BRIEFLY) as (provider, handle):
            reason, took = await failed_ping(provider, handle)
            assert reason is FailureReason.TOPOLOGY
            assert took >= 0.4 * BRIEFLY

    run(main)


async def test_a_ping_that_was_given_up_leaves_its_thread_to_the_next(silent: str) -> None:
    async with opened(MongoProvider, f"mongodb://{silent}/", 10 * SOON) as (provider, handle):
        for _ in range(5):
            with trio.move_on_after(0.05):
                await provider.ping(handle)
        assert await trio.to_thread.run_sync(handle.lane.wait_quiet, SOON)
