"""The `mongo` provider on real servers: what it opens, notices, bounds, closes and never shows."""

from __future__ import annotations

import socket
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest
import trio
from leftovers import threads
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError
from pymongo.hello import Hello
from pymongo.monitoring import (
    PoolClearedEvent,
    ServerHeartbeatFailedEvent,
    ServerHeartbeatSucceededEvent,
)

from moorings.errors import FailureReason
from moorings.providers.contract import Signal
from moorings.providers.mongo import MongoHandle, MongoProvider
from moorings.providers.mongo_settings import MongoSettings
from moorings.providers.motor_trio import TrioMotorDatabase
from moorings.providers.pools import CheckoutFailure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from mongod import Mongod, MongodFactory, ReplicaSet, ReplicaSetFactory

pytestmark = pytest.mark.mongod

# Far from what is measured on an idle machine, and far below what the driver would take if nothing
# bounded it (30 s and more).
SOON = 15.0

# How long a command may take that is to succeed, and one that is to fail: the latter takes it all.
PATIENCE = 10.0
BRIEFLY = 1.0


class Ear:
    """Hears a provider's signals, from any thread; tasks wait for them."""

    def __init__(self) -> None:
        self.heard: list[Signal] = []
        self._token = trio.lowlevel.current_trio_token()
        self._lot = trio.lowlevel.ParkingLot()

    def __call__(self, signal: Signal = Signal.SUSPECT, /) -> None:
        self.heard.append(signal)
        self._token.run_sync_soon(self._lot.unpark_all)

    async def wait_heard(self, signal: Signal) -> None:
        with trio.fail_after(SOON):
            while signal not in self.heard:
                await self._lot.park()


def settings(url: str, **more: Any) -> MongoSettings:
    return MongoSettings(**{"url": url, "database_name": "app"} | more)


def provider_for(name: str = "main", patience: float = PATIENCE) -> MongoProvider:
    provider = MongoProvider(name)
    provider.command_timeout = patience
    provider.close_timeout = BRIEFLY
    return provider


@asynccontextmanager
async def opened(
    url: str, *, provider: MongoProvider | None = None, ear: Ear | None = None, **more: Any
) -> AsyncIterator[tuple[MongoProvider, MongoHandle]]:
    provider = provider or provider_for()
    handle = await provider.open(settings(url, **more), ear or Ear())
    try:
        yield provider, handle
    finally:
        with trio.CancelScope(shield=True):
            await provider.close(handle)


async def failure(
    url: str, step: Callable[[MongoProvider, MongoHandle], Awaitable[None]], **more: Any
) -> tuple[FailureReason | None, str]:
    """The reason and the text of what `step` raises."""
    brief = provider_for(patience=BRIEFLY)
    async with opened(url, provider=brief, **more) as (provider, handle):
        with pytest.raises(PyMongoError) as caught:
            await step(provider, handle)
        return provider.classify(caught.value), provider.describe(caught.value)


async def reason(url: str, **more: Any) -> FailureReason | None:
    return (await failure(url, MongoProvider.ping, **more))[0]


async def test_an_opened_client_answers_and_gives_a_trio_database(
    mongod: Mongod, database_name: str
) -> None:
    async with opened(mongod.url, database_name=database_name) as (provider, handle):
        await provider.ping(handle)
        await provider.verify(handle)
        database = provider.database(handle)
        assert isinstance(database, TrioMotorDatabase)
        assert database.name == database_name
        await database.things.insert_one({"_id": 1})
        await provider.verify(handle)
        assert [d["_id"] async for d in database.things.find()] == [1]


async def test_opening_talks_to_nobody() -> None:
    async with opened("mongodb://127.0.0.1:1/") as (_, handle):
        assert not handle.driver.nodes


async def test_what_the_server_sees_of_us_names_the_connection(mongod: Mongod) -> None:
    async with opened(mongod.url) as (provider, handle):
        await provider.ping(handle)
        pipeline = [{"$currentOp": {"allUsers": True, "idleConnections": True}}]
        seen = [op.get("appName") async for op in handle.motor.admin.aggregate(pipeline)]
    assert "moorings/main" in seen


async def test_the_timeouts_of_the_driver_are_ours_unless_the_settings_say_otherwise(
    mongod: Mongod,
) -> None:
    async with opened(mongod.url) as (_, handle):
        assert handle.driver.options.pool_options.connect_timeout == 3.0
        assert handle.driver.options.server_selection_timeout == 30.0
    async with opened(mongod.url + "?connectTimeoutMS=7000&appname=mine") as (_, handle):
        assert handle.driver.options.pool_options.connect_timeout == 7.0
        assert handle.driver.options.pool_options.appname == "mine"


# What each failure is called


