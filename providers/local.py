"""`backend = "local"`: a document database in memory, for development, tests and fault drills.

Motor's shapes over mongomock-ng, on trio and asyncio alike, so that from here to a real cluster is
one changed line of settings. The data belongs to the connection: it survives outages, stop and
start, and new clients, as a server's would, and is lost with the manager. Two connections never
share data, whatever their database names. What this backend cannot do it refuses with
`NotSupportedLocally`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ..errors import FailureReason
from .contract import DocumentsDatabaseBase
from .local_database import LocalClient, LocalDatabase
from .local_faults import Faults, LocalFault
from .local_host import imported
from .local_server import EngineMissing, LocalServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .contract import Notify

__all__ = ["LocalDBProvider", "LocalDatabase", "LocalFault", "LocalSettings"]


class LocalSettings(BaseModel):
    """The `[….provider]` table of a local connection.

    Attributes:
        database_name: as a server's; two connections share nothing even under one name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # A server's own rules for database names, so that the name survives the move to one.
    database_name: Annotated[str, Field(pattern=r'^[^/\\. "$*<>:|?\x00]{1,63}$')] = "local"


class LocalDBProvider(DocumentsDatabaseBase):
    """Documents in memory.

    Attributes:
        faults: switches that make this connection's server refuse, hang, delay or die, to test
            what the program then does: `manager[name].provider.faults.refuse()`.
    """

    settings_model: ClassVar[type[BaseModel]] = LocalSettings
    hosts: ClassVar[frozenset[str]] = frozenset({"trio", "asyncio"})

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.faults = Faults()
        self._server: LocalServer | None = None
        self._deafen: dict[LocalClient, Callable[[], None]] = {}

    def endpoint(self, settings: LocalSettings) -> str:  # noqa: ARG002 - one server per connection
        """A server of its own: `local:<the connection's name>`."""
        return f"local:{self.name}"

    async def open(self, settings: LocalSettings, notify: Notify) -> LocalClient:
        """A client. As a real driver's it asks nothing of the server: `ping` meets the faults.

        Raises:
            EngineMissing: the engine, or PyMongo, is not installed.
        """
        await imported("mongomock_ng")
        if self._server is None:
            self._server = LocalServer(self.faults)
        client = LocalClient(self._server, settings.database_name)
        self._deafen[client] = self.faults.listen(notify)
        return client

    async def ping(self, client: LocalClient) -> None:
        """One call; raises `LocalFault` while a fault is on."""
        await client.run("ping", None, lambda _: None)

    async def verify(self, client: LocalClient) -> None:
        """One call: the list of the database's collections, as with a real server."""
        await self.database(client).list_collection_names()

    def database(self, client: LocalClient) -> LocalDatabase:
        """The configured database."""
        return client.get_default_database()

    async def close(self, client: LocalClient) -> None:
        """Refuse the client's later calls. Needs no server, so a fault cannot hold it up."""
        client.close()
        deafen = self._deafen.pop(client, None)
        if deafen is not None:
            deafen()

    def classify(self, error: BaseException) -> FailureReason | None:
        """The fault's own reason; a timeout; `config` for a missing package; else it is a bug."""
        match error:
            case LocalFault():
                return error.reason
            case TimeoutError():
                return FailureReason.TIMEOUT
            case EngineMissing():
                return FailureReason.CONFIG
            case _:
                return None

    def describe(self, error: BaseException) -> str:
        """One line for people; there are no credentials in memory."""
        return str(error) if isinstance(error, LocalFault) else super().describe(error)
