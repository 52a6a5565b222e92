"""Timers: everybody is woken, never late, and early by one bucket at most."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from moorings.runtime.timers import GRANULARITY, Timers

if TYPE_CHECKING:
    from trio.testing import MockClock

EPSILON = 1e-9


class Sleeper:
    def __init__(self) -> None:
        self.due = self.looked_at = math.inf
        self.woken: list[float] = []

    def wake(self) -> None:
        self.woken.append(trio.current_time())


async def _after(timers: Timers, seconds: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.03, 0.099, 0.1, 0.15, 1.0, 2.0, 10.0, 86400.0])
async def test_one_sleeper_is_woken_once_and_never_late(
    seconds: float, autojump_clock: MockClock
) -> None:
    timers, sleeper = Timers(), Sleeper()
    now = trio.current_time()
    timers.set(sleeper, now + seconds, now)
    await _after(timers, seconds + 1.0)
    assert len(sleeper.woken) == 1
    early = now + seconds - sleeper.woken[0]
    exact = seconds < 2 * GRANULARITY
    assert -EPSILON <= early <= (EPSILON if exact else GRANULARITY + EPSILON)
    assert sleeper.due == math.inf


async def test_infinity_is_never(autojump_clock: MockClock) -> None:
    timers, sleeper = Timers(), Sleeper()
    timers.set(sleeper, math.inf, trio.current_time())
    await _after(timers, 1e6)
    assert sleeper.woken == []


async def test_what_is_set_later_replaces_what_was_set_before(autojump_clock: MockClock) -> None:
    timers, sleeper = Timers(), Sleeper()
    now = trio.current_time()
    timers.set(sleeper, now + 1.0, now)
    timers.set(sleeper, now + 5.0, now)
    await _after(timers, 10.0)
    assert len(sleeper.woken) == 1
    assert sleeper.woken[0] - now == pytest.approx(5.0, abs=GRANULARITY)


async def test_an_earlier_time_replaces_a_later_one(autojump_clock: MockClock) -> None:
    timers, sleeper = Timers(), Sleeper()
    now = trio.current_time()
    timers.set(sleeper, now + 5.0, now)
    timers.set(sleeper, now + 0.01, now)
    await _after(timers, 10.0)
    assert [round(when - now, 3) for when in sleeper.woken] == [0.01]


async def test_infinity_takes_a_time_back(autojump_clock: MockClock) -> None:
    timers, sleeper = Timers(), Sleeper()
    now = trio.current_time()
    timers.set(sleeper, now + 1.0, now)
    timers.set(sleeper, math.inf, now)
    await _after(timers, 10.0)
    assert sleeper.woken == []


async def test_a_short_bound_that_moved_on_is_kept_to_the_moment(
    autojump_clock: MockClock,
) -> None:
    """The entry of the call before must not cut the next call off early."""
    timers, sleeper = Timers(), Sleeper()
    now = trio.current_time()
    timers.set(sleeper, now + 0.06, now)
    timers.set(sleeper, now + 0.09, now)
    await _after(timers, 1.0)
    assert sleeper.woken == [pytest.approx(now + 0.09, abs=EPSILON)]


async def test_one_may_be_set_while_the_task_runs(autojump_clock: MockClock) -> None:
    """An earlier sleeper moves the running task's deadline forward."""
    timers, late, early = Timers(), Sleeper(), Sleeper()
    now = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        timers.set(late, now + 100.0, now)
        await trio.sleep(1.0)
        timers.set(early, trio.current_time() + 1.0, trio.current_time())
        await trio.sleep(2.0)
        assert len(early.woken) == 1
        assert late.woken == []
        nursery.cancel_scope.cancel()


async def test_a_sleeper_may_set_itself_again_when_it_is_woken(autojump_clock: MockClock) -> None:
    class Again(Sleeper):
        def wake(self) -> None:
            super().wake()
            now = trio.current_time()
            timers.set(self, now + 1.0, now)

    timers, sleeper = Timers(), Again()
    now = trio.current_time()
    timers.set(sleeper, now + 1.0, now)
    await _after(timers, 10.5)
    assert 10 <= len(sleeper.woken) <= 11


@pytest.mark.parametrize("seed", range(5))
async def test_many_sleepers_that_change_their_minds(seed: int, autojump_clock: MockClock) -> None:
    """Random sets and resets: each is woken once per `due` that stood, within its bucket."""
    random, timers = Random(seed), Timers()
    sleepers = [Sleeper() for _ in range(50)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        for _ in range(200):
            sleeper = random.choice(sleepers)
            now = trio.current_time()
            when = now + random.choice([0.0, 0.01, 0.07, 0.1, 0.5, 3.0, 30.0]) * random.random()
            expected = sleeper.due
            assert expected == math.inf or expected >= now - EPSILON
            timers.set(sleeper, when, now)
            await trio.sleep(random.random() * 0.2)
        await trio.sleep(31.0)
        assert all(s.due == math.inf for s in sleepers if s.woken)
        nursery.cancel_scope.cancel()
