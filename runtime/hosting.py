"""A manager's stay in the guest: how a block of an asyncio program encloses a kernel in trio.

The kernel runs as a task of the guest; the block stays where it is. What ends one of them reaches
the other: the block's end stops the kernel in order, and a kernel that dies cancels the task that
entered the block, once every waiter has been told.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import trio

from ..errors import ConnectionNotReady
from .asyncio_host import AsyncioHost
from .guest import Guest, undisturbed
from .lifecycle import raise_outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .kernel import Kernel

    Living = Callable[[], AbstractAsyncContextManager[None]]


class Hosted:
    """Runs a kernel as a guest of the running loop for as long as a block runs.

    Not a generator: a loop whose program forgets to leave the block closes its generators one by
    one, each in a task of its own, and none of them would reach the end of the others.

    Args:
        kernel: gets its host here.
        living: what the kernel's task keeps open meanwhile, in trio.

    Raises:
        BaseException: what `living` raised; with the block's own error as in a trio program.
        HostMismatch: the thread is occupied by another run.

    Cancellation reaches the block, and then stops the kernel in order.
    """

    def __init__(self, kernel: Kernel, living: Living) -> None:
        self._kernel = kernel
        self._living = living
        self._stay: _Stay

    async def __aenter__(self) -> None:
        """Return once the kernel runs, as its settings' `startup` says."""
        guest = await Guest.enter()
        self._kernel.host = AsyncioHost(guest)
        stay = self._stay = _Stay(self._kernel, self._living, guest)
        try:
            begun = await asyncio.shield(stay.entered)
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        if not begun:
            await self.__aexit__(None, None, None)  # raises why
            raise ConnectionNotReady("the event loop is being left", None)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        block_error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the kernel, leave the guest; raise what is to be raised beside the block's error."""
        error, reason = await self._stay.end(block_error), self._stay.error
        if reason is not None or error is not block_error:
            raise_outcome(error, reason)


class _Stay:
    """One manager in the guest.

    Attributes:
        entered: True when the block may begin, False when it never will.
        error: what the kernel's task ended with, if not in order.
    """

    def __init__(self, kernel: Kernel, living: Living, guest: Guest) -> None:
        self.entered: asyncio.Future[bool] = guest.loop.create_future()
        self.error: BaseException | None = None
        self._ended: asyncio.Future[None] = guest.loop.create_future()
        self._kernel = kernel
        self._living = living
        self._guest = guest
        self._leaving = trio.Event()
        self._task = asyncio.current_task()
        self._cancellations = self._task.cancelling() if self._task is not None else 0
        self._interrupted = False
        guest.ended.add_done_callback(self._guest_ended)
        guest.start_soon(self._run)

    # -- in the guest -------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            async with self._living():
                if not self.entered.done():
                    self.entered.set_result(True)
                try:
                    await self._leaving.wait()
                finally:
                    self._interrupt()  # the kernel has failed, or the guest ends with the loop
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - raised where the block ends, and only there
            self.error = error
        finally:
            self._settle()

    def _settle(self) -> None:
        if self._guest.loop.is_closed():
            return
        if not self.entered.done():
            self.entered.set_result(False)
        if not self._ended.done():
            self._ended.set_result(None)

    # -- in the loop --------------------------------------------------------------------------

    def _interrupt(self) -> None:
        """End the block, unless it ends already: its kernel is gone."""
        if self._leaving.is_set() or self._interrupted or self._task is None:
            return
        self._interrupted = self._task.cancel()  # False: that task is over, another one holds us

    def _guest_ended(self, ended: asyncio.Future[None]) -> None:
        error = ended.exception()
        if error is not None:
            self.error = error
            self._kernel.die(error)
            self._interrupt()
        self._settle()

    async def end(self, block_error: BaseException | None) -> BaseException | None:
        """Stop the kernel, leave the guest; what the block is taken to have ended with."""
        if not self._ended.done():
            self._leaving.set()
        for ending in (undisturbed(self._ended), self._guest.leave()):
            try:
                await ending
            except asyncio.CancelledError as error:
                block_error = block_error or error
        if self._interrupted and self.error is not None:
            return await self._undo(block_error)
        return block_error

    async def _undo(self, block_error: BaseException | None) -> BaseException | None:
        """Take our own cancellation back, as `asyncio.timeout` does: a reason takes its place."""
        if self._task is not asyncio.current_task():
            return block_error
        try:
            await asyncio.sleep(0)  # it may not have been delivered yet
        except asyncio.CancelledError as error:
            block_error = block_error or error
        others = self._task.uncancel() > self._cancellations if self._task is not None else True
        if isinstance(block_error, asyncio.CancelledError) and not others:
            return None
        return block_error
