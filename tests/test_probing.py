"""Probes: a fresh connection now and then finds what pooled ones hide, and disturbs nothing."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio

from moorings.errors import FailureReason
from moorings.providers.contract import Signal
from moorings.runtime.state import State

if TYPE_CHECKING:
    from safe import Safe
    from scripted import World
    from trio.testing import MockClock

PASSWORD = {"password": {"path": "db", "key": "password"}}
OFTEN = {"interval": 1.0, "probe_interval": 10.0}


@pytest.fixture
def probed(world: World) -> World:
    """The scripted world, whose provider can probe."""

    async def probe(self: Any, client: Any) -> None:
        await self.server.act("probe")

    world.registry.get("scripted").probe = probe  # type: ignore[method-assign]
    return world


def counted(world: World, name: str, **labels: str) -> float:
    labels = {"runtime": "moorings", "connection": "db", **labels}
    return world.metrics.get_sample_value(f"moorings_connection_{name}", labels) or 0.0


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.message for r in caplog.records if r.levelno == logging.WARNING]


async def test_a_ready_connection_is_probed_at_its_interval(
    probed: World, autojump_clock: MockClock
) -> None:
    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        await trio.sleep(100)
        times = probed["db"].times("probe")
        assert len(times) in range(8, 11)
        # Looked at with each ping: within a tenth of the interval, and one ping.
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert all(9.0 <= gap <= 12.2 for gap in gaps)
        assert counted(probed, "probes_total") == len(times)


async def test_the_default_is_every_five_minutes(probed: World, autojump_clock: MockClock) -> None:
    async with probed.open() as manager:
        await manager.get_database()
        await trio.sleep(269)
        assert probed["db"].count("probe") == 0
        await trio.sleep(73)
        assert probed["db"].count("probe") == 1


async def test_zero_means_never(probed: World, autojump_clock: MockClock) -> None:
    async with probed.open(health={"probe_interval": 0}) as manager:
        await manager.get_database()
        await trio.sleep(2000)
        assert probed["db"].count("probe") == 0


async def test_a_provider_that_cannot_probe_is_not_counted(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open(health=OFTEN) as manager:
        await manager.get_database()
        await trio.sleep(100)
        assert counted(world, "probes_total") == 0


async def test_a_reload_changes_the_interval(probed: World, autojump_clock: MockClock) -> None:
    async with probed.open(health={"interval": 1.0}) as manager:
        await manager.get_database()
        await manager.reload(probed.settings(health=OFTEN))
        await trio.sleep(13)
        assert probed["db"].count("probe") == 1


@pytest.mark.parametrize("reason", [FailureReason.AUTH, FailureReason.TLS])
async def test_a_refused_probe_is_told_once_and_changes_no_state(
    probed: World,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    reason: FailureReason,
) -> None:
    caplog.set_level(logging.INFO, "moorings")
    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.fail(reason))
        await trio.sleep(100)
        (said,) = warnings(caplog)
        assert f"fresh connections are refused ({reason}), while the open ones still work" in said
        assert counted(probed, "probe_failures_total", reason=reason) >= 8
        assert counted(probed, "probe_refused", reason=reason) == 1
        assert probed.path() == ["start", "established"]
        assert len(probed["db"].clients) == 1
        probed["db"].from_now_on("probe")
        await trio.sleep(15)
        assert "fresh connections are accepted again" in caplog.text
        assert counted(probed, "probe_refused", reason=reason) == 0


async def test_what_is_refused_stays_so_until_one_is_accepted(
    probed: World, autojump_clock: MockClock
) -> None:
    """Neither the next probe's beginning nor one that timed out says anything of that."""
    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.fail(FailureReason.TLS))
        await trio.sleep(15)
        probed["db"].from_now_on("probe", probed.hang())
        for _ in range(40):
            await trio.sleep(1)
            assert counted(probed, "probe_refused", reason="tls") == 1
        assert counted(probed, "probe_failures_total", reason="timeout") >= 2


@pytest.mark.parametrize("what", ["stop", "restart", "reload"])
async def test_what_is_refused_is_forgotten_with_what_it_was_about(
    probed: World, autojump_clock: MockClock, what: str
) -> None:
    """Another client; a connection that nobody wants; probes that are no more."""
    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.fail(FailureReason.AUTH))
        await trio.sleep(15)
        assert counted(probed, "probe_refused", reason="auth") == 1
        if what == "reload":
            await manager.reload(probed.settings(health=OFTEN | {"probe_interval": 0}))
        else:
            await getattr(manager, what)("db")
        assert counted(probed, "probe_refused", reason="auth") == 0


@pytest.mark.parametrize("what", ["an outage", "another interval"])
async def test_what_is_refused_outlives_what_says_nothing_of_it(
    probed: World, autojump_clock: MockClock, what: str
) -> None:
    """A client that is kept may have come back from an outage on the sockets that it had."""
    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.fail(FailureReason.AUTH))
        await trio.sleep(15)
        if what == "an outage":
            probed["db"].refuse()
            probed["db"].client.tell(Signal.LOST)
            await trio.sleep(3)
            assert counted(probed, "probe_refused", reason="auth") == 0  # it is down: see there
            probed["db"].heal()
            await manager.wait_ready()
        else:
            await manager.reload(probed.settings(health=OFTEN | {"probe_interval": 600}))
        assert counted(probed, "probe_refused", reason="auth") == 1
        probed["db"].from_now_on("probe")
        await trio.sleep(700)
        assert counted(probed, "probe_refused", reason="auth") == 0


