"""Rows about what a connection stands on: the driver's pool and threads, secrets, the process."""

from __future__ import annotations

from typing import Final

from .panels import Panel, Query
from .queries import ONE, PROCESS, RATE, of_process, of_runtime, quantile

_CHECKOUT: Final = "moorings_pool_checkout_duration_seconds"
_BY: Final = "job, connection"

POOL: Final = (
    Panel(
        "Connections to the servers",
        "In the driver's pools, of all instances together.",
        (
            Query(
                f"sum by ({_BY}, state) (moorings_pool_connections{{{ONE}}})",
                "{{state}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        "Checkouts",
        "How often a call got a connection, and how often it got none, by reason.",
        (
            Query(f"sum by ({_BY}) (rate({_CHECKOUT}_count{{{ONE}}}{RATE}))", "checkouts"),
            Query(
                f"sum by ({_BY}, reason) "
                f"(rate(moorings_pool_checkout_failures_total{{{ONE}}}{RATE}))",
                "failed: {{reason}}",
            ),
        ),
        unit="reqps",
    ),
    Panel(
        "Wait for a connection",
        "Microseconds while one is free, milliseconds where one is opened, more where the pool is "
        "exhausted.",
        tuple(Query(quantile(q, _CHECKOUT, _BY, ONE), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
        unit="s",
    ),
    Panel(
        "Pools cleared",
        "Each time, a server has failed.",
        (
            Query(
                f"sum by ({_BY}) (increase(moorings_pool_cleared_total{{{ONE}}}{RATE}))",
                "cleared",
            ),
        ),
    ),
    Panel(
        "Threads",
        "Of the driver, of all instances together. PyMongo's asynchronous client has none.",
        (
            Query(
                f"sum by ({_BY}, state) (moorings_executor_threads{{{ONE}}})",
                "{{state}}",
            ),
        ),
        stacked=True,
    ),
    Panel(
        "Calls that wait for a thread",
        "Five minutes without a moment of 0 are ExecutorSaturated.",
        (
            Query(
                f"max by (job, instance, connection) (moorings_executor_queued{{{ONE}}})",
                "{{instance}}",
            ),
        ),
    ),
)

SECRETS: Final = (
    Panel(
        "References resolved",
        "By result, for all connections of the process.",
        (
            Query(
                of_runtime(f"increase(moorings_secret_resolutions_total{{{PROCESS}}}{RATE})"),
                "{{instance}} {{result}}",
            ),
        ),
        width=12,
    ),
    Panel(
        "The client's certificate expires in",
        "Of a connection that shows one. Two weeks before is CertificateExpiring.",
        (
            Query(
                "min by (job, instance, connection) "
                f"(moorings_connection_certificate_expiry_timestamp_seconds{{{ONE}}} - time())",
                "{{instance}}",
            ),
        ),
        unit="s",
        width=12,
    ),
)

PROCESS_ROW: Final = (
    Panel(
        "Heartbeat",
        "How long ago the runtime last proved that it runs, when this was scraped.",
        (
            Query(
                of_runtime(
                    f"(timestamp(moorings_runtime_heartbeat_timestamp_seconds{{{PROCESS}}})"
                    f" - moorings_runtime_heartbeat_timestamp_seconds{{{PROCESS}}})"
                ),
                "{{instance}}",
            ),
        ),
        unit="s",
        width=6,
    ),
    Panel(
        "Loop lag, 99th percentile",
        "How late the heartbeat was: something holds the loop up.",
        (
            Query(
                of_runtime(
                    quantile(
                        0.99, "moorings_runtime_loop_lag_seconds", "job, instance, runtime", PROCESS
                    )
                ),
                "{{instance}}",
            ),
        ),
        unit="s",
        width=6,
    ),
    Panel(
        "CPU",
        "Of the whole process, in cores.",
        (Query(of_process(f"rate(process_cpu_seconds_total{{{PROCESS}}}{RATE})"), "{{instance}}"),),
        width=6,
    ),
    Panel(
        "Memory",
        "Of the whole process.",
        (Query(of_process(f"process_resident_memory_bytes{{{PROCESS}}}"), "{{instance}}"),),
        unit="bytes",
        width=6,
    ),
)
