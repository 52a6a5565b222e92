"""Commands on one connection take turns: one at a time, in the order of their calls. In trio."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Command = Callable[[], Awaitable[None]]


class CommandTurns:
    """Who may change a connection now."""

    __slots__ = ("_giving_way", "_lock")

    def __init__(self) -> None:
        self._lock: trio.Lock | None = None  # most connections are never commanded
        self._giving_way: trio.CancelScope | None = None

    async def take(self, command: Command) -> None:
        """Run `command` when those before it are over; what only gives way is cancelled."""
        if self._giving_way is not None:
            self._giving_way.cancel()
        async with self._one_at_a_time():
            await command()

    async def take_if_free(self, command: Command) -> None:
        """Run `command`, unless another is under way; one that comes meanwhile cancels it.

        For what nobody waits for, and what is tried again: rotation must not hold up a `stop()`.
        """
        lock = self._one_at_a_time()
        if lock.locked():
            return
        try:
            with trio.CancelScope() as self._giving_way:
                async with lock:
                    await command()
        finally:
            self._giving_way = None

    def _one_at_a_time(self) -> trio.Lock:
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock
