"""`reload`: only the difference is applied, and only if all of it is valid."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import trio
from settings_files import write
from trio.testing import wait_all_tasks_blocked

from moorings.errors import (
    ConnectionNotReady,
    FailureReason,
    RestartIntensityExceeded,
    SettingsError,
    UnknownConnection,
)
from moorings.runtime.changes import Changes
from moorings.runtime.hangup import Hangups
from moorings.runtime.redaction import Redactor
from moorings.runtime.state import State

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from asyncio_fixtures import Run
    from scripted import World
    from trio.testing import MockClock


def with_tables(settings: dict[str, Any], name: str, **tables: Any) -> dict[str, Any]:
    """`settings` with further tables of one connection."""
    settings["default"]["database"]["documents"][name] |= tables
    return settings


@pytest.fixture
def elsewhere(world: World) -> World:
    """A second backend; it plays by the same servers."""

    class Elsewhere(world.registry.get("scripted")):  # type: ignore[misc]
        hosts: ClassVar[frozenset[str]] = frozenset({"trio"})

    world.registry.register("elsewhere", Elsewhere)
    return world


# -- the comparison, and how it is told


def test_changes_are_told_in_one_line() -> None:
    assert str(Changes()) == "no changes"
    changes = Changes(added=("a", "b"), needs_restart=("runtime.name",))
    assert str(changes) == "added: a, b; needs restart: runtime.name"


async def test_equal_settings_change_nothing(world: World, autojump_clock: MockClock) -> None:
    async with world.open("a", "b") as manager:
        await manager.wait_ready("a", "b")
        assert await manager.reload(world.settings("a", "b")) == Changes()
        assert await manager.reload() == Changes()
        assert [c.generation for c in map(manager.__getitem__, manager)] == [1, 1]


# -- in place


async def test_another_interval_keeps_the_generation_and_times_the_next_ping(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open(health={"interval": 3600.0}) as manager:
        database = await manager.get_database()
        await trio.sleep(100.0)
        pings = world["db"].count("ping")
        changes = await manager.reload(world.settings(health={"interval": 1.0}))
        assert changes == Changes(updated=("db",))
        await trio.sleep(10.0)
        assert world["db"].count("ping") >= pings + 8
        assert manager["db"].generation == 1
        assert manager.database() is database
        assert len(world["db"].clients) == 1
        assert world.path() == ["start", "established"]  # nor did the watchdog strike


async def test_the_new_bound_for_a_frozen_server_holds_from_the_reload_on(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open(health={"interval": 3600.0}) as manager:
        await manager.wait_ready()
        health = {"interval": 2.0, "jitter": 0.0, "timeout": 1.0, "failures": 2}
        await manager.reload(world.settings(health=health))
        world["db"].from_now_on("ping", world.hang())
        began = trio.current_time()
        await world.until(manager["db"], State.CONNECTING)
        assert trio.current_time() - began <= 2.0 + 2 * 1.0 + 0.3
        assert manager["db"].provider.command_timeout == 1.0
        world["db"].heal()


async def test_other_attempts_hold_from_the_next_episode_on(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].from_now_on("open", world.fail())
    async with world.open(retry={"attempts": 2}) as manager:
        await world.until(manager["db"], State.FAILED)
        assert world["db"].count("open") == 2
        await manager.reload(world.settings(retry={"attempts": 4}))
        await world.until(manager["db"], State.CONNECTING)
        await world.until(manager["db"], State.FAILED)
        assert world["db"].count("open") == 2 + 4


async def test_an_optional_connection_may_become_required(
    world: World, autojump_clock: MockClock
) -> None:
    """It gates readiness, watchers see it, and its crashes count upward from then on."""
    world["db"].refuse()
    budget = {"intensity": 0}
    with pytest.raises(RestartIntensityExceeded):
        async with world.open(required=False, supervision=budget) as manager:
            await world.until(manager["db"], State.FAILED)
            assert manager.is_ready()
            watch = manager["db"].watch()
            assert not (await anext(watch)).required
            changes = await manager.reload(world.settings(supervision=budget))
            assert changes.updated == ("db",)
            assert (await anext(watch)).required
            assert not manager.is_ready()
            world["db"].from_now_on("ping", world.bug())
            await trio.sleep(300.0)


async def test_a_required_connection_may_become_optional(
    world: World, autojump_clock: MockClock
) -> None:
    """Over its budget it is parked then."""
    async with world.open() as manager:
        await manager.wait_ready()
        await manager.reload(world.settings(required=False, supervision={"intensity": 0}))
        world["db"].from_now_on("ping", world.bug())
        await trio.sleep(300.0)
        assert manager["db"].state is State.FAILED
        assert manager.is_ready()


async def test_other_settings_of_the_runtime_take_effect_or_are_named(
    world: World, autojump_clock: MockClock
) -> None:
    """Those that wait for a restart are named by every reload until then."""
    world["db"].refuse()
    runtime = {"ready_timeout": 1.0, "name": "other", "exporter": {"port": 1}}
    async with world.open() as manager:
        for updated in (("runtime.ready_timeout",), ()):
            changes = await manager.reload(world.settings(runtime=runtime))
            assert changes.updated == updated
            assert changes.needs_restart == ("runtime.name", "runtime.exporter.port")
        began = trio.current_time()
        with pytest.raises(ConnectionNotReady):
            await manager.get_database()
        assert trio.current_time() - began == 1.0


async def test_another_default_connection_is_served_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a", "b") as manager:
        await manager.wait_ready("a", "b")
        changes = await manager.reload(world.settings("b", "a"))
        assert changes == Changes(updated=("database.default_document_connection",))
        assert manager.database() == manager.database("b")
        assert list(manager) == ["b", "a"]


# -- coming and going


async def test_an_added_connection_starts(world: World, autojump_clock: MockClock) -> None:
    async with world.open("a") as manager:
        with pytest.raises(UnknownConnection):
            _ = manager["b"]
        assert await manager.reload(world.settings("a", "b")) == Changes(added=("b",))
        await manager.wait_ready("b")
        assert [status.name for status in manager.statuses()] == ["a", "b"]


async def test_a_removed_connections_waiters_are_told_at_once(
    world: World, autojump_clock: MockClock
) -> None:
    world["b"].from_now_on("open", world.stubborn(3.0))  # its end is not what tells them
    async with world.open("a", "b") as manager, trio.open_nursery() as nursery:
        await manager.wait_ready("a")
        removed = manager["b"]
        told: list[float] = []

        async def wait(ready: Callable[[], Any]) -> None:
            with pytest.raises(ConnectionNotReady, match="'b' was removed by a reload"):
                await ready()
            told.append(trio.current_time())

        nursery.start_soon(wait, removed.get_database)
        nursery.start_soon(wait, manager.wait_ready)
        await wait_all_tasks_blocked()
        now = trio.current_time()
        assert await manager.reload(world.settings("a")) == Changes(removed=("b",))
        await wait_all_tasks_blocked()
        assert told == [now, now]
        assert manager.is_ready()


async def test_a_removed_connection_is_unknown_and_refuses_commands(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a", "b") as manager:
        await manager.wait_ready("b")
        removed, watch = manager["b"], manager["b"].watch()
        await manager.reload(world.settings("a"))
        assert world["b"].client.closed == 1
        with pytest.raises(UnknownConnection, match=r"there is no database\.documents\.b"):
            manager.database("b")
        for command in (removed.start, removed.restart, removed.wait_ready):
            with pytest.raises(ConnectionNotReady, match="removed by a reload"):
                await command()
        await removed.stop()
        assert removed.state is State.STOPPED
        assert [status.state async for status in watch] == [State.STOPPED]


async def test_a_disabled_connection_is_removed_and_may_come_back(
    world: World, autojump_clock: MockClock
) -> None:
    """As another `Connection`, with the first generation of its own."""
    async with world.open("a", "b") as manager:
        await manager.wait_ready("b")
        disabled = with_tables(world.settings("a", "b"), "b", enabled=False)
        assert await manager.reload(disabled) == Changes(removed=("b",))
        with pytest.raises(UnknownConnection, match="is disabled"):
            _ = manager["b"]
        assert await manager.reload(world.settings("a", "b")) == Changes(added=("b",))
        await manager.wait_ready("b")
        assert manager["b"].generation == 1


async def test_a_stopped_connection_can_be_removed(world: World, autojump_clock: MockClock) -> None:
    async with world.open("a", "b") as manager:
        await manager.stop("b")
        watch = manager["b"].watch()
        await manager.reload(world.settings("a"))
        assert [status.state async for status in watch] == [State.STOPPED]


async def test_a_command_that_waits_for_its_turn_finds_the_connection_removed(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a", "b") as manager, trio.open_nursery() as nursery:
        await manager.wait_ready("b")
        removed = manager["b"]
        world["b"].next("close", world.take(2.0))

        async def start() -> None:
            with pytest.raises(ConnectionNotReady, match="removed by a reload"):
                await removed.start()

        nursery.start_soon(removed.stop)
        await wait_all_tasks_blocked()
        nursery.start_soon(start)
        nursery.start_soon(removed.stop)
        await wait_all_tasks_blocked()
        assert await manager.reload(world.settings("a")) == Changes(removed=("b",))
        assert removed.state is State.STOPPED


async def test_a_restart_under_way_ends_when_its_connection_is_removed(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a", "b", health={"timeout": 100.0}) as manager:
        await manager.wait_ready("b")
        removed = manager["b"]
        world["b"].next("open", world.hang())
        async with trio.open_nursery() as nursery:

            async def restart() -> None:
                with pytest.raises(ConnectionNotReady):
                    await removed.restart()

            nursery.start_soon(restart)
            await wait_all_tasks_blocked()
            began = trio.current_time()
            await manager.reload(world.settings("a", health={"timeout": 100.0}))
            assert trio.current_time() - began < 1.0


# -- another client


def moved_to(world: World, *names: str, endpoint: str = "other") -> dict[str, Any]:
    return world.settings(*names, provider={"endpoint": endpoint})


async def test_another_provider_table_swaps_the_client_of_a_ready_connection(
    world: World, autojump_clock: MockClock
) -> None:
    """It stays `ready`; hooks run on the new client first."""
    async with world.open("a", "b") as manager:
        await manager.wait_ready("a", "b")
        hooked = []

        @manager["a"].on_ready
        async def hook(database: Any) -> None:
            hooked.append(database)

        settings = with_tables(world.settings("a", "b"), "a", provider={"endpoint": "other"})
        assert await manager.reload(settings) == Changes(restarted=("a",))
        assert manager["a"].generation == 2
        assert manager.database("a") == hooked[-1]
        assert world["a"].client.settings.endpoint == "other"
        assert world.path("a") == ["start", "established"]
        assert manager["b"].generation == 1


async def test_a_new_client_that_does_not_come_up_leaves_everything_of_the_old_one(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in `failed`, the others are not held up, and the next reload tries again."""
    async with world.open("a", "b") as manager:
        await manager.wait_ready("a", "b")
        database = manager.database("a")
        world["a"].next("verify", world.fail(FailureReason.AUTH))
        settings = world.settings(
            "a", "b", provider={"endpoint": "other"}, health={"interval": 1.0}
        )
        changes = await manager.reload(settings)
        assert changes == Changes(restarted=("b",), failed=("a",))
        assert "'a' was not restarted, the old client stays" in caplog.text
        assert manager.database("a") is database
        assert manager["a"].settings.provider.endpoint == "server"
        assert manager["a"].settings.health.interval == 10.0
        assert await manager.reload() == Changes(restarted=("a",))
        assert manager["a"].generation == 2


