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
from .guest import first_of, undisturbed
from .hosts import KernelEnded

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

    def check_leaving(self) -> None:
        """See `Host.check_leaving`."""
        if self._guest.is_running() and not self._loop.is_closed():
            self.check("the block")

    # -- from trio to asyncio -----------------------------------------------------------------

    async def visit(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """See `Host.visit`. Called in the guest.

        Raises:
            AttemptFailed: the loop was closed or left, or somebody cancelled all of its tasks.
        """
        if self._loop.is_closed():
            raise _gone("the event loop is closed")
        task = trio.lowlevel.current_task()
        job = self._loop.create_task(_awaited(function, *args))
        self._guest.jobs.add(job)
        raise_cancel: Callable[[], None] | None = None

        def wake(_: object) -> None:
            self._guest.jobs.discard(job)
            if self._guest.is_running():
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
        if isinstance(job.exception(), KeyboardInterrupt | SystemExit):
            raise _gone("the event loop is being left")  # it has met them, too
        return job.result()

    # -- from asyncio to trio -----------------------------------------------------------------

    async def command(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """See `Host.command`. Called in the loop.

        Raises:
            KernelEnded: the runtime ended meanwhile.
        """
        if not self._guest.is_running():
            raise KernelEnded("the runtime has ended")
        ended = self._guest.ended
        future: asyncio.Future[outcome.Outcome[T] | None] = self._loop.create_future()
        scope = trio.CancelScope()
        self._guest.start_soon(_commanded, scope, future, function, *args)
        try:
            await first_of(future, ended)
        except asyncio.CancelledError:
            if self._guest.is_running():
                scope.cancel()
            await undisturbed(future, ended)
            if not (future.done() and isinstance(future.result(), outcome.Error)):
                raise
        result = future.result() if future.done() else None
        if result is None:
            raise KernelEnded("the runtime ended meanwhile")
        return result.unwrap()


async def _awaited(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    if trio.lowlevel.in_trio_task():
        await asyncio.sleep(0)  # the loop starts tasks eagerly: not in the midst of trio's turn
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
        if not (future.done() or future.get_loop().is_closed()):
            future.set_result(result)


async def _captured(function: Callable[..., Awaitable[T]], *args: Any) -> outcome.Outcome[T]:
    try:
        return outcome.Value(await function(*args))
    except Exception as error:  # noqa: BLE001 - unwrapped on the other side; Cancelled passes
        return outcome.Error(error)


def _gone(why: str) -> AttemptFailed:
    return AttemptFailed(FailureReason.NETWORK, why)
