"""Supervisors alone: children are started, one crashes, all crash at once, all are stopped.

The floor is bare trio, a task and an event per child, whose crash is caught within the child.
`scopes` is that floor with a cancel scope each: without one, no child can be stopped alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from outcome import Error

from moorings.supervisors import ChildSpec, open_supervisor

from .clock import alternate, clock
from .contestants import Boom, mode_streaming, restart_some

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from moorings.supervisors import TaskStatus

    from .clock import Report

# How many children: how many rounds.
SIZES = {100: 40, 1_000: 20, 10_000: 6}
BOUNDS = {"start": 1.5, "stop": 1.5, "restart": 1.5, "crash of all": 1.6}
GROWTH = 1.5
"""What the restart of one among the most may cost, to that among the fewest."""
PAUSE = 0.1
"""Between the restarts of single ones and the crash of all, in seconds."""
MODE_UP_TO = 1_000
"""How many children mode is asked to start and stop."""
OTP_SECONDS = 300.0
"""OTP looks through all its restarts at each: the crash of 10,000 takes it seconds."""


def run(report: Report) -> None:
    """Print the ratios of minima; the floor against itself is the noise."""
    restarts = {}
    for n, rounds in SIZES.items():
        contestants: dict[str, Callable[[], dict[str, float]]] = {
            "floor": partial(_floor, n),
            "floor again": partial(_floor, n),
            "scopes": partial(_scopes, n),
            "ours": partial(_supervised, n),
        }
        if n <= MODE_UP_TO:
            contestants["mode"] = partial(mode_streaming, n)
        best = alternate(contestants, rounds)
        floor, ours = best["floor"], best["ours"]
        restarts[n] = ours["restart"]
        peers = {
            "noise": best["floor again"],
            "scopes": best["scopes"],
            "mode": best.get("mode", {}),
            "OTP": _otp(n, rounds),
        }
        for figure, bound in BOUNDS.items():
            others = [
                f"{name} {figures[figure] / floor[figure]:.2f}"
                for name, figures in peers.items()
                if figure in figures
            ]
            report.add(
                f"{n} children: {figure}, supervisor / bare trio",
                ours[figure] / floor[figure],
                bound=bound,
                note=", ".join([f"floor {floor[figure] * 1e6:.0f} µs", *others]),
            )
    report.add(
        f"restart of one among {max(restarts)} children / among {min(restarts)}",
        restarts[max(restarts)] / restarts[min(restarts)],
        bound=GROWTH,
    )


class _Child:
    """Up after a checkpoint; then it waits for its crash."""

    __slots__ = ("ready", "task")

    def __init__(self) -> None:
        self.ready = trio.Event()
        self.task: trio.lowlevel.Task

    async def run(self, *, task_status: TaskStatus) -> None:
        await trio.lowlevel.checkpoint()
        task_status.started()
        await self._wait_for_crash()

    async def run_for_ever(self) -> None:
        """The floor's: it catches its own crash."""
        while True:
            try:
                await trio.lowlevel.checkpoint()
                await self._wait_for_crash()
            except Boom:
                pass

    async def run_in_scope(self) -> None:
        """The same in a scope of its own, by which it could be stopped alone."""
        with trio.CancelScope():  # around a loop of its own: not a frame more
            while True:
                try:
                    await trio.lowlevel.checkpoint()
                    await self._wait_for_crash()
                except Boom:
                    pass

    async def _wait_for_crash(self) -> None:
        self.ready.set()
        self.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.SUCCEEDED)

    def crash(self) -> None:
        self.ready = trio.Event()
        trio.lowlevel.reschedule(self.task, Error(Boom()))


async def _lived(children: Sequence[_Child], began: float) -> dict[str, float]:
    """What they have started for: seconds of their start, of a restart, of the crash of all."""
    await _wait_ready(children)
    start = clock() - began

    async def restart(index: int) -> None:
        children[index].crash()
        await children[index].ready.wait()

    one = await restart_some(len(children), restart, trio.sleep)
    await trio.sleep(PAUSE)  # a child that has just been restarted lets the others run first
    began = clock()
    for child in children:
        child.crash()
    await _wait_ready(children)
    return {"start": start, "restart": one, "crash of all": clock() - began}


async def _wait_ready(children: Sequence[_Child]) -> None:
    for child in children:
        await child.ready.wait()


def _floor(n: int) -> dict[str, float]:
    return _bare(n, _Child.run_for_ever)


def _scopes(n: int) -> dict[str, float]:
    return _bare(n, _Child.run_in_scope)


def _bare(n: int, run: Callable[[_Child], Awaitable[object]]) -> dict[str, float]:
    async def main() -> dict[str, float]:
        began = clock()
        children = [_Child() for _ in range(n)]
        async with trio.open_nursery() as nursery:
            for child in children:
                nursery.start_soon(run, child)
            figures = await _lived(children, began)
            stopped = clock()
            nursery.cancel_scope.cancel()
        return {**figures, "stop": clock() - stopped}

    return trio.run(main)


def _supervised(n: int) -> dict[str, float]:
    async def main() -> dict[str, float]:
        began = clock()
        children = [_Child() for _ in range(n)]
        supervisor = open_supervisor(name="bench", ordered=False, intensity=10**9, period=1.0)
        async with supervisor as running:
            specs = [ChildSpec(str(i), child.run) for i, child in enumerate(children)]
            running.start_children_nowait(specs)
            figures = await _lived(children, began)
            stopped = clock()
        return {**figures, "stop": clock() - stopped}

    return trio.run(main)


def _otp(n: int, rounds: int) -> dict[str, float]:
    """The same on Erlang/OTP, in a process of its own, where there is one."""
    escript = shutil.which("escript")
    if escript is None:
        return {}
    script = Path(__file__).with_name("otp.erl")
    found = subprocess.run(
        [escript, str(script), str(n), str(rounds)],
        capture_output=True,
        check=True,
        text=True,
        timeout=OTP_SECONDS,
    )
    figures: dict[str, float] = json.loads(found.stdout)
    return figures
