"""Motor on asyncio with threads of its own: its whole surface, cancellation, who waits for whom."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
from motor import motor_asyncio
from motor.motor_asyncio import (
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
    AsyncIOMotorGridFSBucket,
)
from pymongo.errors import DuplicateKeyError, InvalidOperation, OperationFailure

from moorings.providers import threads
from moorings.providers.motor_asyncio import AsyncIOMotorClient, ClientLoop
from moorings.providers.threads import ClientExecutor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncio_fixtures import Run
    from mongod import Mongod, MongodFactory, ReplicaSet, ReplicaSetFactory

PATIENCE = 30.0


@asynccontextmanager
async def connected(url: str, *, threads: int = 64) -> AsyncIterator[Any]:
    """A client of the test's own, closed without waiting for a server that may be gone."""
    executor = ClientExecutor("test", threads)
    loop = asyncio.get_running_loop()
    client: Any = AsyncIOMotorClient(url, loop=loop, executor=executor)
    try:
        yield client
    finally:
        with pymongo.timeout(0.5):
            client.delegate.close()
        executor.close()


def executor_of(client: Any) -> ClientExecutor:
    found: ClientExecutor = client.io_loop._executor
    return found


async def wait_quiet(client: Any) -> None:
    """Wait until all its calls have ended."""
    assert await asyncio.to_thread(executor_of(client).wait_quiet, PATIENCE)


async def occupy(executor: ClientExecutor) -> threading.Event:
    """Keep one of its threads busy until the event is set."""
    begun, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def job() -> None:
        loop.call_soon_threadsafe(begun.set)
        release.wait(PATIENCE)

    executor.submit(job)
    await begun.wait()
    return release


pytestmark = pytest.mark.mongod


def test_everything_it_gives_is_motors_own(
    mongod: Mongod, database_name: str, on_asyncio: Run
) -> None:
    async def main() -> None:
        async with connected(mongod.url) as client:
            assert isinstance(client, motor_asyncio.AsyncIOMotorClient)
            database = client[database_name]
            assert type(database) is AsyncIOMotorDatabase
            assert type(database.things) is AsyncIOMotorCollection
            assert type(client.get_database(database_name)) is AsyncIOMotorDatabase
            assert type(database.things.find()) is motor_asyncio.AsyncIOMotorCursor
            async with await client.start_session() as session:
                assert isinstance(session, motor_asyncio.AsyncIOMotorClientSession)
                assert session.client is client

    on_asyncio(main)


def test_documents_cursors_and_aggregations(
    mongod: Mongod, database_name: str, on_asyncio: Run
) -> None:
    async def main() -> None:
        async with connected(mongod.url) as client:
            numbers = client[database_name].numbers
            await numbers.insert_many([{"_id": i} for i in range(10)])
            cursor = numbers.find().sort("_id").batch_size(3)
            assert [d["_id"] for d in await cursor.to_list(4)] == [0, 1, 2, 3]
            assert [d["_id"] for d in await cursor.to_list(None)] == [4, 5, 6, 7, 8, 9]
            assert await cursor.to_list(1) == []
            found = [d["_id"] async for d in numbers.find().sort("_id").batch_size(2)]
            assert found == list(range(10))
            with pytest.raises(OperationFailure):
                await numbers.find({"$nonsense": 1}).to_list(None)
            pipeline = [{"$match": {"_id": {"$gte": 4}}}, {"$sort": {"_id": 1}}]
            assert len(await numbers.aggregate(pipeline, batchSize=2).to_list(None)) == 6
            found = [d["_id"] async for d in numbers.aggregate(pipeline, batchSize=0)]
            assert found == list(range(4, 10))
            with pytest.raises(OperationFailure):
                await numbers.aggregate([{"$nonsense": {}}]).to_list(None)
            with pytest.raises(DuplicateKeyError):
                await numbers.insert_one({"_id": 1})
            await client.drop_database(database_name)

    on_asyncio(main)


