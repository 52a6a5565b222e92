"""The `pymongo` backend: MongoDB through PyMongo's own asynchronous client, on asyncio.

No threads: calls wait on the event loop, and so do the driver's monitors, which are tasks of that
loop. Cancelling a call closes the connection that it had, so nothing of it goes on here; the
server may still finish what it has begun.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import sniffio

from ..errors import HostMismatch
from .asyncio_job import AsyncioJob
from .mongo_base import MongoDBProvider, made
from .mongo_certificates import expiry
from .mongo_commands import DRAIN_SHARE, LIST_NOTHING, SHARE, bounded
from .mongo_files import stamp
from .mongo_patience import Patience
from .mongo_settings import PyMongoSettings
from .threads import ClientExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.database import AsyncDatabase

    from .contract import Notify
    from .mongo_files import Stamp
    from .mongo_monitor import MongoMonitor

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class PyMongoHandle:
    """One client and what belongs to it.

    Attributes:
        driver: the `AsyncMongoClient`.
        database_name: the configured database.
        monitor: listens to the driver.
        settings: what it was made with.
        files: what its TLS files looked like before it was made.
        certificate_expiry: when the client's own certificate expires, in Unix seconds, if known.
        stuck: commands of ours that were cancelled, and go on all the same.
    """

    driver: AsyncMongoClient[dict[str, Any]] = field(repr=False)
    database_name: str
    monitor: MongoMonitor
    settings: PyMongoSettings = field(repr=False)
    files: Stamp
    certificate_expiry: float | None = None
    stuck: set[asyncio.Task[None]] = field(default_factory=set, repr=False)


class DriverStuck(RuntimeError):
    """A client will never serve again, or not be cancelled any more: only another one helps.

    Seen with Python 3.11, where PyMongo may leave its topology locked when a program's call that
    waits for a server is cancelled: if that happens at one of the moments at which the call looks
    at its watch, or twice in a row, as anyio (and so Starlette) does until a task has ended.
    """


class PyMongoProvider(MongoDBProvider[PyMongoHandle]):
    """MongoDB through PyMongo's asynchronous client: `database()` gives an `AsyncDatabase`.

    The client belongs to the loop that its first call runs in.
    """

    settings_model: ClassVar[type[PyMongoSettings]] = PyMongoSettings
    hosts: ClassVar[frozenset[str]] = frozenset({"asyncio"})
    instead: ClassVar[Mapping[str, str]] = {"trio": "mongo"}

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._closing: set[asyncio.Task[Any]] = set()

    async def open(self, settings: PyMongoSettings, notify: Notify) -> PyMongoHandle:
        """Make a client. It talks to no server, and has no task, before its first `ping`.

        Raises:
            HostMismatch: this is no asyncio program.
            pymongo.errors.ConfigurationError: the driver refuses the settings, or cannot read a
                certificate.
        """
        _check_host(self.name)
        self._learn(settings)
        return self._remember(await self._in_thread(lambda: self._make(settings, notify)))

    async def probe(self, client: PyMongoHandle) -> None:
        """One fresh connection in a client of its own; see `DocumentsDatabaseBase`."""
        from pymongo import AsyncMongoClient  # noqa: PLC0415 - the driver is optional

        from .mongo_probe import CLOSE_SECONDS, probe_arguments  # noqa: PLC0415

        url, options = probe_arguments(client.settings, self.name)
        driver: AsyncMongoClient[dict[str, Any]] = await self._in_thread(
            lambda: made(lambda: AsyncMongoClient(url, **options))
        )
        try:
            with bounded(driver, self.command_timeout):
                await driver[client.database_name].command(
                    LIST_NOTHING, read_preference=driver.read_preference
                )
        finally:
            await self._end(driver, CLOSE_SECONDS)

    async def ping(self, client: PyMongoHandle) -> None:
        """As that of every MongoDB; its cancellation waits for the driver 0.1 s at most.

        Raises:
            DriverStuck: an earlier command would not end, or the driver stays locked. No outage:
                the client has to go.
        """
        await _abandonable(client, super().ping(client), self.command_timeout * SHARE)

    async def verify(self, client: PyMongoHandle) -> None:
        """As that of every MongoDB; errors and cancellation as `ping`."""
        await _abandonable(client, super().verify(client), self.command_timeout * SHARE)

    async def is_current(self, client: PyMongoHandle) -> bool:
        """Whether its TLS files are those that it was made of."""
        settings = client.settings
        if not settings.tls_files:
            return True
        return await self._in_thread(lambda: stamp(settings)) == client.files

    def database(self, client: PyMongoHandle) -> AsyncDatabase[dict[str, Any]]:
        """The `AsyncDatabase`."""
        return client.driver[client.database_name]

    async def close(self, client: PyMongoHandle) -> None:
        """Let the calls that have a connection finish, then close the client and all it holds.

        Idempotent. Calls that begin meanwhile are let through, until there is a moment without
        any; later ones, and those that still wait for a server, get the driver's own
        `InvalidOperation`. Bounded by `close_timeout` even when the server is gone. A call that is
        stuck on a frozen server keeps its connection until it is cancelled.

        When cancelled it waits for no call any more: the client is closed by a task of its own, in
        a fifth of `close_timeout` at most, or before the loop ends.

        Raises:
            TimeoutError: there were such calls.
        """
        if not self._forget(client):
            return
        closing = self._keep(self._drain_and_close(client, self.close_timeout))
        try:
            drained = await asyncio.shield(closing)
        except asyncio.CancelledError:
            closing.cancel()
            raise
        if not drained:
            raise TimeoutError(f"calls of {self.name!r} were still under way")

    async def _drain_and_close(self, client: PyMongoHandle, seconds: float) -> bool:
        """Close `client` within `SHARE` of `seconds`; whether all its calls have ended by then.

        When cancelled, be it because the loop ends, it drains no more, but closes.
        """
        idle = asyncio.Event()
        client.monitor.when_idle(idle.set)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds * DRAIN_SHARE):
                    await idle.wait()
        finally:
            await self._end(client.driver, seconds * (SHARE - DRAIN_SHARE))
        return not client.monitor.statistics().in_use

    async def _end(self, driver: AsyncMongoClient[dict[str, Any]], seconds: float) -> None:
        """Close `driver` within so many seconds; when cancelled, within half of one.

        Cut off at once while it closes its sockets, it would leave those open, as nobody's. (A
        loop that ends cuts everything off; what was not begun by then is closed all the same.)
        """
        closing = self._keep(_close(driver, seconds))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(_GRACE, closing.cancel)
            await _outlast(closing, 3 * _GRACE)
            if closing.cancelled():  # perhaps before its first step
                await _close(driver, _GRACE)
            raise

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in a task of its own, and hold that: a loop holds its tasks weakly."""
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _in_thread(self, make: Callable[[], T]) -> T:
        """Make a client in a thread, because certificates are read from disk."""
        # One of our own: those of the loop are waited for when the program ends.
        maker = ClientExecutor(f"{self.name}-open", 1)
        try:
            return await AsyncioJob(asyncio.get_running_loop(), maker, make, keep=False).start()
        finally:
            maker.close()

    def _make(self, settings: PyMongoSettings, notify: Notify) -> PyMongoHandle:
        from pymongo import AsyncMongoClient  # noqa: PLC0415 - the driver is optional

        from .mongo_monitor import MongoMonitor  # noqa: PLC0415

        monitor = MongoMonitor(notify, self.pool_counter)
        url, options = settings.driver_arguments(appname=f"moorings/{self.name}")
        files = stamp(settings)  # before the driver reads them: what changes meanwhile is news
        driver: AsyncMongoClient[dict[str, Any]] = made(
            lambda: AsyncMongoClient(url, event_listeners=[monitor], **options)
        )
        monitor.attend(driver, settings.replica_set)
        return PyMongoHandle(
            driver, settings.database_name, monitor, settings, files, expiry(settings)
        )

    async def _command(self, client: PyMongoHandle, database: str, command: dict[str, Any]) -> None:
        driver = client.driver
        patience = Patience(driver, self.command_timeout)
        for look in patience.looks():
            with look:
                await driver.is_primary
        with patience.bounded():
            await driver[database].command(command, read_preference=driver.read_preference)