async def test_nothing_listens_is_refused() -> None:
    assert await reason("mongodb://127.0.0.1:1/") is FailureReason.REFUSED


async def test_an_unknown_name_is_dns() -> None:
    assert await reason("mongodb://no-such-host.invalid/") is FailureReason.DNS


async def test_an_unknown_srv_name_is_dns_although_the_driver_calls_it_configuration() -> None:
    assert await reason("mongodb+srv://no-such-host.invalid/") is FailureReason.DNS


async def test_silence_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert await reason(f"mongodb://127.0.0.1:{port}/") is FailureReason.TIMEOUT


async def test_a_server_that_hangs_up_is_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            try:
                while True:
                    listener.accept()[0].close()
            except OSError:
                return

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        assert await reason(f"mongodb://127.0.0.1:{port}/") is FailureReason.NETWORK
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


async def test_tls_to_a_plain_server_is_tls(mongod: Mongod) -> None:
    assert await reason(mongod.url, tls=True) is FailureReason.TLS


async def test_the_wrong_set_and_a_set_where_there_is_none_are_topology(
    mongod: Mongod, replica_set: ReplicaSet
) -> None:
    assert await reason(f"mongodb://{mongod.address}/?replicaSet=rs") is FailureReason.TOPOLOGY
    wrong = replica_set.url.replace(replica_set.name, "other")
    assert await reason(wrong) is FailureReason.TOPOLOGY


async def test_a_set_without_a_primary_is_topology_unless_secondaries_will_do(
    replica_set_factory: ReplicaSetFactory,
) -> None:
    members = replica_set_factory(2)
    members.primary().kill()
    assert await reason(members.url) is FailureReason.TOPOLOGY
    async with opened(members.url + "&readPreference=secondaryPreferred") as (provider, handle):
        await provider.ping(handle)
        await provider.verify(handle)


@pytest.mark.parametrize("spoilt", ["password", "username", "authSource"])
async def test_wrong_credentials_are_auth_the_first_time_and_every_time(
    spoilt: str, mongod_auth: Mongod
) -> None:
    """And no text shows the password, neither as it is nor as the URL spells it."""
    right = {"username": "root", "password": mongod_auth.password, "authSource": "admin"}
    wrong = right | {spoilt: "wr0ng/p@ss:word" if spoilt == "password" else "wrong"}
    user, password = quote_plus(wrong["username"]), quote_plus(wrong["password"])
    url = f"mongodb://{user}:{password}@{mongod_auth.address}/?authSource={wrong['authSource']}"
    async with opened(url, provider=provider_for(patience=BRIEFLY)) as (provider, handle):
        for _ in range(3):
            with pytest.raises(PyMongoError) as caught:
                await provider.verify(handle)
            assert provider.classify(caught.value) is FailureReason.AUTH
            text = provider.describe(caught.value) + repr(caught.value) + repr(handle)
            assert wrong["password"] not in text
            assert password not in text


async def test_missing_credentials_are_auth_though_the_ping_succeeds(mongod_auth: Mongod) -> None:
    async with opened(mongod_auth.url) as (provider, handle):
        await provider.ping(handle)
        with pytest.raises(OperationFailure) as caught:
            await provider.verify(handle)
        assert provider.classify(caught.value) is FailureReason.AUTH


async def test_a_user_with_rights_on_one_collection_is_enough(mongod_auth: Mongod) -> None:
    more = {"username": "reader", "password": mongod_auth.password}
    async with opened(mongod_auth.url, **more) as (provider, handle):
        await provider.verify(handle)
        assert await provider.database(handle).things.find_one() is None


async def test_a_user_without_any_right_is_auth(mongod_auth: Mongod) -> None:
    more = {"username": "nobody", "password": mongod_auth.password}
    found, text = await failure(mongod_auth.url, MongoProvider.verify, **more)
    assert found is FailureReason.AUTH
    # One line, without the command's body: that may hold data.
    assert text == "OperationFailure: not authorized on app to execute command listCollections"


async def test_credentials_in_the_url_work_whatever_characters_they_have(
    mongod_auth: Mongod,
) -> None:
    async with opened(mongod_auth.url_with_credentials) as (provider, handle):
        await provider.verify(handle)
        shown = repr(handle) + repr(handle.motor) + repr(handle.driver) + repr(provider)
        shown += repr(vars(handle.driver)) + repr(handle.driver.options.pool_options._credentials)
        assert mongod_auth.password not in shown
        assert quote_plus(mongod_auth.password) not in shown


async def test_an_unreadable_certificate_is_config(mongod: Mongod, tmp_path: Path) -> None:
    provider = provider_for()
    empty = tmp_path / "ca.pem"
    empty.write_text("")
    for ca_file in (str(tmp_path / "missing.pem"), str(empty)):
        with pytest.raises(ConfigurationError) as caught:
            await provider.open(settings(mongod.url, tls={"ca_file": ca_file}), Ear())
        assert provider.classify(caught.value) is FailureReason.CONFIG
    assert provider.executors == ()


