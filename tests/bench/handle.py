"""The hot path: `await get_database(name)` when ready, against a trivial await. And import time."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import trio

from .clock import alternate, clock
from .contestants import opened, settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .clock import Report

CALLS = 100_000
IMPORTS = 15


class _Trivial:
    __slots__ = ("database",)

    def __init__(self) -> None:
        self.database = object()

    async def get(self, name: str) -> object:
        return self.database


def run(report: Report) -> None:
    """Print the cost of a handle, and of `import moorings`."""
    best = trio.run(_handles)
    report.add(
        "await get_database(name) when ready / a trivial await",
        best["ours"] / best["trivial"],
        bound=1.75,
        note=f"{best['ours'] * 1e9:.0f} ns against {best['trivial'] * 1e9:.0f} ns",
    )
    found = alternate(
        {name: _importing(name) for name in ("pass", "import trio", "import moorings")}, IMPORTS
    )
    bare = found["pass"]["seconds"]
    report.add(
        "import moorings / import trio (interpreter included)",
        found["import moorings"]["seconds"] / found["import trio"]["seconds"],
        bound=1.15,
        note=f"bare interpreter {bare * 1e3:.0f} ms",
    )
    everything = _importing("from moorings import open_connections")()["seconds"]
    report.add("from moorings import open_connections", everything * 1e3, "ms")


async def _handles() -> dict[str, float]:
    async with opened(settings(1000)) as connections:
        await connections.wait_ready()
        trivial = _Trivial()
        samples: dict[str, list[float]] = {"trivial": [], "ours": []}
        for _ in range(15):
            samples["trivial"].append(await _time(trivial.get))
            samples["ours"].append(await _time(connections.get_database))
    empty = await _time_nothing()
    return {name: min(found) - empty for name, found in samples.items()}


async def _time(call: Callable[[str], Awaitable[object]]) -> float:
    began = clock()
    for _ in range(CALLS):
        await call("c7")
    return (clock() - began) / CALLS


async def _time_nothing() -> float:
    best = 1.0
    for _ in range(9):
        began = clock()
        for _ in range(CALLS):
            pass
        best = min(best, (clock() - began) / CALLS)
    return best


def _importing(code: str) -> Callable[[], dict[str, float]]:
    def measure() -> dict[str, float]:
        began = clock()
        subprocess.run([sys.executable, "-c", code], check=True)
        return {"seconds": clock() - began}

    return measure