def test_transactions_and_change_streams(
    replica_set: ReplicaSet, database_name: str, on_asyncio: Run
) -> None:
    async def main() -> None:
        async with connected(replica_set.url) as client:
            database = client[database_name]
            things = database.things
            await database.create_collection("things")
            async with things.watch(max_await_time_ms=100) as stream:
                assert await stream.try_next() is None
                async with await client.start_session() as session:
                    async with session.start_transaction():
                        await things.insert_one({"_id": "kept"}, session=session)
                        assert await things.find_one({"_id": "kept"}) is None
                    with contextlib.suppress(KeyError):
                        async with session.start_transaction():
                            await things.insert_one({"_id": "aborted"}, session=session)
                            raise KeyError
                assert (await stream.next())["documentKey"]["_id"] == "kept"
            assert [d["_id"] for d in await things.find().to_list(None)] == ["kept"]

    on_asyncio(main)


def test_a_session_left_by_cancellation_aborts_its_transaction(
    replica_set: ReplicaSet, database_name: str, on_asyncio: Run
) -> None:
    """The document is not locked afterwards, although a call of it was under way."""

    async def main() -> None:
        async with connected(replica_set.url) as client:
            things = client[database_name].things
            await things.insert_one({"_id": 1, "n": 0})

            async def change() -> None:
                async with await client.start_session() as session:
                    session.start_transaction()
                    await things.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
                    await things.find_one({"$where": "sleep(300) || true"}, session=session)

            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await change()
            with pymongo.timeout(10):  # a transaction left open would lock it for a minute
                await things.update_one({"_id": 1}, {"$set": {"n": 2}})
            assert await things.find_one() == {"_id": 1, "n": 2}

    on_asyncio(main)


def test_leaving_a_session_of_a_frozen_server_does_not_hold_up_the_loop(
    replica_set_factory: ReplicaSetFactory, database_name: str, on_asyncio: Run
) -> None:
    members = replica_set_factory(1)
    server = members.primary()

    async def main() -> None:
        async with connected(members.url) as client:
            things = client[database_name].things
            await things.insert_one({"_id": 1})

            async def leave() -> None:
                async with await client.start_session() as session:
                    session.start_transaction()
                    await things.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
                    server.freeze()

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(leave(), 1)  # ends in time only in a loop that runs
            assert executor_of(client).statistics().busy == 1
            server.thaw()
            await wait_quiet(client)

    on_asyncio(main)


def test_gridfs_stores_lists_and_streams_files(
    mongod: Mongod, database_name: str, on_asyncio: Run
) -> None:
    async def main() -> None:
        async with connected(mongod.url) as client:
            bucket: Any = AsyncIOMotorGridFSBucket(client[database_name], chunk_size_bytes=4)
            content = b"0123456789"
            first = await bucket.upload_from_stream("first", content, metadata={"a": 1})
            async with bucket.open_upload_stream("second") as upload:
                await upload.write(content)
                await upload.set("extra", 1)
            sink = io.BytesIO()
            await bucket.download_to_stream(first, sink)
            assert sink.getvalue() == content
            download = await bucket.open_download_stream_by_name("second")
            assert await download.read(3) == b"012"
            assert b"".join([chunk async for chunk in download]) == content[3:]
            opened = await (await bucket.open_download_stream(first)).open()
            assert opened.metadata == {"a": 1}
            await bucket.delete(first)
            assert len(await bucket.find().to_list(None)) == 1

    on_asyncio(main)


def test_five_hundred_tasks_at_once_share_ten_threads(
    mongod: Mongod, database_name: str, on_asyncio: Run
) -> None:
    async def main() -> None:
        async with connected(mongod.url, threads=10) as client:
            counts = client[database_name].counts
            async with asyncio.TaskGroup() as group:
                for i in range(500):
                    group.create_task(_inserted(counts, i))
            assert await counts.count_documents({}) == 500
            statistics = executor_of(client).statistics()
            assert statistics.busy + statistics.idle <= 10
            assert statistics.queued == 0

    on_asyncio(main)


async def _inserted(collection: Any, number: int) -> None:
    await collection.insert_one({"_id": number})


