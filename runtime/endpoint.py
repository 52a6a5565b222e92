"""What connections to the same server share: a limit on attempts, and one who keeps watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .lookout import hasten

if TYPE_CHECKING:
    from .actor import Actor


class Endpoint:
    """One server or cluster, as this process sees it.

    At most `limit` attempts at a time, so that a thousand connections do not storm a server that
    has just come back. The sentinel is the one connection whose bounded pings keep waiting for
    the server while all wait for their next attempt; its success hastens the others' too.
    """

    __slots__ = ("_free", "_queue", "sentinel", "waiting")

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._queue: trio.lowlevel.ParkingLot | None = None
        self.waiting: set[Actor] | None = None
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

    async def enter_soon(self) -> None:
        """Take a slot as soon as one is free."""
        if not self.enter_nowait():
            await self.enter()

    def leave(self) -> None:
        """Give the slot back, or straight to the next in line."""
        if not (self._queue and self._queue.unpark(count=1)):
            self._free += 1

    def begin_waiting(self, actor: Actor) -> None:
        """`actor` waits for the server; the first to come keeps watch."""
        if self.waiting is None:
            self.waiting = set()
        self.waiting.add(actor)
        if self.sentinel is None and _can_watch(actor):
            self.sentinel = actor

    def end_waiting(self, actor: Actor) -> None:
        """`actor` waits no longer; another takes the watch over."""
        if self.waiting is not None:
            self.waiting.discard(actor)
        if self.sentinel is actor:
            self.sentinel = next(filter(_can_watch, self.waiting or ()), None)
            if self.sentinel is not None:
                self.sentinel.rouse()

    def server_is_back(self, seen_by: Actor) -> None:
        """The sentinel's ping succeeded: end the others' wait, spread over a second.

        Their watch is over: each of them as the next sentinel would find the server there, too,
        and hasten all that are left once more, until they came in a herd.
        """
        others, self.waiting = self.waiting, None
        for actor in others or ():
            if actor is not seen_by:
                hasten(actor)


def _can_watch(actor: Actor) -> bool:
    """Whether the success of a ping would be news: it is what failed in the last attempt.

    Where opening failed there is nothing to ping with; where the ping succeeded, and verification
    or a hook failed, it would succeed again and turn the wait into a hot loop.
    """
    return actor.client is not None and actor.client.step == "ping"
