"""Real clients on a real mongod: time to ready beside bare Motor clients, threads, memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from .clock import clock, resident_kb

if TYPE_CHECKING:
    from .clock import Report

ROUNDS = 3


def run(report: Report) -> None:
    """Print 10 and 50 clients; each contestant in a process of its own, alternating."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from mongod import Mongod

    with tempfile.TemporaryDirectory(prefix="moorings-bench-") as folder:
        server = Mongod(Path(folder) / "data")
        server.start()
        try:
            for n in (10, 50):
                _compare(report, n, server.url)
        finally:
            server.kill()


def _compare(report: Report, n: int, url: str) -> None:
    ours, bare = [], []
    for _ in range(ROUNDS):
        bare.append(_measure("bare", n, url))
        ours.append(_measure("moorings", n, url))
    best, floor = _minima(ours), _minima(bare)
    report.add(
        f"{n} real clients: time to ready, moorings / bare Motor on trio",
        best["seconds"] / floor["seconds"],
        note=f"{best['seconds'] * 1e3:.0f} ms against {floor['seconds'] * 1e3:.0f} ms",
    )
    report.add(
        f"{n} real clients: threads", best["threads"], "", note=f"bare {floor['threads']:.0f}"
    )
    report.add(
        f"{n} real clients: memory per client", best["kb"], "kB", note=f"bare {floor['kb']:.0f} kB"
    )


def _minima(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: min(one[key] for one in found) for key in found[0]}


def _measure(who: str, n: int, url: str) -> dict[str, float]:
    found = subprocess.run(
        [sys.executable, "-m", "tests.bench.real", who, str(n), url],
        check=True,
        capture_output=True,
        text=True,
    )
    measured: dict[str, float] = json.loads(found.stdout)
    return measured


async def bare(n: int, url: str) -> dict[str, float]:
    """Plain Motor clients on trio, each pinged once."""
    from moorings.providers.motor_trio import TrioMotorClient

    before = resident_kb()
    began = clock()
    clients = [TrioMotorClient(url) for _ in range(n)]
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.admin.command, "ping")
    found = _figures(began, before, n)
    for client in clients:
        client.close()
    return found


async def moorings(n: int, url: str) -> dict[str, float]:
    """Supervised connections: opened, pinged, verified."""
    from moorings import open_connections
    from moorings.providers import motor_trio  # noqa: F401 - the contestant has it imported, too

    provider = {"url": url, "database_name": "bench"}
    documents = {f"c{i}": {"backend": "mongo", "provider": provider} for i in range(n)}
    before = resident_kb()
    began = clock()
    async with open_connections({"default": {"database": {"documents": documents}}}) as connections:
        await connections.wait_ready()
        return _figures(began, before, n)


def _figures(began: float, before: int, n: int) -> dict[str, float]:
    return {
        "seconds": clock() - began,
        "threads": threading.active_count(),
        "kb": (resident_kb() - before) / n,
    }


if __name__ == "__main__":
    jobs: dict[str, Any] = {"bare": bare, "moorings": moorings}
    print(json.dumps(trio.run(jobs[sys.argv[1]], int(sys.argv[2]), sys.argv[3])))
