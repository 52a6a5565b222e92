"""What connections to one server share: slots for attempts, and a sentinel instead of a herd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from moorings.errors import FailureReason
from moorings.runtime.endpoint import Endpoint
from moorings.runtime.state import State

if TYPE_CHECKING:
    from scripted import World
    from trio.testing import MockClock

NAMES = [f"c{n}" for n in range(12)]


async def test_slots_are_handed_over_first_come_first_served() -> None:
    endpoint, order = Endpoint(1), []

    async def work(n: int) -> None:
        if not endpoint.enter_nowait():
            await endpoint.enter()
        order.append(n)
        await trio.testing.wait_all_tasks_blocked()
        endpoint.leave()

    async with trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(work, n)
            await trio.lowlevel.checkpoint()
    assert order == [0, 1, 2, 3, 4]
    assert endpoint.enter_nowait()
    assert not endpoint.enter_nowait()


async def test_who_is_cancelled_leaves_the_queue_and_takes_no_slot() -> None:
    endpoint = Endpoint(1)
    assert endpoint.enter_nowait()
    with trio.CancelScope() as scope:
        scope.cancel()
        await endpoint.enter()
    endpoint.leave()
    assert endpoint.enter_nowait()


@pytest.mark.parametrize("call", ["open", "ping", "verify"])
async def test_at_most_so_many_attempts_at_a_time(
    world: World, autojump_clock: MockClock, call: str
) -> None:
    most = 0

    async def slow() -> None:
        nonlocal most
        most = max(most, sum(world[name].busy for name in NAMES))
        await trio.sleep(1)

    for name in NAMES:
        world[name].next(call, slow)
    async with world.open(*NAMES, runtime={"max_concurrent_connects": 3}) as manager:
        await manager.wait_ready()
        assert trio.current_time() == pytest.approx(4)
    assert most == 3


async def test_the_limit_is_per_endpoint(world: World, autojump_clock: MockClock) -> None:
    settings = world.settings("a", "b", runtime={"max_concurrent_connects": 1})
    documents = settings["default"]["database"]["documents"]
    documents["b"]["provider"] = {"endpoint": "another"}
    for name in "ab":
        world[name].next("ping", world.take(1))
    async with world.open_settings(settings) as manager:
        await manager.wait_ready()
        assert trio.current_time() == pytest.approx(1)


async def test_a_slot_is_never_held_through_a_backoff_or_a_hook(
    world: World, autojump_clock: MockClock
) -> None:
    world["a"].from_now_on("ping", world.fail(FailureReason.AUTH))
    world["b"].from_now_on("ping", world.fail())
    async with world.open(
        "a", "b", "c", "d", runtime={"max_concurrent_connects": 1}, retry={"initial": 5.0}
    ) as manager:

        async def hook(_: object) -> None:
            await trio.sleep(30)

        manager["c"].on_ready(hook)
        await manager.get_database("d", timeout=1)


async def test_a_slot_is_given_back_by_who_hangs_crashes_or_is_stopped(
    world: World, autojump_clock: MockClock
) -> None:
    world["a"].from_now_on("ping", world.hang())
    world["b"].next("verify", world.bug())
    world["c"].from_now_on("open", world.hang())
    async with world.open("a", "b", "c", "d", runtime={"max_concurrent_connects": 1}) as manager:
        await trio.sleep(1)
        await manager.stop("c")
        await manager.get_database("b", timeout=60)
        await manager.get_database("d", timeout=60)
        await manager.stop("a")
        world["a"].heal()
        await manager.start("a")
        await manager.get_database("a", timeout=1)


async def test_one_sentinel_keeps_a_ping_waiting_for_all(
    world: World, autojump_clock: MockClock
) -> None:
    """The others ask nothing of the server while they back off."""
    for name in NAMES:
        world[name].from_now_on("ping", world.hang())
    async with world.open(
        *NAMES,
        runtime={"max_concurrent_connects": 100},
        retry={"attempts": 1},
        supervision={"backoff_initial": 300.0, "backoff_max": 300.0},
    ) as manager:
        for name in NAMES:
            await world.until(manager[name], State.FAILED)
        asked = {name: world[name].count("ping") for name in NAMES}
        await trio.sleep(60)
        pings = sorted(world[name].count("ping") - asked[name] for name in NAMES)
        assert pings[:-1] == [0] * (len(NAMES) - 1)
        assert 25 <= pings[-1] <= 31  # back to back, 2 s each


async def test_its_success_ends_the_others_backoff_spread_over_a_second(
    world: World, autojump_clock: MockClock
) -> None:
    for name in NAMES:
        world[name].refuse()
    async with world.open(
        *NAMES,
        runtime={"max_concurrent_connects": 100},
        retry={"attempts": 1},
        supervision={"backoff_initial": 300.0, "backoff_max": 300.0},
    ) as manager:
        for name in NAMES:
            await world.until(manager[name], State.FAILED)
        healed = trio.current_time()
        for name in NAMES:
            world[name].heal()
            world[name].calls.clear()
        await manager.wait_ready(timeout=4)
        first = sorted(world[name].times("open") + world[name].times("verify") for name in NAMES)
        came = sorted(times[0] - healed for times in first)
        assert came[0] <= 2.05  # the sentinel's next ping
        assert came[-1] - came[0] <= 1.05
        assert came[-1] - came[0] >= 0.4  # not a herd: 11 draws from a second
        assert len({round(when, 1) for when in came}) >= 4


async def test_another_takes_the_watch_over(world: World, autojump_clock: MockClock) -> None:
    for name in "ab":
        world[name].refuse()
    async with world.open(
        "a",
        "b",
        retry={"attempts": 1},
        supervision={"backoff_initial": 300.0, "backoff_max": 300.0},
    ) as manager:
        for name in "ab":
            await world.until(manager[name], State.FAILED)
        (gate,) = manager.kernel._endpoints.values()
        watching = gate.sentinel.connection.name
        other = "b" if watching == "a" else "a"
        await manager.stop(watching)
        world[other].heal()
        await manager.get_database(other, timeout=2.1)


async def test_where_only_opening_fails_the_sentinels_news_is_heard_too(
    world: World, autojump_clock: MockClock
) -> None:
    world["a"].from_now_on("open", world.fail())
    world["b"].refuse()
    async with world.open(
        "a",
        "b",
        retry={"attempts": 1},
        supervision={"backoff_initial": 300.0, "backoff_max": 300.0},
    ) as manager:
        for name in "ab":
            await world.until(manager[name], State.FAILED)
        world["a"].heal()
        world["b"].heal()
        await manager.wait_ready(timeout=4)
