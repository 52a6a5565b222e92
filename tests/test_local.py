"""The in-memory backend's own promises: faults, refusals, wholeness; the rest is the contract's."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from pydantic import ValidationError
from pymongo import InsertOne, UpdateMany, UpdateOne
from pymongo.errors import AutoReconnect, DuplicateKeyError, InvalidOperation, OperationFailure

from moorings.errors import FailureReason, NotSupportedLocally
from moorings.providers.contract import Signal
from moorings.providers.local import LocalDBProvider, LocalFault, LocalSettings

if TYPE_CHECKING:
    from collections.abc import Callable


class Ear:
    """A runtime that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[Signal] = []

    def __call__(self, signal: Signal = Signal.SUSPECT, /) -> None:
        self.heard.append(signal)


@pytest.fixture
def provider() -> LocalDBProvider:
    return LocalDBProvider("subject")


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def client(provider: LocalDBProvider, ear: Ear) -> Any:
    return await provider.open(LocalSettings(), ear)


@pytest.fixture
def db(provider: LocalDBProvider, client: Any) -> Any:
    return provider.database(client)


# -- settings


def test_settings_have_a_default_and_refuse_what_a_server_would() -> None:
    assert LocalSettings().database_name == "local"
    for name in ("", "a b", "a.b", "a/b", "$a", "x" * 64):
        with pytest.raises(ValidationError):
            LocalSettings(database_name=name)
    with pytest.raises(ValidationError):
        LocalSettings.model_validate({"url": "mongodb://localhost"})


def test_the_endpoint_is_the_connections_own(provider: LocalDBProvider) -> None:
    assert provider.endpoint(LocalSettings()) == "local:subject"


async def test_two_connections_share_nothing_even_with_one_database_name(db: Any) -> None:
    other = LocalDBProvider("other")
    elsewhere = other.database(await other.open(LocalSettings(), Ear()))
    await db.things.insert_one({"_id": 1})
    assert await elsewhere.things.count_documents({}) == 0


# -- faults


async def test_refuse_fails_every_call_and_reports_lost(
    provider: LocalDBProvider, client: Any, db: Any, ear: Ear
) -> None:
    provider.faults.refuse()
    assert ear.heard == [Signal.LOST]
    calls: list[Callable[[], Any]] = [
        lambda: provider.ping(client),
        lambda: provider.verify(client),
        lambda: db.command("ping"),
        lambda: db.things.insert_one({}),
        lambda: db.things.find().to_list(None),
        db.client.start_session,
    ]
    for call in calls:
        with pytest.raises(LocalFault) as caught:
            await call()
        assert isinstance(caught.value, ConnectionError)
        assert isinstance(caught.value, AutoReconnect)
        assert provider.classify(caught.value) is FailureReason.REFUSED
        assert provider.describe(caught.value) == "the in-memory server fails every call: refused"


async def test_heal_brings_everything_back_with_its_data_and_reports_usable(
    provider: LocalDBProvider, db: Any, ear: Ear
) -> None:
    await db.things.insert_one({"_id": 1})
    provider.faults.refuse()
    provider.faults.heal()
    assert ear.heard == [Signal.LOST, Signal.USABLE]
    assert await db.things.find_one({}) == {"_id": 1}


async def test_another_reason_may_be_simulated(provider: LocalDBProvider, client: Any) -> None:
    provider.faults.refuse(FailureReason.AUTH)
    with pytest.raises(LocalFault) as caught:
        await provider.ping(client)
    assert provider.classify(caught.value) is FailureReason.AUTH


def test_a_timeout_is_a_timeout(provider: LocalDBProvider) -> None:
    assert provider.classify(TimeoutError()) is FailureReason.TIMEOUT
    assert provider.classify(ConnectionRefusedError()) is None  # not one of ours
    assert provider.describe(ValueError("x")) == "ValueError: x"


