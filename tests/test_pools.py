"""What a driver's pools are doing, as metrics: counted on real servers, and never counted down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from prometheus_client import CollectorRegistry
from pymongo.errors import PyMongoError

from moorings import open_connections
from moorings.providers.pools import CheckoutFailure, PoolCounter
from moorings.runtime.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from mongod import Mongod, MongodFactory

    from moorings import ConnectionManager

pytestmark = pytest.mark.mongod

SOON = 20.0


def settings(url: str, **health: float) -> dict[str, object]:
    provider = {"url": url, "database_name": "pools"}
    connection = {"backend": "mongo", "provider": provider, "health": health}
    database = {"default_document_connection": "db", "documents": {"db": connection}}
    return {"default": {"database": database}}


class Shown:
    """What Prometheus would be told of the connection's pools."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def __call__(self, name: str, **labels: str) -> float:
        labels = {"runtime": "moorings", "connection": "db", **labels}
        found = self.registry.get_sample_value(f"moorings_pool_{name}", labels)
        assert found is not None, name
        return found

    def counters(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for metric in self.registry.collect()
            if metric.name.startswith("moorings_pool_") and metric.type != "gauge"
            for sample in metric.samples
        }


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(SOON):
        while not condition():
            await trio.lowlevel.checkpoint()


async def in_a_thread_of_its_own(manager: ConnectionManager) -> None:
    await manager.database().things.find_one({"$where": "sleep(300) || true"})


async def test_checkouts_are_counted_and_connections_are_told_apart(mongod: Mongod) -> None:
    shown = Shown()
    async with open_connections(settings(mongod.url), metrics=shown.registry) as manager:
        database = await manager.get_database()
        await database.things.insert_one({})
        before = shown("checkout_duration_seconds_count")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_a_thread_of_its_own, manager)
            await until(lambda: shown("connections", state="in_use"))
        await until(lambda: not shown("connections", state="in_use"))
        assert shown("connections", state="idle") >= 1
        assert shown("checkout_duration_seconds_count") > before
        assert shown("checkout_duration_seconds_sum") > 0
        inf = shown("checkout_duration_seconds_bucket", le="+Inf")
        assert inf == shown("checkout_duration_seconds_count")
        assert shown("cleared_total") == 0
        await database.things.drop()


async def test_a_killed_server_clears_the_pool(mongod_factory: MongodFactory) -> None:
    server, shown = mongod_factory(), Shown()
    async with open_connections(settings(server.url), metrics=shown.registry) as manager:
        await manager.get_database()
        server.kill()
        await until(lambda: shown("cleared_total"))
        await until(lambda: not shown("connections", state="idle"))
        await until(lambda: not manager.is_ready())
        assert shown("connections", state="in_use") == 0
        server.start()
        await manager.get_database(timeout=SOON)
        assert shown("connections", state="idle") >= 1


async def test_a_login_that_is_refused_is_a_call_without_a_connection(mongod: Mongod) -> None:
    """The server has no users."""
    shown = Shown()
    url = mongod.url.replace("//", "//nobody:wrong@")
    async with open_connections(settings(url), metrics=shown.registry) as manager:
        await until(lambda: manager["db"].state is State.FAILED)
        assert shown("checkout_failures_total", reason="connection_error") >= 1
        assert shown("checkout_duration_seconds_count") == 0
        await until(lambda: not shown("connections", state="idle"))  # none was half open


async def test_a_call_that_finds_the_pool_exhausted_is_counted_by_its_reason(
    mongod: Mongod,
) -> None:
    shown = Shown()
    url = f"{mongod.url}?maxPoolSize=1&waitQueueTimeoutMS=50"
    async with open_connections(settings(url, interval=60.0), metrics=shown.registry) as manager:
        database = await manager.get_database()
        await database.things.insert_one({})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_a_thread_of_its_own, manager)
            await until(lambda: shown("connections", state="in_use"))
            with pytest.raises(PyMongoError):
                await database.command("ping")
        assert shown("checkout_failures_total", reason="timeout") >= 1
        assert shown("checkout_failures_total", reason="pool_closed") == 0
        await database.things.drop()


async def test_a_new_client_counts_on_where_the_old_one_was(mongod: Mongod) -> None:
    """Else `rate()` would see a reset at each rotation."""
    shown = Shown()
    async with open_connections(settings(mongod.url), metrics=shown.registry) as manager:
        database = await manager.get_database()
        for _ in range(20):
            await database.command("ping")
        for generation in (2, 3):
            before = shown.counters()
            await manager.restart("db")
            after = shown.counters()
            assert manager["db"].generation == generation
            assert set(after) == set(before)
            assert [key for key in after if after[key] < before[key]] == []
        await manager.stop("db")
        stopped = shown.counters()
        assert [key for key in stopped if stopped[key] < after[key]] == []
        await until(lambda: not shown("connections", state="idle"))  # old clients drain first


def test_what_was_counted_is_read_as_one() -> None:
    counter = PoolCounter()
    counter.failed(CheckoutFailure.POOL_CLOSED)
    counter.checked_out(0.0)
    counts = counter.counts()
    assert counts.checkouts == 1
    assert counts.failures == {
        CheckoutFailure.TIMEOUT: 0,
        CheckoutFailure.CONNECTION_ERROR: 0,
        CheckoutFailure.POOL_CLOSED: 1,
    }
    assert "POOL_CLOSED" in repr(counter)
