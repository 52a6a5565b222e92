"""What a driver's pools of connections are doing, and have done: any driver's that has pools.

A provider of one has two attributes, which metrics look for: `pools`, a `PoolStatistics` of each
client that is open, and `pool_counter`, a `PoolCounter` of all its clients. They are apart because
clients come and go while what is counted must only ever grow: a new client would begin at 0.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT_BUCKETS: Final = (
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds in seconds. A free connection takes microseconds, a new one milliseconds, and an
exhausted pool, or a server that does not answer, as long as the driver is told to wait."""


class CheckoutFailure(StrEnum):
    """Why a call got no connection."""

    TIMEOUT = "timeout"
    """All were in use, for longer than the call would wait."""
    CONNECTION_ERROR = "connection_error"
    """None could be opened, or logged in; or the pool had just been cleared."""
    POOL_CLOSED = "pool_closed"
    """The client was closed meanwhile."""


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One client's connections to its servers, at one moment.

    Attributes:
        idle: connections that are open, and free.
        in_use: connections that a call has.
    """

    idle: int
    in_use: int


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """What became of all calls that asked for a connection.

    Attributes:
        by_bucket: how many got one within each of `CHECKOUT_BUCKETS` and above the bound before
            it; one more for those that took longer.
        seconds: how long all of these waited, together.
        failures: how many got none, by reason; each reason is there.
        cleared: how often a pool was cleared, because its server failed.
    """

    by_bucket: tuple[int, ...]
    seconds: float
    failures: Mapping[CheckoutFailure, int]
    cleared: int

    @property
    def checkouts(self) -> int:
        """How many calls got a connection."""
        return sum(self.by_bucket)


class PoolCounter:
    """Counts for the life of a provider. From any thread; never blocks for longer than a count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_bucket = [0] * (len(CHECKOUT_BUCKETS) + 1)
        self._seconds = 0.0
        self._failures = dict.fromkeys(CheckoutFailure, 0)
        self._cleared = 0

    def __repr__(self) -> str:
        return f"<PoolCounter {self.counts()}>"

    def checked_out(self, seconds: float) -> None:
        """A call got a connection after `seconds`."""
        with self._lock:
            self._by_bucket[bisect_left(CHECKOUT_BUCKETS, seconds)] += 1
            self._seconds += seconds

    def failed(self, reason: CheckoutFailure) -> None:
        """A call got none."""
        with self._lock:
            self._failures[reason] += 1

    def cleared(self) -> None:
        """A pool was cleared."""
        with self._lock:
            self._cleared += 1

    def counts(self) -> PoolCounts:
        """A consistent snapshot."""
        with self._lock:
            return PoolCounts(
                tuple(self._by_bucket), self._seconds, dict(self._failures), self._cleared
            )
