"""Start, restart of one, stop: against the bare floors and a peer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .clock import alternate
from .contestants import asyncio_floor, mode_streaming, moorings, settings, trio_floor

if TYPE_CHECKING:
    from .clock import Report

# N: (rounds, bounds at this N or None)
SIZES = {10: 30, 100: 15, 1000: 9}
BOUNDS = {"start": 1.75, "restart": 1.75, "stop": 1.75}


def run(report: Report) -> None:
    """Print the ratios; the floor against itself is the noise."""
    for n, rounds in SIZES.items():
        best = alternate(
            {
                "floor": partial(trio_floor, n),
                "floor again": partial(trio_floor, n),
                "asyncio": partial(asyncio_floor, n),
                "mode": partial(mode_streaming, n),
                "moorings": partial(moorings, n, settings(n)),
            },
            rounds,
        )
        floor = best["floor"]
        for figure in ("start", "restart", "stop"):
            noise = best["floor again"][figure] / floor[figure]
            asyncio_ = best["asyncio"][figure] / floor[figure]
            report.add(
                f"N={n}: {figure}, moorings / bare trio",
                best["moorings"][figure] / floor[figure],
                bound=BOUNDS[figure] if n == 1000 else None,
                note=f"floor {floor[figure] * 1e6:.0f} µs, noise {noise:.2f}, "
                f"bare asyncio {asyncio_:.2f}",
            )
        report.add(
            f"N={n}: start, moorings / mode-streaming",
            best["moorings"]["start"] / best["mode"]["start"],
            bound=0.75 if n == 1000 else None,
        )
        report.add(
            f"N={n}: stop, moorings / mode-streaming",
            best["moorings"]["stop"] / best["mode"]["stop"],
        )
