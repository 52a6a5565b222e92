"""Supervisors alone: children are started, one crashes, all crash at once, all are stopped.

The floor is bare trio, a task and an event per child, whose crash is caught within the child; they
are up when each event has been waited for. `scopes` is that floor with a cancel scope each: without
one, no child can be stopped alone.

Ours are up when `start_children` returns, which is what their supervisor is there for. What it
costs to wait for an event of each all the same has a row of its own; so has how the supervisor
compares with bare trio whose children count down to one event, as ours do behind the scenes.
"""

from __future__ import annotations

import gc
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
    from contextlib import AbstractAsyncContextManager

    from moorings.supervisors import Supervisor, TaskStatus

    from .clock import Report

# How many children: how many rounds.
SIZES = {100: 100, 1_000: 20, 10_000: 6}
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
    """Print the ratios; the floor against itself is the noise."""
    restarts = {}
    for n, rounds in SIZES.items():
        contestants: dict[str, Callable[[], dict[str, float]]] = {
            "floor": partial(_floor, n),
            "floor again": partial(_floor, n),
            "scopes": partial(_scopes, n),
            "counted": partial(_counted, n),
            "ours": partial(_supervised, n),
            "by events": partial(_by_events, n),
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
            f"{n} children: start, an event each / bare trio",
            best["by events"]["start"] / floor["start"],
        )
        report.add(
            f"{n} children: start, supervisor / bare trio that counts",
            ours["start"] / best["counted"]["start"],
        )
    report.add(
        f"restart of one among {max(restarts)} children / among {min(restarts)}",
        restarts[max(restarts)] / restarts[min(restarts)],
        bound=GROWTH,
    )


class _Child:
    """Once it is up it waits for its crash; `ready` is for who waits for it, if anybody does."""

    __slots__ = ("ready", "task")

    def __init__(self, ready: trio.Event | None = None) -> None:
        self.ready = ready
        self.task: trio.lowlevel.Task

    def crash(self) -> None:
        self.ready = trio.Event()
        trio.lowlevel.reschedule(self.task, Error(Boom()))

    # Whoever waits does so in the child's own frame: not a frame more than needed.

    async def run(self) -> None:
        """Bare trio's: it catches its own crash."""
        while True:
            try:
                await trio.lowlevel.checkpoint()
                self.ready.set()
                self.task = trio.lowlevel.current_task()
                await trio.lowlevel.wait_task_rescheduled(_abort)
            except Boom:
                pass

    async def run_in_scope(self) -> None:
        """The same in a scope of its own, by which it could be stopped alone."""
        with trio.CancelScope():
            while True:
                try:
                    await trio.lowlevel.checkpoint()
                    self.ready.set()
                    self.task = trio.lowlevel.current_task()
                    await trio.lowlevel.wait_task_rescheduled(_abort)
                except Boom:
                    pass

    async def run_counted(self, all_up: _Countdown) -> None:
        """Bare trio's, whose last to come up sets an event for all; it does not crash."""
        await trio.lowlevel.checkpoint()
        all_up.left -= 1
        if all_up.left == 0:
            all_up.event.set()
        self.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(_abort)

    async def __call__(self, *, task_status: TaskStatus) -> None:
        """Ours."""
        await trio.lowlevel.checkpoint()
        task_status.started()
        if self.ready is not None:
            self.ready.set()
        self.task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(_abort)


class _Countdown:
    def __init__(self, left: int) -> None:
        self.left, self.event = left, trio.Event()


def _abort(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.SUCCEEDED


async def _lived(children: Sequence[_Child]) -> dict[str, float]:
    """Seconds of a restart, and of the crash of all."""

    async def restart(index: int) -> None:
        children[index].crash()
        await children[index].ready.wait()

    one = await restart_some(len(children), restart, trio.sleep)
    await trio.sleep(PAUSE)  # a child that has just been restarted lets the others run first
    gc.collect()  # as before the stop: nobody pays for what came before
    began = clock()
    for child in children:
        child.crash()
    await _wait_ready(children)
    return {"restart": one, "crash of all": clock() - began}


async def _wait_ready(children: Sequence[_Child]) -> None:
    for child in children:
        await child.ready.wait()


def _floor(n: int) -> dict[str, float]:
    return _bare(n, _Child.run)


def _scopes(n: int) -> dict[str, float]:
    return _bare(n, _Child.run_in_scope)


def _bare(n: int, run: Callable[[_Child], Awaitable[object]]) -> dict[str, float]:
    async def main() -> dict[str, float]:
        began = clock()
        children = [_Child(trio.Event()) for _ in range(n)]
        async with trio.open_nursery() as nursery:
            for child in children:
                nursery.start_soon(run, child)
            await _wait_ready(children)
            start = clock() - began
            figures = await _lived(children)
            gc.collect()
            stopped = clock()
            nursery.cancel_scope.cancel()
        return {"start": start, **figures, "stop": clock() - stopped}

    return trio.run(main)


def _counted(n: int) -> dict[str, float]:
    async def main() -> dict[str, float]:
        began = clock()
        all_up = _Countdown(n)
        children = [_Child() for _ in range(n)]
        async with trio.open_nursery() as nursery:
            for child in children:
                nursery.start_soon(child.run_counted, all_up)
            await all_up.event.wait()
            start = clock() - began
            nursery.cancel_scope.cancel()
        return {"start": start}

    return trio.run(main)


def _supervised(n: int) -> dict[str, float]:
    async def main() -> dict[str, float]:
        began = clock()
        children = [_Child() for _ in range(n)]
        async with _supervisor() as running:
            await running.start_children(_specs(children))
            start = clock() - began
            figures = await _lived(children)
            gc.collect()
            stopped = clock()
        return {"start": start, **figures, "stop": clock() - stopped}

    return trio.run(main)


def _by_events(n: int) -> dict[str, float]:
    """Ours, by who does not ask the supervisor, but has an event each as the floor."""

    async def main() -> dict[str, float]:
        began = clock()
        children = [_Child(trio.Event()) for _ in range(n)]
        async with _supervisor() as running:
            running.start_children_nowait(_specs(children))
            await _wait_ready(children)
            return {"start": clock() - began}

    return trio.run(main)


def _supervisor() -> AbstractAsyncContextManager[Supervisor]:
    return open_supervisor(name="bench", ordered=False, intensity=10**9, period=1.0)


def _specs(children: Sequence[_Child]) -> list[ChildSpec]:
    return [ChildSpec(str(number), child) for number, child in enumerate(children)]


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
