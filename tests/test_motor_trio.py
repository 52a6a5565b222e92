"""Motor on trio, on real servers: its whole surface, cancellation, and who waits for whom."""

from __future__ import annotations

import contextlib
import io
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pymongo
import pytest
import trio
import trio.testing
from pymongo.errors import DuplicateKeyError, InvalidOperation, OperationFailure

from moorings.providers import motor_trio
from moorings.providers.motor_trio import TrioMotorClient, TrioMotorGridFSBucket
from moorings.providers.threads import ClientExecutor, ExecutorStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mongod import Mongod, MongodFactory, ReplicaSet

    from moorings.providers.trio_future import TrioFuture

pytestmark = pytest.mark.mongod


@asynccontextmanager
async def connected(url: str, *, threads: int = 64, **options: Any) -> AsyncIterator[Any]:
    """A client of the test's own, closed without waiting for a server that may be gone."""
    executor = ClientExecutor("test", threads)
    client: Any = TrioMotorClient(url, io_loop=executor, **options)
    try:
        yield client
    finally:
        with pymongo.timeout(0.5):
            client.delegate.close()
        executor.close()


@pytest.fixture
async def client(mongod: Mongod) -> AsyncIterator[Any]:
    async with connected(mongod.url) as client:
        yield client


@pytest.fixture
async def set_client(replica_set: ReplicaSet) -> AsyncIterator[Any]:
    async with connected(replica_set.url) as client:
        yield client


async def held(executor: ClientExecutor, count: int) -> threading.Event:
    """Occupy `count` threads until the event is set."""
    release = threading.Event()
    begun = threading.Semaphore(0)

    def job() -> None:
        begun.release()
        release.wait(30)

    for _ in range(count):
        executor.submit(job)
    for _ in range(count):
        await trio.to_thread.run_sync(begun.acquire)
    return release


async def test_documents_are_written_read_changed_and_deleted(
    client: Any, database_name: str
) -> None:
    things = client[database_name].things
    inserted = await things.insert_one({"_id": 1, "n": 1})
    assert inserted.inserted_id == 1
    await things.insert_many([{"_id": i, "n": i} for i in range(2, 6)])
    assert await things.find_one({"_id": 3}) == {"_id": 3, "n": 3}
    assert (await things.update_many({"n": {"$gt": 3}}, {"$inc": {"n": 10}})).modified_count == 2
    assert await things.count_documents({"n": {"$gt": 10}}) == 2
    assert (await things.delete_one({"_id": 1})).deleted_count == 1
    assert sorted(await things.distinct("_id")) == [2, 3, 4, 5]
    assert await things.find_one_and_delete({"_id": 2}) == {"_id": 2, "n": 2}
    await things.create_index("n", unique=True)
    with pytest.raises(DuplicateKeyError):
        await things.insert_one({"n": 3})
    assert database_name in await client.list_database_names()
    assert await client[database_name].list_collection_names() == ["things"]
    await client.drop_database(database_name)


async def test_cursors_give_lists_in_parts_and_iterate(client: Any, database_name: str) -> None:
    numbers = client[database_name].numbers
    await numbers.insert_many([{"_id": i} for i in range(10)])
    cursor = numbers.find().sort("_id").batch_size(3)
    assert [d["_id"] for d in await cursor.to_list(4)] == [0, 1, 2, 3]
    assert [d["_id"] for d in await cursor.to_list(None)] == [4, 5, 6, 7, 8, 9]
    assert await cursor.to_list(1) == []
    assert [d["_id"] async for d in numbers.find().sort("_id").batch_size(2)] == list(range(10))
    async with numbers.find().batch_size(2) as cursor:
        assert await cursor.next()
    with pytest.raises(OperationFailure):
        await numbers.find({"$nonsense": 1}).to_list(None)