async def test_faults_may_be_set_before_anything_is_open(
    provider: LocalDBProvider, ear: Ear
) -> None:
    provider.faults.refuse()
    client = await provider.open(LocalSettings(), ear)
    with pytest.raises(LocalFault):
        await provider.ping(client)
    provider.faults.heal()
    assert ear.heard == [Signal.USABLE]
    await provider.ping(client)


async def test_a_closed_client_is_told_nothing(
    provider: LocalDBProvider, client: Any, ear: Ear
) -> None:
    await provider.close(client)
    provider.faults.refuse()
    assert ear.heard == []


async def test_hang_holds_calls_until_heal_then_they_go_on(
    provider: LocalDBProvider, db: Any, ear: Ear
) -> None:
    provider.faults.hang()
    assert ear.heard == []  # a frozen server tells nobody
    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.things.insert_one, {"_id": 1})
        nursery.start_soon(db.things.insert_one, {"_id": 2})
        await trio.testing.wait_all_tasks_blocked()
        provider.faults.heal()
    assert await db.things.count_documents({}) == 2


async def test_refuse_ends_a_hang_with_errors(provider: LocalDBProvider, client: Any) -> None:
    provider.faults.hang()

    async def ping() -> None:
        with pytest.raises(LocalFault):
            await provider.ping(client)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping)
        await trio.testing.wait_all_tasks_blocked()
        provider.faults.refuse()


async def test_a_hung_call_can_be_cancelled_and_has_then_changed_nothing(
    provider: LocalDBProvider, db: Any
) -> None:
    provider.faults.hang()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.things.insert_one, {"_id": 1})
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    provider.faults.heal()
    assert await db.things.count_documents({}) == 0


async def test_delay_takes_the_hosts_time(
    provider: LocalDBProvider, client: Any, autojump_clock: trio.testing.MockClock
) -> None:
    provider.faults.delay(2.5)
    await provider.ping(client)
    assert trio.current_time() == pytest.approx(2.5)
    provider.faults.delay(0)
    await provider.ping(client)
    assert trio.current_time() == pytest.approx(2.5)
    with pytest.raises(ValueError, match="negative"):
        provider.faults.delay(-1)
    with pytest.raises(ValueError, match="neither negative nor for ever"):
        provider.faults.delay(math.nan)


async def test_die_after_counts_calls(
    provider: LocalDBProvider, client: Any, db: Any, ear: Ear
) -> None:
    provider.faults.die_after(2)
    await provider.ping(client)
    assert ear.heard == []
    await db.things.insert_one({"_id": 1})
    assert ear.heard == [Signal.LOST]
    with pytest.raises(LocalFault):
        await provider.ping(client)
    provider.faults.heal()
    provider.faults.die_after(0)
    with pytest.raises(LocalFault):
        await provider.ping(client)
    with pytest.raises(ValueError, match="negative"):
        provider.faults.die_after(-1)
    assert "refusing=refused" in repr(provider.faults)


async def test_close_needs_no_server(provider: LocalDBProvider, client: Any) -> None:
    provider.faults.hang()
    with trio.fail_after(1):
        await provider.close(client)
    assert "closed" in repr(client)


def test_faults_in_asyncio(provider: LocalDBProvider) -> None:
    async def body() -> None:
        client = await provider.open(LocalSettings(), Ear())
        db = provider.database(client)
        provider.faults.hang()
        stuck = asyncio.create_task(db.things.insert_one({"_id": 1}))
        waiting = asyncio.create_task(db.things.insert_one({"_id": 2}))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stuck.cancel()
        provider.faults.heal()
        await waiting
        with pytest.raises(asyncio.CancelledError):
            await stuck
        provider.faults.delay(0.001)
        assert await db.things.distinct("_id") == [2]

    asyncio.run(body())


# -- every operation is a checkpoint, and whole

