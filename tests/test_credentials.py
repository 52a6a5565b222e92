"""Credentials that change on a real server: gone by under load, and found where pools hide it."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from pymongo.errors import PyMongoError
from pymongo_sockets import UNCLOSED_BY_PYMONGO
from settings_files import mongo, settings
from stacks import STACKS, Stack

from moorings import MongoProvider, PyMongoProvider, Signal, open_connections
from moorings.providers.local_host import sleep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mongod import Mongod
    from pymongo import MongoClient

    from moorings import Connection, ConnectionManager

pytestmark = [
    pytest.mark.mongod,
    pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO),
    pytest.mark.usefixtures("pymongo_sockets_collected"),
]

SOON = 20.0
SWAPPED_WITHIN = 5.0
"""Seconds until the sockets of the client that was replaced are gone, as counted by the server."""
RATE = 100
WRITERS = 4


@dataclass
class Account:
    """A user on the server, and the files that say who it is."""

    server: Mongod
    folder: Path
    admin: MongoClient[dict[str, Any]]
    name: str = field(default_factory=lambda: f"user_{uuid4().hex[:8]}")
    password: str = field(default_factory=lambda: uuid4().hex)

    def create(self) -> Account:
        roles = [{"role": "readWrite", "db": "app"}]
        self.admin.admin.command("createUser", self.name, pwd=self.password, roles=roles)
        return self

    def drop(self) -> None:
        self.admin.admin.command("dropUser", self.name)

    def change_password(self) -> None:
        self.password = uuid4().hex
        self.admin.admin.command("updateUser", self.name, pwd=self.password)

    def write(self) -> None:
        """As Kubernetes does: a new folder, to which one link is swapped."""
        new = self.folder / f"..{uuid4().hex}"
        new.mkdir()
        (new / "username").write_text(self.name)
        (new / "password").write_text(self.password)
        (self.folder / "..next").symlink_to(new.name)
        (self.folder / "..next").rename(self.folder / "..data")
        for key in ("username", "password"):
            if not (self.folder / key).is_symlink():
                (self.folder / key).symlink_to(f"..data/{key}")

    def connections(self) -> frozenset[int]:
        """The server's connections of Moorings, the driver's monitors among them."""
        stages: list[dict[str, Any]] = [
            {"$currentOp": {"allUsers": True, "idleConnections": True}},
            {"$match": {"appName": {"$regex": "^moorings/main"}}},
        ]
        found = self.admin.admin.aggregate(stages)
        return frozenset(one["connectionId"] for one in found if "connectionId" in one)


@pytest.fixture
def account(mongod_auth: Mongod, tmp_path: Path) -> Iterator[Account]:
    """A user who may write to `app`, whose files are in place."""
    folder = tmp_path / "mongo"
    folder.mkdir()
    with mongod_auth.client(username="root", password=mongod_auth.password) as admin:
        made = Account(mongod_auth, folder, admin).create()
        made.write()
        yield made


def connection(account: Account, stack: Stack, **health: float) -> dict[str, Any]:
    reference = {key: {"path": "mongo", "key": key} for key in ("username", "password")}
    main = mongo(f"{account.server.url}?authSource=admin", health={"interval": 0.5, **health})
    main["backend"] = stack.backend
    main["provider"] |= reference
    file = {"base_path": str(account.folder.parent), "refresh": 0.2}
    return settings({"main": main}, security={"secrets": {"backend": "file", "provider": file}})


@dataclass
class Load:
    """Writers that take the database anew for each document."""

    manager: ConnectionManager
    collection: str
    acknowledged: int = 0
    failed: list[str] = field(default_factory=list)
    generations: set[int] = field(default_factory=set)
    stopping: bool = False

    async def write(self, number: int) -> None:
        connection, began, written = self.manager["main"], time.monotonic(), 0
        while not self.stopping:
            generation = connection.generation
            database = await self.manager.get_database()
            try:
                await database[self.collection].insert_one({"writer": number, "n": written})
            except Exception as error:  # noqa: BLE001 - counted: there should be none at all
                self.failed.append(repr(error))
            else:
                self.acknowledged += 1
                self.generations.add(generation)
            written += 1
            await sleep(max(began + written * WRITERS / RATE - time.monotonic(), 0.0))


async def _with_load(stack: Stack, load: Load, body: Any) -> None:
    if stack.host == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            for number in range(WRITERS):
                nursery.start_soon(load.write, number)
            await body()
            load.stopping = True
        return
    import asyncio

    writers = [asyncio.create_task(load.write(number)) for number in range(WRITERS)]
    await body()
    load.stopping = True
    await asyncio.gather(*writers)


async def until(condition: Any, what: str, seconds: float = SOON) -> float:
    """Seconds until `condition()` holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        await sleep(0.02)
    return time.monotonic() - began