async def test_a_new_client_that_fails_shows_no_secret_of_its_settings(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.open() as manager:
        await manager.wait_ready()
        world["db"].next("open", world.fail(FailureReason.AUTH, "me:hush-hush was refused"))
        changes = await manager.reload(world.settings(provider={"password": "hush-hush"}))
        assert changes.failed == ("db",)
        assert "was refused" in caplog.text
        assert "hush-hush" not in caplog.text


async def test_a_failed_connection_begins_anew_with_the_new_table(
    world: World, autojump_clock: MockClock
) -> None:
    world["db"].refuse(FailureReason.AUTH)
    async with world.open(supervision={"backoff_initial": 99.0, "backoff_max": 99.0}) as manager:
        await world.until(manager["db"], State.FAILED)
        world["db"].heal()
        began = trio.current_time()
        assert await manager.reload(moved_to(world)) == Changes(restarted=("db",))
        await manager.wait_ready()
        assert trio.current_time() - began < 1.0
        assert world["db"].client.settings.endpoint == "other"


async def test_a_stopped_connection_stays_stopped_and_starts_with_the_new_table(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.stop("db")
        assert await manager.reload(moved_to(world)) == Changes(updated=("db",))
        assert manager["db"].state is State.STOPPED
        await manager.start("db")
        await manager.wait_ready()
        assert world["db"].client.settings.endpoint == "other"


async def test_other_secrets_restart_the_connections_that_refer_to_some(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not the others; and one whose secret is not there keeps what it has until it is.

    In real time: files are read in threads, for which a virtual clock does not wait.
    """
    monkeypatch.setenv("MOORINGS_SECRET_DB_PASSWORD", "first")
    provider = {"password": {"path": "db", "key": "password"}}
    settings = with_tables(world.settings("a", "b"), "a", provider=provider)
    async with world.open_settings(settings) as manager:
        await manager.wait_ready("a", "b")
        secrets = {"backend": "file", "provider": {"base_path": str(tmp_path)}}
        settings["default"]["security"] = {"secrets": secrets}
        changes = await manager.reload(settings)
        assert changes == Changes(updated=("security.secrets",), failed=("a",))
        assert manager["a"].generation == 1
        (tmp_path / "db").mkdir()
        (tmp_path / "db" / "password").write_text("second")
        assert await manager.reload() == Changes(restarted=("a",))
        assert world["a"].client.settings.password.get_secret_value() == "second"
        assert await manager.reload() == Changes()
        assert manager["b"].generation == 1


async def test_another_backend_keeps_the_connection_and_its_hooks(
    elsewhere: World, autojump_clock: MockClock
) -> None:
    async with elsewhere.open() as manager:
        held, hooked = manager["db"], []

        @held.on_ready
        async def hook(database: Any) -> None:
            hooked.append(database)

        await manager.wait_ready()
        provider, first = held.provider, elsewhere["db"].client
        settings = with_tables(elsewhere.settings(), "db", backend="elsewhere")
        assert await manager.reload(settings) == Changes(restarted=("db",))
        assert first.closed == 1
        await manager.wait_ready()
        assert manager["db"] is held
        assert held.backend == held.status.backend == "elsewhere"
        assert held.provider is not provider
        assert len(hooked) == 2
        assert elsewhere.path() == ["start", "established", "stop", "start", "established"]


async def test_another_backend_of_a_stopped_connection_waits_for_its_start(
    elsewhere: World, autojump_clock: MockClock
) -> None:
    async with elsewhere.open() as manager:
        await manager.stop("db")
        await manager.reload(with_tables(elsewhere.settings(), "db", backend="elsewhere"))
        assert manager["db"].state is State.STOPPED
        await manager.start("db")
        await manager.wait_ready()
        assert manager["db"].backend == "elsewhere"


# -- what cannot be used


@pytest.mark.parametrize(
    "wrong",
    [
        {"health": {"intervall": 1.0}},
        {"provider": {"endpoint": 3}},
        {"backend": "scirpted"},
    ],
)
async def test_bad_settings_change_nothing_and_say_why(
    world: World, autojump_clock: MockClock, wrong: dict[str, Any]
) -> None:
    """Not even what is good in them."""
    async with world.open("a", "b") as manager:
        await manager.wait_ready("a", "b")
        before = manager.statuses(), manager.settings
        bad = with_tables(world.settings("a", "c", runtime={"ready_timeout": 1.0}), "a", **wrong)
        with pytest.raises(SettingsError, match=r"database\.documents\.a\."):
            await manager.reload(bad)
        assert (manager.statuses(), manager.settings) == before
        assert await manager.reload() == Changes()  # the last good ones are what is read again


async def test_a_file_is_read_again(world: World, tmp_path: Path) -> None:
    """Wherever the program has gone; one that is bad, or gone, changes nothing."""
    file = write(tmp_path, world.settings("a"))
    async with world.open_settings(file) as manager:
        await manager.wait_ready("a")
        write(tmp_path, world.settings("a", "b"))
        assert await manager.reload() == Changes(added=("b",))
        file.write_text("[default")
        with pytest.raises(SettingsError, match=r"settings\.toml"):
            await manager.reload()
        file.unlink()
        with pytest.raises(SettingsError, match=r"settings\.toml"):
            await manager.reload()
        assert list(manager) == ["a", "b"]


async def test_a_relative_path_stays_what_it_was(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, world.settings("a"))
    monkeypatch.chdir(tmp_path)
    async with world.open_settings("settings.toml") as manager:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert await manager.reload() == Changes()


# -- several at a time, and cancelled ones


async def test_reloads_wait_for_each_other(world: World, autojump_clock: MockClock) -> None:
    async with world.open("a") as manager:
        await manager.wait_ready()
        world["a"].next("open", world.take(1.0))
        told: list[Changes] = []

        async def reload(settings: Any) -> None:
            told.append(await manager.reload(settings))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reload, moved_to(world, "a"))
            await wait_all_tasks_blocked()
            nursery.start_soon(reload, world.settings("a"))
        assert told == [Changes(restarted=("a",)), Changes(restarted=("a",))]
        assert world["a"].client.settings.endpoint == "server"


async def test_a_cancelled_reload_is_completed_by_the_next_one(
    elsewhere: World, autojump_clock: MockClock
) -> None:
    """What was to be stopped is stopped, what was to move has moved; the swap is given up."""
    world = elsewhere
    async with world.open("gone", "moved", "swapped") as manager:
        await manager.wait_ready("gone", "moved", "swapped")
        for name in ("gone", "moved"):
            world[name].next("close", world.take(2.0))
        world["swapped"].next("open", world.take(1.5))
        settings = with_tables(moved_to(world, "swapped", "moved"), "moved", backend="elsewhere")
        with trio.move_on_after(1.0) as scope:
            await manager.reload(settings)
        assert scope.cancelled_caught
        assert "gone" not in manager
        assert manager["swapped"].settings.provider.endpoint == "server"
        assert manager["swapped"].generation == 1
        back = with_tables(
            moved_to(world, "swapped", "moved", "gone"), "moved", backend="elsewhere"
        )
        changes = await manager.reload(back)
        assert changes == Changes(added=("gone",), restarted=("swapped",))
        await manager.wait_ready("gone", "moved", "swapped")
        assert world["moved"].client.settings.endpoint == "other"


async def test_a_manager_that_closes_reloads_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.wait_ready()
    with pytest.raises(ConnectionNotReady, match="closing"):
        await manager.reload(world.settings("a"))


async def test_the_block_may_end_while_a_connection_is_removed(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a", "b") as manager:
        await manager.wait_ready("b")
        world["b"].next("close", world.take(2.0))
        with trio.move_on_after(0.5):
            await manager.reload(world.settings("a"))
    assert world["b"].client.closed == 1


async def test_a_hook_cannot_reload(world: World, autojump_clock: MockClock) -> None:
    refused = trio.Event()
    async with world.open() as manager:

        @manager["db"].on_ready
        async def hook(database: Any) -> None:
            with pytest.raises(RuntimeError, match="would wait for the hook"):
                await manager.reload()
            refused.set()

        await refused.wait()


# -- SIGHUP


async def test_a_hangup_during_the_start_is_heeded_after_it(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "moorings")
    hangups = Hangups(Redactor())
    await hangups.reload()
    assert "reloaded" not in caplog.text
    async with world.open() as manager:
        await hangups.began(manager)
        assert "settings reloaded: no changes" in caplog.text


async def test_a_hangup_at_the_end_is_not_an_error(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    hangups = Hangups(Redactor())
    async with world.open() as manager:
        await hangups.began(manager)
    await hangups.reload()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_bug_in_a_reload_is_logged_and_ends_nothing(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(world.registry.get("scripted")):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            raise world.Bug(name)

    settings = world.settings("a")
    hangups = Hangups(Redactor())
    async with world.open_settings(settings) as manager:
        await hangups.began(manager)
        await manager.wait_ready("a")
        world.registry.register("broken", Broken)
        settings["default"]["database"]["documents"]["b"] = {"backend": "broken"}
        await hangups.reload()
        assert "the reload failed" in caplog.text
        assert list(manager) == ["a"]
        assert manager.is_ready()


async def test_a_hangup_with_bad_settings_is_one_error(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    settings = world.settings()
    hangups = Hangups(Redactor())
    async with world.open_settings(settings) as manager:
        await hangups.began(manager)
        with_tables(settings, "db", backend="scirpted")
        await hangups.reload()
    (error,) = caplog.records
    assert error.levelname == "ERROR"
    assert "database.documents.db.backend" in error.getMessage()


# -- asyncio


def test_in_asyncio_a_reload_adds_removes_swaps_and_updates(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open("gone", "swapped", "updated") as manager:
            await manager.wait_ready("gone", "swapped", "updated")
            removed = manager["gone"]
            settings = world.settings("swapped", "updated", "added")
            with_tables(settings, "swapped", provider={"endpoint": "other"})
            with_tables(settings, "updated", health={"interval": 1.0})
            assert await manager.reload(settings) == Changes(
                added=("added",),
                removed=("gone",),
                restarted=("swapped",),
                updated=("updated", "database.default_document_connection"),
            )
            with pytest.raises(ConnectionNotReady, match="removed"):
                await removed.get_database()
            await manager.wait_ready("added", "swapped", "updated")
            assert [manager[name].generation for name in manager] == [2, 1, 1]

    on_asyncio(main)


def test_in_asyncio_a_backend_for_trio_alone_is_refused(elsewhere: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with elsewhere.open() as manager:
            await manager.wait_ready()
            bad = with_tables(elsewhere.settings("db", "new"), "db", backend="elsewhere")
            with pytest.raises(SettingsError, match="works on trio"):
                await manager.reload(bad)
            assert list(manager) == ["db"]
            assert manager["db"].is_ready()

    on_asyncio(main)


def test_in_asyncio_a_cancelled_reload_gives_the_swap_up(world: World, on_asyncio: Run) -> None:
    async def main() -> None:
        async with world.open() as manager:
            await manager.wait_ready()
            world["db"].next("open", world.hang())
            reloading = asyncio.create_task(manager.reload(moved_to(world)))
            while not world["db"].busy:
                await asyncio.sleep(0)
            reloading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reloading
            assert manager["db"].generation == 1
            assert await manager.reload() == Changes(restarted=("db",))

    on_asyncio(main)


def test_in_asyncio_a_manager_that_has_closed_reloads_nothing(
    world: World, on_asyncio: Run
) -> None:
    async def main() -> None:
        async with world.open() as manager:
            await manager.wait_ready()
        with pytest.raises(ConnectionNotReady, match="closing"):
            await manager.reload()

    on_asyncio(main)


def test_who_watches_a_connection_that_leaves_is_told_when_the_runtime_dies(
    world: World, on_asyncio: Run
) -> None:
    """Even without anybody left to stop it."""

    async def crash() -> None:
        """Of trio's own loop, which then unwinds no task."""
        with trio.move_on_after(0.01):
            await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)  # type: ignore[return-value]

    async def main() -> None:
        world["b"].from_now_on("open", world.stubborn(0.3))
        with pytest.raises(trio.TrioInternalError):
            async with world.open("a", "b") as manager:
                await manager.wait_ready("a")
                watch = manager["b"].watch()
                await anext(watch)
                reloading = asyncio.create_task(manager.reload(world.settings("a")))
                while "b" in manager:
                    await asyncio.sleep(0)
                trio.lowlevel.spawn_system_task(crash)
                await asyncio.sleep(math.inf)
        with pytest.raises(ConnectionNotReady):
            await reloading
        async with asyncio.timeout(5.0):
            assert [status.state async for status in watch] == [State.STOPPED]
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        for client in (*world["a"].clients, *world["b"].clients):
            client.closed = 1  # by nobody: there was no kernel left to do it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what trio's tasks say when they are collected as they are
        on_asyncio(main)
        gc.collect()
