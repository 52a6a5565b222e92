"""Backoff: a child rests before it is restarted, and whoever is in a hurry ends its rest."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from moorings.errors import ChildRunning, ChildStartFailed, RestartIntensityExceeded
from moorings.supervisors import (
    Backoff,
    ChildCounts,
    ChildEnded,
    ChildRestarting,
    ChildSpec,
    ChildUnstopped,
    Strategy,
    open_supervisor,
)

if TYPE_CHECKING:
    from family import Family
    from trio.testing import MockClock

    from moorings.supervisors import Supervisor, TaskStatus

STRATEGIES = pytest.mark.parametrize("strategy", list(Strategy))
TEN = Backoff(10.0, 10.0)
"""Without jitter: ten seconds, always."""


class Latest(Random):
    """Always the longest delay."""

    def uniform(self, a: float, b: float) -> float:
        return b


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.id: child.state.value for child in supervisor.which_children()}


# -- the value ------------------------------------------------------------------------------------


@given(
    st.floats(0.001, 10), st.floats(1, 100), st.floats(0, 2000), st.floats(0, 1e6), st.integers()
)
def test_every_delay_lies_between_initial_and_max_and_within_three_times_the_last(
    initial: float, factor: float, previous: float, lived: float, seed: int
) -> None:
    backoff = Backoff(initial, initial * factor, random=Random(seed))
    delay = backoff.delay(previous, lived)
    assert initial <= delay <= backoff.max
    assert delay <= 3 * max(previous, initial)
    if lived > backoff.max:
        assert delay <= 3 * initial


@pytest.mark.parametrize("values", [(0, 1), (-1, 1), (2, 1), (1, float("inf")), (math.nan, 1)])
def test_a_backoff_that_means_nothing_is_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="initial <= max"):
        Backoff(*values)


def test_a_backoff_is_a_value() -> None:
    assert Backoff() == Backoff(0.1, 5.0)
    assert not hasattr(Backoff(), "__dict__")
    with pytest.raises(FrozenInstanceError):
        Backoff().max = 1.0  # type: ignore[misc]


def test_whoever_lived_no_longer_than_max_goes_on_where_it_was() -> None:
    backoff = Backoff(1.0, 5.0, random=Latest())
    assert backoff.delay(1.5, lived=5.0) == 4.5
    assert backoff.delay(1.5, lived=5.1) == 3.0


def test_delays_differ_and_can_be_repeated() -> None:
    first, again = (
        [Backoff(0.1, 5.0, random=random).delay(1.0, 0.0) for _ in range(5)]
        for random in (Random(1), Random(1))
    )
    assert first == again
    assert len(set(first)) == 5
    assert Backoff(0.1, 5.0) == Backoff(0.1, 5.0, random=Random(3))


# -- a child of its own ---------------------------------------------------------------------------


async def test_without_a_backoff_nobody_waits(family: Family, autojump_clock: MockClock) -> None:
    async with open_supervisor(name="s", intensity=5) as supervisor:
        await supervisor.start_child(family.spec("a"))
        for _ in range(5):
            await family.crash("a")
        assert trio.current_time() < 1e-3
        assert family.runs["a"] == 6


@STRATEGIES
async def test_a_child_rests_before_it_is_restarted(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy, observers=[family.watch]) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await family.crash("a")
        assert family.seen(ChildRestarting) == [ChildRestarting("s", "a", "crash", 1, 10.0)]
        assert states(supervisor) == {"a": "restarting"}
        assert supervisor.count_children() == ChildCounts(specs=1, active=0)
        await trio.sleep(9)
        assert family.runs["a"] == 1
        await trio.sleep(2)
        assert states(supervisor) == {"a": "running"}
        assert supervisor.count_children() == ChildCounts(specs=1, active=1)
    assert len(family.seen(ChildEnded)) == 2


async def test_delays_grow_and_a_long_life_makes_them_small_again(
    family: Family, autojump_clock: MockClock
) -> None:
    backoff = Backoff(1.0, 8.0, random=Latest())
    async with open_supervisor(name="s", intensity=100, observers=[family.watch]) as supervisor:
        await supervisor.start_child(
            family.spec("a", *[family.crash_after(0.1)] * 4, backoff=backoff)
        )
        await trio.sleep(100)
        delays = [event.delay for event in family.seen(ChildRestarting)]
        assert delays == [3.0, 8.0, 8.0, 8.0]  # a rest is no life
        await family.crash("a")
        assert family.seen(ChildRestarting)[-1].delay == 3.0


async def test_a_restart_that_fails_to_start_rests_again(
    family: Family, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", intensity=5) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        family.then("a", family.fail, family.fail)
        await family.crash("a")
        await trio.sleep(29)
        assert family.runs["a"] == 3
        await trio.sleep(2)
        assert family.runs["a"] == 4


async def test_the_starter_is_told_at_once(family: Family, autojump_clock: MockClock) -> None:
    """A backoff is for restarts: a first start that fails is the starter's business."""
    async with open_supervisor(name="s") as supervisor:
        with pytest.raises(ChildStartFailed):
            await supervisor.start_child(family.spec("a", family.fail, backoff=TEN))
        assert trio.current_time() < 1