OPERATIONS: list[Callable[[Any], Any]] = [
    lambda db: db.command("ping"),
    lambda db: db.list_collection_names(),
    lambda db: db.create_collection("c"),
    lambda db: db.drop_collection("c"),
    lambda db: db.client.start_session(),
    lambda db: db.client.list_database_names(),
    lambda db: db.client.drop_database("local"),
    lambda db: db.things.find_one({}),
    lambda db: db.things.find().next(),
    lambda db: db.things.find().to_list(None),
    lambda db: db.things.aggregate([]).to_list(None),
    lambda db: db.things.list_indexes().to_list(None),
    lambda db: db.things.insert_one({}),
    lambda db: db.things.insert_many([{}, {}]),
    lambda db: db.things.update_many({}, {"$set": {"a": 1}}),
    lambda db: db.things.delete_many({}),
    lambda db: db.things.bulk_write([InsertOne({})]),
    lambda db: db.things.create_index("a"),
    lambda db: db.things.options(),
    lambda db: db.things.drop(),
]


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_each_operation_is_a_checkpoint_and_cancelled_does_nothing(
    db: Any, operation: Callable[[Any], Any]
) -> None:
    await db.things.insert_one({"_id": 1})
    with trio.testing.assert_checkpoints():
        await operation(db)
    await db.client.drop_database("local")
    await db.things.insert_one({"_id": 1})
    with trio.CancelScope() as scope:
        scope.cancel()
        await operation(db)
    assert scope.cancelled_caught
    assert await db.list_collection_names() == ["things"]
    assert await db.things.find().to_list(None) == [{"_id": 1}]
    assert list(await db.things.index_information()) == ["_id_"]


async def test_each_step_of_a_cursor_is_a_checkpoint(db: Any) -> None:
    await db.things.insert_many([{}, {}])
    cursor = db.things.find()
    for _ in range(2):
        with trio.testing.assert_checkpoints():
            await cursor.next()


async def test_an_update_that_fails_halfway_leaves_the_document_as_it_was(db: Any) -> None:
    document = {"_id": 1, "tags": ["a"]}
    await db.things.insert_one(document)
    bad = {"$set": {"name": "x"}, "$inc": {"tags": 1}}
    for call in (db.things.update_one, db.things.update_many, db.things.find_one_and_update):
        with pytest.raises(TypeError):
            await call({"_id": 1}, bad)
    with pytest.raises(TypeError):
        await db.things.bulk_write([UpdateMany({}, bad)])
    assert await db.things.find_one({}) == document


# -- transactions beyond what the contract says


async def test_a_commit_that_a_unique_index_forbids_carries_nothing_over(db: Any) -> None:
    await db.users.create_index("email", unique=True)
    async with await db.client.start_session() as session:
        session.start_transaction()
        await db.users.insert_one({"_id": 1, "email": "a"}, session=session)
        await db.other.insert_one({"_id": 1}, session=session)
        await db.users.insert_one({"_id": 2, "email": "a"})
        with pytest.raises(DuplicateKeyError):
            await session.commit_transaction()
        assert not session.in_transaction
    assert await db.users.distinct("_id") == [2]
    assert await db.other.count_documents({}) == 0


async def test_with_transaction_begins_again_after_a_conflict(db: Any) -> None:
    await db.things.insert_one({"_id": 1, "n": 0})
    rounds = []

    async def add(session: Any) -> None:
        await db.things.update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
        if not rounds:
            await db.things.update_one({"_id": 1}, {"$inc": {"n": 10}})
        rounds.append(1)

    async with await db.client.start_session() as session:
        await session.with_transaction(add)

        async def fail(session: Any) -> None:
            raise LookupError

        with pytest.raises(LookupError):
            await session.with_transaction(fail)
    assert len(rounds) == 2
    assert await db.things.find_one({}) == {"_id": 1, "n": 11}


async def test_cancelled_before_its_commit_a_transaction_leaves_nothing(db: Any) -> None:
    with trio.CancelScope() as scope:
        async with await db.client.start_session() as session, session.start_transaction():
            await db.things.insert_one({}, session=session)
            scope.cancel()
    assert scope.cancelled_caught
    assert await db.things.count_documents({}) == 0


