"""The `mongo` backend: MongoDB through Motor, native to trio.

`open` makes a `MongoHandle`: the client, the threads its calls run in, and a lane of its own for
pings and `close`, so that those never queue behind an application's calls to a frozen server.
Everything that talks to a server is bounded twice: by `pymongo.timeout` in the thread, whose error
says what is wrong, and by the runtime's cancellation, which abandons the thread.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from pydantic import SecretStr

from .contract import DocumentsDatabaseBase
from .mongo_settings import MongoSettings
from .threads import ClientExecutor, ExecutorStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo import MongoClient

    from ..errors import FailureReason
    from .contract import Notify
    from .mongo_monitor import MongoMonitor, PoolStatistics
    from .trio_future import JobFuture

T = TypeVar("T")

_LANE_THREADS: Final = 2
"""Threads for pings and `close`: a second one, because the first may still be stuck in a ping that
the runtime gave up."""

_SHARE: Final = 0.9
"""The part of its time that a command takes for itself. The rest is for its error to arrive: the
driver's knows the cause, the runtime's cancellation does not."""

_SELECTION_STEP: Final = 0.5
"""While it waits for a server, in seconds, PyMongo looks at its own time limit only this often."""

_DRAIN_SHARE: Final = 0.7
"""The part of `close_timeout` that calls under way have to finish; what is left of `_SHARE` is for
sending pooled sessions home, which takes its time when the server is gone."""


@dataclass(frozen=True, eq=False)
class MongoHandle:
    """One client and what belongs to it.

    Attributes:
        motor: the `TrioMotorClient`.
        database_name: the configured database.
        executor: the threads of the application's calls.
        lane: the threads of pings and `close`.
        monitor: listens to the driver.
    """

    motor: Any = field(repr=False)
    database_name: str
    executor: ClientExecutor
    lane: ClientExecutor
    monitor: MongoMonitor

    @property
    def driver(self) -> MongoClient[dict[str, Any]]:
        """PyMongo's client underneath, for use in threads."""
        found: MongoClient[dict[str, Any]] = self.motor.delegate
        return found


