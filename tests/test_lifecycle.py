"""How a manager starts and ends: whose error is raised, who is told first, and nothing is left."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from moorings.errors import (
    ConnectionNotReady,
    FailureReason,
    RestartIntensityExceeded,
)
from moorings.providers.contract import Signal
from moorings.runtime.state import State

if TYPE_CHECKING:
    from pathlib import Path

    from scripted import World
    from trio.testing import MockClock


# -- starting -------------------------------------------------------------------------------------


async def test_background_yields_at_once_and_comes_up_when_the_database_does(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].refuse()
    async with world.open() as manager:
        assert trio.current_time() == 0
        assert not manager.is_ready()
        await trio.sleep(300)
        world["db"].heal()
        await manager.wait_ready()
        assert manager.is_ready()


async def test_wait_yields_when_all_required_are_ready(
    world: World, autojump_clock: MockClock
) -> None:
    settings = world.settings("a", "b", "c", runtime={"startup": "wait"})
    settings["default"]["database"]["documents"]["c"]["required"] = False
    world["a"].next("ping", world.take(1))
    world["b"].next("ping", world.fail())
    world["c"].from_now_on("ping", world.hang())
    async with world.open_settings(settings) as manager:
        assert manager["a"].is_ready()
        assert manager["b"].is_ready()
        assert not manager["c"].is_ready()


async def test_wait_raises_after_startup_timeout_bare_and_with_the_status(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].refuse()
    with pytest.raises(ConnectionNotReady, match="within 7 s") as info:
        async with world.open(runtime={"startup": "wait", "startup_timeout": 7.0}):
            pytest.fail("must not yield")
    assert trio.current_time() == pytest.approx(7)
    assert info.value.status is not None
    assert info.value.status.reason is FailureReason.REFUSED


async def test_fail_fast_raises_when_one_episode_is_over(
    world: World, autojump_clock: MockClock
) -> None:
    world["b"].from_now_on("ping", world.fail(FailureReason.AUTH))
    world["a"].from_now_on("ping", world.hang())
    with pytest.raises(ConnectionNotReady, match="'b' could not be established") as info:
        async with world.open("a", "b", runtime={"startup": "fail_fast"}):
            pytest.fail("must not yield")
    assert trio.current_time() == 0
    assert info.value.status is not None
    assert info.value.status.reason is FailureReason.AUTH


async def test_fail_fast_yields_when_all_is_well(world: World, autojump_clock: MockClock) -> None:
    world["db"].next("ping", world.fail(), world.fail())
    async with world.open(runtime={"startup": "fail_fast"}) as manager:
        assert manager.is_ready()


async def test_cancelling_a_start_leaves_nothing(world: World, autojump_clock: MockClock) -> None:
    world["db"].from_now_on("ping", world.hang())
    with trio.move_on_after(3) as scope:
        async with world.open(runtime={"startup": "wait"}):
            pytest.fail("must not yield")
    assert scope.cancelled_caught


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("own"), KeyboardInterrupt(), SystemExit(3)])
async def test_the_blocks_own_error_passes_as_it_is(
    world: World, autojump_clock: MockClock, error: BaseException
) -> None:
    with pytest.raises(type(error)) as info:
        async with world.open() as manager:
            await manager.get_database()
            raise error
    assert info.value is error


async def test_a_group_of_the_blocks_own_passes_as_it_is(
    world: World, autojump_clock: MockClock
) -> None:
    own = ExceptionGroup("mine", [ValueError()])
    with pytest.raises(ExceptionGroup) as info:
        async with world.open():
            raise own
    assert info.value is own


async def test_when_both_fail_both_are_raised(world: World, autojump_clock: MockClock) -> None:
    world["db"].from_now_on("verify", world.bug())
    with pytest.raises(ExceptionGroup) as info:
        async with world.open(supervision={"intensity": 0}):
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("own")
    assert {type(e) for e in info.value.exceptions} == {ValueError, RestartIntensityExceeded}


async def test_a_block_that_passes_on_what_its_waiter_was_told_raises_the_failure_bare(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].from_now_on("verify", world.bug())
    with pytest.raises(RestartIntensityExceeded):
        async with world.open(supervision={"intensity": 0}) as manager:
            with trio.CancelScope(shield=True):
                await manager.get_database(timeout=math.inf)


async def test_after_the_failure_every_call_says_why(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].from_now_on("verify", world.bug())
    with pytest.raises(RestartIntensityExceeded) as info:
        async with world.open(supervision={"intensity": 0}) as manager:
            await trio.sleep_forever()
    assert not manager.is_alive()
    assert not manager.is_ready()
    for call in (manager.database, manager["db"].database):
        with pytest.raises(ConnectionNotReady) as told:
            call()
        assert told.value.__cause__ is info.value
    for command in (manager.get_database, manager["db"].wait_ready, manager["db"].start):
        with pytest.raises(ConnectionNotReady, match="is closing"):
            await command()


async def test_cancellation_reaches_the_block_then_the_connections_stop(
    world: World, autojump_clock: MockClock
) -> None:
    diary: list[str] = []
    with trio.move_on_after(5):
        async with world.open() as manager:
            await manager.get_database()
            try:
                await trio.sleep_forever()
            finally:
                diary.append("block")
                assert manager.database() is not None
    assert world.path()[-1] == "stop"
    assert diary == ["block"]


# -- ending ---------------------------------------------------------------------------------------


async def test_waiters_are_told_at_once_when_it_closes(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].refuse()
    told: list[str] = []

    async def wait(connection: Any) -> None:
        try:
            await connection.get_database(timeout=math.inf)
        except ConnectionNotReady as error:
            told.append(str(error))

    async with trio.open_nursery() as nursery, world.open() as manager:
        nursery.start_soon(wait, manager["db"])
        nursery.start_soon(wait, manager)
        await trio.sleep(1)
    assert len(told) == 2
    assert all("is closing" in text for text in told)


async def test_nothing_is_handed_out_while_it_closes(
    world: World, autojump_clock: MockClock
) -> None:
    seen: list[bool] = []

    async def sample(manager: Any) -> None:
        await trio.sleep(1)
        seen.append(manager.is_ready() or manager["db"].is_ready())
        with pytest.raises(ConnectionNotReady):
            manager.database()

    world["db"].next("close", world.take(2))
    async with trio.open_nursery() as nursery, world.open() as manager:
        await manager.get_database()
        nursery.start_soon(sample, manager)
    assert seen == [False]


async def test_each_client_has_its_time_to_close_and_who_needs_more_is_named(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world["slow"].from_now_on("close", world.hang())
    async with world.open("slow", "quick", supervision={"shutdown": 3.0}) as manager:
        await manager.wait_ready()
    assert trio.current_time() == pytest.approx(3)
    assert manager["slow"].measurements.close_timeouts == 1
    assert manager["quick"].measurements.close_timeouts == 0
    assert "slow" in caplog.text
    assert "did not close within 3 s" in caplog.text


async def test_all_together_have_shutdown_timeout(world: World, autojump_clock: MockClock) -> None:
    world["db"].from_now_on("close", world.hang())
    async with world.open(
        supervision={"shutdown": 50.0}, runtime={"shutdown_timeout": 4.0}
    ) as manager:
        await manager.wait_ready()
    assert trio.current_time() == pytest.approx(4)
    assert manager["db"].measurements.close_timeouts == 1


async def test_a_provider_that_gives_up_closing_is_counted_too(
    world: World, autojump_clock: MockClock
) -> None:
    async def give_up() -> None:
        raise TimeoutError

    world["db"].next("close", give_up)
    async with world.open() as manager:
        await manager.get_database()
    assert manager["db"].measurements.close_timeouts == 1


async def test_a_bug_in_the_kernels_own_tasks_ends_the_block_and_says_so(
    world: World, autojump_clock: MockClock
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with world.open() as manager:
            await manager.get_database()
            manager.kernel.spawn(broken)
            await trio.sleep_forever()


async def test_a_client_that_fails_to_close_keeps_nobody_from_closing(
    world: World, autojump_clock: MockClock
) -> None:
    world["a"].next("close", world.bug())
    async with world.open("a", "b") as manager:
        await manager.wait_ready()
    assert world.path("a")[-1] == world.path("b")[-1] == "stop"


async def test_who_ignores_cancellation_is_waited_for(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world["db"].next("ping", world.stubborn(30))
    async with world.open(supervision={"shutdown": 3.0}):
        await trio.sleep(1)
    assert trio.current_time() == pytest.approx(30)
    assert "did not stop within 3.5 s" in caplog.text


async def test_a_restart_under_way_when_it_closes_is_refused_and_leaves_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    told: list[str] = []

    async def restart(connection: Any) -> None:
        try:
            await connection.restart()
        except ConnectionNotReady as error:
            told.append(str(error))

    async with trio.open_nursery() as nursery, world.open() as manager:
        await manager.get_database()
        world["db"].next("verify", world.take(1.5))
        nursery.start_soon(restart, manager["db"])
        await trio.sleep(1)
    assert len(told) == 1


@pytest.mark.parametrize("seed", range(60))
async def test_cancelled_at_any_moment_nothing_is_left(  # noqa: C901 - one arm per command
    world: World, autojump_clock: MockClock, seed: int
) -> None:
    """Random behaviours and commands, cancelled at a random moment: all clients are closed once."""
    random = Random(seed)
    names = ["a", "b", "c"]
    choices = [
        lambda: world.fail(random.choice(list(FailureReason))),
        world.bug,
        world.hang,
        lambda: world.take(random.random() * 3),
        lambda: world.stubborn(random.random() * 3),
        lambda: world.succeed,
    ]
    for name in names:
        for call in ("open", "ping", "verify", "close"):
            for _ in range(random.randrange(6)):
                world[name].next(call, random.choice(choices)())

    async def hook(_: Any) -> None:
        await trio.sleep(random.random() * 2)

    async def meddle(manager: Any) -> None:
        while True:
            await trio.sleep(random.random())
            name = random.choice(names)
            try:
                match random.randrange(6):
                    case 0:
                        await manager.stop(name)
                    case 1:
                        await manager.start(name)
                    case 2:
                        await manager.restart(name)
                    case 3:
                        manager[name].on_ready(hook)
                    case 4:
                        for client in world[name].clients:
                            client.tell(random.choice(list(Signal)))
                    case _:
                        await manager.get_database(name, timeout=random.random())
            except ConnectionNotReady:
                pass

    try:
        with trio.move_on_after(random.random() * 20):
            async with (
                world.open(
                    *names,
                    health={"interval": 1.0, "timeout": 1.0},
                    runtime={"max_concurrent_connects": 2},
                ) as manager,
                trio.open_nursery() as nursery,
            ):
                for _ in range(3):
                    nursery.start_soon(meddle, manager)
    except RestartIntensityExceeded:
        pass  # enough bugs at once
    except ExceptionGroup as group:
        assert group.subgroup(RestartIntensityExceeded)  # noqa: PT017
    assert all(world[name].busy == 0 for name in names)
    for name in names:
        path = world.path(name)
        if path:
            assert path[-1] == "stop"
        for gate in manager.kernel._endpoints.values():
            assert gate._free == 2


# -- secrets --------------------------------------------------------------------------------------


async def test_a_secret_heals_by_itself_and_a_rotated_one_makes_a_new_client(
    world: World, tmp_path: Path
) -> None:
    """Resolved anew on every episode; no restart by hand."""
    settings = world.settings(
        provider={"password": {"path": "db", "key": "password"}},
        supervision={"backoff_initial": 0.01, "backoff_max": 0.05},
    )
    settings["default"]["security"] = {
        "secrets": {"backend": "file", "provider": {"base_path": str(tmp_path)}}
    }
    async with world.open_settings(settings) as manager:
        connection = manager["db"]
        await world.until(connection, State.FAILED)
        assert connection.status.reason is FailureReason.SECRET
        (tmp_path / "db").mkdir()
        (tmp_path / "db" / "password").write_text("one")
        await manager.get_database()
        assert world["db"].client.settings.password.get_secret_value() == "one"
        world["db"].client.tell(Signal.LOST)
        await world.until(connection, State.CONNECTING)
        await manager.get_database()
        assert connection.generation == 1  # the same secret: the same client
        (tmp_path / "db" / "password").write_text("two")
        world["db"].client.tell(Signal.LOST)
        await world.until(connection, State.CONNECTING)
        await manager.get_database()
        assert connection.generation == 2
        assert world["db"].client.settings.password.get_secret_value() == "two"
        ok = {"runtime": "moorings", "provider": "file", "result": "ok"}
        assert (world.metrics.get_sample_value("moorings_secret_resolutions_total", ok) or 0) >= 3


async def test_a_secrets_backend_that_hangs_is_bounded(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = world.settings(provider={"password": {"path": "db", "key": "password"}})
    async with world.open_settings(settings) as manager:

        async def hang(*_: object) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(type(manager.kernel.secrets.backend), "resolve", hang)
        await manager.restart("db")
        await world.until(manager["db"], State.FAILED)
        await manager.restart("db")
        began = trio.current_time()
        await world.until(manager["db"], State.CONNECTING)
        await world.until(manager["db"], State.FAILED)
        assert trio.current_time() - began <= 5.0
        assert manager["db"].status.reason is FailureReason.SECRET
        assert "did not answer in 5 s" in (manager["db"].status.error or "")


async def test_a_secret_that_is_no_text_is_a_secrets_failure(world: World, tmp_path: Path) -> None:
    settings = world.settings(provider={"endpoint": "x", "password": {"path": "db", "key": "p"}})
    settings["default"]["security"] = {
        "secrets": {"backend": "file", "provider": {"base_path": str(tmp_path)}}
    }
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "p").write_bytes(b"\xff\xfe not text")
    async with world.open_settings(settings) as manager:
        await world.until(manager["db"], State.FAILED)
        assert manager["db"].status.reason is FailureReason.SECRET
