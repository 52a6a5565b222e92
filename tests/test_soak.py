"""What the soak of faults is made of; `make soak-faults` runs it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import trio
from soak.conductor import _grown
from soak.crew import Hand, SoakFailed
from soak.holdings import Holdings, count
from soak.plan import BLACKOUT_LASTS, INSTANT, KINDS, plan

HOUR = 3600.0
SECONDS = 240.0


def test_a_seed_always_has_the_same_plan() -> None:
    assert plan(7, HOUR) == plan(7, HOUR)
    assert plan(7, HOUR) != plan(8, HOUR)


@pytest.mark.parametrize("seed", range(5))
def test_no_member_has_two_faults_at_a_time_and_all_are_over_at_the_end(seed: int) -> None:
    until: defaultdict[int, float] = defaultdict(float)
    for strike in plan(seed, HOUR):
        assert strike.at >= until[strike.member]
        assert strike.at <= strike.until <= HOUR
        assert (strike.until == strike.at) == (strike.kind in INSTANT)
        until[strike.member] = strike.until


def test_everything_happens_and_now_and_then_to_all_members() -> None:
    strikes = plan(1, HOUR)
    assert {strike.kind for strike in strikes} == set(KINDS)
    together = Counter((strike.at, strike.kind) for strike in strikes)
    assert set(together.values()) == {1, 3}
    assert min(s.until - s.at for s in strikes if together[s.at, s.kind] == 3) >= BLACKOUT_LASTS[0]


def test_two_minutes_are_enough_for_some_of_everything() -> None:
    """What .ci/run has time for; of most kinds."""
    struck = Counter(strike.kind for strike in plan(1, 120.0))
    assert len(struck) >= 8
    assert struck.total() >= 30


COUNTED = """
import socket, threading
from soak.holdings import count

before = count()
ended = threading.Event()
thread = threading.Thread(target=ended.wait)
with socket.socket():
    thread.start()
    during = count()
    ended.set()
    thread.join()
assert during.threads == before.threads + 1
assert during.sockets == before.sockets + 1
assert during.files == before.files + 1
assert during.memory_kb > 1024
"""


def test_what_a_process_holds_is_counted() -> None:
    """In one that nothing else happens in."""
    subprocess.run([sys.executable, "-c", COUNTED], check=True, cwd=Path(__file__).parent)


def test_tasks_of_both_worlds_are_counted_until_they_are_over() -> None:
    async def in_trio() -> tuple[int, int]:
        async with trio.open_nursery() as nursery:
            before = count().tasks
            nursery.start_soon(trio.sleep_forever)
            more = count().tasks - before
            nursery.cancel_scope.cancel()
        return more, count().tasks - before

    async def in_asyncio() -> tuple[int, int]:
        before = count().tasks
        task = asyncio.create_task(asyncio.sleep(0))
        more = count().tasks - before
        await task
        return more, count().tasks - before

    assert trio.run(in_trio) == (1, 0)
    assert asyncio.run(in_asyncio()) == (1, 0)


def test_what_has_grown_is_named() -> None:
    before = Holdings(threads=10, sockets=20, files=30, tasks=40, memory_kb=100_000)
    assert _grown("trio", before, before) == []
    after = Holdings(threads=10, sockets=21, files=29, tasks=40, memory_kb=120_000)
    assert _grown("trio", before, after) == ["trio: sockets 20 → 21"]
    (memory,) = _grown("trio", before, Holdings(1, 1, 1, 1, 130_000))
    assert "memory" in memory


def test_the_end_of_what_a_dead_worker_said_is_told() -> None:
    hand = Hand("no such stack", 1, "mongodb://127.0.0.1:1/")
    with pytest.raises(SoakFailed) as failed:
        hand.answer()
    hand.tell("write")  # nobody reads that
    assert hand.end(SECONDS) == 1
    first, *_, last = str(failed.value).splitlines()
    assert first == f"no such stack (process {hand.process.pid}) has ended with 1; it said last:"
    assert last == "KeyError: 'no such stack'"


@pytest.mark.slow
@pytest.mark.mongod
def test_a_worker_that_dies_is_named_and_nothing_is_left_behind() -> None:
    """Status 1, what it died of, and neither its fellows nor a server goes on."""
    soak = subprocess.Popen(
        [sys.executable, "-m", "tests.soak", "--minutes", "0.5", "--seed", "1"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(SECONDS, soak.kill)
    watchdog.start()
    try:
        assert soak.stdout is not None
        workers: dict[str, int] = {}
        for line in soak.stdout:
            if found := re.match(r"(\w+): process (\d+), ", line):
                workers[found[1]] = int(found[2])
            if "warm: " in line:
                break
        assert set(workers) == {"trio", "asyncio", "pymongo"}
        os.kill(workers["asyncio"], signal.SIGKILL)
        said, errors = soak.communicate()
    finally:
        watchdog.cancel()
        soak.kill()
        soak.wait()
    assert soak.returncode == 1
    assert f"FAILED: asyncio (process {workers['asyncio']}) has died of SIGKILL" in said
    assert "replay: " in said
    assert "Traceback" not in errors
    assert members_of_session(soak.pid) == []


def members_of_session(leader: int) -> list[str]:
    """The processes that one with a session of its own has left behind."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            _, _, rest = (folder / "stat").read_text().rpartition(") ")
            if int(rest.split()[3]) == leader:
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile
    return found