_GRACE: Final = 0.1
"""How long what was cut off may still take: a second `close`, or work that ends itself; seconds."""


async def _abandonable(
    client: PyMongoHandle, work: Coroutine[Any, Any, None], seconds: float
) -> None:
    """Await `work`, but not for ever if it ignores its cancellation: the runtime waits for us.

    Where an earlier one goes on, wait for its end first, but at most so many `seconds`, which is
    all that it had itself: a loop that is busy takes its time to cancel what is cancelled.
    """
    with contextlib.ExitStack() as unused:
        unused.callback(work.close)
        if client.stuck:
            await asyncio.wait(client.stuck, timeout=seconds)
        if not all(task.done() for task in client.stuck):
            raise DriverStuck("the driver did not let an earlier command be cancelled")
        await _check_unlocked(client, seconds)
        unused.pop_all()
    task = asyncio.create_task(work)
    task.add_done_callback(_seen)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        client.stuck.add(task)
        task.add_done_callback(client.stuck.discard)
        await asyncio.wait({task}, timeout=_GRACE)
        raise
    task.result()


async def _check_unlocked(client: PyMongoHandle, seconds: float) -> None:
    """Raise `DriverStuck` where the driver's topology stays locked for so long.

    The driver holds that lock for moments only, and no deadline of its own bounds who waits for
    it, be it a call or a monitor: without this look it would be taken for an outage, for ever.
    """
    # Private, as nothing public tells: where it is called otherwise, there is no such look.
    lock = getattr(getattr(client.driver, "_topology", None), "_lock", None)
    if lock is None or not lock.locked():
        return
    try:
        async with asyncio.timeout(seconds):
            await lock.acquire()
    except TimeoutError:
        raise DriverStuck("the driver's topology was left locked by a cancelled call") from None
    lock.release()


