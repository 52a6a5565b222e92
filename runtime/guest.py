"""Trio as a guest of an asyncio loop: one run per loop, on the loop's thread, counted.

The first manager begins the run, the last one out ends it. Whoever forgets to close is covered
twice: by a guard task, which `asyncio.run` cancels like any other and which then ends the guest in
order; and, where a loop was closed without that, by driving the guest to its end ourselves: trio's
`finally` blocks run in every case.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Final

import trio
from outcome import Error

from ..errors import HostMismatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outcome import Outcome

logger = logging.getLogger("moorings")

_WIND_UP_SECONDS: Final = 30.0
"""How long the end of a guest may take whose loop is closed already."""


class Guest:
    """One trio run inside one asyncio loop. Belongs to the loop's thread.

    Attributes:
        loop: the host.
        users: how many managers are in it; none: it is ending.
        ended: done once the run is over; its exception is what the run died of.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ended: asyncio.Future[None] = loop.create_future()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._guard: asyncio.Task[None] | None = None
        self.users = 0
        self._interrupted = False
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery
        # What the loop is to do next for us, for the day it is closed before it has done that.
        self._next: Callable[[], object] | None = None
        self._arrived = threading.Event()

    def __repr__(self) -> str:
        return f"<Guest of {self.loop!r}: {self.users} managers>"

    @classmethod
    async def enter(cls) -> Guest:
        """The guest of the running loop, counted once more; begins it if need be.

        Raises:
            HostMismatch: another trio run, or one in another loop, occupies this thread.
        """
        loop = asyncio.get_running_loop()
        while (guest := _of_thread.guest) is not None:
            if guest.loop is loop and guest.users:
                break
            if guest.loop is loop:
                await asyncio.wait([guest.ended])  # the last one out has just left
            elif guest.loop.is_closed():
                guest.wind_up()
            else:
                raise HostMismatch(
                    f"connections are still open in {guest.loop!r}, and this is {loop!r}: one "
                    "thread can serve one loop at a time. Close those first"
                )
        else:
            guest = cls(loop)
            guest._begin()
        guest.users += 1
        try:
            await asyncio.shield(guest._opened)
        except BaseException:
            await guest.leave()
            raise
        return guest

    async def leave(self) -> None:
        """Count one fewer; the last one waits for the end of the run.

        A cancellation meanwhile is raised afterwards: the run ends first.
        """
        self.users -= 1
        if self.users == 0:
            self._scope.cancel()
            await undisturbed(self.ended)

    def start_soon(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run a task in the guest, with a copy of the caller's context. It must not raise."""
        self._nursery.start_soon(function, *args)

    # -- the run ------------------------------------------------------------------------------

    def _begin(self) -> None:
        if trio.lowlevel.in_trio_run():
            raise HostMismatch(
                "a trio run that is not ours is a guest on this thread: use open_connections from "
                "inside it, or in another thread"
            )
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._soon_threadsafe,
            run_sync_soon_not_threadsafe=self._soon,
            done_callback=self._over,
            host_uses_signal_set_wakeup_fd=True,
            restrict_keyboard_interrupt_to_checkpoints=True,  # of `_main`: it belongs to no other
        )
        _of_thread.guest = self
        self._guard = self.loop.create_task(self._keep(), name="moorings: guard")

    async def _main(self) -> None:
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                self._opened.set_result(None)
                try:
                    await trio.sleep_forever()
                except KeyboardInterrupt:
                    # Where nobody else handles the signal, trio does, and hands it to us: all is
                    # closed in order before the host gets it.
                    self._interrupted = True
                    self._scope.cancel()

    def _over(self, result: Outcome[None]) -> None:
        if _of_thread.guest is self:
            _of_thread.guest = None
        error = result.error if isinstance(result, Error) else None
        if self.loop.is_closed():
            return
        for future in (self._opened, self.ended):
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()  # whoever still waits gets it, and the managers log it
        if self._interrupted:
            raise KeyboardInterrupt

    async def _keep(self) -> None:
        """The guard: when the loop is wound up around us, end the guest first."""
        try:
            await asyncio.wait([self.ended])
        except asyncio.CancelledError:
            self._scope.cancel()
            await undisturbed(self.ended)
            raise

    # -- the loop's side ----------------------------------------------------------------------

    # At most one tick is under way at a time: each schedules the next.

    def _soon(self, function: Callable[[], object]) -> None:
        self._next = function
        with contextlib.suppress(RuntimeError):  # closed: `wind_up` finds it
            self.loop.call_soon(self._tick)

    def _soon_threadsafe(self, function: Callable[[], object]) -> None:
        self._next = function
        self._arrived.set()
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._tick)

    def _tick(self) -> None:
        function, self._next = self._next, None
        if function is not None:
            function()

    def wind_up(self) -> None:
        """The loop was closed while we lived: drive the guest to its end without it."""
        logger.error(
            "an event loop was closed while connections were open in it: their clients cannot be "
            "closed in order any more. Leave the `async with open_connections` block first"
        )
        self._scope.cancel()
        overdue = threading.Timer(_WIND_UP_SECONDS, self._arrived.set)
        overdue.daemon = True
        overdue.start()
        while _of_thread.guest is self and overdue.is_alive():
            self._arrived.clear()
            if self._next is None:
                self._arrived.wait()  # for trio's thread, which looks for I/O and deadlines
            self._tick()
        overdue.cancel()


async def undisturbed(future: asyncio.Future[Any]) -> None:
    """Wait until `future` is done, whatever happens; a cancellation is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


class _OfThread(threading.local):
    guest: Guest | None = None


_of_thread = _OfThread()
_left_behind: list[Guest] = []


def _forget_after_fork() -> None:
    """The child's copy of the guest never runs again; trio has to believe that it is not there."""
    guest = _of_thread.guest
    if guest is not None:
        _left_behind.append(guest)  # collecting it would disturb what is shared with the parent
        _of_thread.guest = None
        with contextlib.suppress(AttributeError, ImportError):
            from trio._core import _run  # noqa: PLC0415 - trio knows nothing of forks

            _run.GLOBAL_RUN_CONTEXT.__dict__.clear()


def _wind_up_at_exit() -> None:
    if _of_thread.guest is not None and _of_thread.guest.loop.is_closed():
        _of_thread.guest.wind_up()


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(_wind_up_at_exit)
