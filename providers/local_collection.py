"""The collection that applications hold: Motor's shapes, made from the table of `Operations`."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

from ..errors import NotSupportedLocally
from .local_cursor import LocalCommandCursor, LocalCursor
from .local_operations import Operations
from .local_rules import acceptable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .local_database import LocalDatabase
    from .local_session import LocalSession

P = ParamSpec("P")
R = TypeVar("R")

_NOT_IN_TRANSACTION = 263


def _parameters(method: Callable[..., Any]) -> tuple[inspect.Signature, frozenset[str] | None]:
    signature = inspect.signature(method)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return signature, None  # the operation itself knows what it takes
    return signature, frozenset(signature.parameters)


def _awaitable(
    method: Callable[Concatenate[Operations, P], R], *, in_transaction: bool = True
) -> Callable[..., Coroutine[Any, Any, R]]:
    signature, accepted = _parameters(method)
    name = method.__name__

    @functools.wraps(method)
    async def call(
        self: LocalCollection, *args: Any, session: LocalSession | None = None, **kwargs: Any
    ) -> R:
        if accepted is not None:
            kwargs = acceptable(name, accepted, kwargs)
        signature.bind(None, *args, **kwargs)  # a TypeError now rather than after the checkpoint
        if not in_transaction and session is not None and session.in_transaction:
            raise self.database.client.server.operation_failure(
                f"{name} is not possible within a transaction", _NOT_IN_TRANSACTION
            )
        bound: Callable[[Operations], R] = functools.partial(_call, method, args, kwargs)
        return await self.database.client.run(name, session, self.work(bound))

    return call


def _call(
    method: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any], operations: Operations
) -> R:
    return method(operations, *args, **kwargs)


def refused(call: str) -> Callable[..., NoReturn]:
    """A method that a real server has and this one has not."""

    def method(self: object, *args: object, **kwargs: object) -> NoReturn:  # noqa: ARG001
        raise NotSupportedLocally(call)

    method.__name__ = call.rpartition(".")[2]
    method.__doc__ = "Not supported by the in-memory backend: raises `NotSupportedLocally`."
    return method


class LocalCollection:
    """A collection. Its calls take Motor's arguments, `session` among them, or refuse them.

    Every call is one round trip to the in-memory server and a checkpoint; it happens wholly or not
    at all, also when it is cancelled.
    """

    find_one = _awaitable(Operations.find_one)
    count_documents = _awaitable(Operations.count_documents)
    estimated_document_count = _awaitable(Operations.estimated_document_count, in_transaction=False)
    distinct = _awaitable(Operations.distinct)
    insert_one = _awaitable(Operations.insert_one)
    insert_many = _awaitable(Operations.insert_many)
    update_one = _awaitable(Operations.update_one)
    update_many = _awaitable(Operations.update_many)
    replace_one = _awaitable(Operations.replace_one)
    delete_one = _awaitable(Operations.delete_one)
    delete_many = _awaitable(Operations.delete_many)
    bulk_write = _awaitable(Operations.bulk_write)
    find_one_and_delete = _awaitable(Operations.find_one_and_delete)
    find_one_and_replace = _awaitable(Operations.find_one_and_replace)
    find_one_and_update = _awaitable(Operations.find_one_and_update)
    create_index = _awaitable(Operations.create_index, in_transaction=False)
    create_indexes = _awaitable(Operations.create_indexes, in_transaction=False)
    drop_index = _awaitable(Operations.drop_index, in_transaction=False)
    drop_indexes = _awaitable(Operations.drop_indexes, in_transaction=False)
    index_information = _awaitable(Operations.index_information, in_transaction=False)
    drop = _awaitable(Operations.drop, in_transaction=False)
    rename = _awaitable(Operations.rename, in_transaction=False)
    options = _awaitable(Operations.options, in_transaction=False)

    watch = refused("collection.watch")
    find_raw_batches = refused("collection.find_raw_batches")
    aggregate_raw_batches = refused("collection.aggregate_raw_batches")
    create_search_index = refused("collection.create_search_index")
    create_search_indexes = refused("collection.create_search_indexes")
    drop_search_index = refused("collection.drop_search_index")
    list_search_indexes = refused("collection.list_search_indexes")
    update_search_index = refused("collection.update_search_index")

    def __init__(self, database: LocalDatabase, name: str) -> None:
        database.check_collection_name(name)
        self.database = database
        self.name = name

    @property
    def full_name(self) -> str:
        """`database.collection`."""
        return f"{self.database.name}.{self.name}"

    def find(
        self,
        filter: Any = None,  # noqa: A002 - PyMongo's name
        projection: Any = None,
        skip: int = 0,
        limit: int = 0,
        *,
        sort: Any = None,
        session: LocalSession | None = None,
        **options: Any,
    ) -> LocalCursor:
        """A cursor over what matches. Not a checkpoint: its first step asks the server."""
        acceptable("find", frozenset(), options)
        query = {"filter": filter, "projection": projection}
        cursor = LocalCursor(self, session, query).skip(skip).limit(limit)
        return cursor.sort(sort) if sort else cursor

    def aggregate(
        self, pipeline: Any, *, session: LocalSession | None = None, **options: Any
    ) -> LocalCommandCursor:
        """A cursor over what the pipeline makes. Not a checkpoint."""
        acceptable("aggregate", frozenset(), options)
        work = self.work(lambda operations: operations.aggregate(pipeline))
        return LocalCommandCursor(self.database.client, "aggregate", session, work)

    def list_indexes(self, session: LocalSession | None = None) -> LocalCommandCursor:
        """A cursor over the indexes. Not a checkpoint."""
        work = self.work(lambda operations: operations.list_indexes())
        return LocalCommandCursor(self.database.client, "list_indexes", session, work)

    def with_options(self, **options: Any) -> LocalCollection:
        """The same collection: concerns and preferences change nothing here."""
        acceptable("with_options", frozenset(), options)
        return self

    def work(self, do: Callable[[Operations], R]) -> Callable[[Any], R]:
        """`do`, to be given an engine client instead of this collection's operations."""
        return lambda engine: do(Operations(engine[self.database.name][self.name]))

    def __getitem__(self, name: str) -> LocalCollection:
        return self.database[f"{self.name}.{name}"]

    def __getattr__(self, name: str) -> LocalCollection:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self[name]

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Raise: an unknown method is taken for a collection, until it is called."""
        raise TypeError(f"{type(self).__name__} is not callable: there is no method {self.name!r}")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LocalCollection):
            return (self.database, self.name) == (other.database, other.name)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.database, self.name))

    def __bool__(self) -> NoReturn:
        raise NotImplementedError("compare a collection with None instead")

    def __repr__(self) -> str:
        return f"LocalCollection({self.full_name!r})"
