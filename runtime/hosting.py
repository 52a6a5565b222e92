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
from .lifecycle import raise_outcome, without_cancellation

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
            stay.begin()
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

    What ends it, and what of it then happens where:

    - The block ends: `end` cancels the block's counterpart in the guest; the kernel stops; `_run`
      settles.
    - The kernel fails: its task leaves the counterpart, interrupts the block, and stops; `_run`
      notes the `error` and settles.
    - The guest ends in order, with its loop: as before, without an error; `_guest_ended` settles.
    - The guest crashes, perhaps without unwinding: `_guest_ended` notes the error, tells everybody
      and settles.
    - The loop is closed, or this is a forked child: nobody waits any more.

    Attributes:
        entered: True when the block may begin, False when it never will.
        error: what the kernel's task ended with, if not in order.
    """

    def __init__(self, kernel: Kernel, living: Living, guest: Guest) -> None:
        self.entered: asyncio.Future[bool] = guest.loop.create_future()
        self.error: BaseException | None = None
        self._settled: asyncio.Future[None] = guest.loop.create_future()
        self._kernel = kernel
        self._living = living
        self._guest = guest
        self._start = trio.CancelScope()
        self._block = trio.CancelScope()  # the block's counterpart
        self._leaving = False
        self._task = asyncio.current_task()
        self._cancellations = self._task.cancelling() if self._task is not None else 0
        self._interrupted = False  # we have cancelled that task

    def begin(self) -> None:
        """Start the kernel's task."""
        self._guest.ended.add_done_callback(self._guest_ended)
        self._guest.start_soon(self._run)

    # -- in the guest -------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            with self._start:
                async with self._living():
                    if not self.entered.done():
                        self.entered.set_result(True)
                    try:
                        with self._block:
                            await trio.sleep_forever()
                    finally:
                        self._interrupt()
        except BaseException as error:
            self.error = without_cancellation(error)
            if self.error is None:
                raise  # the guest's own end
        self._settle()

    def _settle(self) -> None:
        if self._guest.loop.is_closed():
            return
        if not self.entered.done():
            self.entered.set_result(False)
        if not self._settled.done():
            self._settled.set_result(None)

    # -- in the loop --------------------------------------------------------------------------

    def _interrupt(self) -> None:
        """End the block, unless it ends already: its kernel is gone."""
        task = self._task
        if task is None or self._leaving or self._interrupted or self._guest.loop.is_closed():
            return
        if self._guest.is_ending() and task.cancelling() > self._cancellations:
            return  # cancelled with all of its loop, as our guard was: twice would cut it short
        # False: that task is over, and another one will leave the block.
        self._interrupted = task.cancel()

    def _guest_ended(self, ended: asyncio.Future[None]) -> None:
        error = ended.exception()
        if error is not None:
            self.error = error
            self._kernel.die(error)
            self._interrupt()
        self._settle()

    async def end(self, block_error: BaseException | None) -> BaseException | None:
        """Stop the kernel, leave the guest; what the block is taken to have ended with."""
        self._leaving = True
        if self._guest.lost:
            return block_error
        if self._guest.is_running():
            # A start that waits for a database waits for nobody from here on.
            (self._block if self.entered.done() else self._start).cancel()
        for ending in (self._until_settled, self._guest.leave):
            try:
                await ending()
            except asyncio.CancelledError as error:
                block_error = block_error or error
        self._guest.ended.remove_done_callback(self._guest_ended)
        if self._interrupted and self.error is not None:
            return await self._take_back(block_error)
        return block_error

    async def _until_settled(self) -> None:
        await undisturbed(self._settled)

    async def _take_back(self, block_error: BaseException | None) -> BaseException | None:
        """Take our own cancellation back, as `asyncio.timeout` does: a reason takes its place.

        Somebody else may have cancelled the task as well: that is left, and still raised.
        """
        if self._task is None or self._task is not asyncio.current_task():
            return block_error
        try:
            await asyncio.sleep(0)  # ours may not have been delivered yet
        except asyncio.CancelledError as error:
            block_error = block_error or error
        others = self._task.uncancel() > self._cancellations
        if isinstance(block_error, asyncio.CancelledError) and not others:
            return None
        return block_error
