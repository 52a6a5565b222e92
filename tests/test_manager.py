"""The manager: names, what it says of all, commands by name, who may call, and what it refuses."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio

from moorings.errors import (
    ConnectionNotReady,
    HostMismatch,
    SettingsError,
    UnknownBackend,
    UnknownConnection,
)
from moorings.runtime.opening import open_connections
from moorings.runtime.state import Event, State

if TYPE_CHECKING:
    from scripted import World
    from trio.testing import MockClock

    from moorings.runtime.status import Transition


async def test_it_is_a_collection_of_connections(world: World, autojump_clock: MockClock) -> None:
    async with world.open("b", "a") as manager:
        assert list(manager) == ["b", "a"]
        assert len(manager) == 2
        assert "a" in manager
        assert "x" not in manager
        assert manager.get_document_db("a") is manager["a"]
        assert manager.get_document_db() is manager["b"]  # the default one
        assert [s.name for s in manager.statuses()] == ["b", "a"]
        assert repr(manager) == "<ConnectionManager 'moorings': 0 of 2 ready>"
        await manager.wait_ready()
        assert repr(manager) == "<ConnectionManager 'moorings': 2 of 2 ready>"
        assert repr(manager["a"]) == "<Connection 'a' [scripted]: ready>"


async def test_unknown_and_disabled_names_are_told_apart(
    world: World, autojump_clock: MockClock
) -> None:
    settings = world.settings("mongo", "off")
    settings["default"]["database"]["documents"]["off"]["enabled"] = False
    async with world.open_settings(settings) as manager:
        with pytest.raises(UnknownConnection, match="did you mean 'mongo'"):
            manager["mong"]
        with pytest.raises(UnknownConnection, match=r"documents\.off is disabled"):
            manager["off"]
        assert "off" not in manager
        for call in (manager.get_database, manager.start, manager.stop, manager.restart):
            with pytest.raises(UnknownConnection):
                await call("nope")
        with pytest.raises(UnknownConnection):
            manager.database("nope")
        with pytest.raises(UnknownConnection):
            await manager.wait_ready("mongo", "nope")


async def test_without_a_default_a_name_has_to_be_given(
    world: World, autojump_clock: MockClock
) -> None:
    settings = world.settings()
    del settings["default"]["database"]["default_document_connection"]
    async with world.open_settings(settings) as manager:
        with pytest.raises(UnknownConnection, match="default_document_connection is not set"):
            await manager.get_database()
        with pytest.raises(UnknownConnection):
            manager.database()
        assert await manager.get_database("db") is not None


async def test_the_same_database_by_every_way(world: World, autojump_clock: MockClock) -> None:
    async with world.open() as manager:
        database = await manager.get_database()
        assert manager.database() is database
        assert manager.database("db") is database
        assert manager["db"].database() is database
        assert await manager["db"].get_database() is database


async def test_only_required_ones_gate_readiness(world: World, autojump_clock: MockClock) -> None:
    settings = world.settings("must", "may")
    settings["default"]["database"]["documents"]["may"]["required"] = False
    world["may"].refuse()
    async with world.open_settings(settings) as manager:
        await manager.wait_ready()
        assert manager.is_ready()
        with pytest.raises(ConnectionNotReady, match="'may'"):
            await manager.wait_ready("may", timeout=1)
        await manager.stop("must")
        assert not manager.is_ready()
        with pytest.raises(ConnectionNotReady, match="'must' is stopped"):
            await manager.wait_ready()


async def test_wait_ready_wants_all_at_the_same_time(
    world: World, autojump_clock: MockClock
) -> None:
    world["b"].next("ping", world.take(1.0))
    async with world.open("a", "b") as manager:
        await manager.wait_ready("a", "b")
        assert manager.is_ready()
        with trio.testing.assert_checkpoints():
            await trio.lowlevel.checkpoint()
        await manager.wait_ready("a", timeout=0)


async def test_no_connections_at_all_are_ready(world: World, autojump_clock: MockClock) -> None:
    async with world.open_settings({"default": {}}) as manager:
        assert len(manager) == 0
        assert manager.is_ready()
        assert manager.is_started()
        await manager.wait_ready()


async def test_watch_shows_all_then_each_change_and_ends(
    world: World, autojump_clock: MockClock
) -> None:
    seen: list[tuple[str, State]] = []

    async def follow(manager: Any) -> None:
        async for status in manager.watch():
            seen.append((status.name, status.state))  # noqa: PERF401

    async with trio.open_nursery() as nursery, world.open("a", "b") as manager:
        nursery.start_soon(follow, manager)
        await manager.wait_ready()
        await trio.sleep(1)
    for name in "ab":
        states = [state for n, state in seen if n == name]
        assert states[-2:] == [State.READY, State.STOPPED]


async def test_observers_see_every_step_and_a_broken_one_is_removed_and_logged(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Transition] = []

    def broken(transition: Transition) -> None:
        calls.append(transition)
        raise ZeroDivisionError

    async with world.open(observers=(broken,)) as manager:
        await manager.get_database()
    assert len(calls) == 1
    assert [t.event for t in world.transitions] == [Event.START, Event.ESTABLISHED, Event.STOP]
    first = world.transitions[0]
    assert (first.connection, first.source, first.target) == ("db", State.INIT, State.CONNECTING)
    assert first.status.state is State.CONNECTING
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "removed a broken observer" in errors[0].getMessage()


async def test_the_cause_of_a_step_is_told(world: World, autojump_clock: MockClock) -> None:
    world["db"].refuse()
    async with world.open(retry={"attempts": 1}) as manager:
        await world.until(manager["db"], State.FAILED)
    gave_up = next(t for t in world.transitions if t.event is Event.GAVE_UP)
    assert isinstance(gave_up.cause, world.Fault)


async def test_checks_have_names_of_their_own(world: World, autojump_clock: MockClock) -> None:
    async with world.open() as manager:
        manager.add_check("queue", lambda: True)
        with pytest.raises(ValueError, match="'queue' is taken"):
            manager.add_check("queue", lambda: True)
        with pytest.raises(ValueError, match="'db' is taken"):
            manager.add_check("db", lambda: True)
        with pytest.raises(ValueError, match="'kernel' is taken"):  # by what stands for the runtime
            manager.add_check("kernel", lambda: True)
        with pytest.raises(TypeError, match="cannot be called"):
            manager.add_check("other", "x")  # type: ignore[arg-type]


async def test_liveness_is_the_kernels_heartbeat(world: World, autojump_clock: MockClock) -> None:
    async with world.open() as manager:
        assert manager.is_alive()
        await trio.testing.wait_all_tasks_blocked()
        assert manager.is_started()
        manager.kernel._beat -= 5.0
        assert not manager.is_alive()
        await trio.sleep(0.3)
        assert manager.is_alive()
        assert not manager.closing
        manager.kernel.draining = True
        assert manager.closing
    assert not manager.is_alive()


async def test_everything_but_reading_is_refused_elsewhere(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.get_database()
        refused: list[str] = []

        def elsewhere() -> None:
            calls: list[Any] = [
                manager.database,
                manager.watch,
                manager["db"].watch,
                lambda: manager["db"].on_ready(print),  # type: ignore[arg-type]
                lambda: manager.get_database().send(None),
                lambda: manager.wait_ready().send(None),
                lambda: manager.stop("db").send(None),
            ]
            for call in calls:
                try:
                    call()
                except HostMismatch:
                    refused.append("refused")
                else:
                    refused.append("let in")

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert refused == ["refused"] * 7
        assert manager.database() is not None


def test_it_wants_an_event_loop_of_trios() -> None:
    with pytest.raises(HostMismatch):
        open_connections({"default": {}}).__aenter__().send(None)


async def test_settings_that_cannot_be_used_start_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    settings = world.settings()
    settings["default"]["database"]["documents"]["db"]["backend"] = "scriptd"
    with pytest.raises(UnknownBackend, match="did you mean 'scripted'"):
        async with world.open_settings(settings):
            pytest.fail("must not yield")
    with pytest.raises(SettingsError):
        async with world.open(health={"interval": -1}):
            pytest.fail("must not yield")
    assert list(world.metrics.collect()) == []


async def test_two_managers_side_by_side_do_not_disturb_each_other(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a", runtime={"name": "one"}) as one:
        async with world.open("b", runtime={"name": "two"}) as two:
            await one.wait_ready()
            await two.wait_ready()
        assert one.is_ready()
        assert not two.is_ready()


def test_after_a_fork_the_child_is_refused_and_the_parent_goes_on() -> None:
    """A real fork: thread identity survives it, the handles must not."""
    code = """
        import os, warnings
        import trio
        from moorings import HostMismatch, open_connections

        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
        documents = {"db": {"backend": "local"}}
        settings = {"default": {"database": {
            "documents": documents, "default_document_connection": "db"}}}

        async def main():
            async with open_connections(settings) as manager:
                await manager.get_database()
                parent = os.getpid()
                child = os.fork()
                if child == 0:
                    refused = 0
                    for call in (manager.database, manager["db"].database,
                                 lambda: manager.get_database().send(None),
                                 lambda: manager["db"].get_database().send(None)):
                        try:
                            call()
                        except HostMismatch as error:
                            refused += str(parent) in str(error) and str(os.getpid()) in str(error)
                    os._exit(refused)
                _, status = os.waitpid(child, 0)
                print(os.waitstatus_to_exitcode(status), manager.database() is not None)

        trio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["4", "True"]


async def test_with_the_local_backend_all_of_it_for_real(autojump_clock: MockClock) -> None:
    """No scripted provider: data, an outage by fault, and the way back."""
    from prometheus_client import CollectorRegistry

    settings = {
        "default": {
            "database": {
                "documents": {"db": {"backend": "local"}},
                "default_document_connection": "db",
            }
        }
    }
    async with open_connections(settings, metrics=CollectorRegistry()) as manager:
        database = await manager.get_database()
        await database.things.insert_one({"_id": 1})
        manager["db"].provider.faults.refuse()
        await trio.testing.wait_all_tasks_blocked()
        assert not manager.is_ready()
        await trio.sleep(60)
        manager["db"].provider.faults.heal()
        await manager.get_database(timeout=2)
        assert await database.things.find_one({}) == {"_id": 1}  # the held handle works again
