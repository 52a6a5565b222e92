"""The metrics of what only some drivers have: certificates, threads, pools of connections.

A connection whose provider has no such thing has no such series.
"""

from __future__ import annotations

from ..providers.pools import CHECKOUT_BUCKETS, CheckoutFailure
from .family import COUNTER, GAUGE, HISTOGRAM, Family, enumerated, histogram
from .readings import (
    certificate_expiry,
    checkout_failures,
    checkout_seconds,
    executor_queued,
    executor_threads,
    pool_connections,
    pools_cleared,
)

DRIVER_FAMILIES: tuple[Family, ...] = (
    Family(
        "moorings_connection_certificate_expiry_timestamp_seconds",
        GAUGE,
        "When the certificate that a connection shows to its servers expires, in Unix time.",
        certificate_expiry,
    ),
    Family(
        "moorings_executor_threads",
        GAUGE,
        "Threads of a connection's driver.",
        executor_threads,
        enumerated("", "state", ("busy", "idle")),
    ),
    Family(
        "moorings_executor_queued",
        GAUGE,
        "Operations that wait for one of these threads.",
        executor_queued,
    ),
    Family(
        "moorings_pool_connections",
        GAUGE,
        "Connections in the driver's pools.",
        pool_connections,
        enumerated("", "state", ("idle", "in_use")),
    ),
    Family(
        "moorings_pool_checkout_duration_seconds",
        HISTOGRAM,
        "How long calls waited for a connection of the driver's pools, until they got one.",
        checkout_seconds,
        histogram(CHECKOUT_BUCKETS),
    ),
    Family(
        "moorings_pool_checkout_failures",
        COUNTER,
        "Calls that got no connection of the driver's pools, by reason.",
        checkout_failures,
        enumerated("_total", "reason", CheckoutFailure),
    ),
    Family(
        "moorings_pool_cleared",
        COUNTER,
        "How often a pool was cleared, because its server failed.",
        pools_cleared,
        (("_total", {}),),
    ),
)
