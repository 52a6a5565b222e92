"""`open_connections` in asyncio programs: the promises that differ from trio's, or might."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import math
import sys
import warnings
from contextlib import contextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from leftovers import threads

from moorings.errors import (
    ConnectionNotReady,
    FailureReason,
    HostMismatch,
    RestartIntensityExceeded,
    SettingsError,
)
from moorings.runtime.guard import _kernels as kernels_alive
from moorings.runtime.kernel import Kernel
from moorings.runtime.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asyncio_fixtures import Run
    from scripted import World

    from moorings.runtime.manager import ConnectionManager

QUICK: dict[str, Any] = {
    "retry": {"initial": 0.01, "max": 0.02, "attempts": 2},
    "health": {"interval": 0.05, "timeout": 0.05, "failures": 1},
    "supervision": {"backoff_initial": 0.05, "backoff_max": 0.05, "shutdown": 0.2},
}
marker: contextvars.ContextVar[str] = contextvars.ContextVar("marker", default="nobody's")


# -- the same line as in trio ---------------------------------------------------------------------


def test_a_database_is_handed_out_and_the_loop_is_left_clean(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open() as connections:
            assert await connections.get_database() == ("database", 1)
            assert connections.database() == ("database", 1)
            assert connections["db"].is_ready()
        assert connections["db"].state is State.STOPPED

    on_asyncio(main)


def test_commands_do_what_they_do_in_trio(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open(**QUICK) as connections:
            db = connections["db"]
            await db.wait_ready()
            await db.restart()
            assert (db.state, db.generation) == (State.READY, 2)
            await db.stop()
            assert db.state is State.STOPPED
            assert world["db"].clients[1].closed == 1
            with pytest.raises(ConnectionNotReady, match="is stopped"):
                await db.get_database()
            await db.start()
            await db.wait_ready()
            assert db.generation == 3

    on_asyncio(main)


def test_an_outage_ends_and_the_handle_stays(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open(**QUICK) as connections:
            before = await connections.get_database()
            world["db"].refuse()
            await world.until(connections["db"], State.FAILED, 5.0)
            assert connections["db"].status.reason is FailureReason.REFUSED
            world["db"].heal()
            assert await connections.get_database(timeout=5.0) is before
            assert connections["db"].generation == 1

    on_asyncio(main)


def test_a_call_that_never_answers_is_cut_off(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        world["db"].next("ping", world.hang())
        async with world.open(**QUICK) as connections:
            await connections.wait_ready(timeout=5.0)
            assert world["db"].busy == 0

    on_asyncio(main)


def test_a_timeout_that_is_no_number_is_refused(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        world["db"].refuse()
        async with world.open() as connections:
            with pytest.raises(ValueError, match="nan"):
                await connections.get_database(timeout=math.nan)

    on_asyncio(main)


@pytest.mark.parametrize("seconds", [0.0, 0.02])
def test_waiting_has_a_bound_and_says_what_is_wrong(
    world: World, on_asyncio: Run, seconds: float
) -> None:
    async def main() -> None:
        world["db"].refuse()
        async with world.open() as connections:
            with pytest.raises(ConnectionNotReady, match="was not ready within"):
                await connections.get_database(timeout=seconds)
            with pytest.raises(ConnectionNotReady, match="was not ready within"):
                await connections.wait_ready(timeout=seconds)

    on_asyncio(main)


def test_many_waiters_wake_together_and_a_cancelled_one_disturbs_nobody(
    world: World, on_asyncio: Run
) -> None:
    async def main() -> None:
        opened = asyncio.Event()
        world["db"].next("open", opened.wait)
        async with world.open() as connections:
            waiters = [
                asyncio.create_task(connections.get_database(timeout=math.inf)) for _ in range(20)
            ]
            await asyncio.sleep(0)
            waiters[3].cancel()
            opened.set()
            results = await asyncio.gather(*waiters, return_exceptions=True)
            assert isinstance(results.pop(3), asyncio.CancelledError)
            assert results == [("database", 1)] * 19

    on_asyncio(main)


def test_watching_tells_the_newest_of_every_change(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open() as connections:
            watch = connections.watch()
            assert (await anext(watch)).state in {State.INIT, State.CONNECTING}
            await connections.wait_ready()
            assert (await anext(watch)).state is State.READY
            await connections.stop("db")
            assert (await anext(watch)).state is State.STOPPED

    on_asyncio(main)


def test_watchers_end_when_the_block_does(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async def watch(connections: ConnectionManager) -> State:
            last = State.INIT
            async for status in connections["db"].watch():
                last = status.state
            return last

        async with world.open() as connections:
            watcher = asyncio.create_task(watch(connections))
            await connections.wait_ready()
        assert await watcher is State.STOPPED

    on_asyncio(main)


# -- whose world, whose context -------------------------------------------------------------------


def test_hooks_and_providers_run_in_tasks_of_the_loop(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        loop, seen = asyncio.get_running_loop(), []

        async def look(*_: object) -> None:
            seen.append((asyncio.get_running_loop() is loop, asyncio.current_task() is not None))
            await asyncio.sleep(0)

        world["db"].next("open", look)
        world["db"].next("ping", look)
        async with world.open() as connections:
            connections["db"].on_ready(look)
            await connections.wait_ready()
        assert seen == [(True, True)] * 3

    on_asyncio(main)


def test_the_openers_context_reaches_hooks_and_providers(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        seen: list[str] = []

        async def look(*_: object) -> None:
            seen.append(marker.get())

        world["db"].next("ping", look)
        marker.set("the opener's")
        async with world.open() as connections:
            connections["db"].on_ready(look)
            await connections.wait_ready()
        assert seen == ["the opener's"] * 2

    on_asyncio(main)


def test_hooks_run_again_before_a_new_generation_is_seen(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        given: list[Any] = []

        async def hook(database: Any) -> None:
            await asyncio.sleep(0.01)
            given.append(database)

        async with world.open() as connections:
            connections["db"].on_ready(hook)
            await connections.wait_ready()
            await connections.restart("db")
            assert given == [("database", 1), ("database", 2)]
            assert connections.database() == ("database", 2)

    on_asyncio(main)


@pytest.mark.parametrize("call", ["restart", "get_database", "wait_ready", "manager.wait_ready"])
def test_a_hook_that_would_wait_for_itself_is_told_so(
    world: World, on_asyncio: Run, call: str
) -> None:
    async def main() -> None:
        said: list[str] = []
        async with world.open() as connections:

            async def hook(database: object) -> None:
                target = connections if call.startswith("manager.") else connections["db"]
                try:
                    await getattr(target, call.removeprefix("manager."))()
                except RuntimeError as error:
                    said.append(str(error))

            connections["db"].on_ready(hook)
            await connections.wait_ready()
        assert ["use the database that the hook is called with" in text for text in said] == [True]

    on_asyncio(main)


def test_what_a_hook_has_started_may_wait(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        begun: list[asyncio.Task[Any]] = []
        async with world.open() as connections:

            async def hook(database: object) -> None:
                begun.append(asyncio.create_task(connections.get_database()))
                await asyncio.sleep(0)

            connections["db"].on_ready(hook)
            assert await connections.get_database() == await begun[0]

    on_asyncio(main)


class Odd(BaseException):
    """Neither an error nor a wish to exit, as pytest's own failures are."""


