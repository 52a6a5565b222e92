"""The bridge between a kernel in guest mode and the asyncio program it serves.

Both sides run in one thread, so that a call across is a task there and a wait here; nothing is
shared that would need a lock. Cancellation waits for the other side's end, as it would within one
world: nothing goes on behind the back of whoever has cancelled it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import outcome
import trio

from ..errors import FailureReason, HostMismatch
from .client import AttemptFailed
from .guest import undisturbed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .guest import Guest

T = TypeVar("T")


class AsyncioHost:
    """An asyncio program, as the kernel of one of its managers sees it."""

    name = "asyncio"

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._loop = guest.loop

    def check(self, what: str) -> None:
        """See `Host.check`."""
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._loop:
            where = "outside of any event loop" if running is None else f"in {running!r}"
            raise HostMismatch(
                f"{what} was opened in {self._loop!r} and is used {where}: "
                "open the connections in the loop that uses them"
            )

    # -- from trio to asyncio -----------------------------------------------------------------

    async def visit(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """See `Host.visit`. Called in the guest.

        Raises:
            AttemptFailed: the loop was closed, or somebody cancelled all of its tasks.
        """
        if self._loop.is_closed():
            raise _gone("the event loop is closed")
        task = trio.lowlevel.current_task()
        job = self._loop.create_task(_awaited(function, *args))
        raise_cancel: Callable[[], None] | None = None

        def wake(_: object) -> None:
            trio.lowlevel.reschedule(task)

        def abort(raise_cancelled: Callable[[], None]) -> trio.lowlevel.Abort:
            if self._loop.is_closed():
                return trio.lowlevel.Abort.SUCCEEDED  # nobody will end it
            nonlocal raise_cancel
            raise_cancel = raise_cancelled
            job.cancel()
            return trio.lowlevel.Abort.FAILED  # its end wakes us

        job.add_done_callback(wake)
        await trio.lowlevel.wait_task_rescheduled(abort)
        if job.cancelled():
            if raise_cancel is not None:
                raise_cancel()
            raise _gone("the event loop cancelled it")
        if (error := job.exception()) is not None and not isinstance(error, Exception):
            raise _gone("the event loop is being left")  # by Ctrl-C, say, which it has met, too
        return job.result()

    # -- from asyncio to trio -----------------------------------------------------------------

    async def command(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """See `Host.command`. Called in the loop.

        Raises:
            AttemptFailed: the runtime ended meanwhile.
        """
        future: asyncio.Future[outcome.Outcome[T] | None] = self._loop.create_future()
        scope = trio.CancelScope()
        self._guest.start_soon(_commanded, scope, future, function, *args)
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            scope.cancel()
            await undisturbed(future)
            if not isinstance(future.result(), outcome.Error):
                raise
        result = future.result()
        if result is None:
            raise _gone("the runtime has ended")
        return result.unwrap()


async def _awaited(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    return await function(*args)  # what is awaitable need not be a coroutine


async def _commanded(
    scope: trio.CancelScope,
    future: asyncio.Future[outcome.Outcome[Any] | None],
    function: Callable[..., Awaitable[Any]],
    *args: Any,
) -> None:
    """The trio side of a command; what escapes belongs to the one who gave it."""
    result: outcome.Outcome[Any] | None = None  # None: cancelled, by the caller or at the end
    try:
        with scope:
            result = await _captured(function, *args)
    finally:
        if not future.get_loop().is_closed():
            future.set_result(result)


async def _captured(function: Callable[..., Awaitable[T]], *args: Any) -> outcome.Outcome[T]:
    try:
        return outcome.Value(await function(*args))
    except Exception as error:  # noqa: BLE001 - unwrapped on the other side; Cancelled passes
        return outcome.Error(error)


def _gone(why: str) -> AttemptFailed:
    return AttemptFailed(FailureReason.NETWORK, why)
