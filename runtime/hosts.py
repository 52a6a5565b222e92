"""The two worlds a program may live in: what the runtime needs of whichever it is.

The kernel is always trio. In a trio program its tasks and the application's share one loop; in an
asyncio program trio runs as a guest of theirs, on the loop's own thread. Both kinds of tasks then
live side by side, so that what waits asks which kind it is, each time it waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import threading
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import sniffio
import trio

from ..errors import HostMismatch, MooringsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Host(Protocol):
    """The world of an application, as its kernel sees it."""

    name: str
    """`"trio"` or `"asyncio"`."""

    def check(self, what: str) -> None:
        """Refuse a caller from another event loop of this thread.

        Raises:
            HostMismatch: names both.
        """

    def check_leaving(self) -> None:
        """Refuse to leave the block in another event loop, which would wait for ever.

        Raises:
            HostMismatch: names both; nothing has changed.
        """

    def visit(self, function: Callable[..., Awaitable[T]], *args: Any) -> Awaitable[T]:
        """From the kernel: run the application's code, or a provider's, in the host's world.

        Cancellation passes into it and waits for its end; what it raises comes back as it is.
        """

    def command(self, function: Callable[..., Awaitable[T]], *args: Any) -> Awaitable[T]:
        """From the application: run the kernel's code in trio.

        Cancellation passes into it and waits for its end; what it raises comes back as it is.

        Raises:
            KernelEnded: the kernel ended meanwhile.
        """


class KernelEnded(MooringsError):
    """A command met the end of the kernel that was to carry it out."""


class TrioHost:
    """Application and kernel share one loop: calls need no bridge."""

    name = "trio"

    def check(self, what: str) -> None:
        """Nothing to check: the thread has one run, and that has been compared."""

    def check_leaving(self) -> None:
        """Nothing to check: trio sees to it."""

    def visit(self, function: Callable[..., Awaitable[T]], *args: Any) -> Awaitable[T]:
        """The call itself."""
        return function(*args)

    def command(self, function: Callable[..., Awaitable[T]], *args: Any) -> Awaitable[T]:
        """The call itself."""
        return function(*args)


def current_host() -> str:
    """`"trio"` or `"asyncio"`, whichever runs the caller.

    Raises:
        HostMismatch: neither does.
    """
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        library = "no event loop"
    if library not in {"trio", "asyncio"}:
        raise HostMismatch(
            f"open_connections was called from {library}: it needs a trio or an asyncio program. "
            "Use it inside an async function that trio.run or asyncio.run executes"
        )
    return library


def current_task() -> object:
    """The task that calls, of either world."""
    if trio.lowlevel.in_trio_task():
        return trio.lowlevel.current_task()
    return asyncio.current_task()


class HostEvent:
    """An event for tasks of both worlds. It is set once, in the loop's thread."""

    __slots__ = ("_asyncio", "_is_set", "_trio")

    def __init__(self) -> None:
        self._is_set = False
        self._asyncio: asyncio.Event | None = None
        self._trio: trio.Event | None = None

    def set(self) -> None:
        """Wake all who wait."""
        self._is_set = True
        if self._asyncio is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed under its waiters
                self._asyncio.set()
        if self._trio is not None and trio.lowlevel.in_trio_run():
            self._trio.set()  # where trio's run is over, nobody of its world waits any more

    def wait(self) -> Awaitable[object]:
        """To be awaited: until it is set. Cancelling it disturbs nobody else."""
        # Not itself a coroutine function, which would cost each waiter a frame.
        if trio.lowlevel.in_trio_task():
            if self._trio is None:
                self._trio = trio.Event()
                if self._is_set:
                    self._trio.set()
            return self._trio.wait()
        if self._asyncio is None:
            self._asyncio = asyncio.Event()
            if self._is_set:
                self._asyncio.set()
        return self._asyncio.wait()


async def give_up_after(seconds: float, function: Callable[[], Awaitable[None]]) -> None:
    """Run `function` for at most `seconds` (`math.inf`: for ever), then return all the same.

    Raises:
        ValueError: `seconds` is not a number.
    """
    if math.isnan(seconds):
        raise ValueError("a timeout has to be a number of seconds, and not nan")
    if trio.lowlevel.in_trio_task():
        with trio.move_on_after(max(seconds, 0.0)):
            await function()
        return
    # What is too long for a timer is for ever.
    bounded = asyncio.timeout(seconds if seconds < threading.TIMEOUT_MAX else None)
    try:
        async with bounded:
            await function()
    except TimeoutError:
        if not bounded.expired():
            raise


async def checkpoint() -> None:
    """Let others run, and be cancelled, once."""
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


def clock() -> float:
    """The time of the caller's own world, in seconds from some moment on."""
    if trio.lowlevel.in_trio_task():
        return trio.current_time()
    return asyncio.get_running_loop().time()


async def first_of(*functions: Callable[[], Awaitable[object]]) -> None:
    """Run all of them, in tasks of their own, until the first returns or raises; end the others.

    What it raises is raised as it is. Cancellation reaches all of them, and waits for their end.
    """
    if trio.lowlevel.in_trio_task():
        await _first_of_trio(functions)
    else:
        await _first_of_asyncio(functions)


async def _first_of_trio(functions: tuple[Callable[[], Awaitable[object]], ...]) -> None:
    errors: list[Exception] = []

    async def run(function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except Exception as error:  # noqa: BLE001 - raised below, outside the nursery's group
            errors.append(error)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(run, function)
    if errors:
        raise errors[0]


async def _first_of_asyncio(functions: tuple[Callable[[], Awaitable[object]], ...]) -> None:
    tasks = [asyncio.ensure_future(function()) for function in functions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def pause(seconds: float) -> None:
    """Wait so long, in either world."""
    if trio.lowlevel.in_trio_task():
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run `function` in a thread; it is abandoned on cancellation.

    On asyncio, too, in one of trio's cached threads: the loop's own executor may be full of an
    application's calls to a database that is down.
    """
    if trio.lowlevel.in_trio_task():
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: Any) -> None:
        try:
            loop.call_soon_threadsafe(settle, result)
        except RuntimeError:
            return  # the loop was closed: nobody waits any more

    def settle(result: Any) -> None:
        if not future.done():
            try:
                future.set_result(result.unwrap())
            except BaseException as error:  # noqa: BLE001 - raised where it is awaited
                future.set_exception(error)

    context = contextvars.copy_context()
    trio.lowlevel.start_thread_soon(lambda: context.run(function, *args), deliver)
    return await future
