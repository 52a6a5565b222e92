"""A set whose primary is killed: its last server that may be used, until another is elected."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING

from mongod import servers, start_set

from .connections import WORLDS
from .record import clock
from .scene import SOON, counted, watching

if TYPE_CHECKING:
    from mongod import Mongod, ReplicaSet

    from ..bench.clock import Report
    from .scene import Effort, Scene

ELECTION_TIMEOUT_MS = 1000

KILLED = "primary killed → leaves ready"
ELECTED = "successor elected → ready"
WRITABLE = "successor takes writes → ready"

WON = "Election succeeded, assuming primary role"
COMPLETE = "Transition to primary complete; database writes are now permitted"


def run(report: Report, effort: Effort) -> None:
    """Kill one primary after the other, and report."""
    with servers() as running:
        members = start_set(running, 3, ELECTION_TIMEOUT_MS)
        with watching(members.url, {"main": {}}, polls=False) as scene:
            for _ in counted(effort.elections, "election"):
                _depose(scene, members)
    for world in WORLDS:
        scene.report(report, KILLED, world, 0.050, of_median=True)
    for world in WORLDS:
        scene.report(report, WRITABLE, world, 0.100, of_median=True)
        scene.report(report, ELECTED, world, None, of_median=True)


def _depose(scene: Scene, members: ReplicaSet) -> None:
    primary = members.primary()
    others = [member for member in members.members if member is not primary]
    said = {member.port: member.log.stat().st_size for member in others}
    killed = clock()
    primary.kill()
    for world, who in scene.everybody():
        lost = scene.record.wait(who, "connecting", killed, SOON)
        ready = scene.record.wait(who, "ready", lost, SOON)
        scene.add(KILLED, world, lost - killed)
        for figure, line in ((WRITABLE, COMPLETE), (ELECTED, WON)):
            scene.add(figure, world, ready - _said(others, said, line))
    primary.start()
    members.wait_settled()
    scene.wait_all("ready", killed)


def _said(members: list[Mongod], offsets: dict[int, int], text: str) -> float:
    """When one of the members logged `text` after its offset; to the millisecond, as it logs."""
    deadline = clock() + SOON
    while clock() < deadline:
        for member in members:
            with member.log.open() as log:
                log.seek(offsets[member.port])
                for line in log:
                    if text in line and line.endswith("\n"):
                        when = datetime.fromisoformat(json.loads(line)["t"]["$date"])
                        return when.timestamp() - (time.time() - clock())
        time.sleep(0.01)
    raise TimeoutError(f"no member has logged {text!r} within {SOON:g} s")