async def test_aggregations_and_commands_give_cursors(client: Any, database_name: str) -> None:
    numbers = client[database_name].numbers
    await numbers.insert_many([{"_id": i} for i in range(10)])
    pipeline = [{"$match": {"_id": {"$gte": 4}}}, {"$sort": {"_id": 1}}]
    assert len(await numbers.aggregate(pipeline, batchSize=2).to_list(None)) == 6
    assert [d["_id"] async for d in numbers.aggregate(pipeline, batchSize=0)] == list(range(4, 10))
    with pytest.raises(OperationFailure):
        await numbers.aggregate([{"$nonsense": {}}]).to_list(None)
    cursor = await client[database_name].cursor_command({"find": "numbers", "batchSize": 4})
    assert len(await cursor.to_list(None)) == 10
    assert [index["name"] async for index in numbers.list_indexes()] == ["_id_"]
    raw = await numbers.find_raw_batches().to_list(None)
    assert b"_id" in raw[0]


async def test_a_transaction_commits_or_leaves_nothing_behind(
    set_client: Any, database_name: str
) -> None:
    things = set_client[database_name].things
    await set_client[database_name].create_collection("things")
    async with await set_client.start_session() as session:
        async with session.start_transaction():
            await things.insert_one({"_id": "kept"}, session=session)
            assert await things.find_one({"_id": "kept"}) is None
        with contextlib.suppress(KeyError):
            async with session.start_transaction():
                await things.insert_one({"_id": "aborted"}, session=session)
                raise KeyError
    assert [d["_id"] for d in await things.find().to_list(None)] == ["kept"]


async def test_with_transaction_returns_what_the_function_returns(
    set_client: Any, database_name: str
) -> None:
    things = set_client[database_name].things
    await set_client[database_name].create_collection("things")

    async def work(session: Any) -> str:
        await things.insert_one({"_id": 1}, session=session)
        return "done"

    async with await set_client.start_session() as session:
        assert await session.with_transaction(work) == "done"
    assert await things.count_documents({}) == 1


async def test_a_session_left_by_cancellation_aborts_its_transaction(
    set_client: Any, database_name: str
) -> None:
    """The document is not locked afterwards, although the task was cancelled in mid-transaction."""
    things = set_client[database_name].things
    await things.insert_one({"_id": 1, "n": 0})
    with trio.CancelScope() as scope:
        async with await set_client.start_session() as session:
            session.start_transaction()
            await things.update_one({"_id": 1}, {"$set": {"n": 1}}, session=session)
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    with pymongo.timeout(10):  # a transaction left open would lock the document for a minute
        await things.update_one({"_id": 1}, {"$set": {"n": 2}})
    assert await things.find_one() == {"_id": 1, "n": 2}


async def test_a_change_stream_shows_changes_in_order(set_client: Any, database_name: str) -> None:
    things = set_client[database_name].things
    await set_client[database_name].create_collection("things")
    seen = []
    async with things.watch(max_await_time_ms=100) as stream:
        assert await stream.try_next() is None
        await things.insert_many([{"_id": i} for i in range(3)])
        async for change in stream:
            seen.append(change["documentKey"]["_id"])
            if len(seen) == 3:
                break
    assert seen == [0, 1, 2]


async def test_gridfs_stores_lists_and_streams_files(client: Any, database_name: str) -> None:
    bucket: Any = TrioMotorGridFSBucket(client[database_name], chunk_size_bytes=4)
    content = b"0123456789"
    first = await bucket.upload_from_stream("first", content, metadata={"a": 1})
    async with bucket.open_upload_stream("second") as upload:
        await upload.write(content)
        await upload.write(content)
        await upload.set("extra", 1)
    sink = io.BytesIO()
    await bucket.download_to_stream(first, sink)
    assert sink.getvalue() == content
    download = await bucket.open_download_stream_by_name("second")
    assert download.length == 20
    assert download.filename == "second"
    assert await download.read(3) == b"012"
    assert b"".join([chunk async for chunk in download]) == (content + content)[3:]
    names = {}
    async for found in bucket.find().sort("filename", 1):
        names[found.filename] = await found.read()  # awaitable: it does not block the loop
    assert names == {"first": content, "second": content * 2}
    opened = await (await bucket.open_download_stream(first)).open()
    assert opened.metadata == {"a": 1}
    await bucket.delete(first)
    assert len(await bucket.find().to_list(None)) == 1


