"""What the soak of faults is made of; `make soak-faults` runs it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter, defaultdict

import pytest
import trio
from soak.conductor import _grown
from soak.holdings import Holdings, count
from soak.plan import BLACKOUT_LASTS, INSTANT, KINDS, plan

HOUR = 3600.0


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


def test_what_a_process_holds_is_counted() -> None:
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