def test_what_a_hook_raises_ends_the_block_whatever_it_is(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async def hook(database: object) -> None:
            raise Odd

        async with world.open() as connections:
            connections["db"].on_ready(hook)
            await asyncio.sleep(math.inf)

    with pytest.raises(BaseExceptionGroup) as caught:
        on_asyncio(main)
    assert caught.value.subgroup(Odd)


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("mine"), ExceptionGroup("mine", [ValueError("a"), KeyError("b")])]
)
def test_the_blocks_own_error_passes_as_it_is(
    world: World, on_asyncio: Run, error: Exception
) -> None:
    async def main() -> None:
        async with world.open() as connections:
            await connections.wait_ready()
            raise error

    with pytest.raises(type(error)) as caught:
        on_asyncio(main)
    assert caught.value is error


def test_a_start_that_fails_fast_is_a_bare_error(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        world["db"].refuse()
        with pytest.raises(ConnectionNotReady, match="could not be established"):
            async with world.open(runtime={"startup": "fail_fast"}, **QUICK):
                pytest.fail("the block began")

    on_asyncio(main)


def test_a_start_that_waits_can_be_cancelled(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        world["db"].refuse()
        waiting = asyncio.Event()

        async def enter() -> None:
            runtime = {"startup": "wait", "startup_timeout": 3600.0}
            async with world.open(runtime=runtime, observers=(lambda _: waiting.set(),), **QUICK):
                pytest.fail("the block began")

        entering = asyncio.create_task(enter())
        await waiting.wait()
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert world.path()[-1] == "stop"

    on_asyncio(main)


def test_settings_are_refused_before_anything_starts(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        with pytest.raises(SettingsError):
            async with world.open(backend="nonesuch"):
                pytest.fail("the block began")

    on_asyncio(main)


def test_a_restart_that_fails_tells_its_caller(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open(**QUICK) as connections:
            await connections.wait_ready()
            world["db"].next("open", world.fail(FailureReason.AUTH, "no entry"))
            with pytest.raises(ConnectionNotReady, match="no entry"):
                await connections.restart("db")
            assert connections["db"].generation == 1

    on_asyncio(main)


# -- cancellation ---------------------------------------------------------------------------------


def test_a_timeout_around_the_block_is_a_timeout(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                async with world.open() as connections:
                    await connections.wait_ready()
                    await asyncio.sleep(math.inf)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    on_asyncio(main)


def test_a_sibling_that_fails_ends_the_block_in_order(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async def sibling() -> None:
            await asyncio.sleep(0.05)
            raise KeyError("sibling")

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(sibling())
                async with world.open() as connections:
                    await connections.wait_ready()
                    await asyncio.sleep(math.inf)
        assert [type(e) for e in caught.value.exceptions] == [KeyError]

    on_asyncio(main)


async def _whole_life(world: World) -> None:
    async with world.open(runtime={"startup": "wait"}) as connections:
        db = connections["db"]
        await db.get_database()
        await db.restart()
        await db.stop()
        await db.start()
        await db.wait_ready()


@pytest.mark.parametrize("seed", range(8))
def test_cancelled_at_any_turn_nothing_is_left(world: World, on_asyncio: Run, seed: int) -> None:
    """The life of a manager has up to 320 turns of the loop; half of them are tried."""

    before = threads()  # other tests' clients among them

    async def main() -> None:
        for turn in Random(seed).sample(range(320), 20):
            life = asyncio.create_task(_whole_life(world))
            for _ in range(turn):
                if life.done():
                    break
                await asyncio.sleep(0)
            life.cancel()
            with suppress(asyncio.CancelledError):
                await life
            world.assert_all_closed()
            assert len(threads() - before) < 20

    on_asyncio(main)


def test_a_cancelled_restart_leaves_the_old_client(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open() as connections:
            await connections.wait_ready()
            world["db"].next("open", world.hang())
            restarting = asyncio.create_task(connections.restart("db"))
            while world["db"].count("open") < 2:
                await asyncio.sleep(0)
            restarting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await restarting
            assert world["db"].busy == 0
            assert connections.database() == ("database", 1)

    on_asyncio(main)


def test_a_client_that_will_not_close_is_named_and_given_up(
    world: World, on_asyncio: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with world.open(**QUICK) as connections:
            await connections.wait_ready()
            world["db"].next("close", world.hang())

    with caplog.at_level(logging.ERROR, "moorings"):
        on_asyncio(main)
    assert "'db' did not close within 0.2 s" in caplog.text


def test_somebody_cancels_every_task_of_the_loop(world: World, on_asyncio: Run) -> None:
    """As some test runners do: what was under way failed, what was to come is closed in order."""

    async def main() -> None:
        world["db"].next("ping", world.hang())

        async def life() -> None:
            async with world.open() as connections:
                await connections.wait_ready()

        living = asyncio.create_task(life())
        while not world["db"].busy:
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await living

    on_asyncio(main)


def test_a_providers_task_that_is_cancelled_is_a_failed_attempt(
    world: World, on_asyncio: Run
) -> None:
    async def main() -> None:
        async def cancel_itself() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        world["db"].next("ping", cancel_itself)
        async with world.open(**QUICK) as connections:
            await connections.wait_ready(timeout=5.0)
        assert "crashed" not in world.path()

    on_asyncio(main)


# -- a kernel that dies ---------------------------------------------------------------------------


def test_escalation_ends_the_block_with_its_reason(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        world["db"].from_now_on("verify", world.bug())
        with pytest.raises(RestartIntensityExceeded) as caught:
            async with world.open(runtime={"startup": "background"}) as connections:
                with pytest.raises(ConnectionNotReady) as told:
                    await connections.get_database(timeout=math.inf)
                await asyncio.sleep(math.inf)
        assert isinstance(caught.value.__cause__, world.Bug)
        assert told.value.__cause__ is caught.value
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        assert not connections.is_alive()

    on_asyncio(main)


class Planted(Exception):
    """A bug of the kernel's own."""


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the heartbeat of every kernel raise from now on."""
    real = Kernel.heartbeat

    async def heartbeat(self: Kernel) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(real, self)
            await dead.wait()
            nursery.cancel_scope.cancel()
        raise Planted

    dead = trio.Event()
    monkeypatch.setattr(Kernel, "heartbeat", heartbeat)
    return dead.set


def test_a_kernel_that_dies_tells_waiters_first_then_ends_the_block(
    world: World, on_asyncio: Run, kill: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        order: list[str] = []
        world["db"].refuse()

        async def wait(connections: ConnectionManager) -> None:
            with pytest.raises(ConnectionNotReady) as told:
                await connections.get_database(timeout=math.inf)
            assert isinstance(told.value.__cause__, Planted)
            order.append("waiter")

        with pytest.raises(Planted):
            async with world.open() as connections:
                waiter = asyncio.create_task(wait(connections))
                await asyncio.sleep(0.05)
                kill()
                try:
                    await asyncio.sleep(math.inf)
                except asyncio.CancelledError:
                    order.append("block")
                    assert not connections.is_alive()
                    raise
        await waiter
        assert order == ["waiter", "block"]
        with pytest.raises(ConnectionNotReady):
            connections.database()

    with caplog.at_level(logging.CRITICAL, "moorings"):
        on_asyncio(main)
    assert len(caplog.records) == 1


def test_the_reason_is_raised_in_whatever_task_leaves_the_block(
    world: World, on_asyncio: Run, kill: Callable[[], None]
) -> None:
    async def main() -> None:
        block = world.open()

        async def enter() -> ConnectionManager:
            return await block.__aenter__()

        connections = await asyncio.create_task(enter())  # and that task is over
        await connections.wait_ready()
        kill()
        while connections.is_alive():
            await asyncio.sleep(0.01)
        with pytest.raises(Planted):
            await block.__aexit__(None, None, None)

    on_asyncio(main)


def test_a_block_that_fails_as_well_is_raised_in_one_group(
    world: World, on_asyncio: Run, kill: Callable[[], None]
) -> None:
    async def main() -> None:
        async with world.open() as connections:
            await connections.wait_ready()
            kill()
            while connections.is_alive():
                await asyncio.sleep(0)
            raise KeyError("mine")

    with pytest.raises(ExceptionGroup) as caught:
        on_asyncio(main)
    assert {type(e) for e in caught.value.exceptions} == {KeyError, Planted}


def test_a_guest_that_dies_as_a_whole_is_told_to_all(
    world: World, on_asyncio: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one manager's kernel but trio's run itself: nothing can be closed in order any more."""

    async def main() -> None:
        async def die() -> None:
            raise Planted

        with pytest.raises(trio.TrioInternalError):
            async with world.open() as connections:
                await connections.wait_ready()
                trio.lowlevel.spawn_system_task(die)
                await asyncio.sleep(math.inf)
        assert not connections.is_alive()
        with pytest.raises(ConnectionNotReady):
            await connections.get_database()
        assert connections["db"].state is State.STOPPED
        for client in world["db"].clients:
            client.closed = 1  # by nobody: there was no kernel left to do it

    with caplog.at_level(logging.CRITICAL, "moorings"):
        on_asyncio(main)
    assert len(caplog.records) == 1


async def _unwinding_nothing() -> None:
    """Make trio's own loop crash: no task of the run is unwound."""
    with trio.move_on_after(0.01):
        await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)  # type: ignore[return-value]


@contextmanager
def _left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Collect trio's tasks, which complain of it, in here; what was logged, by its level.

    A log record's traceback holds them, and pytest holds every record that it sees: it sees none.
    """
    told: list[str] = []
    logger = logging.getLogger("moorings")
    handler = logging.NullHandler()
    handler.handle = lambda record: told.append(record.levelname)  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings(), monkeypatch.context() as patch:
            warnings.simplefilter("ignore")
            patch.setattr(sys, "unraisablehook", lambda _: None)
            yield told
            gc.collect()
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


def test_a_guest_that_crashes_without_unwinding_answers_every_call(
    world: World, on_asyncio: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with pytest.raises(trio.TrioInternalError):
            async with world.open() as connections:
                await connections.wait_ready()
                world["db"].next("open", world.hang())
                restarting = asyncio.create_task(connections.restart("db"))
                while world["db"].count("open") < 2:
                    await asyncio.sleep(0)
                trio.lowlevel.spawn_system_task(_unwinding_nothing)
                await asyncio.sleep(math.inf)
        with pytest.raises(ConnectionNotReady):
            await restarting
        assert world["db"].busy == 0
        world["db"].clients.clear()  # open for ever: there was no kernel left to close them

    with _left_as_they_are(monkeypatch):
        on_asyncio(main)


def test_a_guest_that_crashes_while_a_replaced_client_lingers_is_told_all_the_same(
    world: World, on_asyncio: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with pytest.raises(trio.TrioInternalError):
            async with world.open() as connections:
                await connections.wait_ready()
                await connections.restart("db")
                trio.lowlevel.spawn_system_task(_unwinding_nothing)
                await asyncio.sleep(math.inf)
        assert connections["db"].state is State.STOPPED
        world["db"].clients.clear()  # open for ever: there was no kernel left to close them

    with _left_as_they_are(monkeypatch) as told:
        on_asyncio(main)
    assert told == ["CRITICAL"]


def test_every_manager_is_told_why_the_guest_died(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        alive = asyncio.Event()

        async def life(name: str) -> None:
            async with world.open(name, runtime={"name": name}) as connections:
                await connections.wait_ready()
                if name == "b":
                    alive.set()
                await asyncio.sleep(math.inf)

        async def die() -> None:
            raise Planted

        lives = [asyncio.create_task(life(name)) for name in ("a", "b")]
        await alive.wait()
        trio.lowlevel.spawn_system_task(die)
        ends = await asyncio.gather(*lives, return_exceptions=True)
        assert [type(end) for end in ends] == [trio.TrioInternalError] * 2
        for name in ("a", "b"):
            world[name].client.closed = 1

    on_asyncio(main)


# -- one guest, several managers ------------------------------------------------------------------


def test_managers_share_a_guest_and_the_last_one_out_ends_it(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open("a", runtime={"name": "one"}) as one:
            await one.wait_ready()
            async with world.open("b", runtime={"name": "two"}) as two:
                await two.wait_ready()
                assert trio.lowlevel.in_trio_run()
            assert one.database() == ("database", 1)
            assert trio.lowlevel.in_trio_run()
        assert not trio.lowlevel.in_trio_run()

    on_asyncio(main)


def test_managers_come_and_go_in_any_order(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async def life(index: int) -> None:
            await asyncio.sleep(index % 7 / 1000)
            async with world.open(f"db_{index}", runtime={"name": f"n{index}"}) as connections:
                await connections.wait_ready()
                await asyncio.sleep(index % 5 / 1000)

        for _ in range(5):
            await asyncio.gather(*map(life, range(20)))
        assert not trio.lowlevel.in_trio_run()

    on_asyncio(main)


def test_one_manager_that_dies_leaves_the_others_alone(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open("good", runtime={"name": "good"}) as good:
            await good.wait_ready()
            world["bad"].from_now_on("open", world.bug())
            with pytest.raises(RestartIntensityExceeded):
                async with world.open("bad", runtime={"name": "bad"}):
                    await asyncio.sleep(math.inf)
            assert good.is_alive()
            assert good.database() == ("database", 1)

    on_asyncio(main)


def test_a_guest_keeps_nothing_of_managers_that_have_left(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open("stays", runtime={"name": "stays"}):
            for number in range(20):
                async with world.open(f"db_{number}", runtime={"name": f"n{number}"}):
                    pass
            gc.collect()
            names = {kernel.name for kernel in kernels_alive if kernel.name.startswith("n")}
            assert len(names) <= 1  # the last one's frames may still be about

    on_asyncio(main)


@pytest.mark.parametrize("turns", range(0, 60, 4))
def test_opening_while_the_loop_is_wound_up_waits_for_a_new_guest(
    world: World, on_asyncio: Run, turns: int
) -> None:
    async def main() -> None:
        async def life() -> None:
            async with world.open(runtime={"name": "first"}) as connections:
                await connections.wait_ready()
                await asyncio.sleep(math.inf)

        living = asyncio.create_task(life())
        while "established" not in world.path():
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        async with world.open("second", runtime={"name": "second"}) as connections:
            assert await connections.get_database()
        with pytest.raises(asyncio.CancelledError):
            await living

    on_asyncio(main)


# -- who may call ---------------------------------------------------------------------------------


def test_another_thread_is_refused(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open() as connections:
            await connections.wait_ready()
            with pytest.raises(HostMismatch, match="run_coroutine_threadsafe"):
                await asyncio.to_thread(connections.database)
            assert (await asyncio.to_thread(connections.statuses))[0].state is State.READY

    on_asyncio(main)


def test_another_loop_of_the_same_thread_is_refused(
    world: World, new_loop: Callable[[], asyncio.AbstractEventLoop], nothing_left: None
) -> None:
    first, second = new_loop(), new_loop()
    block = world.open()
    connections = first.run_until_complete(block.__aenter__())

    async def use() -> None:
        with pytest.raises(HostMismatch, match="open the connections in the loop that uses them"):
            await connections["db"].restart()
        with pytest.raises(HostMismatch, match="Close those first"):
            async with world.open(runtime={"name": "second"}):
                pytest.fail("the block began")

    second.run_until_complete(use())
    first.run_until_complete(block.__aexit__(None, None, None))
    for loop in (first, second):
        loop.close()


def test_leaving_the_block_in_another_loop_is_refused_and_changes_nothing(
    world: World, new_loop: Callable[[], asyncio.AbstractEventLoop], nothing_left: None
) -> None:
    first, second = new_loop(), new_loop()
    block = world.open()
    connections = first.run_until_complete(block.__aenter__())
    with pytest.raises(HostMismatch, match="the block"):
        second.run_until_complete(block.__aexit__(None, None, None))
    first.run_until_complete(connections.wait_ready())
    first.run_until_complete(block.__aexit__(None, None, None))
    for loop in (first, second):
        loop.close()


def test_what_open_connections_returns_is_entered_once(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        block = world.open()
        async with block as connections:
            await connections.wait_ready()
            with pytest.raises(RuntimeError, match="can be entered once"):
                await block.__aenter__()
            assert connections.database() == ("database", 1)

    on_asyncio(main)


def test_another_trio_guest_on_the_thread_is_a_clear_error(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        loop, over, scope = asyncio.get_running_loop(), asyncio.Event(), trio.CancelScope()

        async def somebody_elses() -> None:
            with scope:
                await trio.sleep_forever()

        trio.lowlevel.start_guest_run(
            somebody_elses,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda _: over.set(),
            host_uses_signal_set_wakeup_fd=True,
        )
        with pytest.raises(HostMismatch, match="a trio run that is not ours"):
            async with world.open():
                pytest.fail("the block began")
        scope.cancel()
        await over.wait()

    on_asyncio(main)


# -- who forgets to close -------------------------------------------------------------------------


def test_a_forgotten_block_is_closed_by_the_loops_end(world: World, on_asyncio: Run) -> None:
    """`asyncio.run` cancels what is left; the guard ends the guest then, clients and all."""

    async def main() -> None:
        main.block = world.open()  # type: ignore[attr-defined] # or it would be collected here
        connections = await main.block.__aenter__()  # type: ignore[attr-defined]
        await connections.wait_ready()

    with asyncio.Runner(debug=True) as runner:
        runner.run(main())
    assert not trio.lowlevel.in_trio_run()
    assert [client.closed for client in world["db"].clients] == [1]


def test_a_loop_that_is_closed_under_a_guest_leaves_a_clean_thread(
    world: World,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    caplog: pytest.LogCaptureFixture,
    on_asyncio: Run,
) -> None:
    """The next to come drives the abandoned guest to its end, and says so."""
    loop = new_loop()
    block = world.open()
    connections = loop.run_until_complete(block.__aenter__())
    loop.run_until_complete(connections.wait_ready())
    cancelled = asyncio.all_tasks(loop)
    loop.close()

    async def main() -> None:
        async with world.open(runtime={"name": "next"}) as following:
            await following.wait_ready()

    with caplog.at_level(logging.ERROR, "moorings"):
        on_asyncio(main)
    assert "an event loop was closed while connections were open" in caplog.text
    assert connections["db"].state is State.STOPPED
    world["db"].clients[0].closed = 1  # the loop it would have been closed in is gone
    for task in cancelled:
        task._log_destroy_pending = False  # type: ignore[attr-defined] # closing the loop did that
    del block, cancelled
    gc.collect()
