"""What the backends for MongoDB have in common, whatever driver they speak through."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import SecretStr

from .contract import DocumentsDatabaseBase
from .mongo_commands import LIST_NOTHING, PING
from .pools import PoolCounter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import FailureReason
    from .mongo_monitor import MongoMonitor
    from .mongo_settings import DriverSettings
    from .pools import PoolStatistics

T = TypeVar("T")


class Handle(Protocol):
    """One client and what belongs to it."""

    @property
    def database_name(self) -> str:
        """The configured database."""

    @property
    def monitor(self) -> MongoMonitor:
        """Listens to the driver."""

    @property
    def certificate_expiry(self) -> float | None:
        """When the client's own certificate expires, in Unix seconds; None: not known."""


HandleT = TypeVar("HandleT", bound=Handle)


class MongoDBProvider(DocumentsDatabaseBase, Generic[HandleT]):
    """A provider of MongoDB. A subclass makes the clients and says how a command is sent.

    Attributes:
        command_timeout: how long `ping` and `verify` may take, in seconds.
        close_timeout: how long `close` may take, in seconds.
        pool_counter: counts what the pools of all clients did so far, those closed included.
    """

    command_timeout: float = 2.0
    close_timeout: float = 5.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.pool_counter = PoolCounter()
        # Replaced, never mutated: metrics read it from other threads.
        self._handles: tuple[HandleT, ...] = ()
        # Of every client so far: an old client's error may come after its successor was opened.
        self._secrets: frozenset[str] = frozenset()
        self._tls = False  # of the newest client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} clients={len(self._handles)}>"

    @property
    def pools(self) -> tuple[PoolStatistics, ...]:
        """What the open clients' connections are doing, one entry a client. From any thread."""
        return tuple(handle.monitor.statistics() for handle in self._handles)

    @property
    def certificate_expiry(self) -> float | None:
        """When the newest client's own certificate expires, in Unix seconds. From any thread.

        None without a certificate, without a client, or without `moorings[tls]` installed.
        """
        handles = self._handles
        return handles[-1].certificate_expiry if handles else None

    def endpoint(self, settings: DriverSettings) -> str:
        """The hosts, sorted, and the replica set."""
        if not isinstance(settings.url, SecretStr):
            # Two connections that share a reference share a server.
            return f"mongodb:{settings.url.path}/{settings.url.key}"
        url = settings.parsed_url
        scheme = "mongodb+srv" if url.srv else "mongodb"
        name = settings.replica_set
        return f"{scheme}://{','.join(sorted(url.hosts))}" + (f"/{name}" if name else "")

    async def ping(self, client: HandleT) -> None:
        """Ask a server that the URL's read preference allows whether it is there.

        With no such server it waits for one, up to `command_timeout`, or until each server that
        the driver knows of has failed: what waits longer learns nothing. The driver looks for one
        twice a second meanwhile.
        """
        await self._command(client, "admin", PING)

    async def verify(self, client: HandleT) -> None:
        """List the configured database's collections, as far as this user may see them.

        The least that needs a login: `ping` succeeds without, and a user with rights on a single
        collection may do nothing more general than this.
        """
        await self._command(client, client.database_name, LIST_NOTHING)

    def classify(self, error: BaseException) -> FailureReason | None:
        """See `mongo_errors.classify`."""
        from .mongo_errors import classify  # noqa: PLC0415 - the driver is optional

        return classify(error)

    def describe(self, error: BaseException) -> str:
        """See `mongo_errors.describe`; knows the secrets of every client opened so far."""
        from .mongo_errors import describe  # noqa: PLC0415 - the driver is optional

        return describe(error, self._secrets, tls=self._tls)

    @abstractmethod
    async def _command(self, client: HandleT, database: str, command: dict[str, Any]) -> None:
        """Send a command to a server that may be read from, within `command_timeout`."""

    def _learn(self, settings: DriverSettings) -> None:
        """What is to be known of the settings when errors are described."""
        self._secrets |= settings.secrets()
        self._tls = settings.uses_tls

    def _remember(self, handle: HandleT) -> HandleT:
        self._handles += (handle,)
        return handle

    def _forget(self, client: HandleT) -> bool:
        """Whether `client` was open; it is not, from here on, and signals nothing any more."""
        if client not in self._handles:
            return False
        self._handles = tuple(handle for handle in self._handles if handle is not client)
        client.monitor.mute()
        return True


def made(make: Callable[[], T]) -> T:
    """Make a client, and call what is wrong with its settings by the driver's name for it.

    Raises:
        ConfigurationError: the driver refuses the settings, or cannot read a certificate.
    """
    from pymongo.errors import ConfigurationError  # noqa: PLC0415 - the driver is optional

    try:
        return make()
    except (OSError, TypeError, ValueError) as error:
        # An unreadable certificate, say. Told apart here from the same errors of a hook.
        raise ConfigurationError(f"{type(error).__name__}: {error}") from error
