"""The `mongo` and `pymongo` providers in asyncio programs, on real servers.

What they open, notice, bound, close and never leave behind; the same promises for both, in plain
asyncio and in uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import leftovers
import pytest
import trio
from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import ConfigurationError, InvalidOperation, OperationFailure, PyMongoError
from pymongo_sockets import UNCLOSED_BY_PYMONGO

from moorings.errors import FailureReason, HostMismatch
from moorings.providers.contract import Signal
from moorings.providers.mongo import MongoProvider
from moorings.providers.pymongo_async import PyMongoProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from asyncio_fixtures import Run
    from mongod import Mongod, MongodFactory, ReplicaSet

    Provider = MongoProvider | PyMongoProvider

pytestmark = [
    pytest.mark.mongod,
    pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO),
    pytest.mark.usefixtures("pymongo_sockets_collected"),
]

PLAIN = pytest.mark.parametrize("new_loop", ["asyncio"], indirect=True)
"""For what has nothing to do with the kind of loop, and takes long."""

SOON = 15.0
PATIENCE = 10.0
BRIEFLY = 1.0

DRIVERS: dict[str, type[Provider]] = {"mongo": MongoProvider, "pymongo": PyMongoProvider}


@pytest.fixture(params=DRIVERS)
def make(request: pytest.FixtureRequest) -> Callable[..., Provider]:
    """Makes providers of one backend; the test runs once for each."""

    def make(patience: float = PATIENCE) -> Provider:
        provider = DRIVERS[request.param]("main")
        provider.command_timeout, provider.close_timeout = patience, BRIEFLY
        return provider

    return make


class Ear:
    """Hears a provider's signals, from any thread; tasks wait for them."""

    def __init__(self) -> None:
        self.heard: list[Signal] = []
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def __call__(self, signal: Signal = Signal.SUSPECT, /) -> None:
        self.heard.append(signal)
        self._loop.call_soon_threadsafe(self._news.set)

    async def wait_heard(self, signal: Signal) -> None:
        async with asyncio.timeout(SOON):
            while signal not in self.heard:
                await self._news.wait()
                self._news.clear()


def settings(provider: Provider, url: str, **more: Any) -> Any:
    return type(provider).settings_model(**{"url": url, "database_name": "app"} | more)


@contextlib.asynccontextmanager
async def opened(
    provider: Provider, url: str, *, ear: Ear | None = None, **more: Any
) -> AsyncIterator[Any]:
    handle = await provider.open(settings(provider, url, **more), ear or Ear())
    try:
        yield handle
    finally:
        await provider.close(handle)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.005)


def test_an_opened_client_answers_and_gives_the_drivers_own_database(
    mongod: Mongod, database_name: str, make: Any, on_asyncio: Run
) -> None:
    async def main() -> None:
        provider = make()
        async with opened(provider, mongod.url, database_name=database_name) as handle:
            await provider.ping(handle)
            await provider.verify(handle)
            database = provider.database(handle)
            genuine = AsyncIOMotorDatabase if hasattr(provider, "executors") else AsyncDatabase
            assert type(database) is genuine
            await database.things.insert_one({"_id": 1})
            assert [d["_id"] async for d in database.things.find()] == [1]
            assert repr(provider) == f"<{type(provider).__name__} 'main' clients=1>"
            (pool,) = provider.pools
            assert pool.idle >= 1
            assert pool.in_use == 0
            counts = provider.pool_counter.counts()
            assert (counts.cleared, set(counts.failures.values())) == (0, {0})
            assert counts.checkouts >= 4
        assert provider.pools == ()

    on_asyncio(main)


# What each failure is called