async def test_a_transaction_may_end_by_hand_empty_or_without_a_change(db: Any) -> None:
    await db.things.insert_one({"_id": 1})
    async with await db.client.start_session() as session:
        async with session.start_transaction():
            await session.abort_transaction()
        async with session.start_transaction():
            pass
        async with session.start_transaction():
            await db.things.find_one({}, session=session)
        assert await db.things.count_documents({}, session=session) == 1


async def test_sessions_are_checked(db: Any, provider: LocalDBProvider) -> None:
    other = await provider.open(LocalSettings(), Ear())
    foreign = await other.start_session()
    with pytest.raises(InvalidOperation):
        await db.things.find_one({}, session=foreign)
    async with await db.client.start_session() as session:
        session.start_transaction()
        with pytest.raises(InvalidOperation):
            session.start_transaction()
        with pytest.raises(OperationFailure) as caught:
            await db.things.create_index("a", session=session)
        assert caught.value.code == 263
    with pytest.raises(InvalidOperation):
        await db.things.find_one({}, session=session)
    with pytest.raises(InvalidOperation):
        session.start_transaction()
    async with await db.client.start_session() as session:
        with pytest.raises(InvalidOperation):
            await session.abort_transaction()


async def test_within_a_transaction_documents_may_swap_a_unique_value(db: Any) -> None:
    await db.users.create_index("email", unique=True, sparse=True)
    await db.users.insert_many([{"_id": 1, "email": "x"}, {"_id": 2, "email": "y"}])
    async with await db.client.start_session() as session, session.start_transaction():
        for number, email in ((1, "tmp"), (2, "x"), (1, "y")):
            await db.users.update_one({"_id": number}, {"$set": {"email": email}}, session=session)
    assert (await db.users.find_one({"_id": 1}))["email"] == "y"


# -- what it cannot do, it says

REFUSED: list[Callable[[Any], Any]] = [
    lambda db: db.watch(),
    lambda db: db.aggregate([]),
    lambda db: db.client.watch(),
    lambda db: db.client.server_info(),
    lambda db: db.things.watch(),
    lambda db: db.things.find_raw_batches(),
    lambda db: db.command("buildInfo"),
    lambda db: db.command("ping", 1, 2),
    lambda db: db.create_collection("c", capped=True),
    lambda db: db.create_collection("c", validator={}),
    lambda db: db.list_collection_names(filter={"type": "view"}),
    lambda db: db.with_options(codec_options=object()),
    lambda db: db.get_collection("c", codec_options=object()),
    lambda db: db.things.with_options(codec_options=object()),
    lambda db: db.things.find({"$where": "1"}).to_list(None),
    lambda db: db.things.find_one({"$and": [{"$text": {"$search": "x"}}]}),
    lambda db: db.things.count_documents({"$jsonSchema": {}}),
    lambda db: db.things.find({}, hint="a_1"),
    lambda db: db.things.find({}, collation={"locale": "en"}),
    lambda db: db.things.find({}, max_time_ms=1),
    lambda db: db.things.find().collation({}),
    lambda db: db.things.find().max_time_ms(1),
    lambda db: db.things.find().explain(),
    lambda db: db.things.aggregate([{"$out": "x"}]).to_list(None),
    lambda db: db.things.aggregate([{"$merge": {"into": "x"}}]).to_list(None),
    lambda db: db.things.aggregate([{"$indexStats": {}}]).to_list(None),
    lambda db: db.things.aggregate([], let={"a": 1}),
    lambda db: db.things.update_one({}, {"$mul": {"a": 2}}),
    lambda db: db.things.update_one({}, {"$set": {}}, collation={"locale": "en"}),
    lambda db: db.things.update_one({}, {"$currentDate": {"a": {"$type": "timestamp"}}}),
    lambda db: db.things.update_one({"$and": [{"a": 1}]}, {"$set": {"b": 1}}, upsert=True),
    lambda db: db.things.find_one_and_update({}, {"$set": {"a": 1}}, hint="a_1"),
    lambda db: db.things.find_one_and_delete({}, max_time_ms=1),
    lambda db: db.things.bulk_write([UpdateOne({}, {"$set": {"a": 1}}, hint="a_1")]),
    lambda db: db.things.insert_one({"_id": {"a": 1}}),
    lambda db: db.things.insert_many([{"a": 1}, {"_id": {"a": 1}}]),
    lambda db: db.things.create_index([("a", "text")]),
    lambda db: db.things.create_index("a", collation={"locale": "en"}),
    lambda db: db.things.create_index("a", unique=True, partialFilterExpression={"a": 1}),
]


