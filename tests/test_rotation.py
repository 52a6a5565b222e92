"""Rotation: new secrets are gone by without leaving `ready`, and nothing that fails hurts."""

from __future__ import annotations

import itertools
import logging
import math
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from moorings.errors import ConnectionNotReady, FailureReason, SecretUnavailable
from moorings.providers.contract import Signal
from moorings.runtime.state import State

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from safe import Safe
    from scripted import World
    from trio.testing import MockClock

    from moorings.runtime.connection import Connection
    from moorings.runtime.manager import ConnectionManager

SLOW = pytest.mark.slow
PASSWORD = {"password": {"path": "db", "key": "password"}}


def opened(
    world: World, *names: str, refresh: float = 10.0, **every: Any
) -> AbstractAsyncContextManager[ConnectionManager]:
    settings = world.settings(*names, provider=PASSWORD, **every)
    settings["default"]["security"] = {
        "secrets": {"backend": "safe", "provider": {"refresh": refresh}}
    }
    return world.open_settings(settings)


def passwords(world: World, name: str = "db") -> list[str]:
    return [client.settings.password.get_secret_value() for client in world[name].clients]


async def until_generation(connection: Connection, generation: int, seconds: float = 300) -> float:
    began = trio.current_time()
    with trio.fail_after(seconds):
        while connection.generation < generation:
            await connection.next_change()
    return trio.current_time() - began


def counted(world: World, name: str, **labels: str) -> float:
    labels = {"runtime": "moorings", "connection": "db", **labels}
    return world.metrics.get_sample_value(f"moorings_connection_{name}", labels) or 0.0


# -- ready ----------------------------------------------------------------------------------------


async def test_new_secrets_get_a_new_client_and_the_state_stays_ready(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world) as manager:
        old = await manager.get_database()
        safe.put("two")
        assert await until_generation(manager["db"], 2) <= 11.0
        assert passwords(world) == ["one", "two"]
        assert manager.database() != old
        assert world.path() == ["start", "established"]
        assert counted(world, "rotations_total", result="success") == 1
        await trio.sleep(5)
        assert [client.closed for client in world["db"].clients] == [1, 0]


async def test_the_same_secrets_change_nothing(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world) as manager:
        await manager.get_database()
        await trio.sleep(100)
        assert manager["db"].generation == 1
        assert len(safe.looks) in range(10, 13)


