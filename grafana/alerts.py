"""Every alert. Each has a section in docs/runbook.md, and is proved in tests/test_alerts.py.

They speak of a job's connection and never of an instance, so that 200 pods are one page, and keep
quiet about what was stopped on purpose. They are made for scrapes that are a minute apart, one of
which may be lost. What was tried and found wanting is said where it would be tried again.
"""

from __future__ import annotations

from typing import Final

from .recordings import (
    BUDGET,
    DOWN,
    DOWN_RATIO,
    INSTANCE,
    UNAVAILABLE_RATIO,
    unavailable_over,
)
from .rules import CRITICAL, WARNING, Alert

_AUTH: Final = '="auth"'
_CONNECTION: Final = "{{ $labels.connection }} ({{ $labels.job }})"

# Which reasons its instances give: what the runbook's section goes on from.
_REASONS: Final = (
    '{{ range printf "max by (reason) '
    '(moorings_connection_failure_reason{job=%q,connection=%q}) > 0" '
    "$labels.job $labels.connection | query }} {{ .Labels.reason }}{{ end }}"
)


def _refused(reason: str) -> str:
    # For more than an interval of the probes', by default: a second one was refused as well. And
    # no count of refusals within a window, of which there are too few where the interval is long.
    # The last three minutes, because zeros leave the window before the ones of who is gone do.
    gauge = f"moorings_connection_probe_refused{{reason{reason}}}"
    return f"(min_over_time({gauge}[6m]) and last_over_time({gauge}[3m]))"


def _fresh_connections_refused(reason: str, severity: str) -> Alert:
    # What is down for such a reason is ConnectionDown's, or PartiallyDown's.
    return Alert(
        "FreshConnectionsRefused",
        f"max by (job, connection, reason) ({_refused(reason)}) > 0\n",
        "5m",
        severity,
        f"{_CONNECTION} gets no new connections: {{{{ $labels.reason }}}}",
        "Connections that were opened before go on working; none that is opened now does, and the "
        "next restart or election needs them.",
    )


def _required(required: str) -> str:
    info = f'moorings_connection_info{{required="{required}"}}'
    return f"and on (job, connection) last_over_time({info}[3m])"


# Which instances: those that were there three minutes ago (a deploy brings new ones, which may
# take that long), have not been ready since, and are not stopped. Not "down for ten minutes" of
# the share of all: while a deploy goes on, some instance or other is always starting.
_STUCK: Final = f"""\
(
  count by (job, connection) (
    max_over_time(moorings_connection_ready[3m]) == 0
    and max_over_time(moorings_connection_ready[3m] offset 3m) >= 0
    and on ({INSTANCE}) last_over_time(moorings_connection_state{{{DOWN}}}[3m]) == 1
  )
  and {DOWN_RATIO} <= 0.5
)
"""


def _burn(long: str, short: str, factor: str, least: int) -> str:
    # One scrape that sees an election of seconds counts as a minute, which is more than 14.4 times
    # the budget of an hour: so it takes more than `least` minutes as well. Not a share of pings:
    # nothing is pinged throughout an outage.
    return f"""\
(
  {unavailable_over(long)} > {factor} * {BUDGET}
  and {unavailable_over(short)} > {factor} * {BUDGET}
  and sum_over_time({UNAVAILABLE_RATIO}[{long}]) > {least}
)
{_required("true")}
"""


def _budget_burn(long: str, short: str, factor: str, severity: str) -> Alert:
    return Alert(
        "AvailabilityBudgetBurn",
        _burn(long, short, factor, least=2),
        "0m",
        severity,
        f"{_CONNECTION} uses up its error budget over {factor} times too fast",
        "Over the last " + long + " it was unavailable {{ $value | humanizePercentage }} of the "
        "time, where 0.1 % is what the objective of 99.9 % allows.",
        labels=(("window", long),),
    )