async def _outlast(task: asyncio.Task[Any], seconds: float) -> None:
    """Wait for the end of `task`, at most so long, even if cancelled (a loop may do it twice)."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not task.done() and loop.time() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task}, timeout=until - loop.time())


def _seen(task: asyncio.Task[None]) -> None:
    """Nobody may be left to take its error: asyncio would log it as never retrieved."""
    if not task.cancelled():
        task.exception()


def _check_host(name: str) -> None:
    host = sniffio.current_async_library()
    if host != "asyncio":
        raise HostMismatch(
            f"connection {name!r}: backend 'pymongo' works on asyncio, not on {host}. "
            'Set backend = "mongo", which works on both'
        )


async def _close(driver: AsyncMongoClient[dict[str, Any]], seconds: float) -> None:
    import pymongo  # noqa: PLC0415 - the driver is optional
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    try:
        # The server may be gone, or its name never have been resolved. All is closed anyway.
        with contextlib.suppress(PyMongoError, TimeoutError), pymongo.timeout(seconds):
            async with asyncio.timeout(seconds):  # it joins its monitors, which that does not bound
                await driver.close()
                return
    except asyncio.CancelledError:
        await _close_again(driver)
        raise
    await _close_again(driver)


async def _close_again(driver: AsyncMongoClient[dict[str, Any]]) -> None:
    """After a `close` that was cut off: what took its time then has been given up by now."""
    from pymongo.errors import PyMongoError  # noqa: PLC0415 - the driver is optional

    with contextlib.suppress(PyMongoError, TimeoutError):
        async with asyncio.timeout(_GRACE):
            await driver.close()