def test_the_callers_pymongo_timeout_holds_in_the_thread_for_every_batch(
    mongod: Mongod, database_name: str, on_asyncio: Run
) -> None:
    async def main() -> None:
        async with connected(mongod.url) as client:
            numbers = client[database_name].numbers
            await numbers.insert_many([{"_id": i} for i in range(4)])
            sleepy = numbers.find({"$where": "sleep(300) || true"}).batch_size(2)
            with pymongo.timeout(0.9), pytest.raises(pymongo.errors.PyMongoError) as caught:
                await sleepy.to_list(None)
            assert caught.value.timeout

    on_asyncio(main)


def test_cancelling_frees_the_task_while_the_server_is_frozen(
    mongod_factory: MongodFactory, database_name: str, on_asyncio: Run
) -> None:
    """The call itself goes on: after the thaw the document is there."""
    server = mongod_factory()

    async def main() -> None:
        async with connected(server.url) as client:
            things = client[database_name].things
            await things.insert_one({"_id": 1})
            server.freeze()
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await things.insert_one({"_id": 2})
            assert executor_of(client).statistics().busy == 1
            server.thaw()
            await wait_quiet(client)
            assert await things.count_documents({}) == 2

    on_asyncio(main)


def test_a_cancelled_call_that_still_queued_is_never_sent(
    mongod: Mongod, database_name: str, on_asyncio: Run
) -> None:
    async def main() -> None:
        async with connected(mongod.url, threads=1) as client:
            things = client[database_name].things
            release = await occupy(executor_of(client))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await things.insert_one({"_id": 1})
            assert executor_of(client).statistics().queued == 0
            release.set()
            assert await things.count_documents({}) == 0

    on_asyncio(main)


def test_a_listing_under_way_keeps_its_executor_from_being_quiet(
    mongod: Mongod, database_name: str, on_asyncio: Run
) -> None:
    """Between two batches no thread is at work; a client that is closed waits all the same."""

    async def main() -> None:
        async with connected(mongod.url) as client:
            numbers = client[database_name].numbers
            await numbers.insert_many([{"_id": i} for i in range(4)])
            listing = numbers.find().batch_size(2).to_list(None)
            assert not executor_of(client).wait_quiet(0.2)  # the loop stands still meanwhile
            assert len(await listing) == 4
            await wait_quiet(client)
            cancelled = numbers.find().batch_size(2).to_list(None)
            cancelled.cancel()
            await wait_quiet(client)

    on_asyncio(main)


def test_after_close_calls_say_so(mongod: Mongod, database_name: str, on_asyncio: Run) -> None:
    async def main() -> None:
        async with connected(mongod.url) as client:
            things = client[database_name].things
            await things.insert_one({})
        with pytest.raises(InvalidOperation, match="after close"):
            await things.find_one()
        with pytest.raises(InvalidOperation, match="after close"):
            await things.find().to_list(None)

    on_asyncio(main)


def test_a_system_without_threads_is_reported_to_who_awaits(
    monkeypatch: pytest.MonkeyPatch, on_asyncio: Run
) -> None:
    def no_thread(_worker: object) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        async with connected("mongodb://127.0.0.1:1/") as client:
            with monkeypatch.context() as broken:
                broken.setattr(threads._Worker, "start", no_thread)
                call = client.admin.command("ping")
                with pytest.raises(RuntimeError, match="new thread"):
                    await call

    on_asyncio(main)


def test_the_loop_of_a_client_is_the_real_one_in_all_else(on_asyncio: Run) -> None:
    async def main() -> None:
        real, executor = asyncio.get_running_loop(), ClientExecutor("test", 1)
        loop: Any = ClientLoop(real, executor)  # type: ignore[abstract]
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert loop.is_running()
        assert loop.time() == pytest.approx(real.time(), abs=1)
        assert loop.create_future().get_loop() is real
        assert await loop.create_task(asyncio.sleep(0, 1)) == 1
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name == "test-1"
        assert repr(loop) == f"<ClientLoop 'test' of {real!r}>"
        executor.close()

    on_asyncio(main)
