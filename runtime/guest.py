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
from collections import deque
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
        ended: done once the run is over. Its exception is what the run died of, marked as seen:
            the managers tell it, those that are left.
        jobs: the loop's tasks that the run waits for; they do not outlive it.
        lost: this is a forked child's copy, which will never run again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ended: asyncio.Future[None] = loop.create_future()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._guard: asyncio.Task[None] | None = None
        self.jobs: set[asyncio.Task[Any]] = set()
        self.lost = False
        self._users = 0
        self._ctrl_c = False
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery
        # What the loop is to do for us: one turn at a time, each schedules the next. Kept here as
        # well, for the day the loop is closed, or left by Ctrl-C, before it has done that.
        self._turns: deque[Callable[[], object]] = deque()
        self._arrived = threading.Event()

    def __repr__(self) -> str:
        return f"<Guest of {self.loop!r}: {self._users} managers>"

    @classmethod
    async def enter(cls) -> Guest:
        """The guest of the running loop, counted once more; begins it if need be.

        Raises:
            HostMismatch: another trio run, or one in another loop, occupies this thread.
        """
        loop = asyncio.get_running_loop()
        while (guest := _of_thread.guest) is not None:
            if guest.loop is loop and not guest.is_ending():
                break
            if guest.loop is loop:
                await asyncio.wait([guest.ended])  # the last one out has left, or the loop ends
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
        guest._users += 1
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
        self._users -= 1
        if self._users == 0 and self.is_running():
            self._scope.cancel()
            await undisturbed(self.ended)

    def is_ending(self) -> bool:
        """Whether nobody may enter any more."""
        # The guard may have been cancelled in this very turn of the loop.
        guarded = self._guard is not None and not self._guard.cancelling()
        return not self.is_running() or self._scope.cancel_called or not guarded

    def is_running(self) -> bool:
        """Whether anything of trio's may be touched."""
        return not (self.lost or self.ended.done())

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
                    self._ctrl_c = True
                    self._scope.cancel()

    def _over(self, result: Outcome[None]) -> None:
        error = result.error if isinstance(result, Error) else None
        ctrl_c = _ctrl_c_in(error) or (KeyboardInterrupt() if self._ctrl_c else None)
        if _of_thread.guest is self:
            _of_thread.guest = None
        if not self.loop.is_closed():
            self._settle(None if isinstance(error, KeyboardInterrupt) else error)
        if ctrl_c is not None:
            raise ctrl_c  # the host's, as if it had met it

    def _settle(self, error: BaseException | None) -> None:
        for future in (self._opened, self.ended):
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                future.exception()
        for job in tuple(self.jobs):
            job.cancel()

    async def _keep(self) -> None:
        """The guard: when the loop is wound up around us, end the guest first."""
        try:
            await asyncio.wait([self.ended])
        except asyncio.CancelledError:
            if self.is_running():
                self._scope.cancel()
                self.loop.call_soon(self._turn)  # Ctrl-C may have broken the chain of turns
                await undisturbed(self.ended)
            raise

    # -- the loop's side ----------------------------------------------------------------------

    def _soon(self, function: Callable[[], object]) -> None:
        self._turns.append(function)
        with contextlib.suppress(RuntimeError):  # closed: `wind_up` finds it
            self.loop.call_soon(self._turn)

    def _soon_threadsafe(self, function: Callable[[], object]) -> None:
        self._turns.append(function)
        self._arrived.set()
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        if self._turns and not self.ended.done():
            self._turns.popleft()()

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
            if not self._turns:
                self._arrived.wait()  # for trio's thread, which looks for I/O and deadlines
            self._turn()
        overdue.cancel()


def _ctrl_c_in(error: BaseException | None) -> BaseException | None:
    """The Ctrl-C that ended the run: asyncio's own handler may raise it in the midst of trio."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ if isinstance(error, trio.TrioInternalError) else None
    return error


async def first_of(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of `futures` is done. Cancellation leaves them as they are."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def undisturbed(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of `futures` is done, come what may; a cancellation is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not any(future.done() for future in futures):
        try:
            await first_of(*futures)
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
        guest.lost = True
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
