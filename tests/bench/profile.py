"""Where the time goes: `python -m tests.bench.profile` profiles start, restart and stop of 1,000.

cProfile charges every call alike, so its shares are for comparing rooms with each other, not for
absolute times: those are `make bench`'s.
"""

from __future__ import annotations

import cProfile
import pstats
import re
import sys
from collections import Counter

import trio

from .contestants import SAMPLES, crash_one, opened, settings

N = 1000


def _room(path: str) -> str:
    """The file's place in the house, or the library it belongs to."""
    library = re.search(r"site-packages/(\w+)", path)
    if library is not None:
        return library[1]
    ours = re.search(r"/((?:runtime|supervisors|providers|tests)/[\w/]+\.py)$", path)
    if ours is not None:
        return ours[1]
    return "(C code)" if path == "~" else "(standard library)"


def _show(what: str, profile: cProfile.Profile, count: int) -> None:
    own: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (path, _, _), (_, ncalls, tottime, _, _) in stats.items():
        own[_room(path)] += tottime
        calls[_room(path)] += ncalls
    total = sum(own.values())
    print(f"\n{what}: {sum(calls.values()) / count:.0f} calls each")
    for room, seconds in own.most_common(14):
        print(f"  {seconds / total:6.1%}  {calls[room] / count:7.1f} calls  {room}")


async def main() -> None:
    """Warm up once, then profile each phase."""
    async with opened(settings(N)) as connections:
        await connections.wait_ready()
    prepared = settings(N)
    phases = {name: cProfile.Profile() for name in ("start", "restart", "stop")}
    phases["start"].enable()
    async with opened(prepared) as connections:
        await connections.wait_ready()
        phases["start"].disable()
        restart = crash_one(connections)
        phases["restart"].enable()
        for i in range(SAMPLES):
            await restart(i * 7)
        phases["restart"].disable()
        await trio.sleep(0.5)
        phases["stop"].enable()
    phases["stop"].disable()
    for name, count in (("start", N), ("restart", SAMPLES), ("stop", N)):
        _show(name, phases[name], count)


if __name__ == "__main__":
    sys.exit(trio.run(main))