async def test_a_stopped_server_and_a_dropped_connection_are_the_worlds_fault(
    mongod_factory: MongodFactory,
) -> None:
    server = mongod_factory()
    async with opened(server.url + "?serverSelectionTimeoutMS=500") as (provider, handle):
        await provider.ping(handle)
        things = provider.database(handle).things
        await things.insert_many([{"_id": i} for i in range(3)])
        cursor = things.find().batch_size(2)
        await cursor.next()
        await cursor.next()
        server.kill()
        with pytest.raises(PyMongoError) as caught:
            await cursor.next()
        assert provider.classify(caught.value) in {FailureReason.NETWORK, FailureReason.REFUSED}


# Signals


async def test_a_killed_server_is_lost_and_its_return_usable(mongod_factory: MongodFactory) -> None:
    server, ear = mongod_factory(), Ear()
    async with opened(server.url, ear=ear) as (provider, handle):
        await provider.ping(handle)
        assert ear.heard == [Signal.USABLE]
        server.kill()
        await ear.wait_heard(Signal.LOST)
        ear.heard.clear()
        provider.command_timeout = BRIEFLY
        server.start()
        with trio.fail_after(SOON):
            while True:  # as the runtime does: one bounded ping after the other
                try:
                    await provider.ping(handle)
                    break
                except PyMongoError:
                    continue
        await ear.wait_heard(Signal.USABLE)


async def test_a_lost_secondary_is_merely_suspect(replica_set_factory: ReplicaSetFactory) -> None:
    members, ear = replica_set_factory(), Ear()
    async with opened(members.url, ear=ear) as (provider, handle):
        await provider.ping(handle)
        with trio.fail_after(SOON):
            while len(handle.driver.nodes) < 3:
                await trio.lowlevel.checkpoint()
        members.secondaries()[0].kill()
        await ear.wait_heard(Signal.SUSPECT)
        assert Signal.LOST not in ear.heard
        await provider.ping(handle)


async def test_a_primary_that_steps_down_is_lost_and_its_successor_usable(
    replica_set: ReplicaSet,
) -> None:
    ear = Ear()
    async with opened(replica_set.url, ear=ear) as (provider, handle):
        await provider.ping(handle)
        ear.heard.clear()
        with replica_set.primary().client() as admin:
            admin.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=1, force=True)
        await ear.wait_heard(Signal.LOST)
        await ear.wait_heard(Signal.USABLE)
    replica_set.wait_settled()  # for the other tests


# Bounds


async def test_pings_of_a_frozen_server_are_bounded_and_the_thaw_heals(
    mongod_factory: MongodFactory,
) -> None:
    server = mongod_factory()
    async with opened(server.url) as (provider, handle):
        await provider.ping(handle)
        server.freeze()
        provider.command_timeout = BRIEFLY
        with trio.fail_after(SOON), pytest.raises(PyMongoError) as caught:
            await provider.ping(handle)
        assert provider.classify(caught.value) is FailureReason.TIMEOUT
        server.thaw()
        provider.command_timeout = PATIENCE
        with trio.fail_after(SOON):
            await provider.ping(handle)


async def test_pings_never_wait_behind_the_applications_calls(mongod: Mongod) -> None:
    """All threads of the application are stuck; the ping has one of its own."""
    release = threading.Event()
    async with opened(mongod.url, threads=2) as (provider, handle):
        for _ in range(5):
            handle.executor.submit(lambda: release.wait(SOON) and None)
        await provider.ping(handle)
        application, lane = provider.executors
        assert (application.busy, application.queued) == (2, 3)
        assert lane.limit == 2
        release.set()


@pytest.mark.parametrize("fate", ["kill", "freeze"])
async def test_closing_is_bounded_when_the_server_is_gone(
    fate: str, mongod_factory: MongodFactory
) -> None:
    """With sessions in the pool, PyMongo's own close would wait 30 s for a server."""
    server, provider = mongod_factory(), provider_for()
    handle = await provider.open(settings(server.url), Ear())
    await provider.database(handle).things.insert_one({})
    getattr(server, fate)()
    with trio.fail_after(SOON):
        await provider.close(handle)
        await provider.close(handle)
    assert provider.executors == ()


async def test_a_cancelled_close_still_closes(mongod_factory: MongodFactory) -> None:
    server, provider = mongod_factory(), provider_for()
    handle = await provider.open(settings(server.url), Ear())
    await provider.database(handle).things.insert_one({})
    server.freeze()
    with trio.move_on_after(0.01) as scope:
        await provider.close(handle)
    assert scope.cancelled_caught
    with trio.fail_after(SOON):
        while handle.lane.statistics().busy:
            await trio.lowlevel.checkpoint()
    assert handle.driver._closed


