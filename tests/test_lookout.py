"""Waiting for a server, in naps as in the long backoff: somebody looks, and nobody storms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from moorings.errors import FailureReason
from moorings.providers.contract import Signal
from moorings.runtime.lookout import LOOK
from moorings.runtime.state import State

if TYPE_CHECKING:
    from scripted import World
    from trio.testing import MockClock

NAPPING: dict[str, Any] = {
    "retry": {"initial": 60.0, "max": 60.0, "attempts": 10},
    "health": {"timeout": 2.0},
}
BACKING_OFF: dict[str, Any] = {
    "retry": {"attempts": 1},
    "supervision": {"backoff_initial": 60.0, "backoff_max": 60.0},
    "health": {"timeout": 2.0},
}
WAITING = pytest.mark.parametrize(
    ("tables", "state"),
    [
        pytest.param(NAPPING, State.CONNECTING, id="nap"),
        pytest.param(BACKING_OFF, State.FAILED, id="backoff"),
    ],
)
NAMES = [f"c{n}" for n in range(8)]


async def wait_for_a_failure(world: World, *names: str) -> None:
    """Return when each connection has failed once, and waits for its next attempt."""
    while not all(world[name].calls for name in names):
        await trio.testing.wait_all_tasks_blocked()
    await trio.testing.wait_all_tasks_blocked()


@WAITING
async def test_a_ping_waits_for_the_server(
    world: World, autojump_clock: MockClock, tables: dict[str, Any], state: State
) -> None:
    """Its success is the next attempt, long before that was due."""
    world["db"].next("ping", world.fail(), world.take(1.5))
    async with world.open(**tables) as manager:
        await wait_for_a_failure(world, "db")
        assert manager["db"].state is state
        await manager.get_database(timeout=30)
        assert trio.current_time() == pytest.approx(LOOK + 1.5, abs=0.01)
        assert world["db"].count("ping") == 3
        assert manager["db"].measurements.connect_failures == 1


@WAITING
async def test_a_provider_that_fails_at_once_is_asked_a_few_times_a_second(
    world: World, autojump_clock: MockClock, tables: dict[str, Any], state: State
) -> None:
    world["db"].refuse()
    async with world.open(**tables) as manager:
        await wait_for_a_failure(world, "db")
        world["db"].calls.clear()
        await trio.sleep(20)
        assert manager["db"].state is state
        assert 0.9 * 20 / LOOK <= world["db"].count("ping") <= 20 / LOOK
        assert len(world["db"].calls) == world["db"].count("ping")


@WAITING
async def test_one_watches_for_all_and_they_come_spread_over_a_second(
    world: World, autojump_clock: MockClock, tables: dict[str, Any], state: State
) -> None:
    for name in NAMES:
        world[name].refuse()
    async with world.open(*NAMES, **tables) as manager:
        await wait_for_a_failure(world, *NAMES)
        assert {manager[name].state for name in manager} == {state}
        for name in NAMES:
            world[name].calls.clear()
        await trio.sleep(10)
        assert sum(bool(world[name].calls) for name in NAMES) == 1
        healed = trio.current_time()
        for name in NAMES:
            world[name].heal()
        await manager.wait_ready(timeout=30)
        assert trio.current_time() - healed <= LOOK + 1.05
        came = sorted(world[name].times("verify")[0] for name in NAMES)
        assert came[-1] - came[0] >= 0.3  # seven draws from a second


@WAITING
async def test_whoever_stops_while_the_ping_waits_stops_at_once(
    world: World, autojump_clock: MockClock, tables: dict[str, Any], state: State
) -> None:
    world["db"].next("ping", world.fail(), world.hang())
    async with world.open(**tables) as manager:
        await trio.sleep(1)
        assert manager["db"].state is state
        await manager.stop("db")
        assert trio.current_time() == 1
        assert world["db"].count("ping") == 2


@WAITING
@pytest.mark.parametrize("tells", ["restart", "usable"])
async def test_the_waiting_ping_holds_nobody_up(
    world: World, autojump_clock: MockClock, tables: dict[str, Any], state: State, tells: str
) -> None:
    world["db"].next("ping", world.fail(), world.hang())
    async with world.open(**tables) as manager:
        await trio.sleep(1)
        assert manager["db"].state is state
        if tells == "usable":
            world["db"].client.tell(Signal.USABLE)
        else:
            await manager.restart("db")
        await manager.get_database(timeout=30)
        assert trio.current_time() == 1
        assert world["db"].count("ping") == 3
        assert len(world["db"].clients) == 1 + (tells == "restart")


async def test_a_restarts_client_ends_the_nap_and_not_the_episode(
    world: World, autojump_clock: MockClock
) -> None:
    """It was built beside one that was lost meanwhile, and takes over while the ping waits."""
    async with world.open(**NAPPING) as manager, trio.open_nursery() as nursery:
        await manager.get_database()
        world["db"].next("ping", world.take(1.75), world.fail(), world.hang())
        nursery.start_soon(manager.restart, "db")
        await trio.sleep(1)
        world["db"].clients[0].tell(Signal.LOST)
        await trio.sleep(0.5)
        seen = []
        async for status in manager["db"].watch():
            seen.append((status.state, status.attempt))
            if status.state is State.READY:
                break
        assert seen[0] == (State.CONNECTING, 1)
        assert (State.CONNECTING, 2) in seen
        assert trio.current_time() == 1.75
        assert manager["db"].database() == ("database", 2)


async def test_an_overloaded_server_is_left_alone_until_the_nap_is_over(
    world: World, autojump_clock: MockClock
) -> None:
    """Further pings, and all at once when one succeeds, are the last thing that it needs."""
    world["db"].next("ping", world.fail(FailureReason.OVERLOAD))
    async with world.open(**NAPPING) as manager:
        await trio.sleep(1)
        world["db"].client.tell(Signal.USABLE)
        await trio.sleep(58)
        assert manager["db"].state is State.CONNECTING
        assert world["db"].count("ping") == 1
        await manager.get_database(timeout=2)


async def test_where_the_ping_is_no_news_nobody_pings_in_a_nap(
    world: World, autojump_clock: MockClock
) -> None:
    """It succeeded, and verification failed: a watch would end each nap as it begins."""
    world["db"].from_now_on("verify", world.fail())
    async with world.open(**NAPPING) as manager:
        await trio.sleep(59)
        assert manager["db"].status.attempt == 1
        assert world["db"].count("ping") == 1


async def test_what_succeeds_in_a_watchs_ping_alone_is_no_hot_loop(
    world: World, autojump_clock: MockClock
) -> None:
    pings = [world.fail(), world.succeed] * 200
    world["db"].next("ping", *pings)
    async with world.open(**NAPPING):
        await trio.sleep(10)
        assert world["db"].count("ping") <= 2 * 10 / LOOK + 1
