"""One contract, every provider: what the runtime relies on, and what repositories do.

The bodies are host-agnostic coroutines over what Motor and PyMongo have in common (`settled` where
only one of them awaits); each runs against every backend in every host world it supports. What
passes against a real server and against `local` alike is what "one changed line of settings"
promises.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import inspect
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trio
from asyncio_fixtures import LOOPS
from pymongo import (
    ASCENDING,
    DESCENDING,
    DeleteMany,
    DeleteOne,
    IndexModel,
    InsertOne,
    ReplaceOne,
    ReturnDocument,
    UpdateMany,
    UpdateOne,
)
from pymongo.errors import (
    BulkWriteError,
    CollectionInvalid,
    DuplicateKeyError,
    InvalidName,
    InvalidOperation,
    OperationFailure,
)
from pymongo_sockets import UNCLOSED_BY_PYMONGO

from moorings.errors import FailureReason
from moorings.providers.contract import Signal
from moorings.providers.local import LocalDBProvider
from moorings.providers.mongo import MongoProvider
from moorings.providers.pymongo_async import PyMongoProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from moorings.providers.contract import DocumentsDatabaseBase


@dataclass
class Subject:
    """One backend in one host world.

    `settings` are of the server that works; `break_server()` and `mend_server()` are that
    backend's way to have it refuse connections, where it has a cheap one.
    """

    make: Callable[[], DocumentsDatabaseBase]
    loop: str
    settings: dict[str, Any]
    refused: Callable[[], tuple[DocumentsDatabaseBase, Any]]

    def validated(self, provider: DocumentsDatabaseBase) -> Any:
        return type(provider).settings_model.model_validate(self.settings)

    @property
    def host(self) -> str:
        return "trio" if self.loop == "trio" else "asyncio"

    def run(self, body: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        if self.host == "trio":
            trio.run(body, *arguments)
            return
        with asyncio.Runner(loop_factory=LOOPS[self.loop]) as runner:
            runner.run(body(*arguments))  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[DocumentsDatabaseBase, Any, Any]]:
        provider = self.make()
        client = await provider.open(self.validated(provider), _ignore)
        try:
            yield provider, client, provider.database(client)
        finally:
            await provider.close(client)

    def on_database(self, body: Callable[[Any], Awaitable[None]]) -> None:
        """Run `body(database)` on an empty database."""

        async def with_database() -> None:
            async with self.opened() as (_, _, database):
                await body(database)

        self.run(with_database)


async def settled(value: Any) -> Any:
    """What PyMongo's call gives when it is awaited, and Motor's at once; or the other way round."""
    return await value if inspect.isawaitable(value) else value


def _ignore(signal: Signal = Signal.SUSPECT, /) -> None:
    """An ear that does not listen."""


def _local(loop: str, database_name: str) -> Subject:
    def refused() -> tuple[DocumentsDatabaseBase, Any]:
        provider = LocalDBProvider("broken")
        provider.faults.refuse()
        return provider, LocalDBProvider.settings_model()

    return Subject(
        lambda: LocalDBProvider("subject"), loop, {"database_name": database_name}, refused
    )


def _mongo(
    provider: type[MongoProvider | PyMongoProvider], loop: str, database_name: str, url: str
) -> Subject:
    def refused() -> tuple[DocumentsDatabaseBase, Any]:
        # Port 1 of loopback: nobody listens there.
        options = {"serverSelectionTimeoutMS": 300}
        settings = {"url": "mongodb://127.0.0.1:1/", "database_name": "x", "options": options}
        broken = provider("broken")
        broken.command_timeout = 1.0  # the driver is given half of it to find a server
        return broken, provider.settings_model.model_validate(settings)

    settings = {"url": url, "database_name": database_name}
    return Subject(lambda: provider("subject"), loop, settings, refused)


DRIVERS: dict[str, type[MongoProvider | PyMongoProvider]] = {
    "mongo": MongoProvider,
    "pymongo": PyMongoProvider,
}


def _parameters(*servers: str) -> list[Any]:
    """Every backend in every loop on every one of `servers`.

    The first server, without uvloop, is for `make test`; the rest are slow by their number.
    """
    local = [
        pytest.param(f"local-{loop}", marks=[pytest.mark.slow] if loop == "uvloop" else [])
        for loop in _loops(LocalDBProvider)
    ]
    return local + [
        pytest.param(f"{name}-{loop}-{server}", marks=_marks(name, loop, server == servers[0]))
        for name, driver in DRIVERS.items()
        for loop in _loops(driver)
        for server in servers
    ]


def _loops(provider: type[DocumentsDatabaseBase]) -> list[str]:
    uvloop = ["uvloop"] if "asyncio" in provider.hosts else []
    return [*sorted(provider.hosts), *uvloop]


def _marks(name: str, loop: str, first: bool) -> list[pytest.MarkDecorator]:
    marks = [pytest.mark.mongod]
    if name.startswith("pymongo"):
        marks.append(pytest.mark.filterwarnings(UNCLOSED_BY_PYMONGO))
    if loop == "uvloop" or not first:
        marks.append(pytest.mark.slow)
    return marks


def _subject(request: pytest.FixtureRequest, database_name: str) -> Subject:
    backend, loop, *server = request.param.split("-")
    if backend == "local":
        return _local(loop, database_name)
    if backend == "pymongo":
        request.getfixturevalue("pymongo_sockets_collected")
    return _mongo(DRIVERS[backend], loop, database_name, request.getfixturevalue(server[0]).url)


@pytest.fixture(params=_parameters("mongod", "replica_set"))
def subject(request: pytest.FixtureRequest, database_name: str) -> Subject:
    """Every backend, on a standalone server and on a set."""
    return _subject(request, database_name)


@pytest.fixture(params=_parameters("replica_set"))
def transactional(request: pytest.FixtureRequest, database_name: str) -> Subject:
    """Every backend, on a server that has transactions."""
    return _subject(request, database_name)


# -- what the runtime relies on


def test_open_ping_verify_close(subject: Subject) -> None:
    async def body() -> None:
        async with subject.opened() as (provider, client, database):
            await provider.ping(client)
            await provider.verify(client)
            assert database.name == subject.settings["database_name"]

    subject.run(body)


def test_the_provider_supports_the_host_it_is_tested_in(subject: Subject) -> None:
    assert subject.host in type(subject.make()).hosts


def test_the_endpoint_shows_no_more_than_where_the_server_is(subject: Subject) -> None:
    provider = subject.make()
    endpoint = provider.endpoint(subject.validated(provider))
    assert endpoint
    assert "@" not in endpoint


def test_open_asks_nothing_of_the_server_and_ping_says_refused(subject: Subject) -> None:
    async def body() -> None:
        provider, settings = subject.refused()
        client = await provider.open(settings, _ignore)
        try:
            with pytest.raises(Exception) as caught:
                await provider.ping(client)
            assert provider.classify(caught.value) is FailureReason.REFUSED
            with pytest.raises(Exception) as caught:
                await provider.verify(client)
            assert provider.classify(caught.value) is FailureReason.REFUSED
            assert "\n" not in provider.describe(caught.value)
        finally:
            await provider.close(client)

    subject.run(body)


def test_an_operation_on_a_dead_server_is_an_autoreconnect_that_classify_knows(
    subject: Subject,
) -> None:
    from pymongo.errors import AutoReconnect

    async def body() -> None:
        provider, settings = subject.refused()
        client = await provider.open(settings, _ignore)
        try:
            with pytest.raises(AutoReconnect) as caught:
                await provider.database(client)["things"].find_one({})
            assert provider.classify(caught.value) is FailureReason.REFUSED
        finally:
            await provider.close(client)

    subject.run(body)


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), AssertionError()])
def test_what_no_server_can_cause_is_a_bug(subject: Subject, error: Exception) -> None:
    assert subject.make().classify(error) is None


def test_a_second_client_beside_the_first_sees_the_same_data(subject: Subject) -> None:
    async def body() -> None:
        async with subject.opened() as (provider, _, database):
            await database["things"].insert_one({"_id": 1})
            second = await provider.open(subject.validated(provider), _ignore)
            assert await provider.database(second)["things"].find_one({}) == {"_id": 1}
            await provider.close(second)
            assert await database["things"].count_documents({}) == 1

    subject.run(body)


def test_data_outlives_the_client(subject: Subject) -> None:
    async def body() -> None:
        async with subject.opened() as (provider, client, database):
            await database["things"].insert_one({"_id": 1})
            await provider.close(client)
            again = await provider.open(subject.validated(provider), _ignore)
            assert await provider.database(again)["things"].find_one({}) == {"_id": 1}
            await provider.close(again)

    subject.run(body)


def test_a_handle_of_a_closed_client_says_so(subject: Subject) -> None:
    async def body() -> None:
        async with subject.opened() as (provider, client, database):
            await provider.ping(client)
            await provider.close(client)
            with pytest.raises(InvalidOperation):
                await database["things"].find_one({})

    subject.run(body)


def test_close_may_be_repeated(subject: Subject) -> None:
    async def body() -> None:
        async with subject.opened() as (provider, client, _):
            await provider.close(client)

    subject.run(body)


def test_notify_may_be_any_callable_that_takes_a_signal_from_any_thread(subject: Subject) -> None:
    heard: list[tuple[Signal, threading.Thread]] = []

    def notify(signal: Signal = Signal.SUSPECT, /) -> None:
        heard.append((signal, threading.current_thread()))

    async def body() -> None:
        provider = subject.make()
        client = await provider.open(subject.validated(provider), notify)
        await provider.ping(client)
        await provider.close(client)

    subject.run(body)
    assert all(isinstance(signal, Signal) for signal, _ in heard)


# -- what repositories do

THINGS = [{"_id": n, "kind": "even" if n % 2 == 0 else "odd", "n": n} for n in range(6)]


async def _fill(database: Any) -> Any:
    things = database["things"]
    await things.insert_many([dict(thing) for thing in THINGS])
    return things


def test_insert_one_gives_an_id_to_the_document_itself(subject: Subject) -> None:
    async def body(database: Any) -> None:
        document = {"name": "a"}
        result = await database.things.insert_one(document)
        assert result.inserted_id == document["_id"]
        assert result.acknowledged
        assert await database.things.find_one({"_id": result.inserted_id}) == document
        assert await database.things.find_one(result.inserted_id) == document

    subject.on_database(body)


def test_what_was_inserted_is_a_copy(subject: Subject) -> None:
    async def body(database: Any) -> None:
        document: dict[str, Any] = {"_id": 1, "tags": ["a"]}
        await database.things.insert_one(document)
        document["tags"].append("b")
        found = await database.things.find_one({"_id": 1})
        assert found == {"_id": 1, "tags": ["a"]}
        found["tags"].append("c")
        assert await database.things.find_one({"_id": 1}) == {"_id": 1, "tags": ["a"]}

    subject.on_database(body)


def test_insert_many_and_count(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        assert await things.count_documents({}) == 6
        assert await things.count_documents({"kind": "odd"}) == 3
        assert await things.count_documents({}, skip=1, limit=2) == 2
        assert await things.estimated_document_count() == 6

    subject.on_database(body)


def test_find_sort_skip_limit_projection(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        cursor = things.find({"kind": "even"}, {"n": 1, "_id": 0}).sort("n", DESCENDING)
        assert await cursor.skip(1).limit(1).to_list(None) == [{"n": 2}]
        cursor = things.find({}, sort=[("kind", ASCENDING), ("n", DESCENDING)], skip=1, limit=3)
        assert [thing["n"] async for thing in cursor] == [2, 0, 5]
        assert await things.find_one({}, sort=[("n", -1)]) == THINGS[5]

    subject.on_database(body)


def test_to_list_honours_its_length_and_goes_on_from_there(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        cursor = things.find().sort("_id")
        assert await cursor.to_list(length=4) == THINGS[:4]
        assert await cursor.to_list(length=4) == THINGS[4:]
        assert await cursor.to_list(length=4) == []
        assert not cursor.alive
        with pytest.raises(ValueError, match=r"non-negative|greater than 0"):
            await cursor.to_list(length=-1)

    subject.on_database(body)


def test_a_cursor_can_be_cloned_rewound_and_closed(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        cursor = things.find().sort("_id")
        assert await cursor.next() == THINGS[0]
        assert await cursor.clone().to_list(1) == THINGS[:1]
        assert await cursor.next() == THINGS[1]
        await settled(cursor.rewind())
        assert await cursor.next() == THINGS[0]
        with pytest.raises(InvalidOperation):
            cursor.limit(1)
        await cursor.close()  # what it has fetched already, Motor still gives

    subject.on_database(body)


def test_the_query_operators_a_repository_uses(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)

        async def found(query: dict[str, Any]) -> list[int]:
            return [thing["_id"] async for thing in things.find(query).sort("_id")]

        assert await found({"n": {"$gte": 2, "$lt": 4}}) == [2, 3]
        assert await found({"n": {"$in": [1, 9]}}) == [1]
        assert await found({"$or": [{"n": 0}, {"kind": "odd", "n": {"$gt": 3}}]}) == [0, 5]
        assert await found({"kind": {"$regex": "^e"}, "n": {"$ne": 0}}) == [2, 4]
        assert await found({"missing": {"$exists": False}, "n": {"$not": {"$lt": 5}}}) == [5]
        assert await found({"$expr": {"$eq": ["$n", 3]}}) == [3]

    subject.on_database(body)


def test_updates_and_their_counts(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        result = await things.update_one({"_id": 1}, {"$set": {"name": "x"}, "$inc": {"n": 10}})
        assert (result.matched_count, result.modified_count) == (1, 1)
        assert await things.find_one(1) == {"_id": 1, "kind": "odd", "n": 11, "name": "x"}
        result = await things.update_many({"kind": "even"}, {"$push": {"tags": "t"}})
        assert (result.matched_count, result.modified_count) == (3, 3)
        result = await things.update_one({"_id": 1}, {"$set": {"name": "x"}})
        assert (result.matched_count, result.modified_count) == (1, 0)
        result = await things.update_one({"_id": 99}, {"$set": {"name": "x"}})
        assert (result.matched_count, result.upserted_id) == (0, None)

    subject.on_database(body)


def test_upserts(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = database.things
        update = {"$set": {"n": 1}, "$setOnInsert": {"new": True}}
        result = await things.update_one({"_id": "a"}, update, upsert=True)
        assert result.upserted_id == "a"
        result = await things.update_one({"_id": "a"}, {"$set": {"n": 2}}, upsert=True)
        assert result.upserted_id is None
        assert await things.find_one("a") == {"_id": "a", "n": 2, "new": True}
        result = await things.replace_one({"_id": "b"}, {"n": 3}, upsert=True)
        assert result.upserted_id == "b"

    subject.on_database(body)


def test_current_date_is_stored_as_every_other_date_is(subject: Subject) -> None:
    async def body(database: Any) -> None:
        before = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(seconds=60)
        await database.things.insert_one({"_id": 1})
        await database.things.update_one({"_id": 1}, {"$currentDate": {"at": True}})
        found = await database.things.find_one({"at": {"$gt": before}})
        assert found["at"].tzinfo is None
        assert found["at"].microsecond % 1000 == 0

    subject.on_database(body)


def test_array_updates(subject: Subject) -> None:
    async def body(database: Any) -> None:
        items = [{"k": 1, "v": 0}, {"k": 2, "v": 0}]
        await database.things.insert_one({"_id": 1, "items": items})
        await database.things.update_one({"items.k": 2}, {"$set": {"items.$.v": 5}})
        changed = await database.things.find_one_and_update(
            {"_id": 1, "items.k": 2},
            {"$inc": {"items.$.v": 1}},
            return_document=ReturnDocument.AFTER,
        )
        assert [item["v"] for item in changed["items"]] == [0, 6]
        await database.things.update_one(
            {"_id": 1}, {"$set": {"items.$[i].v": 9}}, array_filters=[{"i.k": 1}]
        )
        changed = await database.things.find_one_and_update(
            {"_id": 1}, {"$pull": {"items": {"k": 2}}}, return_document=ReturnDocument.AFTER
        )
        assert changed["items"] == [{"k": 1, "v": 9}]

    subject.on_database(body)


def test_replace_and_delete(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        result = await things.replace_one({"_id": 0}, {"name": "zero"})
        assert result.modified_count == 1
        assert await things.find_one(0) == {"_id": 0, "name": "zero"}
        assert (await things.delete_one({"kind": "odd"})).deleted_count == 1
        assert (await things.delete_many({"kind": "odd"})).deleted_count == 2
        assert (await things.delete_many({"kind": "odd"})).deleted_count == 0
        with pytest.raises(ValueError, match="replacement can not include"):
            await things.replace_one({}, {"$set": {}})
        with pytest.raises(ValueError, match="update only works with"):
            await things.update_one({}, {"n": 1})

    subject.on_database(body)


def test_find_one_and_modify(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        before = await things.find_one_and_update(
            {"kind": "odd"}, {"$set": {"n": 50}}, sort=[("n", DESCENDING)], projection={"n": 1}
        )
        assert before == {"_id": 5, "n": 5}
        after = await things.find_one_and_replace(
            {"_id": 5}, {"n": 51}, return_document=ReturnDocument.AFTER
        )
        assert after == {"_id": 5, "n": 51}
        assert await things.find_one_and_delete({"_id": 5}) == {"_id": 5, "n": 51}
        assert await things.find_one_and_delete({"_id": 5}) is None
        assert await things.find_one_and_update({"_id": 7}, {"$set": {"n": 7}}) is None
        upserted = await things.find_one_and_update(
            {"_id": 7}, {"$set": {"n": 7}}, upsert=True, return_document=ReturnDocument.AFTER
        )
        assert upserted == {"_id": 7, "n": 7}

    subject.on_database(body)


def test_aggregate(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        pipeline = [
            {"$match": {"n": {"$gt": 0}}},
            {"$group": {"_id": "$kind", "sum": {"$sum": "$n"}, "count": {"$sum": 1}}},
            {"$sort": {"_id": 1}},
        ]
        expected = [{"_id": "even", "sum": 6, "count": 2}, {"_id": "odd", "sum": 9, "count": 3}]
        assert await (await settled(things.aggregate(pipeline))).to_list(None) == expected
        assert [group async for group in await settled(things.aggregate(pipeline))] == expected
        await database.names.insert_one({"_id": "even", "name": "gerade"})
        lookup = {"from": "names", "localField": "kind", "foreignField": "_id", "as": "names"}
        pipeline = [{"$match": {"_id": 0}}, {"$lookup": lookup}, {"$unwind": "$names"}]
        [joined] = await (await settled(things.aggregate(pipeline))).to_list(5)
        assert joined["names"]["name"] == "gerade"

    subject.on_database(body)


def test_distinct(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        assert sorted(await things.distinct("kind")) == ["even", "odd"]
        assert sorted(await things.distinct("n", {"kind": "odd"})) == [1, 3, 5]
        assert sorted(await things.find({"kind": "odd"}).distinct("n")) == [1, 3, 5]

    subject.on_database(body)


def test_a_unique_index_refuses_duplicates_and_leaves_the_data_whole(subject: Subject) -> None:
    async def body(database: Any) -> None:
        users = database.users
        assert await users.create_index([("email", ASCENDING)], unique=True) == "email_1"
        await users.insert_many([{"_id": 1, "email": "a"}, {"_id": 2, "email": "b"}])
        with pytest.raises(DuplicateKeyError) as caught:
            await users.insert_one({"_id": 3, "email": "a"})
        assert caught.value.code == 11000
        with pytest.raises(DuplicateKeyError):
            await users.insert_one({"_id": 1})
        with pytest.raises(DuplicateKeyError):
            await users.update_one({"_id": 2}, {"$set": {"email": "a", "seen": True}})
        with pytest.raises(DuplicateKeyError):
            await users.update_one({"_id": 9}, {"$set": {"email": "a"}}, upsert=True)
        assert await users.find().sort("_id").to_list(None) == [
            {"_id": 1, "email": "a"},
            {"_id": 2, "email": "b"},
        ]

    subject.on_database(body)


def test_indexes_are_listed_and_dropped(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        models = [IndexModel("n"), IndexModel([("kind", 1), ("n", -1)], name="both")]
        assert await things.create_indexes(models) == ["n_1", "both"]
        information = await things.index_information()
        assert information["both"]["key"] == [("kind", 1), ("n", -1)]
        listed = [index["name"] async for index in await settled(things.list_indexes())]
        assert sorted(listed) == ["_id_", "both", "n_1"]
        await things.drop_index("n_1")
        with pytest.raises(OperationFailure):
            await things.drop_index("n_1")
        await things.drop_indexes()
        assert list(await things.index_information()) == ["_id_"]

    subject.on_database(body)


def test_bulk_write(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        result = await things.bulk_write(
            [
                InsertOne({"_id": 6, "n": 6}),
                UpdateOne({"_id": 6}, {"$set": {"kind": "even"}}),
                UpdateOne({"_id": 7}, {"$set": {"n": 7}}, upsert=True),
                UpdateMany({"kind": "even"}, {"$inc": {"n": 100}}),
                ReplaceOne({"_id": 1}, {"n": -1}),
                DeleteOne({"_id": 3}),
                DeleteMany({"kind": "odd"}),
            ]
        )
        assert result.inserted_count == 1
        assert result.upserted_ids == {2: 7}
        assert (result.matched_count, result.modified_count) == (6, 6)
        assert result.deleted_count == 2
        assert [thing["n"] async for thing in things.find().sort("_id")] == [
            100, -1, 102, 104, 106, 7,
        ]  # fmt: skip

    subject.on_database(body)


@pytest.mark.parametrize(("ordered", "expected"), [(True, [1]), (False, [1, 2])])
def test_a_failed_bulk_says_what_failed_and_keeps_what_did_not(
    subject: Subject, ordered: bool, expected: list[int]
) -> None:
    async def body(database: Any) -> None:
        requests = [InsertOne({"_id": 1}), InsertOne({"_id": 1}), InsertOne({"_id": 2})]
        with pytest.raises(BulkWriteError) as caught:
            await database.things.bulk_write(requests, ordered=ordered)
        [error] = caught.value.details["writeErrors"]
        assert (error["index"], error["code"]) == (1, 11000)
        assert caught.value.details["nInserted"] == len(expected)
        assert [thing["_id"] async for thing in database.things.find().sort("_id")] == expected
        with pytest.raises(BulkWriteError):
            await database.things.insert_many([{"_id": 1}, {"_id": 3}], ordered=ordered)

    subject.on_database(body)


def test_collections_come_and_go(subject: Subject) -> None:
    async def body(database: Any) -> None:
        await database.create_collection("a")
        with pytest.raises(CollectionInvalid):
            await database.create_collection("a")
        await database.b.insert_one({})
        assert sorted(await database.list_collection_names()) == ["a", "b"]
        assert await database.list_collection_names(filter={"name": "b"}) == ["b"]
        assert [entry["name"] async for entry in await database.list_collections()] != []
        await database.b.rename("c")
        await database.drop_collection("a")
        assert await database.list_collection_names() == ["c"]
        await database.c.drop()
        assert await database.list_collection_names() == []
        with pytest.raises(InvalidName):
            database["$nope"]

    subject.on_database(body)


def test_names_and_the_ways_to_a_collection(subject: Subject) -> None:
    async def body(database: Any) -> None:
        things = database.get_collection("things")
        assert things == database["things"]
        assert things.name == "things"
        assert things.full_name == f"{database.name}.things"
        assert things.sub.name == "things.sub"
        assert things["sub"].database == database
        assert (await database.command("ping"))["ok"] == 1
        assert (await database.client["admin"].command({"ping": 1}))["ok"] == 1
        assert database.client.get_database(database.name) == database

    subject.on_database(body)


# -- transactions


def test_a_transaction_commits_together_and_is_invisible_before(transactional: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        async with await settled(database.client.start_session()) as session:
            async with await settled(session.start_transaction()):
                await things.insert_one({"_id": 10}, session=session)
                await things.update_one({"_id": 0}, {"$set": {"n": -1}}, session=session)
                await things.delete_one({"_id": 5}, session=session)
                assert await things.count_documents({}, session=session) == 6
                assert await things.find_one({"_id": 10}, session=session) == {"_id": 10}
                assert await things.find_one({"_id": 10}) is None
                assert (await things.find_one({"_id": 0}))["n"] == 0
            assert not session.in_transaction
        assert await things.find_one({"_id": 10}) == {"_id": 10}
        assert (await things.find_one({"_id": 0}))["n"] == -1
        assert await things.find_one({"_id": 5}) is None

    transactional.on_database(body)


def test_a_transaction_that_fails_rolls_back_and_takes_nobody_elses_writes_along(
    transactional: Subject,
) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)

        async def fail() -> None:
            start = database.client.start_session
            async with (
                await settled(start()) as session,
                await settled(session.start_transaction()),
            ):
                await things.insert_one({"_id": 10}, session=session)
                await things.insert_one({"_id": 11})
                raise LookupError

        with pytest.raises(LookupError):
            await fail()
        assert await things.find_one({"_id": 10}) is None
        assert await things.find_one({"_id": 11}) == {"_id": 11}

    transactional.on_database(body)


def test_abort_by_hand(transactional: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        async with await settled(database.client.start_session()) as session:
            await settled(session.start_transaction())
            await things.delete_many({}, session=session)
            await session.abort_transaction()
            assert not session.in_transaction
            with pytest.raises(InvalidOperation):
                await session.commit_transaction()
        assert session.has_ended
        assert await things.count_documents({}) == 6

    transactional.on_database(body)


def test_with_transaction_returns_what_its_callback_does(transactional: Subject) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)

        async def move(session: Any) -> int:
            await things.update_one({"_id": 1}, {"$inc": {"n": -1}}, session=session)
            await things.update_one({"_id": 2}, {"$inc": {"n": 1}}, session=session)
            return 42

        async with await settled(database.client.start_session()) as session:
            assert await session.with_transaction(move) == 42
        assert (await things.find_one(1))["n"] + (await things.find_one(2))["n"] == 3

    transactional.on_database(body)


def test_of_two_transactions_on_one_document_one_fails_and_may_be_repeated(
    transactional: Subject,
) -> None:
    async def body(database: Any) -> None:
        things = await _fill(database)
        start = database.client.start_session
        async with await settled(start()) as first, await settled(start()) as second:
            await settled(first.start_transaction())
            await settled(second.start_transaction())
            await things.update_one({"_id": 1}, {"$set": {"by": 1}}, session=first)
            with pytest.raises(OperationFailure) as caught:
                await things.update_one({"_id": 1}, {"$set": {"by": 2}}, session=second)
                await first.commit_transaction()
                await second.commit_transaction()
            assert caught.value.code == 112
            assert caught.value.has_error_label("TransientTransactionError")
            if first.in_transaction:
                await first.commit_transaction()
        assert (await things.find_one(1))["by"] == 1

    transactional.on_database(body)