async def test_five_hundred_tasks_at_once_share_ten_threads(
    mongod: Mongod, database_name: str
) -> None:
    async with connected(mongod.url, threads=10) as client:
        counts = client[database_name].counts
        async with trio.open_nursery() as nursery:
            for i in range(500):
                nursery.start_soon(counts.insert_one, {"_id": i})
        assert await counts.count_documents({}) == 500
        statistics = client.io_loop.statistics()
        assert statistics.limit == 10
        assert statistics.busy + statistics.idle <= 10
        assert statistics.queued == 0


async def test_a_call_has_several_waiters_and_may_be_awaited_again(
    client: Any, database_name: str
) -> None:
    call = client[database_name].things.insert_one({"_id": 1})
    results = []

    async def wait() -> None:
        results.append(await call)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(wait)
    assert {result.inserted_id for result in results} == {1}
    assert (await call).inserted_id == 1
    failing = client[database_name].things.insert_one({"_id": 1})
    for _ in range(2):
        with pytest.raises(DuplicateKeyError):
            await failing


async def test_a_call_begins_without_being_awaited(client: Any, database_name: str) -> None:
    things = client[database_name].things
    call = things.insert_one({"_id": 1})
    while not call.done():
        await trio.lowlevel.checkpoint()
    assert await things.count_documents({}) == 1


async def test_one_client_serves_one_trio_run_after_another(
    mongod: Mongod, database_name: str
) -> None:
    """And a call begun in one run is awaited in the next."""

    def two_runs() -> list[int]:
        executor = ClientExecutor("test", 4)
        client: Any = TrioMotorClient(mongod.url, io_loop=executor)
        things = client[database_name].things

        async def begin() -> list[TrioFuture[Any]]:
            await things.insert_one({"_id": 1})
            return [things.insert_one({"_id": 2})]

        async def finish(call: TrioFuture[Any]) -> list[int]:
            await call
            return [d["_id"] for d in await things.find().sort("_id").to_list(None)]

        try:
            (call,) = trio.run(begin)
            return trio.run(finish, call)
        finally:
            client.close()
            executor.close()

    assert await trio.to_thread.run_sync(two_runs) == [1, 2]


async def test_an_answer_that_comes_after_its_trio_run_ended_is_dropped_in_silence() -> None:
    release = threading.Event()
    executor = ClientExecutor("test", 2)

    def abandoned_run() -> None:
        async def main() -> None:
            call = motor_trio.trio_framework.run_on_executor(executor, release.wait, 30)
            listing = motor_trio.trio_framework.get_future(executor)
            motor_trio.trio_framework.add_future(executor, call, listing.copy_from)
            with trio.move_on_after(0):
                await call

        trio.run(main)

    await trio.to_thread.run_sync(abandoned_run)
    release.set()
    executor.close()
    while executor.statistics().busy:
        await trio.lowlevel.checkpoint()


async def test_the_callers_pymongo_timeout_holds_in_the_thread(
    client: Any, database_name: str
) -> None:
    """For every batch, not only the first: Motor's own frameworks lose it there."""
    numbers = client[database_name].numbers
    await numbers.insert_many([{"_id": i} for i in range(4)])
    assert await numbers.count_documents({}) == 4
    sleepy = numbers.find({"$where": "sleep(300) || true"}).batch_size(2)
    with pymongo.timeout(0.9), pytest.raises(pymongo.errors.PyMongoError) as caught:
        await sleepy.to_list(None)
    assert caught.value.timeout


