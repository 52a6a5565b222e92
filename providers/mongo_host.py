"""What the `mongo` backend needs from the host it runs in: a way to await threads, and Motor.

The modules of one host are never imported in the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import sniffio

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from .threads import ClientExecutor

T = TypeVar("T")


class Host(Protocol):
    """One of the two worlds."""

    def begin(
        self, lane: ClientExecutor, work: Callable[[], T], *, keep: bool = False
    ) -> Awaitable[T]:
        """Begin `work` in one of the lane's threads, now; awaitable in this world.

        Cancelling who waits frees the task at once. Work that has begun goes on; what is still
        queued is taken back, unless `keep` says otherwise.
        """

    def client(self, url: str, executor: ClientExecutor, options: Mapping[str, Any]) -> Any:
        """A Motor client of this world whose calls run in `executor`. Callable in any thread."""


class TrioHost:
    """trio: `TrioMotorClient`."""

    def begin(
        self, lane: ClientExecutor, work: Callable[[], T], *, keep: bool = False
    ) -> Awaitable[T]:
        """See `Host`."""
        from .trio_future import JobFuture  # noqa: PLC0415 - this host's

        future = JobFuture(lane, work, keep=keep)
        future.start()
        return future

    def client(self, url: str, executor: ClientExecutor, options: Mapping[str, Any]) -> Any:
        """See `Host`."""
        from .motor_trio import TrioMotorClient  # noqa: PLC0415 - the driver is optional

        client: Any = TrioMotorClient(url, io_loop=executor, **options)
        return client


class AsyncioHost:
    """asyncio: `AsyncIOMotorClient`.

    Args:
        loop: the one that runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def begin(
        self, lane: ClientExecutor, work: Callable[[], T], *, keep: bool = False
    ) -> Awaitable[T]:
        """See `Host`."""
        from .asyncio_job import AsyncioJob  # noqa: PLC0415 - this host's

        return AsyncioJob(self._loop, lane, work, keep=keep).start()

    def client(self, url: str, executor: ClientExecutor, options: Mapping[str, Any]) -> Any:
        """See `Host`."""
        from .motor_asyncio import AsyncIOMotorClient  # noqa: PLC0415 - the driver is optional

        return AsyncIOMotorClient(url, loop=self._loop, executor=executor, **options)


def current_host() -> Host:
    """The world that the calling coroutine runs in."""
    if sniffio.current_async_library() == "trio":
        return TrioHost()
    import asyncio  # noqa: PLC0415 - this host's

    return AsyncioHost(asyncio.get_running_loop())
