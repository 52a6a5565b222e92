"""Three programs, two databases, two outages; and the Prometheus that has seen them."""

from __future__ import annotations

import tempfile
import time
import urllib.parse
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mongod import servers, start_server
from processes import Program, clean_environ
from prometheus_server import scraping
from proxy import Proxy
from settings_files import BRISK, mongo, settings, write

from moorings.grafana.products import rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mongod import Mongod
    from prometheus_server import Prometheus

SCALE = 1 / 60
JOB = "worker"
WORK = """
import trio

async def work(connections):
    while True:
        with trio.move_on_after(1):
            try:
                database = await connections.get_database("orders")
                await database.things.find_one({})
            except Exception:
                pass
        await trio.sleep(0.05)
"""


@dataclass(frozen=True)
class Seen:
    """What a dashboard may be asked about."""

    prometheus: Prometheus
    begin: float
    end: float

    def ask(self, expr: str, *, instant: bool, connection: str) -> list[dict[str, Any]]:
        """The series of a panel's query, about such connections of all instances."""
        for name, value in {
            "$__rate_interval": "8s",
            "$job": JOB,
            "$instance": ".*",
            "$connection": connection,
        }.items():
            expr = expr.replace(name, value)
        if instant:
            answer = self.prometheus.api("query", query=expr, time=str(self.end))
        else:
            span = {"start": str(self.begin), "end": str(self.end), "step": "1"}
            answer = self.prometheus.api("query_range", query=expr, **span)
        found: list[dict[str, Any]] = answer["result"]
        return found


@contextmanager
def told() -> Iterator[Seen]:
    """A minute and a half; the programs end with the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = stack.enter_context(servers())
        orders, audit = start_server(running), start_server(running)
        ways = [Proxy(orders.port).start() for _ in range(3)]
        for way in ways:
            stack.callback(way.close)
        programs = [_program(folder / str(n), way, audit) for n, way in enumerate(ways)]
        for program in programs:
            stack.callback(program.finish)
        for program in programs:
            program.becomes_ready()
        first, *others = (urllib.parse.urlsplit(p.url()).netloc for p in programs)
        (folder / "rules.yml").write_text(rules(scale=SCALE))
        prometheus = stack.enter_context(
            scraping(
                first,
                folder,
                others=others,
                job=JOB,
                interval="1s",
                rules=folder / "rules.yml",
            )
        )
        yield _happen(prometheus, orders, ways[0])


def _program(folder: Path, way: Proxy, audit: Mongod) -> Program:
    folder.mkdir()
    connections = {
        "orders": mongo(f"mongodb://{way.address}/", health={**BRISK, "probe_interval": 5.0}),
        "audit": mongo(audit.url, required=False),
    }
    write(folder, settings(connections))
    (folder / "app.py").write_text(WORK)
    return Program("-m", "moorings", "run", "app:work", cwd=folder, environ=clean_environ())


def _happen(prometheus: Prometheus, orders: Mongod, way: Proxy) -> Seen:
    # A picture is of a time that has passed: here nothing else can be waited for.
    prometheus.becomes(f'count(up{{job="{JOB}"}} == 1)', 3)
    begin = time.time()
    time.sleep(25)
    orders.kill()
    time.sleep(15)
    orders.start()
    time.sleep(20)
    way.refuse()
    way.cut()
    time.sleep(20)
    way.heal()
    time.sleep(10)
    return Seen(prometheus, begin, time.time())
