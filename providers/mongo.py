"""The `mongo` backend: MongoDB through Motor, on trio and on asyncio.

`open` makes a `MongoHandle`: the client, the threads its calls run in, and a lane of its own for
pings and `close`, so that those never queue behind an application's calls to a frozen server.
Everything that talks to a server is bounded twice: by `pymongo.timeout` in the thread, whose error
says what is wrong, and by the runtime's cancellation, which abandons the thread.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .mongo_base import MongoDBProvider, made
from .mongo_certificates import expiry
from .mongo_commands import DRAIN_SHARE, SHARE, close_bounded
from .mongo_files import stamp
from .mongo_host import Host, current_host
from .mongo_patience import Patience
from .mongo_settings import MongoSettings
from .threads import ClientExecutor, ExecutorStatistics

if TYPE_CHECKING:
    from pymongo import MongoClient

    from .contract import Notify
    from .mongo_files import Stamp
    from .mongo_monitor import MongoMonitor

_LANE_THREADS: Final = 2
"""Threads for pings and `close`: a second one, because the first may still be stuck in a ping that
the runtime gave up."""


@dataclass(frozen=True, eq=False)
class MongoHandle:
    """One client and what belongs to it.

    Attributes:
        motor: the `TrioMotorClient` or `AsyncIOMotorClient`.
        database_name: the configured database.
        executor: the threads of the application's calls.
        lane: the threads of pings and `close`.
        monitor: listens to the driver.
        host: the world it was opened in.
        settings: what it was made with.
        files: what its TLS files looked like before it was made.
        certificate_expiry: when the client's own certificate expires, in Unix seconds, if known.
        closing: set before the driver is closed.
    """

    motor: Any = field(repr=False)
    database_name: str
    executor: ClientExecutor
    lane: ClientExecutor
    monitor: MongoMonitor
    host: Host = field(repr=False)
    settings: MongoSettings = field(repr=False)
    files: Stamp
    certificate_expiry: float | None = None
    closing: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def driver(self) -> MongoClient[dict[str, Any]]:
        """PyMongo's client underneath, for use in threads."""
        found: MongoClient[dict[str, Any]] = self.motor.delegate
        return found


class MongoProvider(MongoDBProvider[MongoHandle]):
    """MongoDB through Motor: native to trio, or Motor's own on asyncio.

    `database()` gives a `TrioMotorDatabase` or an `AsyncIOMotorDatabase`, bound to the loop that
    ran when the client was opened. Either way each client has threads of its own, and cancelling
    a call frees the waiting task at once, while its thread, and the server, go on with what they
    have begun.
    """

    settings_model: ClassVar[type[MongoSettings]] = MongoSettings
    hosts: ClassVar[frozenset[str]] = frozenset({"trio", "asyncio"})

    @property
    def executors(self) -> tuple[ExecutorStatistics, ...]:
        """What the threads of the open clients are doing. From any thread."""
        return tuple(
            executor.statistics()
            for handle in self._handles
            for executor in (handle.executor, handle.lane)
        )

    async def open(self, settings: MongoSettings, notify: Notify) -> MongoHandle:
        """Make a client. It talks to no server before its first `ping`.

        Raises:
            pymongo.errors.ConfigurationError: the driver refuses the settings, or cannot read a
                certificate.
        """
        self._learn(settings)
        host = current_host()
        lane = ClientExecutor(f"{self.name}-lane", _LANE_THREADS)
        executor = ClientExecutor(self.name, settings.threads)
        try:
            # In a thread, because certificates are read from disk.
            handle = await host.begin(
                lane, lambda: self._make(settings, notify, executor, lane, host)
            )
        except BaseException:
            executor.close()
            lane.close()
            raise
        return self._remember(handle)

    async def probe(self, client: MongoHandle) -> None:
        """One fresh connection in a client and a thread of its own; see `DocumentsDatabaseBase`.

        When cancelled it is left to its own bound.
        """
        from .mongo_probe import probe_blocking  # noqa: PLC0415 - the driver is optional

        seconds, settings = self.command_timeout, client.settings
        prober = ClientExecutor(f"{self.name}-probe", 1)
        try:
            await client.host.begin(prober, lambda: probe_blocking(settings, self.name, seconds))
        finally:
            prober.close()

    async def is_current(self, client: MongoHandle) -> bool:
        """Whether its TLS files are those that it was made of."""
        settings = client.settings
        if not settings.tls_files:
            return True
        return await client.host.begin(client.lane, lambda: stamp(settings)) == client.files

    def database(self, client: MongoHandle) -> Any:
        """The `TrioMotorDatabase` or `AsyncIOMotorDatabase`."""
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
        if not self._forget(client):
            return
        seconds = self.close_timeout
        closing = client.host.begin(
            client.lane, lambda: _drain_and_close(client, seconds), keep=True
        )
        # What is queued is still done: from here on the lane ends by itself.
        client.lane.close()
        try:
            drained = await closing
        finally:
            client.executor.close()  # when cancelled: intake ends here and now
        if not drained:
            raise TimeoutError(f"calls of {self.name!r} were still under way")

    def _make(
        self,
        settings: MongoSettings,
        notify: Notify,
        executor: ClientExecutor,
        lane: ClientExecutor,
        host: Host,
    ) -> MongoHandle:
        from .mongo_monitor import MongoMonitor  # noqa: PLC0415 - the driver is optional

        monitor = MongoMonitor(notify, self.pool_counter)
        expires = expiry(settings)
        url, options = settings.driver_arguments(appname=f"moorings/{self.name}")
        options |= {"event_listeners": [monitor]}
        files = stamp(settings)  # before the driver reads them: what changes meanwhile is news
        motor = made(lambda: host.client(url, executor, options))
        monitor.attend(motor.delegate, settings.replica_set)
        return MongoHandle(
            motor, settings.database_name, executor, lane, monitor, host, settings, files, expires
        )

    async def _command(self, client: MongoHandle, database: str, command: dict[str, Any]) -> None:
        seconds, driver = self.command_timeout, client.driver
        patience = Patience(driver, seconds)

        def send() -> None:
            try:
                for look in patience.looks():
                    with look:
                        _ = driver.is_primary
                if patience.given_up:
                    return
                with patience.bounded():
                    driver[database].command(command, read_preference=driver.read_preference)
            finally:
                if client.closing.is_set():
                    # Its runtime gave this command up. A client's first call starts a thread of
                    # PyMongo's, even if the client is closed that moment: so, once more.
                    close_bounded(driver, seconds)

        try:
            await client.host.begin(client.lane, send)
        finally:
            patience.given_up = True  # or the thread would be missing at the next command


def _drain_and_close(client: MongoHandle, seconds: float) -> bool:
    """Close `client` within `SHARE` of `seconds`; whether all its calls have ended by then."""
    client.executor.wait_quiet(seconds * DRAIN_SHARE)
    client.executor.close()
    client.closing.set()
    close_bounded(client.driver, seconds * (SHARE - DRAIN_SHARE))
    return client.executor.wait_quiet(0.0)
