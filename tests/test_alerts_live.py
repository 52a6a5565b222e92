"""A real Prometheus scrapes a real program whose server is killed: pending, firing, resolved.

The rules are production's, sixty times as fast: a scrape a second, and two seconds until a page.
Afterwards every panel's query of both dashboards is run there.
"""

from __future__ import annotations

import json
import math
import re
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from certificates import Authority
from mongod import HOST, servers, start_server
from processes import Program, clean_environ
from prometheus_server import scraping
from settings_files import BRISK, mongo, settings, write

from moorings.grafana.products import rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_server import Prometheus

pytestmark = [pytest.mark.mongod, pytest.mark.operators]

SCALE = 1 / 60
JOB, CONNECTION, OPTIONAL = "live", "main", "spare"
MINE = {"job": JOB, "connection": CONNECTION}
DOWN = f'ALERTS{{alertname="ConnectionDown",job="{JOB}",connection="{CONNECTION}"'
BOARDS = sorted((Path(__file__).parents[1] / "grafana" / "dashboards").glob("*.json"))
STEP = 1


@dataclass
class Story:
    """What happened, and the Prometheus that has seen it."""

    prometheus: Prometheus
    alert: dict[str, Any]
    begin: float
    end: float

    def ranges(self, query: str) -> list[dict[str, Any]]:
        """The series that the query has had meanwhile."""
        span = {"start": str(self.begin), "end": str(self.end), "step": str(STEP)}
        found: list[dict[str, Any]] = self.prometheus.api("query_range", query=query, **span)[
            "result"
        ]
        return found

    def at_the_end(self, query: str) -> list[dict[str, Any]]:
        """The series that it had in the end."""
        found: list[dict[str, Any]] = self.prometheus.api("query", query=query, time=str(self.end))[
            "result"
        ]
        return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A program with a client certificate, an outage of its server, and the return."""
    folder = tmp_path_factory.mktemp("story")
    authority = Authority(folder / "authority")
    tls = ("--tlsMode", "requireTLS", "--tlsCAFile", authority.file)
    key = ("--tlsCertificateKeyFile", authority.server(HOST))
    (folder / "rules.yml").write_text(rules(scale=SCALE))
    with servers() as running:
        server = start_server(running, *tls, *key)
        shown = {"ca_file": authority.file, "certificate_key_file": authority.client("anybody")}
        main = mongo(server.url, provider={"tls": shown}, health={**BRISK, "probe_interval": 1.0})
        write(folder, settings({CONNECTION: main, OPTIONAL: {"backend": "local"}}))
        program = Program("-m", "moorings", "run", cwd=folder, environ=clean_environ())
        try:
            program.becomes_ready()
            target = urllib.parse.urlsplit(program.url()).netloc
            with scraping(
                target, folder, job=JOB, interval="1s", rules=folder / "rules.yml"
            ) as prometheus:
                begin = time.time()
                ready = f'moorings_connection_ready{{connection="{CONNECTION}"}}'
                # Scrapes before the outage: a rate takes two, and a burn what was before.
                prometheus.becomes(f"count_over_time({ready}[1m]) >= bool 5", 1)
                server.kill()
                prometheus.becomes(f'{DOWN},alertstate="firing"}}', 1)
                (alert,) = (
                    a
                    for a in prometheus.api("alerts")["alerts"]
                    if a["labels"]["alertname"] == "ConnectionDown"
                )
                server.start()
                prometheus.becomes(ready, 1)
                prometheus.becomes(f"{DOWN}}}", None)
                yield Story(prometheus, alert, begin, time.time())
        finally:
            program.finish()


def times(series: list[dict[str, Any]]) -> list[float]:
    return [float(at) for found in series for at, _ in found["values"]]


def test_the_alert_was_pending_then_firing_then_resolved(story: Story) -> None:
    pending = times(story.ranges(f'{DOWN},alertstate="pending"}}'))
    firing = times(story.ranges(f'{DOWN},alertstate="firing"}}'))
    assert pending
    assert firing
    assert min(pending) < min(firing)
    assert max(pending) < min(firing)
    assert max(firing) < story.end
    assert not story.at_the_end(f"{DOWN}}}")


def test_the_page_says_what_and_why_and_where_to_read_on(story: Story) -> None:
    labels, texts = story.alert["labels"], story.alert["annotations"]
    assert labels == {"alertname": "ConnectionDown", "severity": "critical", **MINE}
    assert texts["summary"] == "main (live) is down"
    assert texts["description"].startswith("100% of its instances")
    assert re.search(r"Reasons: (refused|network|timeout)", texts["description"])
    assert texts["runbook_url"] == "docs/runbook.md#connectiondown"


def test_a_connection_that_was_well_meanwhile_alerts_nobody(story: Story) -> None:
    assert story.ranges(f'moorings_connection_ready{{connection="{OPTIONAL}"}} == 1')
    assert not story.ranges(f'ALERTS{{connection="{OPTIONAL}"}}')


def test_every_rule_could_be_evaluated(story: Story) -> None:
    (group,) = story.prometheus.api("rules")["groups"]
    assert [(r["name"], r.get("lastError")) for r in group["rules"] if r["health"] != "ok"] == []


def targets() -> Iterator[Any]:
    for board in BOARDS:
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel.get("targets", ()):
                name = f"{board.stem.removeprefix('moorings-')}: {panel['title']} {target['refId']}"
                yield pytest.param(target, id=name)


@pytest.mark.parametrize("target", list(targets()))
def test_a_panel_shows_the_connection(story: Story, target: dict[str, Any]) -> None:
    """At least one series that is labelled with it, and has a number somewhere."""
    query = substituted(target["expr"])
    found = story.at_the_end(query) if target.get("instant") else story.ranges(query)
    mine = [series for series in found if MINE.items() <= series["metric"].items()]
    assert mine, f"{query}: {[series['metric'] for series in found]}"
    values = [float(v) for s in mine for _, v in s.get("values") or [s["value"]]]
    assert any(math.isfinite(value) for value in values), query


def substituted(expr: str) -> str:
    """As Grafana does it: one job, all instances, one connection."""
    values = {
        "$__rate_interval": "10s",
        "$job": JOB,
        "$instance": ".*",
        "$connection": CONNECTION,
    }
    for name, value in values.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_the_variables_offer_what_there_is(story: Story, board: Path) -> None:
    offered = {}
    for variable in json.loads(board.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert asked is not None
            series, label = asked.groups()
            offered[variable["name"]] = story.prometheus.api(
                f"label/{label}/values", **{"match[]": substituted(series)}
            )
    assert offered["job"] == [JOB]
    assert len(offered["instance"]) == 1
    assert offered["connection"] == [CONNECTION, OPTIONAL]
