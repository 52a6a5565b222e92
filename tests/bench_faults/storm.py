"""A server that many clients have dies and returns: how many connections it has to take then."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from mongod import servers, start_server
from pymongo.errors import PyMongoError

from .crowd import NAME
from .record import Program, Record, clock
from .scene import SOON, counted

if TYPE_CHECKING:
    from mongod import Mongod

    from ..bench.clock import Report
    from .scene import Effort

OUTAGE = 15.0
"""Seconds: longer than the drivers' heartbeat, so that none of them is early."""
MOST_PER_SECOND = 1000.0
"""A third of all that 1,000 clients need."""
ALL_READY = 40.0
"""Seconds after the server accepts connections: ten attempts at a time, each of which waits up to
0.5 s for its driver to look. Mostly the drivers' own heartbeats come first."""

EACH = 0.2
"""How often the server is asked how many connections it has taken, in seconds."""


class Counting:
    """Asks a server how many connections it has taken since it was started, again and again."""

    def __init__(self, server: Mongod) -> None:
        self._server = server
        self._over = threading.Event()
        self._seen: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self._count)
        self._thread.start()

    def stop(self) -> None:
        """No more."""
        self._over.set()
        self._thread.join()

    @property
    def created(self) -> int:
        """All of them."""
        return self._seen[-1][1]

    def most_per_second(self) -> float:
        """The largest number within a second, of all seconds that begin with a look."""
        return max(
            (later - count) / max(then - at, 1.0)
            for at, count in self._seen
            for then, later in self._seen
            if at < then <= at + 1.0 + EACH
        )

    def _count(self) -> None:
        with self._server.client(serverSelectionTimeoutMS=1000) as client:
            while not self._over.is_set():
                try:
                    status = client.admin.command("serverStatus")
                except PyMongoError:
                    continue  # it does not accept connections yet
                self._seen.append((clock(), status["connections"]["totalCreated"]))
                self._over.wait(EACH)


def run(report: Report, effort: Effort) -> None:
    """Kill the server of all, start it again, and report."""
    record, count = Record(), effort.crowd
    everybody = [f"crowd/{NAME.format(n)}" for n in range(count)]
    with servers() as running:
        server = start_server(running)
        began = clock()
        with Program(record, "crowd", f"{__package__}.crowd", server.url, str(count)):
            ready = [record.wait(who, "ready", began, 3 * SOON) for who in everybody]
            report.add(f"{count} clients: start → all ready", max(ready) - began, "s")
            for _ in counted(1, f"kill of a server with {count} clients"):
                killed = clock()
                server.kill()
                lost = [record.wait(who, "connecting", killed, SOON) for who in everybody]
            report.add(f"{count} clients: kill -9 → none is ready", max(lost) - killed, "s")
            time.sleep(max(killed + OUTAGE - clock(), 0.0))
            server.start()
            accepts = clock()
            counting = Counting(server)
            ready = [record.wait(who, "ready", accepts, 3 * SOON) for who in everybody]
            counting.stop()
    report.add(f"{count} clients: accepts → all ready", max(ready) - accepts, "s", ALL_READY)
    report.add(
        f"{count} clients: connections made, at most",
        counting.most_per_second(),
        "/s",
        MOST_PER_SECOND,
        f"{counting.created} in all",
    )
