"""What each alert says, word by word: templates expand, units are people's, links lead on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alert_series import Instance, Trial

from moorings.grafana.alerts import ALERTS
from moorings.grafana.rules import anchor

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.operators

RULES = Path(__file__).parents[1] / "grafana" / "rules" / "moorings.yml"
MAIN = {"job": "worker", "connection": "main"}
PAGE, TICKET = {"severity": "critical"}, {"severity": "warning"}
HOUR = 60
WELL = Instance("r" * 400, name="well")


def down(minutes: str, **how: object) -> Instance:
    return Instance(minutes + "f" * (400 - len(minutes)), name="ill", **how)  # type: ignore[arg-type]


def showing(name: str, *values: float) -> Instance:
    """A ready one that shows these, the last of them for the rest of the time."""
    held = [*values, *[values[-1]] * (400 - len(values))]
    return Instance("r" * 400, extra={name: held})


def slow() -> Instance:
    """Ten pings a minute, all of which take longer than a second."""
    name = "moorings_connection_ping_duration_seconds_bucket"
    every = [10.0 * minute for minute in range(400)]
    buckets = {"1.0": [0.0] * 400, "2.5": every, "+Inf": every}
    return Instance("r" * 400, extra={f'{name}{{le="{le}"}}': v for le, v in buckets.items()})


WORDS = {
    "ConnectionDown": (
        [down("rr", reason="dns")],
        10,
        MAIN | PAGE,
        "main (worker) is down",
        (
            "100% of its instances cannot use this database, which they require: they are not "
            "ready and get no traffic. Reasons: dns"
        ),
    ),
    "OptionalConnectionDown": (
        [down("rr", reason="dns", required=False)],
        20,
        MAIN | TICKET,
        "main (worker), which is optional, is down",
        "100% of its instances do without this database. Reasons: dns",
    ),
    "PartiallyDown": (
        [WELL, down("rr", reason="timeout")],
        30,
        MAIN | TICKET,
        "main (worker) is down on some instances",
        (
            "1 of its instances cannot use this database while others can: look for what they "
            "have in common (a node, a zone, an old secret). Reasons: timeout"
        ),
    ),
    "AvailabilityBudgetBurn": (
        [WELL, Instance("r" * HOUR + "f" * 20 + "r" * 320, name="ill")],
        89,
        MAIN | TICKET | {"window": "6h"},
        "main (worker) uses up its error budget over 6 times too fast",
        (
            "Over the last 6h it was unavailable 11.11% of the time, where 0.1 % is what the "
            "objective of 99.9 % allows."
        ),
    ),
    "Flapping": (
        [Instance("rc" * 200)],
        12,
        MAIN | TICKET,
        "main (worker) comes and goes",
        "An instance has lost it 6 times within 15 minutes.",
    ),
    "AuthenticationFailing": (
        [down("rr", reason="auth")],
        10,
        MAIN | PAGE,
        "main (worker) is refused: its credentials are wrong",
        (
            "The server does not accept this login. Connections that were opened before a "
            "password was changed go on working; none that is opened now does."
        ),
    ),
    "FreshConnectionsRefused": (
        [showing('moorings_connection_probe_refused{reason="tls"}', 0, 1)],
        30,
        MAIN | PAGE | {"reason": "tls"},
        "main (worker) gets no new connections: tls",
        (
            "Connections that were opened before go on working; none that is opened now does, and "
            "the next restart or election needs them."
        ),
    ),
    "SupervisorRestarting": (
        [showing('moorings_supervisor_restarts_total{supervisor="root",reason="crash"}', 0, 0, 1)],
        3,
        {"job": "worker", "runtime": "moorings", "supervisor": "root"} | TICKET,
        "Something crashes in worker",
        (
            "The supervisor root has restarted a child within 15 minutes. Outages never do "
            "that: it is a bug, in a hook, a provider, or the library."
        ),
    ),
    "ReadyButStale": (
        [showing("moorings_connection_last_ping_success_timestamp_seconds", 60.0)],
        10,
        MAIN | PAGE,
        "main (worker) says it is ready, and nothing proves it",
        "It has not been pinged for 8m 43s longer than it may be ready without.",
    ),
    "PingSlow": (
        [slow()],
        30,
        MAIN | TICKET,
        "main (worker) answers slowly",
        "One ping in twenty takes longer than 2.425s.",
    ),
    "ExecutorSaturated": (
        [showing("moorings_executor_queued", 7)],
        20,
        MAIN | TICKET,
        "Calls of main (worker) wait for a thread",
        (
            "On an instance, 7 operations or more have been waiting all the time: all its "
            "threads are busy, with change streams perhaps."
        ),
    ),
    "CertificateExpiring": (
        [showing("moorings_connection_certificate_expiry_timestamp_seconds", 10 * 86400.0)],
        120,
        MAIN | TICKET,
        "The client certificate of main (worker) expires soon",
        "It expires in 9d 22h 0m 0s; then no connection is opened any more.",
    ),
    "MetricsAbsent": (
        [Instance("r" + "-" * 30)],
        10,
        {"job": "worker"} | PAGE,
        "Nothing is heard of worker",
        "Not one of its instances is scraped any more: every other alert about it is blind.",
    ),
}


def test_every_alert_has_its_words_here() -> None:
    assert list(WORDS) == list(dict.fromkeys(alert.name for alert in ALERTS))


@pytest.mark.parametrize("alert", WORDS)
def test_an_alert_says_this(alert: str, tmp_path: Path) -> None:
    instances, minute, labels, summary, description = WORDS[alert]
    annotations: Mapping[str, str] = {
        "summary": summary,
        "description": description,
        "runbook_url": f"docs/runbook.md#{anchor(alert)}",
    }
    Trial(tmp_path, RULES).says(instances, alert, minute, labels, annotations)