async def test_closing_leaves_no_thread_behind(mongod: Mongod) -> None:
    """PyMongo's monitors are not joined by its close; they end within one of their intervals."""
    before = threads()
    async with opened(mongod.url, provider=provider_for("counted")) as (provider, handle):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(provider.database(handle).command, "ping")
        await provider.ping(handle)
    with trio.fail_after(SOON):
        while threads() - before:
            await trio.sleep(0.01)


async def test_after_close_nothing_is_signalled(mongod: Mongod) -> None:
    """PyMongo's monitors outlive its close by a moment, and may still speak."""
    ear = Ear()
    async with opened(mongod.url, ear=ear) as (provider, handle):
        await provider.ping(handle)
    ear.heard.clear()
    address = ("127.0.0.1", mongod.port)
    monitor = handle.monitor
    monitor.succeeded(ServerHeartbeatSucceededEvent(0.1, Hello({"ok": 1}), address))
    monitor.failed(ServerHeartbeatFailedEvent(0.1, OSError(), address))
    monitor.pool_cleared(PoolClearedEvent(address))
    assert ear.heard == []
    assert repr(monitor) == "<MongoMonitor mute>"


async def test_a_server_that_was_not_usable_and_still_is_not_says_nothing_new(
    mongod: Mongod,
) -> None:
    ear = Ear()
    async with opened(mongod.url, ear=ear) as (_, handle):
        address = ("127.0.0.1", mongod.port)
        recovering = Hello({"ok": 1, "setName": "rs", "hosts": [mongod.address]})
        handle.monitor.succeeded(ServerHeartbeatSucceededEvent(0.1, recovering, address))
        assert ear.heard == []
        handle.monitor.failed(ServerHeartbeatFailedEvent(0.1, OSError(), address))
        assert ear.heard == [Signal.LOST]


async def test_a_server_that_goes_on_being_usable_says_nothing_new(mongod: Mongod) -> None:
    ear = Ear()
    async with opened(mongod.url, ear=ear) as (provider, handle):
        await provider.ping(handle)
        reply = Hello(await handle.motor.admin.command("hello"))
        handle.monitor.succeeded(
            ServerHeartbeatSucceededEvent(0.1, reply, ("127.0.0.1", mongod.port))
        )
        assert ear.heard == [Signal.USABLE]


# What it tells


async def test_endpoints_are_hosts_without_credentials() -> None:
    provider = MongoProvider("main")

    def endpoint(url: Any, **more: Any) -> str:
        return provider.endpoint(settings(url, **more))

    assert endpoint("mongodb://u:secret@b:2,a/?replicaSet=rs") == "mongodb://a:27017,b:2/rs"
    assert endpoint("mongodb://a", options={"REPLICASET": "rs"}) == "mongodb://a:27017/rs"
    assert endpoint("mongodb+srv://u:secret@Cluster.example.com/x") == (
        "mongodb+srv://cluster.example.com"
    )
    assert endpoint({"path": "database/mongo", "key": "url"}) == "mongodb:database/mongo/url"


async def test_statistics_show_threads_and_pool(mongod: Mongod) -> None:
    async with opened(mongod.url, threads=3) as (provider, handle):
        await provider.database(handle).command("ping")
        await provider.ping(handle)
        application, lane = provider.executors
        assert (application.name, application.limit) == ("main", 3)
        assert lane.name == "main-lane"
        (pool,) = provider.pools
        assert pool.idle >= 1
        assert pool.in_use == 0
        counts = provider.pool_counter.counts()
        assert counts.checkouts >= 2
        assert counts.seconds > 0
        assert (counts.cleared, set(counts.failures.values())) == (0, {0})
    assert provider.pools == ()
    assert provider.pool_counter.counts().checkouts >= counts.checkouts


async def test_an_exhausted_pool_is_overload_and_counted(mongod_factory: MongodFactory) -> None:
    server = mongod_factory()
    url = server.url + "?maxPoolSize=1&waitQueueTimeoutMS=50"
    async with opened(url) as (provider, handle):
        database = provider.database(handle)
        await database.things.insert_one({})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.things.find_one, {"$where": "sleep(1000) || true"})
            with trio.fail_after(SOON):
                while not provider.pools[0].in_use:
                    await trio.lowlevel.checkpoint()
            with pytest.raises(PyMongoError) as caught:
                await database.command("ping")
        assert provider.classify(caught.value) is FailureReason.OVERLOAD
        assert provider.pool_counter.counts().failures[CheckoutFailure.TIMEOUT] == 1