async def reason(
    provider: Provider,
    url: str,
    step: Callable[[Any, Any], Awaitable[None]] | None = None,
    **more: Any,
) -> FailureReason | None:
    async with opened(provider, url, **more) as handle:
        with pytest.raises(PyMongoError) as caught:
            await (step or type(provider).ping)(provider, handle)
        assert "\n" not in provider.describe(caught.value)
        return provider.classify(caught.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mongodb://127.0.0.1:1/", FailureReason.REFUSED),
        ("mongodb://no-such-host.invalid/", FailureReason.DNS),
        ("mongodb+srv://no-such-host.invalid/", FailureReason.DNS),
    ],
)
def test_what_cannot_be_reached_has_its_reason(
    url: str, expected: FailureReason, make: Any, on_asyncio: Run
) -> None:
    async def main() -> FailureReason | None:
        return await reason(make(BRIEFLY), url)

    assert on_asyncio(main) is expected


@PLAIN
def test_silence_is_a_timeout(make: Any, on_asyncio: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:

        async def main() -> FailureReason | None:
            return await reason(make(BRIEFLY), f"mongodb://127.0.0.1:{silent.getsockname()[1]}/")

        assert on_asyncio(main) is FailureReason.TIMEOUT


@PLAIN
def test_tls_to_a_plain_server_is_tls(mongod: Mongod, make: Any, on_asyncio: Run) -> None:
    async def main() -> FailureReason | None:
        return await reason(make(BRIEFLY), mongod.url, tls=True)

    assert on_asyncio(main) is FailureReason.TLS


@PLAIN
def test_the_wrong_set_is_topology(replica_set: ReplicaSet, make: Any, on_asyncio: Run) -> None:
    async def main() -> FailureReason | None:
        return await reason(make(BRIEFLY), replica_set.url.replace(replica_set.name, "other"))

    assert on_asyncio(main) is FailureReason.TOPOLOGY


@PLAIN
def test_wrong_credentials_are_auth_every_time_and_never_shown(
    mongod_auth: Mongod, make: Any, on_asyncio: Run
) -> None:
    async def main() -> None:
        provider, more = make(BRIEFLY), {"username": "root", "password": "wr0ng/p@ss:word"}
        async with opened(provider, mongod_auth.url, **more) as handle:
            for _ in range(3):
                with pytest.raises(PyMongoError) as caught:
                    await provider.verify(handle)
                assert provider.classify(caught.value) is FailureReason.AUTH
                text = provider.describe(caught.value) + repr(caught.value) + repr(handle)
                assert "wr0ng" not in text

    on_asyncio(main)


@PLAIN
def test_missing_credentials_are_auth_though_the_ping_succeeds(
    mongod_auth: Mongod, make: Any, on_asyncio: Run
) -> None:
    async def main() -> None:
        provider = make()
        async with opened(provider, mongod_auth.url) as handle:
            await provider.ping(handle)
            with pytest.raises(OperationFailure) as caught:
                await provider.verify(handle)
            assert provider.classify(caught.value) is FailureReason.AUTH
        more = {"username": "reader", "password": mongod_auth.password}
        async with opened(provider, mongod_auth.url, **more) as handle:
            await provider.verify(handle)

    on_asyncio(main)


@PLAIN
def test_a_failing_open_leaves_nothing_behind(
    mongod: Mongod, tmp_path: Path, make: Any, on_asyncio: Run
) -> None:
    async def main() -> None:
        provider, before = make(), held()
        for _ in range(3):
            ca_file = str(tmp_path / "missing.pem")
            with pytest.raises(ConfigurationError) as caught:
                await provider.open(settings(provider, mongod.url, tls={"ca_file": ca_file}), Ear())
            assert provider.classify(caught.value) is FailureReason.CONFIG
        assert provider.pools == ()
        await until(lambda: no_more_than(before))

    on_asyncio(main)


def test_the_pymongo_backend_is_refused_on_trio_and_names_the_one_that_works() -> None:
    async def main() -> None:
        provider = PyMongoProvider("main")
        await provider.open(settings(provider, "mongodb://127.0.0.1:1/"), lambda *_: None)

    with pytest.raises(HostMismatch, match=r'on trio\. Set backend = "mongo"'):
        trio.run(main)


# Signals and bounds


def test_a_killed_server_is_lost_and_its_return_usable(
    mongod_factory: MongodFactory, make: Any, on_asyncio: Run
) -> None:
    server = mongod_factory()

    async def main() -> None:
        provider, ear = make(), Ear()
        async with opened(provider, server.url, ear=ear) as handle:
            await provider.ping(handle)
            assert ear.heard == [Signal.USABLE]
            server.kill()
            await ear.wait_heard(Signal.LOST)
            ear.heard.clear()
            provider.command_timeout = BRIEFLY
            server.start()
            async with asyncio.timeout(SOON):
                while True:  # as the runtime does: one bounded ping after the other
                    try:
                        await provider.ping(handle)
                        break
                    except PyMongoError:
                        continue
            await ear.wait_heard(Signal.USABLE)
        heard = len(ear.heard)
        server.kill()
        await asyncio.sleep(0)
        assert len(ear.heard) == heard, "a closed client says nothing"

    on_asyncio(main)


@PLAIN
def test_pings_of_a_frozen_server_are_bounded_and_the_thaw_heals(
    mongod_factory: MongodFactory, make: Any, on_asyncio: Run
) -> None:
    server = mongod_factory()

    async def main() -> None:
        provider = make()
        async with opened(provider, server.url) as handle:
            await provider.ping(handle)
            server.freeze()
            provider.command_timeout = BRIEFLY
            async with asyncio.timeout(SOON):
                with pytest.raises(PyMongoError) as caught:
                    await provider.ping(handle)
            assert provider.classify(caught.value) is FailureReason.TIMEOUT
            server.thaw()
            provider.command_timeout = PATIENCE
            async with asyncio.timeout(SOON):
                await provider.ping(handle)

    on_asyncio(main)


def test_cancelling_a_call_frees_its_task_at_once(
    mongod_factory: MongodFactory, make: Any, on_asyncio: Run
) -> None:
    """And in the end its connection is nobody's any more: with `pymongo` at once."""
    server = mongod_factory()

    async def main() -> None:
        provider = make()
        async with opened(provider, server.url) as handle:
            await provider.ping(handle)
            server.freeze()
            calls = [
                asyncio.create_task(_awaited(provider.database(handle).command("ping")))
                for _ in range(5)
            ]
            await until(lambda: provider.pools[0].in_use == 1)
            for call in calls:
                call.cancel()
            done, _ = await asyncio.wait(calls, timeout=SOON)
            assert len(done) == 5
            if isinstance(provider, PyMongoProvider):
                assert provider.pools[0].in_use == 0
            server.thaw()
            await until(lambda: provider.pools[0].in_use == 0)
            await provider.ping(handle)

    on_asyncio(main)


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


# Closing


@pytest.mark.parametrize("fate", ["kill", "freeze"])
@PLAIN
def test_closing_is_bounded_when_the_server_is_gone(
    fate: str, mongod_factory: MongodFactory, make: Any, on_asyncio: Run
) -> None:
    """With sessions in the pool, PyMongo's own close would wait 30 s for a server."""
    server = mongod_factory()

    async def main() -> None:
        provider = make()
        handle = await provider.open(settings(provider, server.url), Ear())
        await provider.database(handle).things.insert_one({})
        getattr(server, fate)()
        async with asyncio.timeout(SOON):
            await provider.close(handle)
            await provider.close(handle)
        assert provider.pools == ()

    on_asyncio(main)


@PLAIN
def test_closing_lets_calls_under_way_finish(
    mongod: Mongod, database_name: str, make: Any, on_asyncio: Run
) -> None:
    async def main() -> None:
        provider = make()
        provider.close_timeout = PATIENCE
        handle = await provider.open(
            settings(provider, mongod.url, database_name=database_name), Ear()
        )
        things = provider.database(handle).things
        await things.insert_one({"_id": 1})
        slow = asyncio.create_task(_awaited(things.find_one({"$where": "sleep(300) || true"})))
        await until(lambda: provider.pools[0].in_use == 1)
        await provider.close(handle)
        assert await slow == {"_id": 1}
        with pytest.raises(InvalidOperation):
            await things.find_one()

    on_asyncio(main)


@PLAIN
def test_closing_says_what_it_gave_up(
    mongod_factory: MongodFactory, make: Any, on_asyncio: Run
) -> None:
    server = mongod_factory()

    async def main() -> None:
        provider = make()
        handle = await provider.open(settings(provider, server.url), Ear())
        await provider.ping(handle)
        server.freeze()
        stuck = asyncio.create_task(_awaited(provider.database(handle).command("ping")))
        await until(lambda: provider.pools[0].in_use == 1)
        async with asyncio.timeout(SOON):
            with pytest.raises(TimeoutError, match="calls of 'main' were still under way"):
                await provider.close(handle)
        stuck.cancel()
        await asyncio.wait([stuck])
        server.kill()

    on_asyncio(main)


@PLAIN
def test_a_cancelled_close_does_not_cut_pymongo_off(
    mongod: Mongod, monkeypatch: pytest.MonkeyPatch, on_asyncio: Run
) -> None:
    """Cut off while it closes its sockets, it would leave them open."""

    async def main() -> None:
        provider = PyMongoProvider("main")
        before = await held_after(life(provider, mongod.url))
        handle = await provider.open(settings(provider, mongod.url), Ear())
        await provider.ping(handle)
        close, begun, release, path = handle.driver.close, asyncio.Event(), asyncio.Event(), []

        async def slow() -> None:
            path.append("begun")
            begun.set()
            await release.wait()
            await close()
            path.append("ended")

        monkeypatch.setattr(handle.driver, "close", slow)
        closing = asyncio.create_task(provider.close(handle))
        await begun.wait()
        closing.cancel()
        await asyncio.wait([closing])
        release.set()
        await until(lambda: no_more_than(before))
        assert path == ["begun", "ended"]

    on_asyncio(main)


def test_a_cancelled_close_passes_at_once_and_still_closes(
    mongod_factory: MongodFactory, make: Any, on_asyncio: Run
) -> None:
    server = mongod_factory()

    async def main() -> None:
        provider = make()
        provider.close_timeout = PATIENCE
        before = await held_after(life(provider, server.url))
        handle = await provider.open(settings(provider, server.url), Ear())
        await provider.database(handle).things.insert_one({})
        server.freeze()
        stuck = asyncio.create_task(_awaited(provider.database(handle).command("ping")))
        await until(lambda: provider.pools[0].in_use == 1)
        closing = asyncio.create_task(provider.close(handle))
        await asyncio.sleep(0.01)
        closing.cancel()
        began = time.monotonic()
        await asyncio.wait([closing])
        assert closing.cancelled()
        assert time.monotonic() - began < BRIEFLY
        with pytest.raises(InvalidOperation):
            async with asyncio.timeout(SOON):
                await provider.database(handle).things.find_one()
        stuck.cancel()
        await asyncio.wait([stuck])
        server.kill()
        await until(lambda: no_more_than(before))

    on_asyncio(main)


def test_a_loop_that_ends_while_a_client_is_closed_ends_cleanly(
    mongod_factory: MongodFactory,
    make: Any,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    nothing_left: None,
) -> None:
    server = mongod_factory()

    async def main() -> None:
        provider = make()
        handle = await provider.open(settings(provider, server.url), Ear())
        await provider.database(handle).things.insert_one({})
        server.freeze()
        closing = asyncio.create_task(provider.close(handle))
        await asyncio.sleep(0.01)
        closing.cancel()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    server.kill()


@pytest.mark.parametrize("turns", [1, 2])
def test_a_loop_that_ends_as_a_clients_close_begins_closes_it(
    mongod: Mongod,
    make: Any,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    nothing_left: None,
    turns: int,
) -> None:
    async def main() -> asyncio.Task[None]:
        provider = make()
        handle = await provider.open(settings(provider, mongod.url), Ear())
        await provider.database(handle).things.insert_one({})
        closing = asyncio.create_task(provider.close(handle))
        for _ in range(turns):
            await asyncio.sleep(0)
        return closing

    with asyncio.Runner(loop_factory=new_loop) as runner:
        closing = runner.run(main())
    assert closing.done()


# Leaks


def own_threads() -> int:
    """Threads, without the loop's own, in which it looks names up: those it keeps."""
    return sum(not thread.name.startswith("asyncio_") for thread in leftovers.threads())


def held() -> tuple[int, int, int]:
    return len(leftovers.open_files()), own_threads(), len(asyncio.all_tasks())


async def life(provider: Provider, url: str) -> None:
    async with opened(provider, url) as handle:
        await provider.ping(handle)
        await provider.verify(handle)
        await provider.database(handle).things.find_one()


async def held_after(first: Awaitable[None]) -> tuple[int, int, int]:
    """What is held once there was a client: what a loop opens for its first one, it keeps."""
    threads = own_threads()
    await first
    await until(lambda: own_threads() <= threads)
    return held()


def no_more_than(before: tuple[int, int, int]) -> bool:
    return all(now <= then for now, then in zip(held(), before, strict=True))


def test_a_first_ping_given_up_while_its_client_is_closed_starts_nothing_anew(
    mongod: Mongod, monkeypatch: pytest.MonkeyPatch, on_asyncio: Run
) -> None:
    """PyMongo opens what a client needs with its first call, be it closed by then or not."""
    connecting, release = threading.Event(), threading.Event()

    async def main() -> None:
        provider, before = MongoProvider("main"), own_threads()
        handle = await provider.open(settings(provider, mongod.url), Ear())
        topology: Any = handle.driver._topology
        opening = topology.open

        def open_late() -> None:
            opening()
            connecting.set()
            release.wait(SOON)

        monkeypatch.setattr(topology, "open", open_late)
        ping = asyncio.create_task(provider.ping(handle))
        await until(connecting.is_set)
        ping.cancel()
        await asyncio.wait([ping])
        await provider.close(handle)
        release.set()
        await until(lambda: own_threads() <= before)
        assert handle.driver is not None, "and not because the client was collected"

    on_asyncio(main)


@pytest.mark.slow
def test_opening_and_closing_often_leaves_nothing_behind(
    mongod: Mongod, make: Any, on_asyncio: Run
) -> None:
    """A third of the lives is cancelled at a random moment, as restarts and shutdowns do."""
    on_asyncio(lambda: lives(make(), mongod.url, 60))


@PLAIN
@pytest.mark.slow
def test_opening_and_closing_a_thousand_times_leaves_nothing_behind(
    mongod: Mongod, make: Any, on_asyncio: Run
) -> None:
    on_asyncio(lambda: lives(make(), mongod.url, 1000))


async def lives(provider: Provider, url: str, times: int) -> None:
    """Open, use and close `times` times, a third of them cut short; then count what is held."""
    moments = random.Random(5)
    before = await held_after(life(provider, url))
    for number in range(times):
        living = asyncio.create_task(life(provider, url))
        if number % 3 == 0:
            await asyncio.sleep(moments.random() * 0.03)
            living.cancel()
        await asyncio.wait([living])
        assert living.cancelled() or living.exception() is None
    if isinstance(provider, PyMongoProvider):
        gc.collect()  # see UNCLOSED_BY_PYMONGO: in debug mode such sockets are in cycles
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await until(lambda: no_more_than(before))
    names = sorted(thread.name for thread in threading.enumerate())
    assert no_more_than(before), f"{before} before, {held()} now: {names}"
    assert provider.pools == ()


@PLAIN
def test_closing_waits_for_no_monitor_that_connects_to_a_frozen_server(
    mongod_factory: MongodFactory, on_asyncio: Run, pymongo_sockets_collected: None
) -> None:
    """PyMongo's own `close` joins its monitors, however long they take to give up."""
    server = mongod_factory()

    async def main() -> float:
        provider = PyMongoProvider("frozen")
        provider.close_timeout = 0.8
        options = {"connectTimeoutMS": 8000}
        url = {"url": server.url, "database_name": "x", "options": options}
        handle = await provider.open(provider.settings_model.model_validate(url), Ear())
        server.freeze()
        pinging = asyncio.create_task(provider.ping(handle))
        await asyncio.sleep(0)
        pinging.cancel()
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            await provider.close(handle)
        return asyncio.get_running_loop().time() - began

    try:
        assert on_asyncio(main) < 3.0
    finally:
        server.thaw()
