"""The dashboard of all connections: what is down, since when, and what it has cost."""

from __future__ import annotations

from typing import Final

from .panels import Kind, Panel, Query
from .queries import (
    ALERT_MAPPINGS,
    ALL_INSTANCES,
    ONE,
    RATE,
    STATE_MAPPINGS,
    STOPPED_MAPPINGS,
    alert_number,
    quantile,
    ready_share,
    state_number,
)
from .recordings import BUDGET, DOWN_RATIO, UNAVAILABLE_RATIO, budget_left, unavailable_over

_NAMED: Final = "{{job}} {{connection}}"
_SINCE: Final = (
    "max by (job, connection) "
    f"(time() - moorings_connection_state_change_timestamp_seconds{{{ONE}}})"
)
_PING: Final = "moorings_connection_ping_duration_seconds"

OVERVIEW: Final = (
    (
        "Connections",
        (
            Panel(
                "Ready",
                "The share of instances on which the connection may be used. Those on which it was "
                "stopped on purpose do not count, unless there are no others.",
                (Query(ready_share(ONE), _NAMED),),
                Kind.NUMBER,
                unit="percentunit",
                width=12,
                height=6,
                colours=((None, "red"), (0.5, "orange"), (1, "green")),
                mappings=STOPPED_MAPPINGS,
                zoom=True,
            ),
            Panel(
                "Alerts",
                "Pending ones, and those that fire.",
                (
                    Query(
                        alert_number(ALL_INSTANCES),
                        "{{connection}} {{alertname}} ({{severity}})",
                    ),
                ),
                Kind.TIMELINE,
                width=12,
                height=6,
                mappings=ALERT_MAPPINGS,
                zoom=True,
            ),
            Panel(
                "All connections",
                "A click on a name leads to its own dashboard.",
                (
                    Query(
                        f"count by (job, connection) (moorings_connection_ready{{{ONE}}})",
                        "instances",
                    ),
                    Query(
                        f"sum by (job, connection) (moorings_connection_ready{{{ONE}}})", "ready"
                    ),
                    Query(_SINCE, "longest without a change (s)"),
                    Query(
                        f"max by (job, connection) (moorings_connection_generation{{{ONE}}})",
                        "generation",
                    ),
                ),
                Kind.TABLE,
                width=24,
                zoom=True,
            ),
        ),
    ),
    (
        "States",
        (
            Panel(
                "State of each instance's connection",
                "An outage shows as a column, an instance of its own as a row.",
                (Query(state_number(ONE), "{{connection}} on {{instance}}"),),
                Kind.TIMELINE,
                width=24,
                height=10,
                mappings=STATE_MAPPINGS,
                zoom=True,
            ),
            Panel(
                "Down",
                "The share of instances that are connecting or failed. Over half of them for two "
                "minutes is ConnectionDown.",
                (Query(f"{DOWN_RATIO}{{{ALL_INSTANCES}}}", _NAMED),),
                unit="percentunit",
                width=12,
                zoom=True,
            ),
            Panel(
                "Reasons",
                "Instances that are not ready, by the reason that they give.",
                (
                    Query(
                        "sum by (job, connection, reason) "
                        f"(moorings_connection_failure_reason{{{ONE}}})",
                        "{{connection}} {{reason}}",
                    ),
                ),
                width=12,
                stacked=True,
                zoom=True,
            ),
        ),
    ),
    (
        "Error budget",
        (
            Panel(
                "Budget left, of 30 days",
                "Of the 0.1 % that an objective of 99.9 % leaves. Below 0 it is overdrawn.",
                (Query(budget_left(ALL_INSTANCES), _NAMED),),
                Kind.NUMBER,
                unit="percentunit",
                colours=((None, "red"), (0, "orange"), (0.25, "green")),
                zoom=True,
            ),
            Panel(
                "Burn rate",
                "1 uses the budget up in 30 days exactly. AvailabilityBudgetBurn fires above 14.4 "
                "over an hour, and above 6 over six hours.",
                tuple(
                    Query(
                        f"{unavailable_over(window)}{{{ALL_INSTANCES}}} / {BUDGET}",
                        f"{{{{connection}}}} over {window}",
                    )
                    for window in ("1h", "6h")
                ),
                zoom=True,
            ),
            Panel(
                "Unavailable",
                "The share of instances that had been ready before and are not now.",
                (Query(f"{UNAVAILABLE_RATIO}{{{ALL_INSTANCES}}}", _NAMED),),
                unit="percentunit",
                zoom=True,
            ),
        ),
    ),
    (
        "Pings",
        (
            Panel(
                "Ping, 95th percentile",
                "How long all but one ping in twenty take at most. Above 250 ms is PingSlow.",
                (Query(quantile(0.95, _PING, "job, connection", ONE), _NAMED),),
                unit="s",
                width=12,
                zoom=True,
            ),
            Panel(
                "Lost",
                "How often ready connections were lost, of all instances together.",
                (
                    Query(
                        "sum by (job, connection) (increase(moorings_connection_transitions_total"
                        f'{{{ONE}, from="ready", to="connecting"}}{RATE}))',
                        _NAMED,
                    ),
                ),
                width=12,
                zoom=True,
            ),
        ),
    ),
)
