"""One task wakes every sleeper of a runtime.

A `trio.sleep` per ping ends by a `Cancelled` that is raised through a scope (41 µs on the machine
where it was measured); a thousand connections that ping every second would spend most of their
time there. Here one task sleeps until the next of a series of buckets and reschedules all that
are due, so that a tick costs each sleeper no more than its own step.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from typing import NoReturn

GRANULARITY = 0.05
"""Width of a bucket, in seconds. Long sleeps may end this much early, never late."""


class Sleeper(Protocol):
    """Something that waits for a time: `due` in trio's clock, `math.inf` when for none."""

    due: float

    def wake(self) -> None:
        """Called once `due` has come."""


class Timers:
    """Buckets of sleepers, and the task that wakes them. Belongs to the trio thread."""

    def __init__(self) -> None:
        self._buckets: dict[float, list[tuple[Sleeper, float]]] = {}
        self._order: list[float] = []
        self._scope = trio.CancelScope()

    def set(self, sleeper: Sleeper, when: float, now: float) -> None:
        """Wake `sleeper` at `when` (trio's clock), in place of what was set before.

        Nothing needs to be unset: an entry whose `due` has moved on is passed over.
        """
        sleeper.due = when
        if when == math.inf:
            return
        # Early rather than late: detection bounds are upper bounds. Short sleeps stay exact.
        key = when if when - now < 2 * GRANULARITY else when - when % GRANULARITY
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.append((sleeper, when))
            return
        self._buckets[key] = [(sleeper, when)]
        heapq.heappush(self._order, key)
        self._scope.deadline = self._order[0]

    async def run(self) -> NoReturn:
        """Wake sleepers until cancelled."""
        while True:
            self._scope = trio.CancelScope(deadline=self._order[0] if self._order else math.inf)
            with self._scope:
                await trio.sleep_forever()
            self._wake_due(trio.current_time())

    def _wake_due(self, now: float) -> None:
        while self._order and self._order[0] <= now:
            key = heapq.heappop(self._order)
            for sleeper, when in self._buckets.pop(key):
                if sleeper.due == when:  # else it was set anew, and has an entry of its own
                    sleeper.due = math.inf
                    sleeper.wake()