async def test_one_look_serves_all_connections(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    """A watch per kernel, and each reference is resolved once."""
    async with opened(world, "db", "other", "third") as manager:
        await manager.wait_ready()
        safe.looks.clear()
        await trio.sleep(11.5)  # a look is due within 11 s, the next after 9 s more
        assert [number for _, number in safe.looks] == [1]
        safe.put("two")
        for name in manager:
            await until_generation(manager[name], 2)


async def test_without_references_nothing_is_looked_at(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    settings = world.settings(provider={"password": "plain"})
    settings["default"]["security"] = safe.settings(1.0)
    async with world.open_settings(settings) as manager:
        await manager.get_database()
        world["db"].client.tell(Signal.REFUSED)
        await trio.sleep(100)
        assert safe.looks == []
        await manager.reload(_with_references(world, safe))
        await trio.sleep(5)
        assert len(safe.looks) >= 4  # the watch has begun


def _with_references(world: World, safe: Safe) -> dict[str, Any]:
    settings = world.settings(provider=PASSWORD)
    settings["default"]["security"] = safe.settings(1.0)
    return settings


async def test_a_backend_whose_values_cannot_change_is_not_looked_at(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world) as manager:
        safe.refresh = math.inf
        manager.kernel.rotation.review()
        await manager.get_database()
        safe.put("two")
        await trio.sleep(1000)
        assert manager["db"].generation == 1


async def test_a_new_client_that_fails_leaves_the_old_one_and_is_tried_again(
    world: World, autojump_clock: MockClock, safe: Safe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "moorings")
    async with opened(world, refresh=1.0) as manager:
        old = await manager.get_database()
        world["db"].next("verify", *[world.fail(FailureReason.AUTH)] * 5)
        safe.put("two")
        await until_generation(manager["db"], 2)
        assert manager.database() != old
        assert world.path() == ["start", "established"]
        assert counted(world, "rotations_total", result="failure") == 5
        assert passwords(world) == ["one", *["two"] * 6]
        opens = world["db"].times("open")[1:]
        pauses = [after - before for before, after in itertools.pairwise(opens)]
        assert all(pause >= 1.0 for pause in pauses)
        warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        (said,) = warnings
        assert "the old client stays" in said
        assert "two" not in said
        assert "goes by new secrets (generation 2)" in caplog.text


async def test_other_secrets_are_tried_at_once_after_bad_ones(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()

        async def only_three() -> None:
            if world["db"].client.settings.password.get_secret_value() == "two":
                raise world.Fault(FailureReason.AUTH)

        world["db"].from_now_on("verify", only_three)
        safe.put("two")
        await trio.sleep(200)  # the pause between two attempts has grown long
        safe.put("three")
        assert await until_generation(manager["db"], 2) <= 1.2
        assert passwords(world)[-1] == "three"


async def test_secrets_that_come_back_need_no_new_client(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        world["db"].from_now_on("verify", world.fail(FailureReason.AUTH))
        safe.put("two")
        await trio.sleep(20)
        tried = len(world["db"].clients)
        safe.put("one")
        await trio.sleep(200)
        assert len(world["db"].clients) == tried
        assert manager["db"].generation == 1


async def test_a_failing_backend_changes_no_state_and_is_told_once(
    world: World, autojump_clock: MockClock, safe: Safe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "moorings")
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        safe.error = SecretUnavailable("db", "password", "the safe is shut", "Open it")
        await trio.sleep(100)
        assert world.path() == ["start", "established"]
        (said,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        assert "the safe is shut. Open it; connections keep what they have" in said
        labels = {"runtime": "moorings", "provider": "safe", "result": "error"}
        failed = world.metrics.get_sample_value("moorings_secret_resolutions_total", labels)
        assert failed is not None
        assert failed >= 90
        safe.error = None
        safe.put("two")
        assert await until_generation(manager["db"], 2) <= 1.2
        assert "secrets can be resolved again" in caplog.text


@pytest.mark.parametrize("how", ["bug", "hang"])
async def test_a_backend_with_a_bug_or_that_hangs_is_a_failing_one(
    world: World, autojump_clock: MockClock, safe: Safe, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        if how == "bug":
            safe.error = KeyError("the value of a secret")
        else:
            safe.hangs = True
        await trio.sleep(60)
        assert world.path() == ["start", "established"]
        said = caplog.text
        assert "did not answer in 5 s" in said if how == "hang" else "failed with KeyError" in said
        assert "the value of a secret" not in said
        safe.error, safe.hangs = None, False
        safe.put("two")
        await until_generation(manager["db"], 2)


@pytest.mark.parametrize("answer", [{}, None, {"not": "asked for"}])
async def test_a_backend_that_answers_nonsense_is_a_failing_one(
    world: World, autojump_clock: MockClock, safe: Safe, answer: Any
) -> None:
    """The manager lives on, as do its connections."""

    async def nonsense(wanted: Any) -> Any:
        return answer

    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(safe, "resolve_all", nonsense)
            await trio.sleep(10)
        assert world.path() == ["start", "established"]
        safe.put("two")
        await until_generation(manager["db"], 2)


async def test_a_backend_that_fails_to_close_ends_nothing_else(
    world: World, autojump_clock: MockClock, safe: Safe, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError("the value of a secret")

    safe.close = fail  # type: ignore[method-assign]
    async with opened(world) as manager:
        await manager.get_database()
    assert world.path() == ["start", "established", "stop"]
    assert "could not be closed: OSError" in caplog.text
    assert "the value of a secret" not in caplog.text


@pytest.mark.parametrize("error", [ValueError, KeyError])
async def test_what_the_provider_refuses_is_told_once_and_the_client_stays(
    world: World,
    autojump_clock: MockClock,
    safe: Safe,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    from pydantic import field_validator
    from scripted import ScriptedSettings

    class Picky(ScriptedSettings):
        @field_validator("password")
        @classmethod
        def _no_underscores(cls, value: Any) -> Any:
            if "_" in getattr(value, "get_secret_value", str)():
                raise error("no underscores")
            return value

    provider = world.registry.get("scripted")
    provider.settings_model = Picky
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        safe.put("bad_one")
        await trio.sleep(30)
        (said,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        assert ("no underscores" if error is ValueError else "KeyError") in said
        assert "bad_one" not in said
        assert world.path() == ["start", "established"]
        safe.put("good")
        assert await until_generation(manager["db"], 2) <= 1.2


# -- a driver's connections are refused -----------------------------------------------------------


async def test_refused_connections_make_it_look_at_once(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world, refresh=300.0) as manager:
        await manager.get_database()
        await trio.sleep(5)
        safe.put("two")
        world["db"].client.tell(Signal.REFUSED)
        assert await until_generation(manager["db"], 2) < 0.5
        assert world.path() == ["start", "established"]


async def test_however_many_are_refused_looks_grow_apart(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world, refresh=300.0) as manager:
        await manager.get_database()
        safe.looks.clear()
        for _ in range(100):
            world["db"].client.tell(Signal.REFUSED)
            await trio.sleep(0.1)
        assert [round(when) for when, _ in safe.looks] == [1, 3, 7]


# -- failed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [FailureReason.AUTH, FailureReason.REFUSED])
async def test_a_failed_connection_is_nudged_when_its_secret_changes(
    world: World, autojump_clock: MockClock, safe: Safe, reason: FailureReason
) -> None:
    async def only_two() -> None:
        if world["db"].client.settings.password.get_secret_value() != "two":
            raise world.Fault(reason)

    world["db"].from_now_on("ping", only_two)
    slow = {"backoff_initial": 1000.0, "backoff_max": 1000.0}
    async with opened(world, refresh=1.0, supervision=slow) as manager:
        await world.until(manager["db"], State.FAILED)
        attempts = world["db"].count("open")
        await trio.sleep(100)
        assert world["db"].count("open") == attempts  # nothing new: nothing is retried hot
        safe.put("two")
        assert await until_generation(manager["db"], 1) <= 1.2


async def test_a_secret_that_is_there_again_heals_within_the_refresh(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    safe.values.clear()
    slow = {"backoff_initial": 1000.0, "backoff_max": 1000.0}
    async with opened(world, refresh=1.0, supervision=slow) as manager:
        await world.until(manager["db"], State.FAILED)
        assert manager["db"].status.reason is FailureReason.SECRET
        safe.put("one")
        assert await until_generation(manager["db"], 1) <= 1.2


async def test_a_parked_connection_is_not_woken_by_its_secret(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    world["db"].from_now_on("verify", world.bug())
    every = {"required": False, "supervision": {"intensity": 0}}
    async with opened(world, refresh=1.0, **every) as manager:
        await world.until(manager["db"], State.FAILED)
        await trio.sleep(50)
        world["db"].heal()
        safe.put("two")
        await trio.sleep(50)
        assert manager["db"].state is State.FAILED
        await manager.restart("db")
        await manager.get_database()
        assert passwords(world)[-1] == "two"


# -- and commands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["stop", "restart", "reload"])
async def test_commands_do_not_wait_for_a_rotation(
    world: World, autojump_clock: MockClock, safe: Safe, command: str
) -> None:
    """They go first: what the rotation has built so far is closed."""
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        world["db"].next("ping", world.succeed)
        world["db"].next("open", world.take(1.9))
        safe.put("two")
        with trio.fail_after(10):
            while world["db"].count("open") < 2:
                await trio.sleep(0.1)
        began = trio.current_time()
        if command == "reload":
            other = world.settings(provider={**PASSWORD, "endpoint": "elsewhere"})
            other["default"]["security"] = safe.settings(1.0)
            assert (await manager.reload(other)).restarted == ("db",)
        else:
            await getattr(manager, command)("db")
        assert trio.current_time() - began < 1.0
        if command == "stop":
            await trio.sleep(10)
            assert manager["db"].state is State.STOPPED
            await manager.start("db")
        await manager.get_database()
        assert passwords(world)[-1] == "two"
        await trio.sleep(10)
        opened_clients = [client for client in world["db"].clients if not client.closed]
        assert len(opened_clients) == 1


async def test_a_rotation_does_not_disturb_a_command_under_way(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world, refresh=0.5) as manager:
        await manager.get_database()
        world["db"].next("open", world.take(1.9))
        safe.put("two")
        await manager.restart("db")
        assert manager["db"].generation == 2
        await trio.sleep(10)
        assert manager["db"].generation == 2
        assert passwords(world) == ["one", "two"]


async def test_the_block_ends_in_the_middle_of_a_rotation(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        world["db"].next("open", world.hang())
        safe.put("two")
        while world["db"].count("open") < 2:
            await trio.sleep(0.1)
    assert safe.closed == 1  # and every client is: the fixture looks


async def test_a_rotation_that_is_lost_meanwhile_ends_in_the_episode(
    world: World, autojump_clock: MockClock, safe: Safe
) -> None:
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        world["db"].next("open", world.take(1.0))
        safe.put("two")
        while world["db"].count("open") < 2:
            await trio.sleep(0.1)
        world["db"].client.tell(Signal.LOST)
        await trio.sleep(5)
        assert manager["db"].state is State.READY
        assert passwords(world)[-1] == "two"


async def test_another_backend_takes_over_and_the_old_one_is_closed(
    world: World, autojump_clock: MockClock, safe: Safe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOORINGS_SECRET_DB_PASSWORD", "from the environment")
    async with opened(world, refresh=1.0) as manager:
        await manager.get_database()
        await manager.reload(world.settings(provider=PASSWORD))
        assert safe.closed == 1
        assert passwords(world) == ["one", "from the environment"]
        safe.looks.clear()
        await trio.sleep(10)
        assert safe.looks == []


async def test_time_is_not_spent_without_news(
    world: World, safe: Safe, autojump_clock: MockClock
) -> None:
    """A look costs no attempt, and no validation: the provider is not asked at all."""
    async with opened(world, refresh=1.0, health={"interval": 1000.0}) as manager:
        await manager.get_database()
        calls = len(world["db"].calls)
        await trio.sleep(100)
        assert len(world["db"].calls) == calls


@pytest.mark.parametrize(
    "seed", [*range(20), *(pytest.param(n, marks=SLOW) for n in range(20, 400))]
)
async def test_whatever_happens_the_newest_secret_is_gone_by_in_the_end(  # noqa: C901 - a list
    world: World, safe: Safe, autojump_clock: MockClock, seed: int
) -> None:
    """Commands, signals, faults and rotations at random moments; every client is closed once."""
    random = Random(seed)
    server = world["db"]
    accepted = {"one"}

    async def log_in() -> None:
        await trio.sleep(random.choice([0.0, 0.0, 0.5, 1.5]))
        if server.client.settings.password.get_secret_value() not in accepted:
            raise world.Fault(FailureReason.AUTH)

    async def meddle(manager: ConnectionManager) -> None:
        for step in range(25):
            await trio.sleep(random.random() * 2)
            what = random.randrange(8)
            with suppress(ConnectionNotReady), trio.move_on_after(random.random() * 4):
                match what:
                    case 0 | 1:
                        safe.put(f"secret {seed} {step}")
                    case 2:
                        accepted.add(safe.values["db", "password"])
                    case 3:
                        safe.error = random.choice([None, None, KeyError("x")])
                    case 4:
                        server.client.tell(random.choice(list(Signal)))
                    case 5:
                        server.from_now_on("ping", random.choice([None, None, world.fail()]))
                    case 6:
                        await getattr(manager, random.choice(["stop", "start", "restart"]))("db")
                    case _:
                        await manager.get_database(timeout=1.0)

    server.from_now_on("verify", log_in)
    brisk = {"backoff_initial": 0.5, "backoff_max": 2.0}
    async with opened(world, refresh=1.0, supervision=brisk) as manager:
        await manager.get_database()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(meddle, manager)
            nursery.start_soon(meddle, manager)
        server.from_now_on("ping")
        safe.error = None
        accepted.add(safe.values["db", "password"])
        await manager.start("db")
        await trio.sleep(100)
        assert manager["db"].state is State.READY
        (client,) = (client for client in server.clients if not client.closed)
        assert client.settings.password.get_secret_value() == safe.values["db", "password"]
        assert manager.database() == ("database", client.number)