async def in_thread(function: Any) -> Any:
    """The server is asked by a client that blocks."""
    from moorings.runtime.hosts import in_thread

    return await in_thread(function)


async def gone(account: Account, old: frozenset[int]) -> float:
    """Seconds until the server has none of these connections."""
    began = time.monotonic()
    while await in_thread(account.connections) & old:
        assert time.monotonic() - began < SOON
        await sleep(0.05)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("how", ["another user", "another password"])
def test_under_load_no_operation_fails_while_credentials_change(
    account: Account, stack: Stack, how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """100 writes a second; the swap leaves `ready` alone, and the old sockets are soon gone."""
    transitions: list[Any] = []
    collection = f"load_{uuid4().hex[:8]}"
    result: dict[str, Any] = {}

    async def main() -> None:
        async with open_connections(
            connection(account, stack), metrics=CollectorRegistry(), observers=[transitions.append]
        ) as manager:
            main = manager["main"]
            await manager.get_database()
            load = Load(manager, collection)

            async def rotate() -> None:
                await until(lambda: load.acknowledged >= RATE, "the load is under way")
                before = await in_thread(account.connections)
                old = new = account
                if how == "another user":
                    new = Account(account.server, account.folder, account.admin)
                    await in_thread(new.create)
                    await in_thread(new.write)
                else:
                    await in_thread(account.change_password)
                    await in_thread(account.write)
                result["swapped"] = await until(lambda: main.generation == 2, "the swap")
                result["sockets before"] = len(before)
                result["gone"] = await gone(account, before)
                if new is not old:
                    await in_thread(old.drop)
                result["sockets after"] = len(await in_thread(account.connections))
                written = load.acknowledged
                await until(lambda: load.acknowledged >= written + RATE, "writing goes on")

            await _with_load(stack, load, rotate)
            result["acknowledged"], result["failed"] = load.acknowledged, load.failed
            assert main.generation == 2
            assert load.generations == {1, 2}

    stack.run(main)
    with capsys.disabled():
        print(f"\n{stack.backend}/{stack.host}, {how}: {result}")
    assert result["failed"] == []
    assert [t.event.value for t in transitions] == ["start", "established", "stop"]
    stored = account.admin.app[collection].count_documents({})
    assert stored == result["acknowledged"]
    assert result["gone"] < SWAPPED_WITHIN
    assert result["sockets before"] >= 3  # a pooled one, and two of the monitor
    assert result["sockets after"] >= 3


# -- the probe ------------------------------------------------------------------------------------


@contextmanager
def connections_kept(account: Account) -> Iterator[None]:
    """The server has no connections afterwards that it did not have before."""
    before = account.connections()
    yield
    deadline = time.monotonic() + SOON
    while account.connections() - before:
        assert time.monotonic() < deadline, "probes leave connections behind"
        time.sleep(0.05)


@pytest.mark.parametrize("stack", STACKS)
def test_a_probe_finds_the_password_that_pooled_connections_hide(
    account: Account, stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """Pings stay green, the state stays `ready`; one warning, a counter, and it heals."""
    metrics = CollectorRegistry()
    old = account.password

    def failures(reason: str = "auth") -> float:
        labels = {"runtime": "moorings", "connection": "main", "reason": reason}
        name = "moorings_connection_probe_failures_total"
        return metrics.get_sample_value(name, labels) or 0.0

    def probes() -> float:
        labels = {"runtime": "moorings", "connection": "main"}
        return metrics.get_sample_value("moorings_connection_probes_total", labels) or 0.0

    async def main() -> None:
        one = connection(account, stack, probe_interval=0.2)
        async with open_connections(one, metrics=metrics) as manager:
            main: Connection = manager["main"]
            await manager.get_database()
            await until(lambda: probes() >= 2, "probes that are let in")
            assert failures() == 0
            await in_thread(account.change_password)  # and nobody writes the file
            await until(lambda: failures() >= 2, "probes that are refused")
            labels = {"runtime": "moorings", "connection": "main", "reason": "auth"}
            assert metrics.get_sample_value("moorings_connection_probe_refused", labels) == 1
            assert main.is_ready()
            assert main.generation == 1
            database = await manager.get_database()
            await database.probed.insert_one({})
            said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
            assert [text for text in said if "fresh connections are refused (auth)" in text] == said
            assert len(said) == 1
            assert old not in caplog.text
            await in_thread(account.write)
            await until(lambda: main.generation == 2, "the new password")
            before = failures()
            done = probes()
            await until(lambda: probes() >= done + 2, "probes that are let in again")
            assert failures() == before

    with connections_kept(account):
        stack.run(main)


@pytest.mark.parametrize("stack", STACKS)
def test_a_failed_login_heals_within_the_refresh(account: Account, stack: Stack) -> None:
    """The long backoff of 30 s is cut short when the file says something else."""

    async def main() -> None:
        one = connection(account, stack)
        long = {"backoff_initial": 30.0, "backoff_max": 30.0}
        one["default"]["database"]["documents"]["main"]["supervision"] = long
        async with open_connections(one, metrics=CollectorRegistry()) as manager:
            main = manager["main"]
            await until(lambda: main.status.reason == "auth", "refused")
            await until(lambda: main.state == "failed", "failed")
            await in_thread(account.write)
            assert await until(main.is_ready, "ready again") < 3.0

    account.change_password()
    stack.run(main)


# -- the driver -----------------------------------------------------------------------------------


async def many_at_once(database: Any, number: int = 8) -> list[BaseException]:
    """Calls that need more connections than there are; what they fail with."""
    failed: list[BaseException] = []

    async def call() -> None:
        try:
            # Held by the server for a while, so that no two of them share a connection.
            await database.held.find_one({"$where": "sleep(100) || true"})
        except PyMongoError as error:
            failed.append(error)

    if type(database).__module__.startswith("moorings"):
        import trio

        async with trio.open_nursery() as nursery:
            for _ in range(number):
                nursery.start_soon(call)
    else:
        import asyncio

        await asyncio.gather(*(call() for _ in range(number)))
    return failed


@pytest.mark.parametrize("stack", STACKS)
def test_a_driver_says_when_a_new_connection_is_refused(account: Account, stack: Stack) -> None:
    account.admin.app.held.insert_one({})
    signals: list[Signal] = []
    provider = {"mongo": MongoProvider, "pymongo": PyMongoProvider}[stack.backend]("main")

    async def main() -> None:
        one = provider.settings_model(
            url=f"{account.server.url}?authSource=admin",
            database_name="app",
            username=account.name,
            password=account.password,
            options={"heartbeatFrequencyMS": 500},  # the calls that fail wait for the next one
        )
        client = await provider.open(one, signals.append)
        try:
            await provider.verify(client)
            assert Signal.REFUSED not in signals
            await in_thread(account.change_password)
            failed = await many_at_once(provider.database(client))
            assert failed
            await until(lambda: Signal.REFUSED in signals, "the signal")
        finally:
            await provider.close(client)

    stack.run(main)


@pytest.mark.parametrize("stack", STACKS)
def test_when_the_pool_has_to_grow_the_new_secret_is_gone_by_at_once(
    account: Account, stack: Stack
) -> None:
    """The driver then throws its pool away: not without a gap, but within the second."""
    account.admin.app.held.insert_one({})
    ready_at: list[float] = []

    def observe(transition: Any) -> None:
        if transition.target == "ready":
            ready_at.append(time.monotonic())

    async def main() -> None:
        one = connection(account, stack)
        one["default"]["security"]["secrets"]["provider"]["refresh"] = 1000.0
        provider = one["default"]["database"]["documents"]["main"]["provider"]
        provider["options"] = {"heartbeatFrequencyMS": 500}  # held calls wait for the next one
        async with open_connections(
            one, metrics=CollectorRegistry(), observers=[observe]
        ) as manager:
            main = manager["main"]
            database = await manager.get_database()
            await in_thread(account.change_password)
            await in_thread(account.write)
            began = time.monotonic()
            await many_at_once(database)
            await until(lambda: main.generation == 2 and main.is_ready(), "healed")
            # Swapped before the driver said more, or by the episode that followed.
            assert ready_at[-1] - began < 1.0
            assert not await many_at_once(await manager.get_database())

    stack.run(main)
