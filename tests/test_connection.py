"""A connection in motion: episodes, outages, hooks, waiters, watches, commands, signals."""

# ruff: noqa: PERF401 - virtual time; watching is a loop; the block raises

from __future__ import annotations

import math
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import trio

from moorings.errors import (
    ConnectionNotReady,
    FailureReason,
    HostMismatch,
    RestartIntensityExceeded,
)
from moorings.providers.contract import Signal
from moorings.runtime.closing import LINGER
from moorings.runtime.kernel import HEARTBEAT
from moorings.runtime.protocols import BaseServiceProtocol, DocumentsDatabaseProtocol
from moorings.runtime.state import Event, State
from moorings.runtime.timers import GRANULARITY

if TYPE_CHECKING:
    from scripted import World
    from trio.testing import MockClock

FAST = {"retry": {"initial": 0.1, "max": 1.0, "attempts": 3}}
SIGNALLED = {"health": {"interval": 1000.0, "jitter": 0.0}}  # no ping interferes


# -- coming up ------------------------------------------------------------------------------------


async def test_from_init_to_ready_and_back_to_stopped(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        connection = manager["db"]
        assert connection.status.generation == 0
        assert await manager.get_database() == ("database", 1)
        assert connection.is_ready()
        assert connection.generation == 1
        assert isinstance(connection, DocumentsDatabaseProtocol)
        assert isinstance(connection, BaseServiceProtocol)
    assert connection.state is State.STOPPED
    assert world.path() == ["start", "established", "stop"]
    assert [call for call, _ in world["db"].calls] == ["open", "ping", "verify", "close"]


async def test_attempts_are_counted_from_one_and_shown(
    world: World, autojump_clock: MockClock
) -> None:
    # Of verification: a ping that failed would be asked again within the nap.
    world["db"].next("verify", world.fail(), world.fail(), world.take(1.0))
    async with world.open(**FAST, health={"timeout": 5.0}) as manager:
        connection = manager["db"]
        seen = []
        async for status in connection.watch():
            seen.append((status.state.value, status.attempt))
            if status.state is State.READY:
                break
        attempts = [a for s, a in dict.fromkeys(seen) if s == "connecting"]
        assert attempts == [1, 2, 3]
        assert seen[-1] == ("ready", 0)
        assert connection.status.next_attempt_at is None


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_an_episode_uses_exactly_its_attempts(
    world: World, autojump_clock: MockClock, attempts: int
) -> None:
    world["db"].refuse()
    async with world.open(retry={"attempts": attempts}) as manager:
        await world.until(manager["db"], State.FAILED)
        # The sentinel's ping of the long backoff may follow at once.
        assert world["db"].count("verify") == 0
        assert manager["db"].measurements.connect_failures == attempts
        assert world.path() == ["start", "gave_up"]
        status = manager["db"].status
        assert (status.reason, status.error) == (FailureReason.REFUSED, "Fault: scripted refused")
        assert status.next_attempt_at is not None
        assert status.attempt == 0


async def test_delays_between_attempts_keep_their_bounds(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].from_now_on("open", world.fail())
    async with world.open(retry={"initial": 0.2, "max": 3.0, "attempts": 10}) as manager:
        await world.until(manager["db"], State.FAILED)
    times = world["db"].times("open")
    delays = [b - a for a, b in pairwise(times)]
    assert len(delays) == 9
    previous = 0.2
    for delay in delays:
        # What is seen may be shorter than what was chosen, by the timers' granularity.
        assert delay + 1e-6 >= 0.2 - GRANULARITY
        assert delay <= min(3.0, previous * 3) + 1e-6
        previous = max(delay + GRANULARITY, 0.2)


async def test_every_episode_begins_with_short_delays_again(
    world: World, autojump_clock: MockClock
) -> None:
    """The long backoff before it does not stretch its retries."""
    world["db"].from_now_on("open", world.fail())
    async with world.open(
        retry={"initial": 0.1, "max": 100.0, "attempts": 2},
        supervision={"backoff_initial": 20.0, "backoff_max": 20.0},
    ) as manager:
        await trio.sleep(200)
        del manager
    times = world["db"].times("open")
    within = [b - a for a, b in zip(times[::2], times[1::2], strict=False)]
    assert len(within) > 5
    assert max(within) <= 0.3 + 0.051


async def test_the_long_backoff_grows_to_its_maximum_and_goes_on_for_ever(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].from_now_on("open", world.fail(FailureReason.AUTH))
    async with world.open(supervision={"backoff_initial": 1.0, "backoff_max": 30.0}) as manager:
        await trio.sleep(900)
        assert manager["db"].state is not State.READY
        times = world["db"].times("open")
        delays = [b - a for a, b in pairwise(times)]
        assert all(0.94 <= delay <= 30.01 for delay in delays)
        assert delays[0] <= 3.01
        assert max(delays) > 10  # it has grown
        assert 30 < len(delays) < 150
        world["db"].heal()
        await manager.get_database(timeout=31)


@pytest.mark.parametrize(
    "reason", [FailureReason.AUTH, FailureReason.TLS, FailureReason.CONFIG, FailureReason.SECRET]
)
async def test_what_needs_a_human_fails_at_the_first_attempt(
    world: World, autojump_clock: MockClock, reason: FailureReason
) -> None:
    world["db"].from_now_on("verify", world.fail(reason))
    async with world.open() as manager:
        await world.until(manager["db"], State.FAILED)
        assert manager["db"].status.reason is reason
        assert world["db"].count("verify") == 1


@pytest.mark.parametrize("call", ["open", "ping", "verify"])
async def test_a_call_that_hangs_is_cut_off_at_its_bound(
    world: World, autojump_clock: MockClock, call: str
) -> None:
    world["db"].next(call, world.hang())
    async with world.open(health={"timeout": 2.0}) as manager:
        began = trio.current_time()
        await world.until(manager["db"], State.READY)
        assert 1.9 <= trio.current_time() - began <= 2.0 + 0.3 + 0.1
        assert manager["db"].measurements.connect_failures == 1
    assert world.path() == ["start", "established", "stop"]


@pytest.mark.parametrize("call", ["open", "ping", "verify"])
async def test_every_attempt_that_hangs_is_bounded(
    world: World, autojump_clock: MockClock, call: str
) -> None:
    world["db"].from_now_on(call, world.hang())
    async with world.open(health={"timeout": 2.0}, retry={"attempts": 3, "max": 0.1}) as manager:
        began = trio.current_time()
        await world.until(manager["db"], State.FAILED)
        assert trio.current_time() - began == pytest.approx(6.2, abs=0.3)
        status = manager["db"].status
        assert status.reason is FailureReason.TIMEOUT
        assert status.error == f"{call}: no answer within 2 s"


async def test_a_bug_crashes_and_the_supervisor_restarts_with_a_new_client(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].next("verify", world.bug())
    async with world.open() as manager:
        assert await manager.get_database() == ("database", 2)
        assert manager["db"].generation == 1
    assert world.path() == ["start", "crashed", "retry", "established", "stop"]


async def test_a_provider_that_cannot_describe_its_errors_hides_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].next("ping", world.bug("the real one"))
    async with world.open() as manager:
        manager["db"].provider.describe = None  # type: ignore[method-assign, assignment]
        await manager.get_database()
    assert world.path() == ["start", "crashed", "retry", "established", "stop"]


