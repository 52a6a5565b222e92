"""The client and the database that applications hold, in Motor's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ..errors import NotSupportedLocally
from .local_collection import LocalCollection, refused
from .local_cursor import LocalCommandCursor
from .local_rules import acceptable
from .local_session import LocalSession

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .local_server import LocalServer

R = TypeVar("R")

# Options that a list of names without any users satisfies as it is.
_LISTING = frozenset({"nameOnly", "authorizedCollections"})


class LocalClient:
    """A client of one in-memory server. Data belongs to the server: it outlives clients."""

    server_info = refused("client.server_info")
    watch = refused("client.watch")
    bulk_write = refused("client.bulk_write")
    list_databases = refused("client.list_databases")

    def __init__(self, server: LocalServer, database_name: str) -> None:
        self.server = server
        self._database_name = database_name
        self._closed = False

    async def run(self, call: str, session: LocalSession | None, work: Callable[[Any], R]) -> R:
        """One round trip: pass the server's faults, then do `work` on its data in one go.

        Raises:
            InvalidOperation: the client is closed, or the session ended or is another client's.
            LocalFault: a fault is switched on.
            NotSupportedLocally: the engine cannot do it.
        """
        await self.server.faults.admit()
        engine = self._engine(session)
        try:
            return work(engine)
        except NotSupportedLocally:
            raise
        except NotImplementedError as error:
            raise NotSupportedLocally(call, str(error)) from error

    def _engine(self, session: LocalSession | None) -> Any:
        if self._closed:
            raise self.server.invalid_operation("Cannot use MongoClient after close")
        if session is None:
            return self.server.engine
        if session.client is not self:
            raise self.server.invalid_operation("Can only use session with its own client")
        session.check()
        return session.engine(self.server.engine)

    async def start_session(self, **options: Any) -> LocalSession:
        """A session; use it with `async with`."""
        acceptable("start_session", frozenset({"causal_consistency"}), options)
        return await self.run("start_session", None, lambda _: LocalSession(self))

    async def list_database_names(self, session: LocalSession | None = None) -> list[str]:
        """The databases that hold anything."""
        names: list[str] = await self.run(
            "list_database_names", session, lambda engine: engine.list_database_names()
        )
        return names

    async def drop_database(
        self, name_or_database: str | LocalDatabase, session: LocalSession | None = None
    ) -> None:
        """Drop a database with everything in it."""
        name = getattr(name_or_database, "name", name_or_database)
        await self.run("drop_database", session, lambda engine: engine.drop_database(name))

    def get_database(self, name: str, **options: Any) -> LocalDatabase:
        """A database by name."""
        acceptable("get_database", frozenset(), options)
        return LocalDatabase(self, name)

    def get_default_database(self) -> LocalDatabase:
        """The database that the settings name."""
        return LocalDatabase(self, self._database_name)

    def close(self) -> None:
        """Refuse every later call. The server and its data stay."""
        self._closed = True

    def __getitem__(self, name: str) -> LocalDatabase:
        return self.get_database(name)

    def __getattr__(self, name: str) -> LocalDatabase:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self[name]

    def __repr__(self) -> str:
        return f"<LocalClient {'closed' if self._closed else 'open'}>"


class LocalDatabase:
    """A database of the in-memory server, in Motor's shape."""

    watch = refused("database.watch")
    aggregate = refused("database.aggregate")
    cursor_command = refused("database.cursor_command")
    dereference = refused("database.dereference")
    validate_collection = refused("database.validate_collection")

    def __init__(self, client: LocalClient, name: str) -> None:
        self.client = client
        self.name = name

    def get_collection(self, name: str, **options: Any) -> LocalCollection:
        """A collection by name; concerns and preferences change nothing here."""
        acceptable("get_collection", frozenset(), options)
        return LocalCollection(self, name)

    def with_options(self, **options: Any) -> LocalDatabase:
        """The same database: concerns and preferences change nothing here."""
        acceptable("with_options", frozenset(), options)
        return self

    async def create_collection(
        self, name: str, *, session: LocalSession | None = None, **options: Any
    ) -> LocalCollection:
        """Create an empty collection; `CollectionInvalid` if it is there."""
        acceptable("create_collection", frozenset({"check_exists"}), options)
        collection = self[name]
        await self._run(
            "create_collection", session, lambda database: database.create_collection(name)
        )
        return collection

    async def drop_collection(
        self, name_or_collection: str | LocalCollection, session: LocalSession | None = None
    ) -> None:
        """Drop a collection with its indexes, if it is there."""
        name = getattr(name_or_collection, "name", name_or_collection)
        await self._run("drop_collection", session, lambda database: database.drop_collection(name))

    async def list_collection_names(
        self,
        session: LocalSession | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - PyMongo's name
        **options: Any,
    ) -> list[str]:
        """The collections that exist; `filter` may speak of `name` alone."""
        acceptable("list_collection_names", _LISTING, options)
        return await self._run(
            "list_collection_names", session, lambda database: _names(database, filter)
        )

    async def list_collections(
        self,
        session: LocalSession | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - PyMongo's name
        **options: Any,
    ) -> LocalCommandCursor:
        """A cursor over descriptions (`name`, `type`, `options`, `info`)."""
        names = await self.list_collection_names(session, filter, **options)
        found = [
            {"name": name, "type": "collection", "options": {}, "info": {"readOnly": False}}
            for name in names
        ]
        return LocalCommandCursor(self.client, "list_collections", session, lambda _: found)

    async def command(
        self, command: str | Mapping[str, Any], *args: Any, session: LocalSession | None = None
    ) -> dict[str, Any]:
        """`ping`, and no other."""
        name = command if isinstance(command, str) else next(iter(command), "")
        if name != "ping" or args not in {(), (1,)}:
            raise NotSupportedLocally(f"command({name!r})")
        return await self.client.run("command", session, lambda _: {"ok": 1.0})

    def check_collection_name(self, name: str) -> None:
        """Raise `InvalidName` (or TypeError) where a server's driver would."""
        self.client.server.engine[self.name].get_collection(name)

    async def _run(self, call: str, session: LocalSession | None, do: Callable[[Any], R]) -> R:
        return await self.client.run(call, session, lambda engine: do(engine[self.name]))

    def __getitem__(self, name: str) -> LocalCollection:
        return LocalCollection(self, name)

    def __getattr__(self, name: str) -> LocalCollection:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self[name]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LocalDatabase):
            return self.client is other.client and self.name == other.name
        return NotImplemented

    def __hash__(self) -> int:
        return hash((id(self.client), self.name))

    def __bool__(self) -> NoReturn:
        raise NotImplementedError("compare a database with None instead")

    def __repr__(self) -> str:
        return f"LocalDatabase({self.name!r})"


def _names(database: Any, filter: Mapping[str, Any] | None) -> list[str]:  # noqa: A002
    existing: list[str] = database.list_collection_names()
    if not filter:
        return existing
    if set(filter) != {"name"}:
        raise NotSupportedLocally(f"list_collection_names(filter={dict(filter)!r})")
    # The engine's filter alone would also list collections that were only looked at.
    matching = set(database.list_collection_names(filter=dict(filter)))
    return [name for name in existing if name in matching]