class MongoProvider(DocumentsDatabaseBase):
    """MongoDB on trio: `database()` gives a `TrioMotorDatabase`.

    Attributes:
        command_timeout: how long `ping` and `verify` may take, in seconds.
        close_timeout: how long `close` may take, in seconds.
    """

    settings_model: ClassVar[type[MongoSettings]] = MongoSettings
    hosts: ClassVar[frozenset[str]] = frozenset({"trio"})

    command_timeout: float = 2.0
    close_timeout: float = 5.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        # Replaced, never mutated: metrics read it from other threads.
        self._handles: tuple[MongoHandle, ...] = ()
        # Of every client so far: an old client's error may come after its successor was opened.
        self._secrets: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<MongoProvider {self.name!r} clients={len(self._handles)}>"

    @property
    def executors(self) -> tuple[ExecutorStatistics, ...]:
        """What the threads of the open clients are doing. From any thread."""
        return tuple(
            executor.statistics()
            for handle in self._handles
            for executor in (handle.executor, handle.lane)
        )

    @property
    def pools(self) -> tuple[PoolStatistics, ...]:
        """What the open clients' connections are doing, one entry a client. From any thread."""
        return tuple(handle.monitor.statistics() for handle in self._handles)

    def endpoint(self, settings: MongoSettings) -> str:
        """The hosts, sorted, and the replica set."""
        if not isinstance(settings.url, SecretStr):
            # Two connections that share a reference share a server.
            return f"mongodb:{settings.url.path}/{settings.url.key}"
        url = settings.parsed_url
        scheme = "mongodb+srv" if url.srv else "mongodb"
        name = settings.replica_set
        return f"{scheme}://{','.join(sorted(url.hosts))}" + (f"/{name}" if name else "")

    async def open(self, settings: MongoSettings, notify: Notify) -> MongoHandle:
        """Make a client. It talks to no server before its first `ping`.

        Raises:
            pymongo.errors.ConfigurationError: the driver refuses the settings, or cannot read a
                certificate.
        """
        self._secrets |= settings.secrets()
        lane = ClientExecutor(f"{self.name}-lane", _LANE_THREADS)
        executor = ClientExecutor(self.name, settings.threads)
        try:
            # In a thread, because certificates are read from disk.
            handle = await _run(lane, lambda: self._make(settings, notify, executor, lane))
        except BaseException:
            executor.close()
            lane.close()
            raise
        self._handles += (handle,)
        return handle

    async def ping(self, client: MongoHandle) -> None:
        """Ask a server that the URL's read preference allows whether it is there.

        With no such server it waits for one, up to `command_timeout`; the driver looks for one
        twice a second meanwhile.
        """
        await self._command(client, "admin", {"ping": 1})

    async def verify(self, client: MongoHandle) -> None:
        """List the configured database's collections, as far as this user may see them.

        The least that needs a login: `ping` succeeds without, and a user with rights on a single
        collection may do nothing more general than this.
        """
        command = {
            "listCollections": 1,
            "nameOnly": True,
            "authorizedCollections": True,
            # No name is empty: the permission is checked, and no list has to travel.
            "filter": {"name": ""},
        }
        await self._command(client, client.database_name, command)

    def database(self, client: MongoHandle) -> Any:
        """The `TrioMotorDatabase`."""
        return client.motor[client.database_name]

    async def close(self, client: MongoHandle) -> None:
        """Let the calls under way finish, then close the client and let its threads end.

        Idempotent. Calls that begin meanwhile are let through, until there is a moment without
        any: a handle that is still held ends between two pieces of work rather than within one.

        Bounded by `close_timeout` even when the server is gone, which PyMongo's own `close` is
        not: it sends pooled sessions home. A call that is stuck on a frozen server keeps its
        thread until its socket gives up; such threads hold nothing up, not even the interpreter.

        Raises:
            TimeoutError: there were such calls.
        """
        if client not in self._handles:
            return
        self._handles = tuple(handle for handle in self._handles if handle is not client)
        client.monitor.mute()
        seconds = self.close_timeout
        closing = _run(client.lane, lambda: _drain_and_close(client, seconds), keep=True)
        # What is queued is still done: from here on the lane ends by itself.
        client.lane.close()
        try:
            drained = await closing
        finally:
            client.executor.close()  # when cancelled: intake ends here and now
        if not drained:
            raise TimeoutError(f"calls of {self.name!r} were still under way")

    def classify(self, error: BaseException) -> FailureReason | None:
        """See `mongo_errors.classify`."""
        from .mongo_errors import classify  # noqa: PLC0415 - the driver is optional

        return classify(error)

    def describe(self, error: BaseException) -> str:
        """See `mongo_errors.describe`; knows the secrets of every client opened so far."""
        from .mongo_errors import describe  # noqa: PLC0415 - the driver is optional

        return describe(error, self._secrets)

    def _make(
        self,
        settings: MongoSettings,
        notify: Notify,
        executor: ClientExecutor,
        lane: ClientExecutor,
    ) -> MongoHandle:
        from pymongo.errors import ConfigurationError  # noqa: PLC0415 - the driver is optional

        from .mongo_monitor import MongoMonitor  # noqa: PLC0415
        from .motor_trio import TrioMotorClient  # noqa: PLC0415

        monitor = MongoMonitor(notify)
        url, arguments = settings.driver_arguments(appname=f"moorings/{self.name}")
        try:
            motor: Any = TrioMotorClient(
                url, io_loop=executor, event_listeners=[monitor], **arguments
            )
        except (OSError, TypeError, ValueError) as error:
            # An unreadable certificate, say. Told apart here from the same errors of a hook.
            raise ConfigurationError(f"{type(error).__name__}: {error}") from error
        monitor.attend(motor.delegate, settings.replica_set)
        return MongoHandle(motor, settings.database_name, executor, lane, monitor)

    async def _command(self, client: MongoHandle, database: str, command: dict[str, Any]) -> None:
        seconds = self.command_timeout * _SHARE
        await _run(client.lane, lambda: _command(client.driver, database, command, seconds))


def _command(
    driver: MongoClient[dict[str, Any]], database: str, command: dict[str, Any], seconds: float
) -> None:
    import pymongo  # noqa: PLC0415 - the driver is optional
    from pymongo.errors import ServerSelectionTimeoutError  # noqa: PLC0415

    try:
        if not driver.topology_description.has_readable_server(driver.read_preference):
            # Or the runtime would cut it off first, and call a refused connection a timeout.
            seconds = max(seconds - _SELECTION_STEP, seconds / 2)
        with pymongo.timeout(seconds):
            driver[database].command(command, read_preference=driver.read_preference)
    except ServerSelectionTimeoutError as error:
        said = [
            server.error
            for server in driver.topology_description.server_descriptions().values()
            if server.error is not None
        ]
        if not said:
            raise
        # Only here: the error itself has nothing but their text.
        raise error from ExceptionGroup("what the servers' own connections met", said)


def _drain_and_close(client: MongoHandle, seconds: float) -> bool:
    """Close `client` within `_SHARE` of `seconds`; whether all its calls have ended by then."""
    client.executor.wait_quiet(seconds * _DRAIN_SHARE)
    client.executor.close()
    _close(client.driver, seconds * (_SHARE - _DRAIN_SHARE))
    return client.executor.wait_quiet(0.0)


def _close(driver: MongoClient[dict[str, Any]], seconds: float) -> None:
    import pymongo  # noqa: PLC0415 - the driver is optional
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    # The server may be gone, or its name never have been resolved. The sockets are closed anyway.
    with contextlib.suppress(PyMongoError), pymongo.timeout(seconds):
        driver.close()


def _run(lane: ClientExecutor, work: Callable[[], T], *, keep: bool = False) -> JobFuture[T]:
    """Begin `work` in one of the lane's threads, now; awaitable in trio."""
    from .trio_future import JobFuture  # noqa: PLC0415 - the host's own world, chosen on opening

    future = JobFuture(lane, work, keep=keep)
    future.start()
    return future