ALERTS: Final = (
    Alert(
        "ConnectionDown",
        f"{DOWN_RATIO} > 0.5\n{_required('true')}\n",
        "2m",
        CRITICAL,
        f"{_CONNECTION} is down",
        "{{ $value | humanizePercentage }} of its instances cannot use this database, which they "
        "require: they are not ready and get no traffic. Reasons:" + _REASONS,
    ),
    Alert(
        "OptionalConnectionDown",
        f"{DOWN_RATIO} > 0.5\n{_required('false')}\n",
        "10m",
        WARNING,
        f"{_CONNECTION}, which is optional, is down",
        "{{ $value | humanizePercentage }} of its instances do without this database. Reasons:"
        + _REASONS,
    ),
    Alert(
        "PartiallyDown",
        _STUCK,
        "10m",
        WARNING,
        f"{_CONNECTION} is down on some instances",
        "{{ $value }} of its instances cannot use this database while others can: look for what "
        "they have in common (a node, a zone, an old secret). Reasons:" + _REASONS,
    ),
    _budget_burn("1h", "5m", "14.4", CRITICAL),
    _budget_burn("6h", "30m", "6", WARNING),
    Alert(
        "Flapping",
        # Out of `ready` only: all transitions together go on throughout an outage. The worst
        # instance: an election is one loss on each of 200. Rounded down, because `increase` makes
        # up for the part of a minute that it did not see.
        "max by (job, connection) (\n"
        "  floor(increase(moorings_connection_transitions_total"
        '{from="ready",to="connecting"}[15m]))\n'
        ") > 3\n",
        "0m",
        WARNING,
        f"{_CONNECTION} comes and goes",
        "An instance has lost it {{ $value }} times within 15 minutes.",
    ),
    Alert(
        "AuthenticationFailing",
        # Pings stay green after a password has changed, on connections that were opened before:
        # probes do not. Where one server of several refuses them, others are accepted in between.
        "max by (job, connection) "
        '(last_over_time(moorings_connection_failure_reason{reason="auth"}[3m])) > 0\n'
        "or\n"
        f"max by (job, connection) ({_refused(_AUTH)}) > 0\n"
        "or\n"
        "max by (job, connection) "
        '(increase(moorings_connection_probe_failures_total{reason="auth"}[15m])) >= 2\n',
        "5m",
        CRITICAL,
        f"{_CONNECTION} is refused: its credentials are wrong",
        "The server does not accept this login. Connections that were opened before a password "
        "was changed go on working; none that is opened now does.",
    ),
    _fresh_connections_refused('=~"tls|config|secret"', CRITICAL),
    _fresh_connections_refused('!~"auth|tls|config|secret"', WARNING),
    Alert(
        "SupervisorRestarting",
        # What crashes at its start has used its budget up before it is scraped for the first time:
        # a counter that is new counts whole, since `increase` would see nothing.
        "sum by (job, runtime, supervisor) (\n"
        "  (moorings_supervisor_restarts_total "
        "unless last_over_time(moorings_supervisor_restarts_total[15m] offset 15m))\n"
        "  or increase(moorings_supervisor_restarts_total[15m])\n"
        ") > 0\n",
        "0m",
        WARNING,
        "Something crashes in {{ $labels.job }}",
        "The supervisor {{ $labels.supervisor }} has restarted a child within 15 minutes. "
        "Outages never do that: it is a bug, in a hook, a provider, or the library.",
    ),
    Alert(
        "ReadyButStale",
        # By the time of the scrape: at the time of the evaluation the value may be a minute old.
        "max by (job, connection) (\n"
        "  (\n"
        "    timestamp(moorings_connection_last_ping_success_timestamp_seconds)\n"
        "    - moorings_connection_last_ping_success_timestamp_seconds\n"
        "    - moorings_connection_stale_after_seconds\n"
        "  )\n"
        "  and moorings_connection_ready == 1\n"
        ") > 0\n",
        "2m",
        CRITICAL,
        f"{_CONNECTION} says it is ready, and nothing proves it",
        "It has not been pinged for {{ $value | humanizeDuration }} longer than it may be ready "
        "without.",
    ),
    Alert(
        "PingSlow",
        "histogram_quantile(\n"
        "  0.95,\n"
        "  sum by (job, connection, le) "
        "(rate(moorings_connection_ping_duration_seconds_bucket[15m]))\n"
        ") > 0.25\n",
        "10m",
        WARNING,
        f"{_CONNECTION} answers slowly",
        "One ping in twenty takes longer than {{ $value | humanizeDuration }}.",
    ),
    Alert(
        "ExecutorSaturated",
        # The least of five minutes: that something waits for a moment is what a queue is for.
        "max by (job, connection) (min_over_time(moorings_executor_queued[5m])) > 0\n",
        "5m",
        WARNING,
        f"Calls of {_CONNECTION} wait for a thread",
        "On an instance, {{ $value }} operations or more have been waiting all the time: all its "
        "threads are busy, with change streams perhaps.",
    ),
    Alert(
        "CertificateExpiring",
        "min by (job, connection) (\n"
        "  last_over_time(moorings_connection_certificate_expiry_timestamp_seconds[3m]) - time()\n"
        ") < 14 * 86400\n",
        "1h",
        WARNING,
        f"The client certificate of {_CONNECTION} expires soon",
        "It expires in {{ $value | humanizeDuration }}; then no connection is opened any more.",
    ),
    Alert(
        "MetricsAbsent",
        # A target that is gone has no `up` either, so what is missed is what was there before.
        "group by (job) (last_over_time(moorings_build_info[6h]))\n"
        "unless\n"
        "group by (job) (moorings_build_info)\n",
        "5m",
        CRITICAL,
        "Nothing is heard of {{ $labels.job }}",
        "Not one of its instances is scraped any more: every other alert about it is blind.",
    ),
)
