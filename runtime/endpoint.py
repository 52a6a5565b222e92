"""What connections to the same server share: a limit on attempts, and one who keeps watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .recovery import hasten

if TYPE_CHECKING:
    from .actor import Actor


class Endpoint:
    """One server or cluster, as this process sees it.

    At most `limit` attempts at a time, so that a thousand connections do not storm a server that
    has just come back. The sentinel is the one connection whose bounded pings keep waiting for
    the server while all are in their long backoff; its success ends the others' too.
    """

    __slots__ = ("_free", "_queue", "backing_off", "sentinel")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._queue: trio.lowlevel.ParkingLot | None = None
        self.backing_off: set[Actor] | None = None
        self.sentinel: Actor | None = None

    def enter_nowait(self) -> bool:
        """Take a slot if one is free."""
        if self._free == 0:
            return False
        self._free -= 1
        return True

    async def enter(self) -> None:
        """Wait for a slot, first come, first served. Cancellation leaves the queue."""
        if self._queue is None:
            self._queue = trio.lowlevel.ParkingLot()
        await self._queue.park()  # the slot is handed over by `leave`

    def leave(self) -> None:
        """Give the slot back, or straight to the next in line."""
        if not (self._queue and self._queue.unpark(count=1)):
            self._free += 1

    def join_backoff(self, actor: Actor) -> None:
        """`actor` begins its long backoff; the first to come keeps watch."""
        if self.backing_off is None:
            self.backing_off = set()
        self.backing_off.add(actor)
        if self.sentinel is None:
            self.sentinel = actor

    def leave_backoff(self, actor: Actor) -> None:
        """`actor` has ended its backoff; another takes the watch over."""
        if self.backing_off is not None:
            self.backing_off.discard(actor)
        if self.sentinel is actor:
            self.sentinel = next(iter(self.backing_off or ()), None)
            if self.sentinel is not None:
                self.sentinel.rouse()

    def server_is_back(self, seen_by: Actor) -> None:
        """The sentinel's ping succeeded: end the others' backoff, spread over a second."""
        for actor in tuple(self.backing_off or ()):
            if actor is not seen_by:
                hasten(actor)
