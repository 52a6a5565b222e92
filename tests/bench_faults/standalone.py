"""One server: killed and back, frozen and thawed."""

from __future__ import annotations

import random
import socket
import time
from typing import TYPE_CHECKING, Any

from mongod import HOST, servers, start_server

from . import polls
from .connections import WORLDS
from .record import clock
from .scene import SOON, counted, watching

if TYPE_CHECKING:
    from mongod import Mongod

    from ..bench.clock import Report
    from .scene import Effort, Scene

BRISK = {"interval": 0.5, "timeout": 0.5, "failures": 2}
DEFAULTS = {"interval": 10.0, "timeout": 2.0, "failures": 3}

# Where a server's return meets them: in the longest naps, and in the long backoff.
CONNECTIONS: dict[str, dict[str, Any]] = {
    "connecting": {"retry": {"initial": 5.0, "max": 5.0, "attempts": 1000}},
    "failed": {
        "retry": {"attempts": 1},
        "supervision": {"backoff_initial": 30.0, "backoff_max": 30.0},
    },
    "brisk": {"health": BRISK},
}
USUAL = ("connecting", "failed")

SHORT, LONG = (1.5, 3.0), (14.0, 14.0)
"""Outages in seconds, from and to; the long ones are for loops that poll every 10 s."""

KILLED = "killed → leaves ready"
NOTICED = "accepts → good heartbeat"
READY = "good heartbeat → ready"
RETURNED = "accepts → ready"
STARTED = "started → ready"
FROZEN = "frozen → leaves ready"
THAWED = "thawed → ready"


def bound(health: dict[str, float]) -> float:
    """How long a freeze may go unnoticed, in seconds: the contract's formula."""
    return health["interval"] * 1.1 + health["failures"] * health["timeout"]


def run(report: Report, effort: Effort) -> None:
    """Do it all to one server, and report."""
    with servers() as running:
        server = start_server(running)
        with watching(server.url, CONNECTIONS, polls=True) as scene:
            for _ in counted(effort.kills, "kill"):
                _kill(scene, server, random.uniform(*SHORT))
            for _ in counted(effort.long_kills, "kill, and a long outage"):
                _kill(scene, server, random.uniform(*LONG), polled=True)
            for _ in counted(effort.brisk_freezes, "freeze, short bounds"):
                _freeze(scene, server, "brisk")
            for _ in counted(effort.freezes, "freeze, default bounds"):
                _freeze(scene, server, *USUAL, polled=True)
    _report(report, scene)


def _kill(scene: Scene, server: Mongod, seconds: float, *, polled: bool = False) -> None:
    """Kill the server, and start it again so many seconds later."""
    record = scene.record
    if polled:
        _wait_polls_up(scene)
    killed = clock()
    server.kill()
    for world, who in scene.everybody(*USUAL):
        scene.add(KILLED, world, record.wait(who, "connecting", killed, SOON) - killed)
    scene.wait_all("failed", killed, "failed")
    if polled:
        _polled(scene, KILLED, "down", killed)
    time.sleep(max(killed + seconds - clock(), 0.0))
    started = clock()
    server.launch()
    accepts = _accepting(server)
    server.wait_started()
    for connection in USUAL:
        for world, who in scene.everybody(connection):
            ready = record.wait(who, "ready", started, SOON)
            heartbeat = record.wait(who, "heartbeat", started, SOON)
            if record.state_at(who, heartbeat) != connection:
                continue  # an attempt was under way: neither
            whose = f"{world}, {connection}"
            scene.add(NOTICED, whose, heartbeat - accepts)
            scene.add(READY, whose, ready - heartbeat)
            scene.add(RETURNED, whose, ready - accepts)
            scene.add(STARTED, whose, ready - started)
    scene.wait_all("ready", started)
    if polled:
        _polled(scene, RETURNED, "up", started, accepts)


def _freeze(scene: Scene, server: Mongod, *connections: str, polled: bool = False) -> None:
    """Freeze the server until these connections have seen it."""
    record = scene.record
    if polled:
        _wait_polls_up(scene)
    time.sleep(random.uniform(0.0, 1.0))  # at any moment between two pings
    frozen = clock()
    server.freeze()
    sort = "default bounds" if polled else "short bounds"
    for world, who in scene.everybody(*connections):
        seen = record.wait(who, "connecting", frozen, SOON)
        scene.add(FROZEN, f"{world}, {sort}", seen - frozen)
    if polled:
        _polled(scene, FROZEN, "down", frozen)
    thawed = clock()
    server.thaw()
    for world, who in scene.everybody(*connections):
        scene.add(THAWED, f"{world}, {sort}", record.wait(who, "ready", thawed, SOON) - thawed)
    if polled:
        _polled(scene, THAWED, "up", thawed)
    # Whoever has lost the server after all meanwhile.
    for _, who in scene.everybody():
        record.wait_in(who, "ready", SOON)


def _wait_polls_up(scene: Scene) -> None:
    """Loops that have not seen the last outage end cannot see the next begin."""
    for interval in polls.INTERVALS:
        for loop in polls.loops(interval):
            scene.record.wait_in(f"polls/{loop}", "up", SOON)


def _polled(scene: Scene, figure: str, what: str, after: float, since: float | None = None) -> None:
    for interval in polls.INTERVALS:
        for loop in polls.loops(interval):
            seen = scene.record.wait(f"polls/{loop}", what, after, SOON)
            whose = f"polled every {interval} s"
            scene.add(figure, whose, seen - (after if since is None else since))


def _accepting(server: Mongod) -> float:
    """When the server first accepts a connection."""
    while True:
        with socket.socket() as attempt:
            if attempt.connect_ex((HOST, server.port)) == 0:
                return clock()
        time.sleep(0.002)


def _report(to: Report, scene: Scene) -> None:
    loops = [f"polled every {interval} s" for interval in polls.INTERVALS]
    for world in WORLDS:
        scene.report(to, KILLED, world, 0.050, of_median=True)
    for loop in loops:
        scene.report(to, KILLED, loop, None, of_median=True)
    for figure, limit in ((NOTICED, 1.0), (READY, 0.300), (RETURNED, None), (STARTED, None)):
        for world in WORLDS:
            for connection in USUAL:
                scene.report(to, figure, f"{world}, {connection}", limit)
    for loop in loops:
        scene.report(to, RETURNED, loop, None)
    for sort, health in (("short bounds", BRISK), ("default bounds", DEFAULTS)):
        for world in WORLDS:
            scene.report(to, FROZEN, f"{world}, {sort}", bound(health))
            scene.report(to, THAWED, f"{world}, {sort}", None)
    for loop in loops:
        scene.report(to, FROZEN, loop, None)
        scene.report(to, THAWED, loop, None)