@pytest.mark.parametrize("call", REFUSED)
async def test_what_local_cannot_do_it_refuses_and_names_the_backend_that_can(
    db: Any, call: Callable[[Any], Any]
) -> None:
    await db.things.insert_one({"_id": 1})
    with pytest.raises(NotSupportedLocally, match='backend = "mongo"') as caught:
        await call(db)
    assert caught.value.call in str(caught.value)
    assert await db.things.find().to_list(None) == [{"_id": 1}]
    assert await db.list_collection_names() == ["things"]


async def test_arguments_that_cannot_change_a_result_are_accepted(db: Any) -> None:
    await db.things.insert_one({"_id": 1}, comment="c", bypass_document_validation=True)
    cursor = db.things.find({}, batch_size=1, allow_disk_use=True, hint=None)
    found = (
        await cursor.batch_size(1).comment("c").allow_disk_use(allow_disk_use=True).to_list(None)
    )
    assert found == [{"_id": 1}]
    await db.things.update_many({}, [{"$set": {"b": "$_id"}}])
    await db.things.create_index("a", background=True, expireAfterSeconds=60)
    assert db.things.with_options(write_concern=None) == db.things


async def test_a_wrong_number_of_arguments_is_a_type_error(db: Any) -> None:
    with pytest.raises(TypeError):
        await db.things.insert_one()
    with pytest.raises(TypeError, match="no method 'things"):
        db.things.insert({})
    with pytest.raises(AttributeError):
        db.things.find().frobnicate  # noqa: B018 - the access is what is tested
    for thing in (db, db.things, db.client):
        with pytest.raises(AttributeError):
            thing._private  # noqa: B018
    for thing in (db, db.things):
        with pytest.raises(NotImplementedError):
            bool(thing)


async def test_handles_compare_and_show_themselves(db: Any) -> None:
    assert repr(db) == "LocalDatabase('local')"
    assert repr(db.things) == "LocalCollection('local.things')"
    assert "open" in repr(db.client)
    assert {db.things, db["things"]} == {db.things}
    assert db != "local"
    assert db.things != "things"
    assert db.client.other.name == "other"
    assert db.with_options(write_concern=None) is db


async def test_cursor_arguments_are_checked(db: Any) -> None:
    cursor = db.things.find()
    with pytest.raises(ValueError, match="empty"):
        cursor.sort([])
    with pytest.raises(ValueError, match="skip"):
        cursor.skip(-1)
    with pytest.raises(InvalidOperation, match="No operations"):
        await db.things.bulk_write([])
    await db.things.insert_one({})
    async with db.things.find() as cursor:
        assert cursor.alive
    assert not cursor.alive
    assert [thing async for thing in cursor] == []


# -- what importing costs, and what it needs


def _python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_provider_imports_neither_engine_nor_driver() -> None:
    program = (
        "import sys, moorings.providers.local\n"
        "print([m for m in ('mongomock_ng', 'pymongo', 'bson', 'motor') if m in sys.modules])"
    )
    assert _python(program) == "[]"


def test_without_pymongo_it_says_what_to_install_and_that_a_human_has_to() -> None:
    program = """
import sys
sys.modules.update(dict.fromkeys(("pymongo", "bson"), None))
import trio
from moorings.providers.local import LocalDBProvider, LocalSettings

async def main():
    provider = LocalDBProvider("x")
    try:
        await provider.open(LocalSettings(), lambda signal: None)
    except ImportError as error:
        print(provider.classify(error), error)

trio.run(main)
"""
    assert _python(program) == (
        "config the in-memory backend needs mongomock-ng and PyMongo: pip install pymongo"
    )
