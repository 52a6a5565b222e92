"""What a scrape reads of a connection or a kernel, in the order of a family's series.

Plain state, from any thread; None: the subject has no such series.
"""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..errors import FailureReason
from ..providers.pools import CheckoutFailure
from ..supervisors.spec import ChildState
from .backoff import stale_after
from .state import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..providers.pools import PoolCounts
    from ..supervisors.supervisor import Supervisor
    from .connection import Connection
    from .kernel import Kernel
    from .measurements import Histogram


def observed(histogram: Histogram) -> tuple[float, ...]:
    """The cumulative buckets, the count and the sum."""
    return _cumulated(histogram.snapshot(), histogram.sum)


def _cumulated(counts: Iterable[int], seconds: float) -> tuple[float, ...]:
    cumulative = tuple(accumulate(counts))
    return (*cumulative, cumulative[-1], seconds)


def failure_reason(connection: Connection) -> Sequence[float]:
    """1 for the present `FailureReason`, if there is one."""
    reason = connection.status.reason
    return _NO_FAILURES if reason is None else [float(r is reason) for r in FailureReason]


STATES = {state: tuple(1.0 if state is other else 0.0 for other in State) for state in State}


def stale_bound(connection: Connection) -> Sequence[float]:
    """How long the connection may be ready without proof of life, in seconds."""
    health = connection.settings.health
    return (stale_after(health.interval, health.jitter, health.timeout, health.failures),)


def ping_failures(connection: Connection) -> Sequence[float]:
    """Failed pings, by `FailureReason`."""
    return _by_reason(connection.measurements.ping_failures)


def probe_failures(connection: Connection) -> Sequence[float]:
    """Failed probes, by `FailureReason`."""
    return _by_reason(connection.measurements.probe_failures)


def probe_refused(connection: Connection) -> Sequence[float]:
    """1 for the `FailureReason` of the last probes, if there is one; who is down has another."""
    reason = connection.measurements.probe_refused
    if reason is None or not connection.is_ready():
        return _NO_FAILURES
    return [float(r is reason) for r in FailureReason]


def _by_reason(failures: Mapping[FailureReason, int] | None) -> Sequence[float]:
    return _NO_FAILURES if failures is None else [failures.get(r, 0) for r in FailureReason]


_NO_FAILURES = (0,) * len(FailureReason)


def executor_threads(connection: Connection) -> Sequence[float] | None:
    """Busy threads of the driver, and idle ones."""
    found = _executors(connection)
    return None if found is None else (sum(e.busy for e in found), sum(e.idle for e in found))


def executor_queued(connection: Connection) -> Sequence[float] | None:
    """Operations that wait for a thread."""
    found = _executors(connection)
    return None if found is None else (sum(e.queued for e in found),)


def _executors(connection: Connection) -> Sequence[Any] | None:
    # Only providers whose driver blocks have executors; the contract does not ask for them.
    return getattr(connection.provider, "executors", None)


def pool_connections(connection: Connection) -> Sequence[float] | None:
    """Connections that are free, and those that a call has."""
    found: Sequence[Any] | None = getattr(connection.provider, "pools", None)
    return None if found is None else (sum(p.idle for p in found), sum(p.in_use for p in found))


def checkout_seconds(connection: Connection) -> Sequence[float] | None:
    """How long calls waited for a connection: the cumulative buckets, the count and the sum."""
    counts = _pool_counts(connection)
    return None if counts is None else _cumulated(counts.by_bucket, counts.seconds)


def checkout_failures(connection: Connection) -> Sequence[float] | None:
    """Calls that got no connection, by `CheckoutFailure`."""
    counts = _pool_counts(connection)
    return None if counts is None else [counts.failures[reason] for reason in CheckoutFailure]


def pools_cleared(connection: Connection) -> Sequence[float] | None:
    """How often a pool was cleared."""
    counts = _pool_counts(connection)
    return None if counts is None else (counts.cleared,)


def _pool_counts(connection: Connection) -> PoolCounts | None:
    # Only of providers whose driver has pools: see `providers.pools`.
    counter = getattr(connection.provider, "pool_counter", None)
    return None if counter is None else counter.counts()


def certificate_expiry(connection: Connection) -> Sequence[float] | None:
    """When the connection's own certificate expires, in Unix seconds."""
    # Only of providers that have such a thing, and of these only where it is known.
    found = getattr(connection.provider, "certificate_expiry", None)
    return None if found is None else (found,)


@cache
def build() -> Mapping[str, str]:
    """Versions: of the library, of Python, of the drivers that are installed."""
    return {
        "version": _version("moorings"),
        "python": platform.python_version(),
        "driver": _driver(),
    }


def _driver() -> str:
    return " ".join(f"{name}/{_version(name)}" for name in ("motor", "pymongo") if _version(name))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _supervisor_of(kernel: Kernel) -> Supervisor | None:
    # A scrape may come before the connections run: the exporter starts first.
    return getattr(kernel, "supervisor", None)


def children(kernel: Kernel) -> Sequence[float] | None:
    """Children of the root supervisor, by `ChildState`."""
    supervisor = _supervisor_of(kernel)
    if supervisor is None:
        return None
    found = supervisor.which_children()
    return [sum(child.state is state for child in found) for state in ChildState]


RESTART_REASONS = ("crash", "exit", "start_failed")


def restarts(kernel: Kernel) -> Sequence[float] | None:
    """Restarts so far, by RESTART_REASONS."""
    supervisor = _supervisor_of(kernel)
    return None if supervisor is None else [supervisor.restarts[r] for r in RESTART_REASONS]


def restart_limit(kernel: Kernel) -> Sequence[float] | None:
    """The root supervisor's intensity."""
    supervisor = _supervisor_of(kernel)
    return None if supervisor is None else (supervisor.intensity,)