async def test_cancelling_frees_the_task_while_the_server_is_frozen(
    mongod_factory: MongodFactory, database_name: str
) -> None:
    """The call itself goes on: after the thaw the document is there."""
    server = mongod_factory()
    async with connected(server.url) as client:
        things = client[database_name].things
        await things.insert_one({"_id": 1})
        server.freeze()
        began = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            await things.insert_one({"_id": 2})
        assert scope.cancelled_caught
        assert trio.current_time() - began < 5
        server.thaw()
        while client.io_loop.statistics().busy:
            await trio.lowlevel.checkpoint()
        assert await things.count_documents({}) == 2


async def test_a_cancelled_call_that_still_queued_is_never_sent(
    mongod: Mongod, database_name: str
) -> None:
    async with connected(mongod.url, threads=1) as client:
        things = client[database_name].things
        release = await held(client.io_loop, 1)
        call = things.insert_one({"_id": 1})
        with trio.CancelScope() as scope:
            scope.cancel()
            await call  # cancelled before it waits: the call stays in the queue
        assert client.io_loop.statistics().queued == 1
        with trio.move_on_after(0.01):
            await call
        assert client.io_loop.statistics().queued == 0
        release.set()
        assert await things.count_documents({}) == 0
        assert (await call).inserted_id == 1  # somebody wants it after all


async def test_a_cancelled_listing_stops_after_the_batch_under_way(
    client: Any, database_name: str
) -> None:
    numbers = client[database_name].numbers
    await numbers.insert_many([{"_id": i} for i in range(50)])
    call = numbers.find({"$where": "sleep(20) || true"}).batch_size(2).to_list(None)
    with trio.move_on_after(0.01):
        await call
    with pytest.raises(RuntimeError, match="given up"):
        await call


async def test_a_frozen_server_slows_no_other_client(
    mongod: Mongod, mongod_factory: MongodFactory
) -> None:
    """Thirty calls stuck on one client: another's answer comes while all of them still wait."""
    frozen = mongod_factory()
    async with connected(frozen.url) as stuck, connected(mongod.url) as healthy:
        await stuck.admin.command("ping")
        frozen.freeze()
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(stuck.admin.command, "ping")
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(5):
                await healthy.admin.command("ping")
            assert stuck.io_loop.statistics().busy == 30
            nursery.cancel_scope.cancel()
        frozen.kill()


async def test_after_close_calls_say_so(mongod: Mongod, database_name: str) -> None:
    async with connected(mongod.url) as client:
        things = client[database_name].things
        await things.insert_one({})
    with pytest.raises(InvalidOperation, match="after close"):
        await things.find_one()
    with pytest.raises(InvalidOperation, match="after close"):
        await things.find().to_list(None)


async def test_another_loop_than_an_executor_is_refused() -> None:
    with pytest.raises(TypeError, match="ClientExecutor"):
        TrioMotorClient("mongodb://127.0.0.1:1", io_loop=object())


async def test_a_client_without_an_executor_makes_one_of_its_own(mongod: Mongod) -> None:
    client: Any = TrioMotorClient(mongod.url)
    assert await client.admin.command("ping")
    assert client.io_loop is client.db.get_io_loop()
    client.close()
    client.io_loop.close()


async def test_classes_live_where_they_are_imported_from_and_show_themselves(client: Any) -> None:
    for name in motor_trio.__all__:
        cls = getattr(motor_trio, name)
        assert cls.__module__ == "moorings.providers.motor_trio"
        assert cls.__name__ == name
    assert isinstance(client.db, motor_trio.TrioMotorDatabase)
    assert isinstance(client.db.things, motor_trio.TrioMotorCollection)
    assert repr(client.db).startswith("TrioMotorDatabase(")


async def test_idle_threads_end_with_their_executor() -> None:
    executor = ClientExecutor("ending", 8)
    release = await held(executor, 8)
    assert executor.statistics().busy == 8
    release.set()
    executor.close()
    while any(thread.name.startswith("ending-") for thread in threading.enumerate()):
        await trio.lowlevel.checkpoint()
    assert executor.statistics() == ExecutorStatistics("ending", 0, 0, 0, 8)
