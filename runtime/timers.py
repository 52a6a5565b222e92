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
    """Something that waits for a time.

    Attributes:
        due: when, on trio's clock; `math.inf`: not at all.
        looked_at: the timers' own: when they will look at it next; `math.inf`: never.
    """

    due: float
    looked_at: float

    def wake(self) -> None:
        """Called once `due` has come."""


class Timers:
    """Buckets of sleepers, and the task that wakes them. Belongs to the trio thread."""

    def __init__(self) -> None:
        self._buckets: dict[float, list[Sleeper]] = {}
        self._order: list[float] = []
        self._scope = trio.CancelScope()

    def set(self, sleeper: Sleeper, when: float, now: float) -> None:
        """Wake `sleeper` at `when` (trio's clock), in place of what was set before.

        Nothing needs to be unset: set `due` to `math.inf`. Where the timers look at the sleeper
        before `when` in any case, they will see then that it has moved on: most bounds are moved
        a few times before the first of them is over, and cost no entry each.
        """
        sleeper.due = when
        if when < sleeper.looked_at:
            self.look(sleeper, when, now)

    def look(self, sleeper: Sleeper, when: float, now: float) -> None:
        """Look at `sleeper` at `when`: what `set` does for one that is not looked at before."""
        # Early rather than late: detection bounds are upper bounds. Short sleeps stay exact.
        key = when if when - now < 2 * GRANULARITY else when - when % GRANULARITY
        sleeper.looked_at = key
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.append(sleeper)
            return
        self._buckets[key] = [sleeper]
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
            for sleeper in self._buckets.pop(key):
                if sleeper.looked_at != key:
                    continue  # it was set to an earlier time, and has an entry there
                sleeper.looked_at = math.inf
                due = sleeper.due
                if due <= now or due - due % GRANULARITY == key:
                    sleeper.due = math.inf
                    sleeper.wake()
                elif due < math.inf:
                    self.look(sleeper, due, now)