@STRATEGIES
async def test_the_intensity_counts_whether_one_rests_or_not(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    with pytest.raises(RestartIntensityExceeded):
        async with open_supervisor(
            name="s", strategy=strategy, intensity=1, period=60
        ) as supervisor:
            await supervisor.start_child(family.spec("a", family.crash_after(1), backoff=TEN))
            family.then("a", family.crash_after(1))
            await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(12)


# -- who is in a hurry ----------------------------------------------------------------------------


@STRATEGIES
async def test_terminate_child_ends_the_rest_and_nothing_follows(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy, observers=[family.watch]) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await family.crash("a")
        with pytest.raises(ChildRunning, match="is restarting"):
            supervisor.delete_child("a")
        await supervisor.terminate_child("a")
        assert trio.current_time() < 1
        assert states(supervisor) == {"a": "stopped"}
        await trio.sleep(20)
        assert family.runs["a"] == 1
        assert len(family.seen(ChildEnded)) == 1  # it ended once
        assert await supervisor.restart_child("a") == "a2"


@STRATEGIES
async def test_restart_child_ends_the_rest_and_gives_the_value(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await family.crash("a")
        assert await supervisor.restart_child("a") == "a2"
        assert trio.current_time() < 1
        with pytest.raises(ChildRunning):
            await supervisor.restart_child("a")


@STRATEGIES
async def test_restart_child_tells_of_a_start_that_fails(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy, intensity=5) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        family.then("a", family.fail)
        await family.crash("a")
        with pytest.raises(ChildStartFailed) as info:
            await supervisor.restart_child("a")
        assert isinstance(info.value.__cause__, family.Boom)


@STRATEGIES
async def test_a_cancelled_restart_child_leaves_the_restart_to_the_policy(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy, intensity=5) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        family.then("a", family.start_after(5))
        await family.crash("a")
        with trio.move_on_after(1) as scope:
            await supervisor.restart_child("a")
        assert scope.cancelled_caught
        await trio.sleep(5)
        assert states(supervisor) == {"a": "running"}


@STRATEGIES
async def test_and_the_policy_tries_again_if_that_restart_fails(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async def fail_late(_: TaskStatus) -> None:
        await trio.sleep(5)
        raise family.Boom

    async with open_supervisor(name="s", strategy=strategy, intensity=5) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        family.then("a", fail_late)
        await family.crash("a")
        with trio.move_on_after(1):
            await supervisor.restart_child("a")
        await trio.sleep(20)
        assert states(supervisor) == {"a": "running"}


@STRATEGIES
async def test_of_two_in_a_hurry_one_is_told_that_it_is_running(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    told: list[Any] = []

    async def restart(supervisor: Supervisor) -> None:
        try:
            told.append(await supervisor.restart_child("a"))
        except ChildRunning as error:
            told.append(type(error))

    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await family.crash("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(restart, supervisor)
            nursery.start_soon(restart, supervisor)
        assert set(told) == {"a2", ChildRunning}


@STRATEGIES
async def test_who_waits_for_a_restart_is_told_when_it_will_not_come(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    told: list[Any] = []

    async def restart(supervisor: Supervisor) -> None:
        with pytest.raises(ChildStartFailed):
            await supervisor.restart_child("a")
        told.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        async with open_supervisor(name="s", strategy=strategy, intensity=5) as supervisor:
            await supervisor.start_child(family.spec("a", backoff=TEN))
            family.then("a", family.hang)
            await family.crash("a")
            nursery.start_soon(restart, supervisor)
            await wait_all_tasks_blocked()
            await supervisor.terminate_child("a")
            await wait_all_tasks_blocked()
            assert told == [pytest.approx(0, abs=1)]
            await supervisor.restart_child("a")
            await family.crash("a")
            family.then("a", family.hang)
            nursery.start_soon(restart, supervisor)
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert len(told) == 2


@STRATEGIES
async def test_the_supervisors_end_ends_the_rest(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await supervisor.start_child(family.spec("b"))
        await family.crash("a")
    assert trio.current_time() < 1
    assert family.runs["a"] == 1


async def test_a_rest_that_is_over_while_the_supervisor_stops_is_no_restart(
    family: Family, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await supervisor.start_child(family.spec("b", stubborn=20, shutdown=60))
        await family.crash("a")
    assert trio.current_time() == pytest.approx(20)
    assert family.runs["a"] == 1


@STRATEGIES
async def test_one_that_rests_is_never_reported_as_unstopped(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """Nothing of it runs, even if its `shutdown` is over at once."""
    async with open_supervisor(
        name="s", strategy=strategy, intensity=5, observers=[family.watch]
    ) as supervisor:
        for name, end in (("a", "by command"), ("b", "with its supervisor")):
            await supervisor.start_child(family.spec(name, backoff=TEN, shutdown=0))
            await family.crash(name)
            if end == "by command":
                await supervisor.terminate_child(name)
                supervisor.delete_child(name)
    assert family.seen(ChildUnstopped) == []


async def test_one_that_has_yet_to_run_is_not_reported_as_unstopped(family: Family) -> None:
    async with open_supervisor(name="s", ordered=False, observers=[family.watch]) as supervisor:
        supervisor.start_children_nowait([family.spec("a", shutdown=0)])
    assert family.events == []


async def test_one_that_can_be_asked_is_not_asked_while_it_rests(
    family: Family, autojump_clock: MockClock
) -> None:
    """There is nothing of it that could hear; its next incarnation must not be told to end."""
    asked: list[bool] = []
    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(
            family.spec("a", family.crash_after(1), backoff=TEN, ask=lambda: asked.append(True))
        )
        await trio.sleep(2)
        await supervisor.terminate_child("a")
    assert asked == []


# -- a group --------------------------------------------------------------------------------------

GROUPS = pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])


@GROUPS
async def test_who_hurries_one_that_its_group_restarts_first_is_told_of_that_restart(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """The sibling crashes in the instant in which the rest is ended, and has its turn first."""

    async def up_and_crash(task_status: TaskStatus) -> None:
        await trio.sleep(1)
        task_status.started("first2")
        raise family.Boom

    async with (
        open_supervisor(name="s", strategy=strategy, intensity=5) as supervisor,
        trio.open_nursery() as nursery,
    ):
        await supervisor.start_child(family.spec("first"))
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await family.crash("a")
        await supervisor.terminate_child("first")
        family.then("first", up_and_crash)
        nursery.start_soon(supervisor.restart_child, "first")
        await wait_all_tasks_blocked()
        assert await supervisor.restart_child("a") == "a2"
        assert family.runs == {"first": 3, "a": 2}
        assert trio.current_time() < 2


@GROUPS
async def test_the_others_stop_at_once_and_start_after_the_rest(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """They cannot do without it, so they do not run while it rests; their own backoff is idle."""
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await supervisor.start_child(family.spec("b", backoff=Backoff(99, 99)))
        family.news()
        await family.crash("a")
        assert family.news() == "-a -b"
        assert set(states(supervisor).values()) == {"restarting"}
        await trio.sleep(11)
        assert family.news() == "+a +b"


@GROUPS
async def test_the_rest_begins_with_the_decision_and_not_when_the_others_have_stopped(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy, intensity=5) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await supervisor.start_child(family.spec("b", stubborn=4))
        await supervisor.start_child(family.spec("c", stubborn=4))
        await family.crash("a")
        await trio.sleep(9)
        assert family.runs["a"] == 1
        await trio.sleep(2)
        assert family.runs["a"] == 2


@GROUPS
async def test_others_that_stop_longer_than_the_rest_are_waited_for(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await supervisor.start_child(family.spec("b", stubborn=15, shutdown=math.inf))
        await family.crash("a")
        await trio.sleep(14)
        assert family.runs["a"] == 1
        await trio.sleep(2)
        assert family.runs == {"a": 2, "b": 2}


async def test_a_rest_is_not_begun_when_the_end_comes_while_the_others_stop(
    family: Family, autojump_clock: MockClock
) -> None:
    """The supervisor's end has found nobody to wake yet, and waits for no rest all the same."""
    async with open_supervisor(name="s", strategy=Strategy.ONE_FOR_ALL) as supervisor:
        await supervisor.start_child(family.spec("a", stubborn=4))
        await supervisor.start_child(family.spec("b", backoff=TEN))
        await family.crash("b")
    assert trio.current_time() == pytest.approx(4)


async def test_who_rests_within_its_own_budget_is_started_by_nobody_else(
    family: Family, autojump_clock: MockClock
) -> None:
    """A group that goes on without the one it waited for starts those it owes, and only those."""
    async with open_supervisor(name="s", strategy=Strategy.ONE_FOR_ALL, intensity=5) as supervisor:
        await supervisor.start_child(family.spec("owed"))
        await supervisor.start_child(family.spec("awaited", backoff=TEN))
        await family.crash("awaited")
        await supervisor.start_child(family.spec("own", backoff=TEN, intensity=5, period=100.0))
        await family.crash("own")
        await supervisor.terminate_child("awaited")
        await trio.sleep(1)
        assert family.runs == {"owed": 2, "awaited": 1, "own": 1}
        await trio.sleep(10)
        assert family.runs == {"owed": 2, "awaited": 1, "own": 2}


@GROUPS
async def test_a_siblings_restart_begins_another_life(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """Who crashes soon after it did not live long, however long ago its own last restart was."""
    async with open_supervisor(
        name="s", strategy=strategy, intensity=5, observers=[family.watch]
    ) as supervisor:
        await supervisor.start_child(family.spec("first"))
        await supervisor.start_child(family.spec("a", backoff=Backoff(1.0, 5.0, Latest())))
        await family.crash("a")
        await trio.sleep(30)
        await family.crash("first")
        await family.crash("a")
    delays = [e.delay for e in family.events if isinstance(e, ChildRestarting) and e.id == "a"]
    assert delays == [3.0, 0.0, 5.0]


@STRATEGIES
async def test_a_start_that_fails_after_its_hurrier_gave_up_is_left_to_its_policy(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """On a budget of its own it rests alone, in a group as well."""

    async def fail_after_a_second(_: TaskStatus) -> None:
        await trio.sleep(1)
        raise family.Boom

    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN, intensity=5, period=100.0))
        family.then("a", fail_after_a_second)
        await family.crash("a")
        with trio.move_on_after(0.5):
            await supervisor.restart_child("a")
        await trio.sleep(20)
        assert states(supervisor) == {"a": "running"}


@GROUPS
async def test_commands_are_heard_while_the_group_rests(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await supervisor.start_children(family.specs("bc"))
        await family.crash("a")
        family.news()
        await supervisor.terminate_child("b")
        assert await supervisor.start_child(family.spec("d")) == "d1"
        assert states(supervisor) == {
            "a": "restarting",
            "b": "stopped",
            "c": "restarting",
            "d": "running",
        }
        await trio.sleep(11)
        assert family.news() == "+d -d +a +c +d"


@GROUPS
async def test_the_others_come_up_without_one_that_is_taken_out(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=TEN))
        await supervisor.start_children(family.specs("bc"))
        await family.crash("a")
        family.news()
        await supervisor.terminate_child("a")
        supervisor.delete_child("a")
        await wait_all_tasks_blocked()
        assert family.news() == "+b +c"
        assert trio.current_time() < 1


def test_a_spec_holds_a_backoff(family: Family) -> None:
    assert ChildSpec("a", family.spec("a").run).backoff is None
    assert repr(Backoff(0.5, 2.0)) == "Backoff(initial=0.5, max=2.0)"


async def test_nobody_comes_up_before_an_elder_whose_start_is_tried_again(
    family: Family, autojump_clock: MockClock
) -> None:
    """Two are taken out of one restart, and one of those that then come up without them fails."""
    async with (
        open_supervisor(name="s", strategy=Strategy.REST_FOR_ONE, intensity=5) as supervisor,
        trio.open_nursery() as nursery,
    ):
        cause = family.spec("p", backoff=Backoff(10, 10))
        slow = family.spec("b", stubborn=2)
        await supervisor.start_children([cause, family.spec("a"), slow, *family.specs("xc")])
        await family.crash("p")
        family.then("a", family.fail)
        for taken_out in "px":
            nursery.start_soon(supervisor.terminate_child, taken_out)
            await trio.testing.wait_all_tasks_blocked()
        family.news()
        await trio.sleep(3)
        assert family.news() == "-b -a +a -a +a +b +c"
