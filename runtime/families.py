"""Every metric that Moorings exports: one table of names, types, labels and where values come from.

`readings` takes the values from the connections and the kernel, `metrics` turns the whole into
text and into prometheus_client's objects. docs/metrics.md is made of this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import FailureReason
from ..supervisors.spec import ChildState
from .driver_families import DRIVER_FAMILIES
from .family import COUNTER, GAUGE, HISTOGRAM, INFO, Family, enumerated, histogram
from .measurements import BUCKETS, EDGES
from .readings import (
    RESTART_REASONS,
    STATES,
    build,
    children,
    failure_reason,
    observed,
    ping_failures,
    probe_failures,
    probe_refused,
    restart_limit,
    restarts,
    stale_bound,
)
from .state import State

if TYPE_CHECKING:
    from .family import Labels
    from .kernel import Kernel

_CONNECTION = "moorings_connection_"

CONNECTION_FAMILIES: tuple[Family, ...] = (
    Family(
        "moorings_connection",
        INFO,
        "What a connection is.",
        lambda _: (1.0,),
        (("_info", {}),),
        labels=lambda c: {"backend": c.backend, "required": str(c.required).lower()},
    ),
    Family(
        f"{_CONNECTION}state",
        GAUGE,
        "1 for the state that a connection is in, 0 for the others.",
        lambda c: STATES[c.state],
        enumerated("", "state", State),
    ),
    Family(
        f"{_CONNECTION}ready",
        GAUGE,
        "1 while a connection may be used.",
        lambda c: (1.0 if c.is_ready() else 0.0,),
    ),
    Family(
        f"{_CONNECTION}failure_reason",
        GAUGE,
        "1 for the reason that a connection is not ready for, 0 for the others.",
        failure_reason,
        enumerated("", "reason", FailureReason),
    ),
    Family(
        f"{_CONNECTION}state_change_timestamp_seconds",
        GAUGE,
        "When a connection entered its present state, in Unix time.",
        lambda c: (c.status.since,),
    ),
    Family(
        f"{_CONNECTION}transitions",
        COUNTER,
        "How often a connection went from one state to another.",
        lambda c: tuple(c.measurements.transitions),
        tuple(("_total", {"from": str(source), "to": str(target)}) for source, target in EDGES),
    ),
    Family(
        f"{_CONNECTION}pings",
        COUNTER,
        "Pings of a ready connection, answered or not.",
        lambda c: (c.measurements.pings,),
        (("_total", {}),),
    ),
    Family(
        f"{_CONNECTION}ping_failures",
        COUNTER,
        "Pings of a ready connection that failed, by reason.",
        ping_failures,
        enumerated("_total", "reason", FailureReason),
    ),
    Family(
        f"{_CONNECTION}ping_duration_seconds",
        HISTOGRAM,
        "How long answered pings took.",
        lambda c: observed(c.measurements.ping_seconds),
        histogram(BUCKETS),
    ),
    Family(
        f"{_CONNECTION}last_ping_success_timestamp_seconds",
        GAUGE,
        "When a ping was last answered, in Unix time; 0 before the first.",
        lambda c: (c.measurements.last_ping_at,),
    ),
    Family(
        f"{_CONNECTION}stale_after_seconds",
        GAUGE,
        "How long a connection may be ready without proof of life.",
        stale_bound,
    ),
    Family(
        f"{_CONNECTION}probes",
        COUNTER,
        "Fresh connections of a ready connection that were tried, accepted or not.",
        lambda c: (c.measurements.probes,),
        (("_total", {}),),
    ),
    Family(
        f"{_CONNECTION}probe_failures",
        COUNTER,
        "Fresh connections of a ready connection that failed, by reason.",
        probe_failures,
        enumerated("_total", "reason", FailureReason),
    ),
    Family(
        f"{_CONNECTION}probe_refused",
        GAUGE,
        "1 for the first reason that a ready connection got no fresh one for, until it gets one.",
        probe_refused,
        enumerated("", "reason", FailureReason),
    ),
    Family(
        f"{_CONNECTION}rotations",
        COUNTER,
        "Attempts to go by new secrets without leaving ready, by result.",
        lambda c: (c.measurements.rotations, c.measurements.rotation_failures),
        enumerated("_total", "result", ("success", "failure")),
    ),
    Family(
        f"{_CONNECTION}connect_attempts",
        COUNTER,
        "Attempts to connect, by result.",
        lambda c: (c.measurements.connects, c.measurements.connect_failures),
        enumerated("_total", "result", ("success", "failure")),
    ),
    Family(
        f"{_CONNECTION}connect_duration_seconds",
        HISTOGRAM,
        "How long successful attempts to connect took, hooks included.",
        lambda c: observed(c.measurements.connect_seconds),
        histogram(BUCKETS),
    ),
    Family(
        f"{_CONNECTION}retry_delay_seconds",
        GAUGE,
        "The backoff before the next attempt; 0 while none is needed.",
        lambda c: (c.measurements.retry_delay,),
    ),
    Family(
        f"{_CONNECTION}generation",
        GAUGE,
        "How many clients of a connection became ready so far.",
        lambda c: (c.generation,),
    ),
    Family(
        f"{_CONNECTION}close_timeouts",
        COUNTER,
        "Clients that did not close in time.",
        lambda c: (c.measurements.close_timeouts,),
        (("_total", {}),),
    ),
    *DRIVER_FAMILIES,
)


def _supervisor(kernel: Kernel) -> Labels:
    return {"supervisor": kernel.name}


RUNTIME_FAMILIES: tuple[Family, ...] = (
    Family(
        "moorings_build",
        INFO,
        "What is running.",
        lambda _: (1.0,),
        (("_info", {}),),
        labels=lambda _: build(),
    ),
    Family(
        "moorings_supervisor_restarts",
        COUNTER,
        "Restarts of children, by reason.",
        restarts,
        enumerated("_total", "reason", RESTART_REASONS),
        labels=_supervisor,
    ),
    Family(
        "moorings_supervisor_restart_limit",
        GAUGE,
        "How many restarts within its period a supervisor allows.",
        restart_limit,
        labels=_supervisor,
    ),
    Family(
        "moorings_supervisor_children",
        GAUGE,
        "Children of a supervisor, by state.",
        children,
        enumerated("", "state", ChildState),
        labels=_supervisor,
    ),
    Family(
        "moorings_runtime_heartbeat_timestamp_seconds",
        GAUGE,
        "When the kernel last proved that it runs, in Unix time.",
        lambda k: (k.beat_at,),
    ),
    Family(
        "moorings_runtime_loop_lag_seconds",
        HISTOGRAM,
        "How late the kernel's heartbeat was.",
        lambda k: observed(k.lag),
        histogram(BUCKETS),
    ),
    Family(
        "moorings_secret_resolutions",
        COUNTER,
        "Secret references that were resolved, by result.",
        lambda k: [k.secrets.resolutions[result] for result in ("ok", "error")],
        enumerated("_total", "result", ("ok", "error")),
        labels=lambda k: {"provider": k.secrets.backend.name},
    ),
)
