"""The dashboard of one connection: a row for each part of its life."""

from __future__ import annotations

from typing import Final

from .connection_parts import POOL, PROCESS_ROW, SECRETS
from .panels import Kind, Panel, Query
from .queries import (
    ALERT_MAPPINGS,
    ALL_INSTANCES,
    ONE,
    PROCESS,
    RATE,
    STATE_MAPPINGS,
    alert_number,
    of_runtime,
    quantile,
    state_number,
)
from .recordings import budget_left

_PING: Final = "moorings_connection_ping_duration_seconds"
_CONNECT: Final = "moorings_connection_connect_duration_seconds"
_BY: Final = "job, connection"

_OVERVIEW: Final = (
    Panel(
        "Ready",
        "The share of instances on which the connection may be used.",
        (
            Query(
                f"avg by (job, connection) (moorings_connection_ready{{{ONE}}})",
                "{{job}} {{connection}}",
            ),
        ),
        Kind.NUMBER,
        unit="percentunit",
        width=6,
        colours=((None, "red"), (0.5, "orange"), (1, "green")),
    ),
    Panel(
        "Budget left, of 30 days",
        "Of the 0.1 % that an objective of 99.9 % leaves, for all instances of the job.",
        (
            Query(
                budget_left(ALL_INSTANCES),
                "{{job}} {{connection}}",
            ),
        ),
        Kind.NUMBER,
        unit="percentunit",
        width=6,
        colours=((None, "red"), (0, "orange"), (0.25, "green")),
    ),
    Panel(
        "Instances",
        "What each is, and for how many seconds it has been in its present state.",
        (
            Query(
                f"(time() - moorings_connection_state_change_timestamp_seconds{{{ONE}}}) "
                "* on (job, instance, runtime, connection) group_left (backend, required) "
                f"moorings_connection_info{{{ONE}}}",
                "in this state (s)",
            ),
        ),
        Kind.TABLE,
        width=12,
    ),
    Panel(
        "State",
        "Of each instance's connection.",
        (Query(state_number(ONE), "{{instance}}"),),
        Kind.TIMELINE,
        width=24,
        mappings=STATE_MAPPINGS,
    ),
    Panel(
        "Reasons",
        "Instances that are not ready, by the reason that they give.",
        (
            Query(
                f"sum by (job, connection, reason) (moorings_connection_failure_reason{{{ONE}}})",
                "{{reason}}",
            ),
        ),
        width=12,
        stacked=True,
    ),
    Panel(
        "Alerts",
        "Pending ones, and those that fire.",
        (
            Query(
                alert_number(ALL_INSTANCES),
                "{{alertname}} ({{severity}})",
            ),
        ),
        Kind.TIMELINE,
        width=12,
        mappings=ALERT_MAPPINGS,
    ),
)

_PINGS: Final = (
    Panel(
        "Pings",
        "Of ready connections: nothing is pinged while one is down. Fresh connections are tried "
        "as well, every few minutes.",
        (
            Query(
                f"sum by ({_BY}) (rate(moorings_connection_pings_total{{{ONE}}}{RATE}))", "pings"
            ),
            Query(
                f"sum by ({_BY}) (rate(moorings_connection_probes_total{{{ONE}}}{RATE}))",
                "fresh connections",
            ),
        ),
        unit="reqps",
        width=6,
    ),
    Panel(
        "Failures by reason",
        "Of pings, and of fresh connections: the latter find a changed password.",
        (
            Query(
                f"sum by ({_BY}, reason) "
                f"(rate(moorings_connection_ping_failures_total{{{ONE}}}{RATE}))",
                "ping: {{reason}}",
            ),
            Query(
                f"sum by ({_BY}, reason) "
                f"(rate(moorings_connection_probe_failures_total{{{ONE}}}{RATE}))",
                "fresh: {{reason}}",
            ),
        ),
        unit="reqps",
        width=6,
    ),
    Panel(
        "Latency",
        "Of answered pings.",
        tuple(Query(quantile(q, _PING, _BY, ONE), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
        unit="s",
        width=6,
    ),
    Panel(
        "Proof of life",
        "How long ago a ping was answered when this was scraped, and how long ago it may be while "
        "the connection is ready: above it is ReadyButStale.",
        (
            Query(
                "timestamp(moorings_connection_last_ping_success_timestamp_seconds"
                f"{{{ONE}}}) - moorings_connection_last_ping_success_timestamp_seconds{{{ONE}}}",
                "{{instance}}",
            ),
            Query(f"max by ({_BY}) (moorings_connection_stale_after_seconds{{{ONE}}})", "bound"),
        ),
        unit="s",
        width=6,
    ),
)

_LIFECYCLE: Final = (
    Panel(
        "Transitions",
        "From state to state, of all instances together.",
        (
            Query(
                f"sum by ({_BY}, from, to) "
                f"(increase(moorings_connection_transitions_total{{{ONE}}}{RATE}))",
                "{{from}} to {{to}}",
            ),
        ),
    ),
    Panel(
        "Attempts to connect",
        "By result; and how often a new client took over from an old one.",
        (
            Query(
                f"sum by ({_BY}, result) "
                f"(rate(moorings_connection_connect_attempts_total{{{ONE}}}{RATE}))",
                "{{result}}",
            ),
            Query(
                f"sum by ({_BY}, result) "
                f"(rate(moorings_connection_rotations_total{{{ONE}}}{RATE}))",
                "rotation: {{result}}",
            ),
        ),
        unit="ops",
    ),
    Panel(
        "Time to connect",
        "Of successful attempts, hooks included. There is none while nothing connects.",
        (
            Query(
                f"sum by ({_BY}) ({_CONNECT}_sum{{{ONE}}}) "
                f"/ sum by ({_BY}) ({_CONNECT}_count{{{ONE}}})",
                "mean of all so far",
            ),
        ),
        unit="s",
    ),
    Panel(
        "Backoff",
        "How long the next attempt is put off; 0 while none is needed.",
        (
            Query(
                f"max by (job, instance, connection) "
                f"(moorings_connection_retry_delay_seconds{{{ONE}}})",
                "{{instance}}",
            ),
        ),
        unit="s",
    ),
    Panel(
        "Restarts",
        "Of children by their supervisor, against what it allows in its period. Outages restart "
        "nothing: each of these is a bug.",
        (
            Query(
                of_runtime(f"increase(moorings_supervisor_restarts_total{{{PROCESS}}}{RATE})"),
                "{{instance}} {{reason}}",
            ),
            Query(
                of_runtime(f"moorings_supervisor_restart_limit{{{PROCESS}}}"),
                "{{instance}} limit",
            ),
        ),
    ),
    Panel(
        "Clients",
        "Their generation, and how many did not close in time.",
        (
            Query(
                f"max by (job, instance, connection) (moorings_connection_generation{{{ONE}}})",
                "{{instance}} generation",
            ),
            Query(
                f"sum by ({_BY}) (moorings_connection_close_timeouts_total{{{ONE}}})",
                "not closed in time",
            ),
        ),
    ),
)

CONNECTION: Final = (
    ("Overview", _OVERVIEW),
    ("Pings", _PINGS),
    ("Lifecycle", _LIFECYCLE),
    ("Pool and threads", POOL),
    ("Secrets", SECRETS),
    ("Process", PROCESS_ROW),
)
