"""A real Prometheus scrapes a running program, and `promtool` finds nothing to criticise.

Both programs come with Debian's package `prometheus`; the packaged service is not used.
"""

from __future__ import annotations

import subprocess
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_server import fetch, scraping, tool
from settings_files import mongo, settings, write

if TYPE_CHECKING:
    from pathlib import Path

    from mongod import Mongod
    from processes import Program, Start

pytestmark = [pytest.mark.mongod, pytest.mark.prometheus]

SECONDS = 30.0

TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"

COMMON = {"runtime"}
OF_CONNECTION = {"runtime", "connection"}

# Name, type and labels, as the contract has them: a dashboard breaks when any of it changes.
TABLE: dict[str, tuple[str, set[str]]] = {
    "moorings_build": ("info", COMMON | {"version", "python", "driver"}),
    "moorings_connection": ("info", OF_CONNECTION | {"backend", "required"}),
    "moorings_connection_state": ("gauge", OF_CONNECTION | {"state"}),
    "moorings_connection_ready": ("gauge", OF_CONNECTION),
    "moorings_connection_failure_reason": ("gauge", OF_CONNECTION | {"reason"}),
    "moorings_connection_state_change_timestamp_seconds": ("gauge", OF_CONNECTION),
    "moorings_connection_transitions": ("counter", OF_CONNECTION | {"from", "to"}),
    "moorings_connection_pings": ("counter", OF_CONNECTION),
    "moorings_connection_ping_failures": ("counter", OF_CONNECTION | {"reason"}),
    "moorings_connection_ping_duration_seconds": ("histogram", OF_CONNECTION),
    "moorings_connection_last_ping_success_timestamp_seconds": ("gauge", OF_CONNECTION),
    "moorings_connection_stale_after_seconds": ("gauge", OF_CONNECTION),
    "moorings_connection_probes": ("counter", OF_CONNECTION),
    "moorings_connection_probe_failures": ("counter", OF_CONNECTION | {"reason"}),
    "moorings_connection_probe_refused": ("gauge", OF_CONNECTION | {"reason"}),
    "moorings_connection_rotations": ("counter", OF_CONNECTION | {"result"}),
    "moorings_connection_connect_attempts": ("counter", OF_CONNECTION | {"result"}),
    "moorings_connection_connect_duration_seconds": ("histogram", OF_CONNECTION),
    "moorings_connection_retry_delay_seconds": ("gauge", OF_CONNECTION),
    "moorings_connection_generation": ("gauge", OF_CONNECTION),
    "moorings_connection_close_timeouts": ("counter", OF_CONNECTION),
    "moorings_connection_certificate_expiry_timestamp_seconds": ("gauge", OF_CONNECTION),
    "moorings_supervisor_restarts": ("counter", COMMON | {"supervisor", "reason"}),
    "moorings_supervisor_restart_limit": ("gauge", COMMON | {"supervisor"}),
    "moorings_supervisor_children": ("gauge", COMMON | {"supervisor", "state"}),
    "moorings_runtime_heartbeat_timestamp_seconds": ("gauge", COMMON),
    "moorings_runtime_loop_lag_seconds": ("histogram", COMMON),
    "moorings_secret_resolutions": ("counter", COMMON | {"provider", "result"}),
    "moorings_executor_threads": ("gauge", OF_CONNECTION | {"state"}),
    "moorings_executor_queued": ("gauge", OF_CONNECTION),
    "moorings_pool_connections": ("gauge", OF_CONNECTION | {"state"}),
    "moorings_pool_checkout_duration_seconds": ("histogram", OF_CONNECTION),
    "moorings_pool_checkout_failures": ("counter", OF_CONNECTION | {"reason"}),
    "moorings_pool_cleared": ("counter", OF_CONNECTION),
}

# The series that a family of each type has, beside its name.
SUFFIXES = {
    "counter": {"_total"},
    "gauge": {""},
    "histogram": {"_bucket", "_count", "_sum"},
    "info": {"_info"},
}

NOT_HERE = {"moorings_connection_certificate_expiry_timestamp_seconds"}
"""A connection that shows no certificate has no expiry: 0 would be long ago."""


@pytest.fixture
def program(mongod: Mongod, database_name: str, start: Start, tmp_path: Path) -> Program:
    """A program with two connections, ready."""
    connections = {"main": mongo(mongod.url, database_name), "memory": {"backend": "local"}}
    write(tmp_path, settings(connections))
    running = start("run")
    running.becomes_ready()
    return running


def test_prometheus_scrapes_a_program(program: Program, tmp_path: Path) -> None:
    target = urllib.parse.urlsplit(program.url()).netloc
    with scraping(target, tmp_path) as prometheus:
        prometheus.becomes('up{job="moorings"}', 1)
        prometheus.becomes('moorings_connection_ready{connection="main"}', 1)
        prometheus.becomes('moorings_connection_state{connection="main",state="ready"}', 1)
        (scraped,) = prometheus.api("targets")["activeTargets"]
        assert (scraped["health"], scraped["lastError"]) == ("up", "")
        samples = prometheus.value("scrape_samples_scraped")
        assert samples is not None
        assert samples > 100
        known = {name for name in prometheus.api("label/__name__/values") if "moorings" in name}
        assert known == {
            name + suffix
            for name, (kind, _) in TABLE.items()
            for suffix in SUFFIXES[kind]
            if name not in NOT_HERE
        }
        # The older format knows neither infos nor a counter's name without `_total`.
        metadata = prometheus.api("metadata", limit="1000")
        types = {name: found["type"] for name in TABLE for found in metadata.get(name, ())}
        assert types == {name: kind for name, (kind, _) in TABLE.items()}, "OpenMetrics was read"


def test_promtool_has_nothing_to_say(program: Program) -> None:
    """`promtool check metrics` lints names, help texts and types.

    It reads the older format only, and stops at the first `info` of the newer; that one is read
    by Prometheus itself above, and by the strict parser below.
    """
    kind, body = fetch(f"{program.url()}/metrics", TEXT)
    assert kind.startswith("text/plain")
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=body,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_prometheus_own_header_is_answered_with_openmetrics(program: Program) -> None:
    """What Prometheus 2.42 sends."""
    accept = (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
        "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    )
    kind, body = fetch(f"{program.url()}/metrics", accept)
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")
    assert fetch(f"{program.url()}/metrics")[0].startswith("text/plain")


def test_names_types_and_labels_are_the_contract(program: Program) -> None:
    """The same table in both formats, and nothing beside it."""
    expected: dict[str, tuple[str, set[str]]] = {
        name: (kind, set() if name in NOT_HERE else labels)
        for name, (kind, labels) in TABLE.items()
    }
    _, body = fetch(f"{program.url()}/metrics", OPENMETRICS)
    found = {
        family.name: (family.type, {label for s in family.samples for label in s.labels} - {"le"})
        for family in parse_openmetrics(body)
        if family.name.startswith("moorings_")
    }
    assert found == expected

    _, body = fetch(f"{program.url()}/metrics", TEXT)
    older = {
        family.name: {label for s in family.samples for label in s.labels} - {"le"}
        for family in parse_text(body)
        if family.name.startswith("moorings_")
    }
    suffixes = {"info": "_info"}
    assert older == {
        name + suffixes.get(kind, ""): labels for name, (kind, labels) in expected.items()
    }
