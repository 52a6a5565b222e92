"""What a connection counts of itself: plain slots that the collector reads at scrape time.

Not prometheus_client's own counters: a labelled child costs 60-90 µs and 7 kB per connection to
make, before anything is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from .state import edges

if TYPE_CHECKING:
    from ..errors import FailureReason
    from .state import State

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the duration histograms, in seconds; the last bucket, +Inf, follows them."""

_NONE_YET = (0,) * (len(BUCKETS) + 1)

# Two events may lead along one edge (stop and crash do not, gave_up and crashed do): metrics tell
# edges, not events.
EDGES: tuple[tuple[State, State], ...] = tuple(
    dict.fromkeys((source, target) for source, _, target in edges())
)
EDGE_INDEX = {edge: index for index, edge in enumerate(EDGES)}


class Histogram:
    """Counts of durations per bucket (not cumulative), and their sum."""

    __slots__ = ("_counts", "_first", "sum")

    def __init__(self) -> None:
        self.sum = 0.0
        # Most connections connect once: one duration is kept as it is, the buckets begin with two.
        self._first: float | None = None
        self._counts: list[int] | None = None

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.sum += seconds
        if self._counts is not None:
            self._counts[bisect_left(BUCKETS, seconds)] += 1
        elif self._first is None:
            self._first = seconds
        else:
            self._counts = _counted(self._first, seconds)

    def snapshot(self) -> tuple[int, ...]:
        """The counts, one more than there are `BUCKETS`. From any thread."""
        if self._counts is not None:
            return tuple(self._counts)
        return _NONE_YET if self._first is None else tuple(_counted(self._first))


def _counted(*durations: float) -> list[int]:
    counts = list(_NONE_YET)
    for seconds in durations:
        counts[bisect_left(BUCKETS, seconds)] += 1
    return counts


class Measurements:
    """The counters of one connection. Written by its actor, read from any thread."""

    __slots__ = (
        "close_timeouts",
        "connect_failures",
        "connect_seconds",
        "connects",
        "last_ping_at",
        "ping_failures",
        "ping_seconds",
        "pings",
        "probe_failures",
        "probe_refused",
        "probes",
        "retry_delay",
        "rotation_failures",
        "rotations",
        "transitions",
    )

    def __init__(self) -> None:
        self.transitions = [0] * len(EDGES)
        self.pings = 0
        self.ping_failures: dict[FailureReason, int] | None = None
        self.ping_seconds = Histogram()
        self.last_ping_at = 0.0  # Unix seconds; 0 before the first success
        self.connects = 0
        self.connect_failures = 0
        self.connect_seconds = Histogram()
        self.retry_delay = 0.0
        self.close_timeouts = 0
        self.probes = 0
        self.probe_failures: dict[FailureReason, int] | None = None
        self.probe_refused: FailureReason | None = None
        self.rotations = 0
        self.rotation_failures = 0

    def step(self, source: State, target: State) -> None:
        """Count a transition."""
        self.transitions[EDGE_INDEX[source, target]] += 1

    def ping_failed(self, reason: FailureReason) -> None:
        """Count a ping that did not succeed."""
        self.pings += 1
        self.ping_failures = _one_more(self.ping_failures, reason)

    def probed(self, failure: FailureReason | None) -> None:
        """Count a probe, and why it failed; None: it did not."""
        self.probes += 1
        if failure is not None:
            self.probe_failures = _one_more(self.probe_failures, failure)
        refused = self.probe_refused
        # The first reason, until one is accepted: alerts wait for one that stays. But what only a
        # person mends is not to hide behind a probe that was lost on its way.
        if failure is None or refused is None or failure.needs_human > refused.needs_human:
            self.probe_refused = failure


def _one_more(
    failures: dict[FailureReason, int] | None, reason: FailureReason
) -> dict[FailureReason, int]:
    # Most connections never fail: they have no dictionary.
    failures = {} if failures is None else failures
    failures[reason] = failures.get(reason, 0) + 1
    return failures
