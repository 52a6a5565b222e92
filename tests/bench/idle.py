"""Memory per connection, idle CPU, and the loop's lag while a thousand are scraped.

Each contestant has a process of its own: memory and CPU belong to a process.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import trio

from .clock import clock, cpu_seconds, resident_kb

if TYPE_CHECKING:
    from .clock import Report

N = 1000
SECONDS = 10.0


def run(report: Report) -> None:
    """Print what a thousand connections cost while nothing happens."""
    memory = _measure("memory")
    report.add("N=1000: memory per connection", memory["kb"], "kB", bound=4.5)
    report.add(
        "N=1000: memory per connection, its settings included", memory["kb_with_settings"], "kB"
    )
    pairs = [(_measure("idle"), _measure("idle_floor")) for _ in range(2)]
    ours = min(ours["cpu_per_tick"] for ours, _ in pairs)
    floor = min(floor["cpu_per_tick"] for _, floor in pairs)
    report.add(
        "N=1000: idle CPU, one ping a second each, moorings / bare trio",
        ours / floor,
        bound=0.30,
        note=f"{ours * 1e6:.1f} µs against {floor * 1e6:.1f} µs per ping",
    )
    lag = min((_measure("scrape") for _ in range(3)), key=lambda found: found["lag_ms"])
    report.add(
        "N=1000: longest the loop was held while /metrics was rendered",
        lag["lag_ms"],
        "ms",
        bound=10.0,
        note=f"a scrape takes {lag['scrape_ms']:.0f} ms; without one {lag['quiet_ms']:.1f} ms",
    )


def _measure(what: str) -> dict[str, float]:
    found = subprocess.run(
        [sys.executable, "-m", "tests.bench.idle", what],
        check=True,
        capture_output=True,
        text=True,
    )
    measured: dict[str, float] = json.loads(found.stdout)
    return measured


# -- in the process of its own


async def memory() -> dict[str, float]:
    """Resident memory before and after, warmed by a few connections first."""
    from .contestants import opened, settings

    async with opened(settings(10)) as connections:
        await connections.wait_ready()
    gc.collect()
    empty = resident_kb()
    prepared = settings(N)
    gc.collect()
    base = resident_kb()
    async with opened(prepared) as connections:
        await connections.wait_ready()
        gc.collect()
        ready = resident_kb()
    return {"kb": (ready - base) / N, "kb_with_settings": (ready - empty) / N}


async def idle() -> dict[str, float]:
    """CPU seconds per ping of ours."""
    from .contestants import TickingProvider, opened, settings

    async with opened(settings(N, "ticking", interval=1.0)) as connections:
        await connections.wait_ready()
        await trio.sleep(2)
        cpu, ticks = cpu_seconds(), TickingProvider.ticks
        await trio.sleep(SECONDS)
        return {"cpu_per_tick": (cpu_seconds() - cpu) / (TickingProvider.ticks - ticks)}


async def idle_floor() -> dict[str, float]:
    """CPU seconds per tick of a bare task that sleeps a second."""
    ticks = 0

    async def ticker(delay: float) -> None:
        nonlocal ticks
        await trio.sleep(delay)
        while True:
            await trio.sleep(1)
            await trio.lowlevel.checkpoint()
            ticks += 1

    async with trio.open_nursery() as nursery:
        for i in range(N):
            nursery.start_soon(ticker, i / N)
        await trio.sleep(2)
        cpu, before = cpu_seconds(), ticks
        await trio.sleep(SECONDS)
        found = (cpu_seconds() - cpu) / (ticks - before)
        nursery.cancel_scope.cancel()
    return {"cpu_per_tick": found}


async def scrape() -> dict[str, float]:
    """The longest gap between two turns of a task that never waits, during a scrape."""
    from .contestants import opened, settings

    longest = 0.0

    async def spin() -> None:
        nonlocal longest
        before = clock()
        while True:
            await trio.lowlevel.checkpoint()
            now = clock()
            longest = max(longest, now - before)
            before = now

    async with opened(settings(N)) as connections, trio.open_nursery() as nursery:
        await connections.wait_ready()
        await connections.metrics.render(openmetrics=False)
        gc.collect()
        nursery.start_soon(spin)
        await trio.sleep(0.2)
        quiet, longest = longest, 0.0
        began = clock()
        await connections.metrics.render(openmetrics=False)
        took = clock() - began
        held = longest
        nursery.cancel_scope.cancel()
    return {"lag_ms": held * 1e3, "scrape_ms": took * 1e3, "quiet_ms": quiet * 1e3}


def _main(what: str) -> None:
    jobs: dict[str, Any] = {f.__name__: f for f in (memory, idle, idle_floor, scrape)}
    print(json.dumps(trio.run(jobs[what])))


if __name__ == "__main__":
    _main(sys.argv[1])