async def test_a_probe_that_ends_after_probes_were_switched_off_refuses_nothing(
    probed: World, autojump_clock: MockClock
) -> None:
    """No other one would ever take that back."""
    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.hang())
        await trio.sleep(5.1)
        await manager.reload(probed.settings(health=OFTEN | {"probe_interval": 0}))
        await trio.sleep(60)
        assert counted(probed, "probe_refused", reason="timeout") == 0


async def test_a_network_that_fails_a_probe_is_left_to_the_pings(
    probed: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.fail(FailureReason.NETWORK))
        await trio.sleep(30)
        assert not warnings(caplog)
        assert counted(probed, "probe_failures_total", reason="network") >= 2
        assert counted(probed, "probe_refused", reason="network") == 1
        assert probed.path() == ["start", "established"]


async def test_a_probe_is_bounded_and_pings_go_on(probed: World, autojump_clock: MockClock) -> None:
    async with probed.open(health={**OFTEN, "timeout": 2.0}) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.hang())
        await trio.sleep(60)
        assert counted(probed, "probe_failures_total", reason="timeout") >= 4
        assert probed["db"].busy <= 1
        assert len(probed["db"].times("ping")) >= 50


async def test_a_probe_that_is_refused_finds_the_new_secret(
    probed: World, safe: Safe, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def only_two() -> None:
        if probed["db"].client.settings.password.get_secret_value() != "two":
            raise probed.Fault(FailureReason.AUTH)

    settings = probed.settings(provider=PASSWORD, health=OFTEN)
    settings["default"]["security"] = safe.settings(refresh=100_000.0)
    async with probed.open_settings(settings) as manager:
        await manager.get_database()
        safe.put("two")
        probed["db"].from_now_on("probe", only_two)
        await trio.sleep(30)
        assert manager["db"].generation == 2
        assert probed.path() == ["start", "established"]
        assert not warnings(caplog)


async def test_without_a_newer_secret_nothing_is_replaced(
    probed: World, safe: Safe, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    settings = probed.settings(provider=PASSWORD, health=OFTEN)
    settings["default"]["security"] = safe.settings(refresh=100_000.0)
    async with probed.open_settings(settings) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.fail(FailureReason.AUTH))
        await trio.sleep(100)
        assert len(probed["db"].clients) == 1
        assert len(warnings(caplog)) == 1


async def test_a_bug_in_a_probe_is_a_crash_of_that_connection(
    probed: World, autojump_clock: MockClock
) -> None:
    async with probed.open("db", "other", health=OFTEN) as manager:
        await manager.wait_ready()
        probed["db"].next("probe", probed.bug())
        await trio.sleep(20)
        assert probed.path() == ["start", "established", "crashed", "retry", "established"]
        assert probed.path("other") == ["start", "established"]


@pytest.mark.parametrize("what", ["stop", "lost", "restart"])
async def test_what_a_probe_finds_after_the_end_of_its_client_does_not_count(
    probed: World, autojump_clock: MockClock, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def late() -> None:
        await trio.sleep(1.5)
        raise probed.Fault(FailureReason.AUTH)

    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        probed["db"].next("probe", late)
        while not probed["db"].count("probe"):
            await trio.sleep(0.1)
        if what == "lost":
            probed["db"].refuse()
            probed["db"].client.tell(Signal.LOST)
        else:
            await getattr(manager, what)("db")
        await trio.sleep(2)
        assert counted(probed, "probes_total") == 0
        assert not [said for said in warnings(caplog) if "fresh" in said]
        probed["db"].heal()
        if what == "stop":
            assert manager["db"].state is State.STOPPED


async def test_a_probe_that_waited_for_its_turn_asks_whether_it_is_wanted(
    probed: World, autojump_clock: MockClock
) -> None:
    """Probes count among the attempts at a time."""
    one = {"max_concurrent_connects": 1}
    async with probed.open("db", "other", health=OFTEN, runtime=one) as manager:
        await manager.wait_ready()
        while not probed["db"].count("probe"):
            await trio.sleep(0.1)
        gate = manager.kernel.gate("server")
        assert gate.enter_nowait()
        await trio.sleep(30)
        assert probed["db"].count("probe") == 1
        await manager.stop("db")
        gate.leave()
        await trio.sleep(5)
        assert probed["db"].count("probe") == 1
        assert counted(probed, "probes_total") == 1


async def test_the_block_ends_in_the_middle_of_a_probe(
    probed: World, autojump_clock: MockClock
) -> None:
    async with probed.open(health=OFTEN) as manager:
        await manager.get_database()
        probed["db"].from_now_on("probe", probed.hang())
        while not probed["db"].count("probe"):
            await trio.sleep(0.1)