@pytest.mark.parametrize("call", ["open", "verify"])
async def test_the_long_backoff_is_kept_where_a_ping_would_be_no_news(
    world: World, autojump_clock: MockClock, call: str
) -> None:
    """The ping works, verification does not: that is no reason to try hot."""
    world["db"].from_now_on(call, world.fail(FailureReason.NETWORK))
    async with world.open(
        retry={"attempts": 1}, supervision={"backoff_initial": 10.0, "backoff_max": 10.0}
    ) as manager:
        await world.until(manager["db"], State.FAILED)
        await trio.sleep(95)
        assert world["db"].count(call) == 10


# -- staying up, and outages ----------------------------------------------------------------------


async def test_pings_follow_the_interval_and_its_jitter(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open(health={"interval": 10.0, "jitter": 0.1}) as manager:
        await manager.get_database()
        await trio.sleep(1000)
    times = world["db"].times("ping")[1:]
    delays = [b - a for a, b in pairwise(times)]
    assert all(9 - 0.051 <= delay <= 11.001 for delay in delays)
    assert max(delays) - min(delays) > 1


async def test_after_a_miss_the_next_ping_follows_at_once_and_three_are_lost(
    world: World,
    autojump_clock: MockClock,
) -> None:
    async with world.open() as manager:
        await manager.get_database()
        world["db"].next("ping", world.hang(), world.hang(), world.hang())
        await world.until(manager["db"], State.CONNECTING)
        first, second, third = world["db"].times("ping")[1:4]
        assert second - first == pytest.approx(2, abs=0.06)
        assert third - second == pytest.approx(2, abs=0.06)
        assert trio.current_time() - first == pytest.approx(6, abs=0.16)
        assert manager["db"].status.reason is FailureReason.TIMEOUT


async def test_a_success_between_forgets_the_misses(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.get_database()
        for _ in range(5):
            world["db"].next("ping", world.fail(), world.fail(), world.succeed)
            await trio.sleep(12)
        assert world.path() == ["start", "established"]


async def test_a_frozen_server_is_seen_within_the_bound(
    world: World, autojump_clock: MockClock
) -> None:
    for _ in range(5):
        async with world.open() as manager:
            await manager.get_database()
            await trio.sleep(manager.kernel.random.random() * 20)
            world["db"].from_now_on("ping", world.hang())
            frozen = trio.current_time()
            await world.until(manager["db"], State.CONNECTING)
            assert trio.current_time() - frozen <= 17.0
            world["db"].heal()


async def test_the_watchdog_sees_what_ignores_its_cancellation(
    world: World, autojump_clock: MockClock
) -> None:
    """`ready` without proof for longer than the bound does not exist; then it comes back."""
    async with world.open() as manager:
        await manager.get_database()
        world["db"].next("ping", world.stubborn(60))
        frozen = trio.current_time()
        await world.until(manager["db"], State.CONNECTING)
        assert trio.current_time() - frozen <= 17.0 + 0.25 + 0.05
        await world.until(manager["db"], State.READY)
        assert manager["db"].measurements.connect_failures == 0


async def test_the_client_outlives_outages_and_giving_up(
    world: World, autojump_clock: MockClock
) -> None:
    """lost, gave_up and retry keep it: a handle that the application holds stays valid."""
    async with world.open(**FAST) as manager:
        database = await manager.get_database()
        for _ in range(3):
            world["db"].refuse()
            await world.until(manager["db"], State.FAILED)
            world["db"].heal()
            assert await manager.get_database() is not None
            assert manager.database() == database
        assert manager["db"].generation == 1
        assert len(world["db"].clients) == 1


async def test_an_outage_never_spends_a_budget(world: World, autojump_clock: MockClock) -> None:
    world["db"].refuse()
    async with world.open(supervision={"intensity": 0}) as manager:
        await trio.sleep(900)
        assert manager.kernel.supervisor.restarts == {"crash": 0, "exit": 0, "start_failed": 0}


# -- signals --------------------------------------------------------------------------------------


async def test_lost_is_lost_at_once(world: World, autojump_clock: MockClock) -> None:
    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        world["db"].client.tell(Signal.LOST)
        await trio.testing.wait_all_tasks_blocked()
        assert world.path()[:3] == ["start", "established", "lost"]


async def test_lost_interrupts_a_ping_under_way(world: World, autojump_clock: MockClock) -> None:
    async with world.open() as manager:
        await manager.get_database()
        world["db"].next("ping", world.hang())
        while not world["db"].busy:
            await trio.sleep(0.1)
        began = trio.current_time()
        world["db"].client.tell(Signal.LOST)
        await world.until(manager["db"], State.CONNECTING)
        await world.until(manager["db"], State.READY)
        assert trio.current_time() - began < 0.01
        assert manager["db"].measurements.connect_failures == 0


async def test_suspect_asks_one_ping_and_a_success_keeps_it_ready(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        world["db"].client.tell(Signal.SUSPECT)
        await trio.sleep(1)
        assert world["db"].count("ping") == 2
        assert world.path() == ["start", "established"]


async def test_suspect_makes_one_miss_enough(world: World, autojump_clock: MockClock) -> None:
    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        world["db"].next("ping", world.fail(FailureReason.NETWORK))
        world["db"].client.tell(Signal.SUSPECT)
        await trio.sleep(1)
        assert world.path() == ["start", "established", "lost", "established"]


async def test_a_hanging_ping_that_was_asked_for_by_suspicion_is_lost_after_one_bound(
    world: World,
    autojump_clock: MockClock,
) -> None:
    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        world["db"].next("ping", world.hang())
        began = trio.current_time()
        world["db"].client.tell(Signal.SUSPECT)
        await world.until(manager["db"], State.CONNECTING)
        assert trio.current_time() - began == pytest.approx(2, abs=0.06)


async def test_usable_ends_the_long_backoff(world: World, autojump_clock: MockClock) -> None:
    world["db"].refuse()
    async with world.open(
        retry={"attempts": 1}, supervision={"backoff_initial": 30.0, "backoff_max": 30.0}
    ) as manager:
        await world.until(manager["db"], State.FAILED)
        world["db"].heal()
        began = trio.current_time()
        world["db"].client.tell(Signal.USABLE)
        await world.until(manager["db"], State.READY)
        assert trio.current_time() - began < 0.01


async def test_usable_does_not_end_the_backoff_of_what_needs_a_human(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].from_now_on("verify", world.fail(FailureReason.AUTH))
    async with world.open(supervision={"backoff_initial": 30.0, "backoff_max": 30.0}) as manager:
        await world.until(manager["db"], State.FAILED)
        world["db"].client.tell(Signal.USABLE)
        await trio.sleep(20)
        assert manager["db"].state is State.FAILED


async def test_a_backoff_that_was_cut_short_does_not_interrupt_the_next_attempt(
    world: World,
    autojump_clock: MockClock,
) -> None:
    """The timer of the nap is gone with the nap."""
    # The second one is the nap's own, which waits for the server.
    world["db"].next("ping", world.fail(), world.hang(), world.take(3.0))
    async with world.open(retry={"initial": 2.0, "max": 2.0}, health={"timeout": 4.0}) as manager:
        await trio.sleep(1)
        world["db"].client.tell(Signal.USABLE)
        await world.until(manager["db"], State.READY)
        assert manager["db"].measurements.connect_failures == 1
        assert trio.current_time() == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize("signal", Signal)
async def test_signals_come_from_any_thread_and_in_any_state(
    world: World, autojump_clock: MockClock, signal: Signal
) -> None:
    world["db"].next("open", world.succeed)
    world["db"].next("ping", world.take(1.0))
    async with world.open(**SIGNALLED) as manager:
        for state in (State.CONNECTING, State.READY):
            await world.until(manager["db"], state)
            while not world["db"].clients:
                await trio.sleep(0.01)
            thread = threading.Thread(target=world["db"].client.notify, args=(signal,))
            thread.start()
            thread.join()
            await trio.testing.wait_all_tasks_blocked()
        await manager.get_database()
        await manager.stop("db")
        world["db"].client.tell(signal)
        await trio.testing.wait_all_tasks_blocked()
        assert manager["db"].state is State.STOPPED
    world["db"].client.tell(signal)  # after close: silence


async def test_a_stale_clients_signals_are_ignored(world: World, autojump_clock: MockClock) -> None:
    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        old = world["db"].client
        await manager.restart("db")
        old.tell(Signal.LOST)
        await trio.sleep(1)
        assert world.path() == ["start", "established"]


# -- waiters --------------------------------------------------------------------------------------


async def test_any_number_of_waiters_wake_together(world: World, autojump_clock: MockClock) -> None:
    world["db"].next("ping", world.take(1.0))
    woken: list[float] = []

    async def wait(manager: Any) -> None:
        await manager.get_database()
        woken.append(trio.current_time())

    async with world.open() as manager, trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(wait, manager)
    assert len(woken) == 200
    assert set(woken) == {1.0}


async def test_cancelling_one_waiter_disturbs_nobody(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].next("ping", world.take(1.0))
    woken: list[int] = []

    async def wait(manager: Any, n: int, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await manager.get_database()
            woken.append(n)

    async with world.open() as manager, trio.open_nursery() as nursery:
        for n in range(10):
            nursery.start_soon(wait, manager, n, 0.5 if n % 2 else math.inf)
    assert sorted(woken) == [0, 2, 4, 6, 8]


async def test_a_timeout_says_what_is_wrong(world: World, autojump_clock: MockClock) -> None:
    world["db"].refuse()
    async with world.open(runtime={"ready_timeout": 3.0}) as manager:
        for timeout, seconds in ((None, 3.0), (1.5, 1.5), (0, 0.0), (-1, 0.0)):
            began = trio.current_time()
            with pytest.raises(ConnectionNotReady) as info:
                await manager.get_database(timeout=timeout)
            assert trio.current_time() - began == pytest.approx(seconds)
        assert info.value.status is not None
        assert info.value.status.reason is FailureReason.REFUSED
        assert "connection 'db' was not ready within" in str(info.value)
        assert "scripted refused" in str(info.value)
        with trio.move_on_after(1000) as scope:
            await manager.get_database(timeout=math.inf)
        assert scope.cancelled_caught


async def test_who_waits_for_a_stopped_one_is_told_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].refuse()
    told: list[float] = []

    async def wait(manager: Any) -> None:
        with pytest.raises(ConnectionNotReady, match="is stopped"):
            await manager.get_database(timeout=math.inf)
        told.append(trio.current_time())

    async with world.open() as manager, trio.open_nursery() as nursery:
        nursery.start_soon(wait, manager)
        await trio.sleep(2)
        await manager.stop("db")
        await trio.testing.wait_all_tasks_blocked()
        assert len(told) == 1
        with pytest.raises(ConnectionNotReady, match="is stopped"):
            await manager.get_database()
        with pytest.raises(ConnectionNotReady, match="is not ready"):
            manager.database()


async def test_get_database_is_no_checkpoint_when_ready(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.get_database()
        with trio.testing.assert_no_checkpoints():
            await manager.get_database()
            await manager.get_database("db")
            await manager["db"].get_database()
            await manager["db"].wait_ready()


async def test_another_thread_is_refused_and_both_are_named(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.get_database()
        errors: list[Exception] = []

        def elsewhere() -> None:
            for call in (manager.database, manager["db"].database):
                try:
                    call()
                except HostMismatch as error:
                    errors.append(error)
            assert manager["db"].status.state is State.READY
            assert manager.is_ready()
            assert manager["db"].is_ready()
            assert manager.statuses()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(errors) == 2
        assert str(threading.get_ident()) in str(errors[0])
        assert str(thread.ident) in str(errors[0])


# -- watch ----------------------------------------------------------------------------------------


async def test_watch_gives_the_present_then_the_newest_and_ends_with_the_manager(
    world: World,
    autojump_clock: MockClock,
) -> None:
    seen: list[State] = []

    async def follow(manager: Any) -> None:
        async for status in manager["db"].watch():
            seen.append(status.state)

    async with trio.open_nursery() as nursery, world.open() as manager:
        nursery.start_soon(follow, manager)
        await manager.get_database()
        await trio.sleep(1)
    distinct = [state for state in dict.fromkeys(seen) if state is not State.INIT]
    assert distinct == [State.CONNECTING, State.READY, State.STOPPED]


async def test_a_slow_watcher_skips_to_the_newest(world: World, autojump_clock: MockClock) -> None:
    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        watch = manager["db"].watch()
        assert (await anext(watch)).state is State.READY
        for _ in range(3):
            world["db"].client.tell(Signal.LOST)
            await trio.sleep(1)
        assert (await anext(watch)).state is State.READY
        with trio.move_on_after(1) as scope:
            await anext(watch)
        assert scope.cancelled_caught
        del watch  # dropped half-way: no warning


# -- hooks ----------------------------------------------------------------------------------------


async def test_hooks_run_in_order_before_ready_once_per_generation(
    world: World, autojump_clock: MockClock
) -> None:
    diary: list[Any] = []
    async with world.open(**SIGNALLED) as manager:
        connection = manager["db"]

        @connection.on_ready
        async def first(database: Any) -> None:
            diary.append(("first", database, connection.state))
            assert not connection.is_ready()

        @connection.on_ready
        async def second(database: Any) -> None:
            diary.append(("second", database, connection.state))

        await manager.get_database()
        one = ("database", 1)
        assert diary == [("first", one, State.CONNECTING), ("second", one, State.CONNECTING)]
        world["db"].client.tell(Signal.LOST)
        await trio.sleep(1)
        assert len(diary) == 2  # the same generation
        await manager.stop("db")
        await manager.start("db")
        await manager.get_database()
        assert [name for name, *_ in diary] == ["first", "second"] * 2


async def test_what_cannot_be_called_is_no_hook(world: World, autojump_clock: MockClock) -> None:
    """It is refused where it is registered: as a crash it would take the program along."""
    async with world.open() as manager:
        with pytest.raises(TypeError, match="async function"):
            manager["db"].on_ready(5)  # type: ignore[type-var]


async def test_a_hook_that_fails_is_resumed_where_it_failed(
    world: World, autojump_clock: MockClock
) -> None:
    ran: list[str] = []

    async def good(_: Any) -> None:
        ran.append("good")

    async def shaky(_: Any) -> None:
        ran.append("shaky")
        if ran.count("shaky") < 3:
            raise world.Fault(FailureReason.NETWORK)

    async with world.open() as manager:
        manager["db"].on_ready(good)
        manager["db"].on_ready(shaky)
        await manager.get_database()
        assert ran == ["good", "shaky", "shaky", "shaky"]
        assert manager["db"].measurements.connect_failures == 2
        assert len(world["db"].clients) == 1


async def test_a_hook_that_hangs_is_a_failed_attempt(
    world: World, autojump_clock: MockClock
) -> None:
    hangs = [True]

    async def hook(_: Any) -> None:
        if hangs.pop() if hangs else False:
            await trio.sleep_forever()

    async with world.open(runtime={"hook_timeout": 7.0}) as manager:
        manager["db"].on_ready(hook)
        await manager.get_database()
        assert trio.current_time() == pytest.approx(7.2, abs=0.15)
        assert manager["db"].measurements.connect_failures == 1


async def test_any_other_error_of_a_hook_is_a_crash(
    world: World, autojump_clock: MockClock
) -> None:
    broken = [ZeroDivisionError("mine")]

    async def hook(_: Any) -> None:
        if broken:
            raise broken.pop()

    async with world.open() as manager:
        manager["db"].on_ready(hook)
        await manager.get_database()
    assert world.path() == ["start", "crashed", "retry", "established", "stop"]


async def test_a_late_hook_runs_at_once_and_blocks_later_callers_only(
    world: World, autojump_clock: MockClock
) -> None:
    go = trio.Event()

    async def hook(_: Any) -> None:
        await go.wait()

    async with world.open() as manager:
        connection = manager["db"]
        await manager.get_database()
        connection.on_ready(hook)
        assert connection.state is State.READY
        assert not connection.is_ready()
        with pytest.raises(ConnectionNotReady):
            manager.database()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.get_database)
            await trio.sleep(1)
            go.set()
        assert connection.is_ready()


async def test_a_late_hook_with_a_bug_crashes_and_runs_on_the_new_client(
    world: World, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []

    async def hook(database: Any) -> None:
        seen.append(database)
        if len(seen) == 1:
            raise ZeroDivisionError

    async with world.open() as manager:
        await manager.get_database()
        manager["db"].on_ready(hook)
        assert await manager.get_database() == ("database", 2)
        assert seen == [("database", 1), ("database", 2)]


async def test_a_late_hook_that_fails_is_an_outage(world: World, autojump_clock: MockClock) -> None:
    seen: list[Any] = []

    async def hook(database: Any) -> None:
        seen.append(database)
        if len(seen) == 1:
            raise world.Fault(FailureReason.NETWORK)

    async with world.open() as manager:
        await manager.get_database()
        manager["db"].on_ready(hook)
        assert await manager.get_database() == ("database", 1)
        assert world.path() == ["start", "established", "lost", "established"]


async def test_a_late_hook_runs_once_though_the_connection_is_lost_meanwhile(
    world: World,
    autojump_clock: MockClock,
) -> None:
    running: list[int] = []
    most: list[int] = []

    async def hook(_: Any) -> None:
        running.append(1)
        most.append(len(running))
        await trio.sleep(5)
        running.pop()

    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        manager["db"].on_ready(hook)
        await trio.sleep(1)
        world["db"].client.tell(Signal.LOST)
        await manager.get_database()
        assert most == [1]
        assert manager["db"].is_ready()


async def test_a_late_hook_on_a_client_that_is_swapped_withholds_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    async def hook(_: Any) -> None:
        await trio.sleep(5)

    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.restart, "db")
            manager["db"].on_ready(hook)
        await trio.sleep(20)
        assert manager["db"].is_ready()
        assert manager.database() == ("database", 2)


async def test_a_late_hook_that_hangs_on_the_old_client_withholds_the_new_one_no_longer(
    world: World, autojump_clock: MockClock
) -> None:
    hung: list[Any] = []

    async def hook(database: Any) -> None:
        if database == ("database", 1):
            hung.append(database)
            await trio.sleep_forever()

    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        manager["db"].on_ready(hook)
        await trio.sleep(1)
        assert not manager["db"].is_ready()
        await manager.restart("db")
        assert manager.database() == ("database", 2)
        await trio.sleep(100)  # past the hook's bound: nothing happens to the new client
        assert manager["db"].is_ready()
    assert hung == [("database", 1)]
    assert world.path() == ["start", "established", "stop"]


async def test_a_late_hooks_bug_interrupts_a_ping_under_way(
    world: World, autojump_clock: MockClock
) -> None:
    async def hook(database: Any) -> None:
        await trio.sleep(1)
        if database == ("database", 1):
            raise ZeroDivisionError

    async with world.open(health={"interval": 0.5, "timeout": 50.0}) as manager:
        await manager.get_database()
        world["db"].next("ping", world.hang())
        manager["db"].on_ready(hook)
        await manager.get_database()
        assert trio.current_time() == pytest.approx(2)
    assert world.path() == ["start", "established", "crashed", "retry", "established", "stop"]


async def test_a_hook_may_register_a_hook(world: World, autojump_clock: MockClock) -> None:
    ran: list[str] = []

    async def second(_: Any) -> None:
        ran.append("second")

    async with world.open() as manager:

        @manager["db"].on_ready
        async def first(_: Any) -> None:
            ran.append("first")
            manager["db"].on_ready(second)

        await manager.get_database()
        assert ran == ["first", "second"]


# -- commands -------------------------------------------------------------------------------------


async def test_start_and_stop_are_idempotent_and_serialised(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.get_database()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(manager.start, "db")
        assert world.path() == ["start", "established"]
        world["db"].next("close", world.take(1.0))
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(manager.stop, "db")
        assert world.path() == ["start", "established", "stop"]
        assert world["db"].client.closed == 1
        world["db"].next("ping", world.hang())
        await manager.start("db")
        assert manager["db"].state is State.CONNECTING
        await manager.start("db")


async def test_stop_returns_when_closed(world: World, autojump_clock: MockClock) -> None:
    async with world.open() as manager:
        await manager.get_database()
        world["db"].next("close", world.take(3.0))
        began = trio.current_time()
        await manager.stop("db")
        assert trio.current_time() - began == pytest.approx(3)


async def test_start_waits_for_a_stop_whose_caller_went_away(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.get_database()
        world["db"].next("close", world.take(3.0))
        with trio.move_on_after(1):
            await manager.stop("db")
        await manager.start("db")
        assert await manager.get_database() == ("database", 2)


async def test_commands_before_the_first_step(world: World, autojump_clock: MockClock) -> None:
    """Nothing has run yet: stop, restart and start do what they say all the same."""
    async with world.open("a", "b", "c") as manager:
        await manager.stop("a")
        assert manager["a"].state is State.STOPPED
        await manager.restart("b")
        await manager.start("c")
        await manager.wait_ready("b", "c")
        assert manager["a"].state is State.STOPPED


@pytest.mark.parametrize("call", ["open", "ping", "verify"])
async def test_stop_interrupts_whatever_hangs(
    world: World, autojump_clock: MockClock, call: str
) -> None:
    world["db"].from_now_on(call, world.hang())
    async with world.open() as manager:
        await trio.sleep(0.5)
        await manager.stop("db")
        assert trio.current_time() == pytest.approx(0.5)


async def test_restart_on_ready_swaps_without_leaving_ready(
    world: World, autojump_clock: MockClock
) -> None:
    states: list[bool] = []

    async def sample(connection: Any) -> None:
        while True:
            states.append(connection.is_ready())
            await trio.sleep(0.1)

    async with world.open() as manager, trio.open_nursery() as nursery:
        await manager.get_database()
        nursery.start_soon(sample, manager["db"])
        world["db"].next("ping", world.take(1.0))
        await manager.restart("db")
        assert manager.database() == ("database", 2)
        assert manager["db"].generation == 2
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert all(states)
    assert world.path() == ["start", "established", "stop"]


async def test_a_replaced_client_is_kept_a_while_for_those_who_hold_a_handle(
    world: World, autojump_clock: MockClock
) -> None:
    """A request that waits for something else between two calls ends as it began."""
    async with world.open() as manager:
        await manager.get_database()
        await manager.restart("db")
        old = world["db"].clients[0]
        await trio.sleep(LINGER - 0.01)
        assert not old.closed
        await trio.sleep(2 * HEARTBEAT)
        assert old.closed == 1
        await manager.restart("db")
    assert world["db"].clients[1].closed == 1  # at once: nobody may use it any more
    assert trio.current_time() < LINGER + 2.0


@pytest.mark.parametrize("call", ["open", "ping", "verify"])
@pytest.mark.parametrize("how", ["fail", "bug", "hang"])
async def test_restart_that_fails_keeps_the_old_one(
    world: World, autojump_clock: MockClock, call: str, how: str
) -> None:
    async with world.open(**SIGNALLED) as manager:
        await manager.get_database()
        world["db"].next(call, getattr(world, how)())
        with pytest.raises(ConnectionNotReady, match="the old client stays"):
            await manager.restart("db")
        assert manager.database() == ("database", 1)
        assert manager["db"].generation == 1
    assert world.path() == ["start", "established", "stop"]


async def test_restart_runs_the_hooks_on_the_new_client_before_the_swap(
    world: World, autojump_clock: MockClock
) -> None:
    seen: list[Any] = []

    async def hook(database: Any) -> None:
        seen.append((database, manager.database() if manager.is_ready() else None))

    async with world.open() as manager:
        manager["db"].on_ready(hook)
        await manager.get_database()
        await manager.restart("db")
        assert seen == [(("database", 1), None), (("database", 2), ("database", 1))]


@pytest.mark.parametrize("seconds", [0.0, 0.5, 1.5, 2.5, 3.5])
async def test_restart_cancelled_at_any_await_leaves_the_old_one(
    world: World, autojump_clock: MockClock, seconds: float
) -> None:
    async def hook(_: Any) -> None:
        await trio.sleep(1)

    async with world.open(health={"interval": 1000.0, "timeout": 2.0}) as manager:
        manager["db"].on_ready(hook)
        await manager.get_database()
        for call in ("open", "ping", "verify"):
            world["db"].next(call, world.take(1.0))
        with trio.move_on_after(seconds) as scope:
            await manager.restart("db")
        assert scope.cancelled_caught
        assert manager.database() == ("database", 1)
        await manager.stop("db")  # the lock is free


async def test_restart_on_failed_begins_a_new_episode_with_a_new_client(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].refuse()
    async with world.open(
        retry={"attempts": 1}, supervision={"backoff_initial": 30.0, "backoff_max": 30.0}
    ) as manager:
        await world.until(manager["db"], State.FAILED)
        world["db"].heal()
        began = trio.current_time()
        await manager.restart("db")
        await manager.get_database()
        assert trio.current_time() - began < 0.01
        assert manager.database() == ("database", 2)


async def test_restart_on_failed_returns_though_the_new_episode_is_over_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    """A secret that is missing is noticed within one turn: nobody sees `connecting` in between."""
    missing = {"password": {"path": "nobody", "key": "has_it"}}
    async with world.open(provider=missing) as manager:
        db = manager["db"]
        await world.until(db, State.FAILED)
        before = trio.current_time()
        for _ in range(20):
            await db.restart()
            await trio.lowlevel.checkpoint()
        assert trio.current_time() == before
        await db.stop()


async def test_restart_on_stopped_starts(world: World, autojump_clock: MockClock) -> None:
    async with world.open() as manager:
        await manager.stop("db")
        await manager.restart("db")
        assert await manager.get_database() is not None


async def test_restart_on_connecting_makes_a_new_client(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].next("ping", world.take(1.0))
    async with world.open() as manager:
        await trio.sleep(0.5)
        await manager.restart("db")
        assert await manager.get_database() == ("database", 2)
        assert manager["db"].generation == 1


async def test_restart_between_two_incarnations_is_served_by_the_next(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].next("verify", *[world.bug() for _ in range(20)])
    async with (
        world.open(supervision={"intensity": 100}) as manager,
        trio.open_nursery() as nursery,
    ):

        def observe(transition: Any) -> None:
            world.transitions.append(transition)
            if transition.event is Event.CRASHED:
                nursery.start_soon(manager.restart, "db")

        manager.kernel.announcer._observers[:] = [observe]
        await manager.get_database()
        await trio.sleep(1)


async def test_restart_while_the_old_client_crashes_leaves_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open(health={"interval": 0.5}) as manager:
        await manager.get_database()
        world["db"].next("open", world.stubborn(1.0))
        world["db"].next("ping", world.bug())  # of the old client, meanwhile
        with pytest.raises(ConnectionNotReady, match="was stopped while it was restarted"):
            await manager.restart("db")
        await manager.get_database()


async def test_stop_start_makes_a_new_generation(world: World, autojump_clock: MockClock) -> None:
    async with world.open() as manager:
        await manager.get_database()
        await manager.stop("db")
        assert manager["db"].generation == 1
        await manager.start("db")
        assert await manager.get_database() == ("database", 2)
        assert manager["db"].generation == 2


# -- crashes and budgets --------------------------------------------------------------------------


async def test_a_required_one_over_its_budget_escalates_and_waiters_know_first(
    world: World,
    autojump_clock: MockClock,
) -> None:
    world["db"].from_now_on("verify", world.bug())
    told: list[ConnectionNotReady] = []

    async def wait(manager: Any) -> None:
        try:
            await manager.get_database(timeout=math.inf)
        except ConnectionNotReady as error:
            told.append(error)

    async with trio.open_nursery() as nursery:
        with pytest.raises(RestartIntensityExceeded) as info:
            async with world.open(supervision={"intensity": 2, "period": 30.0}) as manager:
                nursery.start_soon(wait, manager)
                await trio.sleep_forever()
    assert isinstance(info.value.__cause__, world.Bug)
    assert [error.__cause__ for error in told] == [info.value]
    assert info.value.child == "db"
    assert world["db"].count("verify") == 12  # 4 * (2 + 1): the root allows 3


async def test_an_optional_one_over_its_budget_parks_until_restart_for_ever(
    world: World,
    autojump_clock: MockClock,
) -> None:
    """However often it is restarted by hand, it never escalates."""
    world["db"].from_now_on("verify", world.bug("still broken"))
    async with world.open(required=False, supervision={"intensity": 2}) as manager:
        for round_ in range(1, 8):
            await trio.sleep(1)
            status = manager["db"].status
            assert (status.state, status.reason) == (State.FAILED, FailureReason.BUG)
            assert world["db"].count("verify") == 3 * round_
            await manager.restart("db")
        world["db"].heal()
        await trio.sleep(1)
        await manager.restart("db")
        await manager.get_database()


async def test_a_parked_one_can_be_stopped_and_started(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].from_now_on("verify", world.bug())
    async with world.open(required=False, supervision={"intensity": 0}) as manager:
        await world.until(manager["db"], State.FAILED)
        await trio.sleep(100)
        assert world["db"].count("verify") == 1
        await manager.stop("db")
        world["db"].heal()
        await manager.start("db")
        await manager.get_database()


async def test_stop_between_two_attempts_makes_no_further_one(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].refuse()
    async with world.open(retry={"initial": 5.0, "attempts": 3}) as manager:
        await trio.testing.wait_all_tasks_blocked()
        pings = world["db"].count("ping")
        world["db"].from_now_on("ping", world.hang())
        before = trio.current_time()
        await manager.stop("db")
        assert trio.current_time() == before
        assert world["db"].count("ping") == pings


@pytest.mark.parametrize("tells", ["restart", "usable"])
async def test_a_backoff_ends_though_the_sentinels_ping_hangs(
    world: World, autojump_clock: MockClock, tells: str
) -> None:
    """`restart()` returns at `connecting`, and a usable server is believed, at once."""
    world["db"].refuse()
    async with world.open(retry={"attempts": 1}) as manager:
        world["db"].next("ping", world.fail(), world.hang())
        await world.until(manager["db"], State.FAILED)
        await trio.testing.wait_all_tasks_blocked()
        before = trio.current_time()
        if tells == "restart":
            await manager.restart("db")
        else:
            world["db"].client.tell(Signal.USABLE)
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == before
        assert "retry" in world.path()


async def test_a_restart_is_given_up_when_the_connection_parks(
    world: World, autojump_clock: MockClock
) -> None:
    """Else the new client would be left open (see the fixture `world`)."""
    async with world.open(required=False, supervision={"intensity": 0}) as manager:
        await manager.get_database()
        world["db"].next("ping", world.take(1.0), world.bug())
        async with trio.open_nursery() as nursery:

            async def restart() -> None:
                with pytest.raises(ConnectionNotReady, match="while it was restarted"):
                    await manager.restart("db")

            nursery.start_soon(restart)
            await trio.testing.wait_all_tasks_blocked()
            world["db"].clients[0].tell(Signal.SUSPECT)
        assert manager["db"].state is State.FAILED
