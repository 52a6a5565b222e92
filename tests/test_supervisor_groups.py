"""one_for_all and rest_for_one: who is stopped and started, in which order, and who counts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from moorings.errors import (
    ChildNotFound,
    ChildRunning,
    ChildStartFailed,
    RestartIntensityExceeded,
    SupervisorError,
)
from moorings.supervisors import (
    AutoShutdown,
    Backoff,
    ChildCounts,
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    ChildState,
    ChildUnstopped,
    Restart,
    Strategy,
    open_supervisor,
)

if TYPE_CHECKING:
    from family import Family
    from trio.testing import MockClock

    from moorings.supervisors import Supervisor, TaskStatus

ALL = Strategy.ONE_FOR_ALL
REST = Strategy.REST_FOR_ONE
GROUPS = pytest.mark.parametrize("strategy", [ALL, REST])


def states(supervisor: Supervisor) -> dict[str, str]:
    return {child.id: child.state.value for child in supervisor.which_children()}


# -- who, and in which order ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "fallen", "diary"),
    [
        (ALL, "a", "-a -c -b +a +b +c"),
        (ALL, "b", "-b -c -a +a +b +c"),
        (ALL, "c", "-c -b -a +a +b +c"),
        (REST, "a", "-a -c -b +a +b +c"),
        (REST, "b", "-b -c +b +c"),
        (REST, "c", "-c +c"),
    ],
)
async def test_the_others_stop_in_reverse_and_start_in_order(
    family: Family, strategy: Strategy, fallen: str, diary: str
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        family.news()
        await family.crash(fallen)
        assert family.news() == diary
        assert supervisor.count_children() == ChildCounts(3, 3)
    assert family.news() == "-c -b -a"


@GROUPS
async def test_each_waits_for_the_one_before_it(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """Stopped before the next is stopped, up before the next is started."""
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b", stubborn=2))
        await supervisor.start_child(family.spec("c", stubborn=2))
        family.then("a", family.start_after(1))
        family.news()
        await family.crash("a")
        assert family.news() == "-a"
        await trio.sleep(2.5)
        assert family.news() == "-c"
        await trio.sleep(2)
        assert family.news() == "-b +a"
        await trio.sleep(1)
        assert family.news() == "+b +c"


@GROUPS
async def test_a_child_that_does_not_run_again_takes_nobody_along(
    family: Family, strategy: Strategy
) -> None:
    async with open_supervisor(name="s", strategy=strategy, intensity=0) as supervisor:
        await supervisor.start_child(family.spec("a", restart=Restart.TRANSIENT))
        await supervisor.start_child(family.spec("b", restart=Restart.TEMPORARY))
        await supervisor.start_child(family.spec("c"))
        family.news()
        await family.end("a")
        await family.crash("b")
        assert family.news() == "-a -b"
        assert states(supervisor) == {"a": "stopped", "c": "running"}


@GROUPS
async def test_temporary_children_are_stopped_with_the_others_and_forgotten(
    family: Family, strategy: Strategy
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b", restart=Restart.TEMPORARY))
        await supervisor.start_child(family.spec("c", restart=Restart.TRANSIENT))
        family.news()
        await family.crash("a")
        assert family.news() == "-a -c -b +a +c"
        assert states(supervisor) == {"a": "running", "c": "running"}


@GROUPS
async def test_a_terminated_child_is_started_with_its_group(
    family: Family, strategy: Strategy
) -> None:
    """OTP starts every spec that it holds; who wants it gone deletes it."""
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        await supervisor.terminate_child("b")
        await supervisor.terminate_child("c")
        supervisor.delete_child("c")
        family.news()
        await family.crash("a")
        assert family.news() == "-a +a +b"
        assert states(supervisor) == {"a": "running", "b": "running"}


async def test_those_before_it_stay_untouched(family: Family) -> None:
    async with open_supervisor(name="s", strategy=REST) as supervisor:
        await supervisor.start_children(family.specs("ab"))
        await family.crash("b")
        assert [child.restarts for child in supervisor.which_children()] == [0, 1]


# -- what counts ----------------------------------------------------------------------------------


@GROUPS
async def test_a_group_counts_once(family: Family, strategy: Strategy) -> None:
    async with open_supervisor(name="s", strategy=strategy, intensity=1) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        await family.crash("a")
        assert supervisor.restarts == {"crash": 1, "exit": 0, "start_failed": 0}
        assert [child.restarts for child in supervisor.which_children()] == [1, 1, 1]


@GROUPS
async def test_one_too_many_ends_the_supervisor_without_another_start(
    family: Family, strategy: Strategy
) -> None:
    with pytest.raises(RestartIntensityExceeded) as info:
        async with open_supervisor(name="s", strategy=strategy, intensity=1) as supervisor:
            await supervisor.start_children(family.specs("ab"))
            await family.crash("a")
            family.news()
            await family.crash("a")
            await trio.sleep_forever()
    assert family.news() == "-a -b"
    assert supervisor.restarts["crash"] == 1
    assert (info.value.child, info.value.restarts) == ("a", 2)
    assert isinstance(info.value.__cause__, family.Boom)


@GROUPS
async def test_who_falls_with_its_group_does_not_count(family: Family, strategy: Strategy) -> None:
    """a and b crash together: whoever is second was to be stopped anyway."""
    async with open_supervisor(name="s", strategy=strategy, intensity=1) as supervisor:
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b"))
        family.end_soon("a", family.Boom())
        while states(supervisor)["a"] == "running":  # a's end is known, b is about to be stopped
            await trio.lowlevel.checkpoint()
        await family.crash("b")
        assert supervisor.restarts["crash"] == 1
        assert states(supervisor) == {"a": "running", "b": "running"}


async def test_a_crash_while_the_group_is_stopped_is_part_of_it(
    family: Family, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=ALL, intensity=1) as supervisor:
        await supervisor.start_children(family.specs("ab"))
        await supervisor.start_child(family.spec("c", stubborn=2))
        await family.crash("b")  # c takes its time, a is next
        await family.crash("a")
        await trio.sleep(3)
        assert supervisor.restarts["crash"] == 1
        assert set(states(supervisor).values()) == {"running"}


async def test_a_crash_while_the_rest_is_started_begins_another_restart(
    family: Family, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=ALL, intensity=2) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        family.then("c", family.start_after(2))
        await family.crash("b")
        family.news()
        await family.crash("a")  # is up again, c is not
        assert family.news() == "-a"
        await trio.sleep(3)
        assert family.news() == "-c -b +a +b +c"
        assert supervisor.restarts["crash"] == 2


async def test_a_crash_before_the_group_waits_for_its_turn(
    family: Family, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=REST, intensity=2) as supervisor:
        await supervisor.start_children(family.specs("ab"))
        await supervisor.start_child(family.spec("c", stubborn=1))
        family.news()
        await family.crash("b")
        await family.crash("a")
        assert family.news() == "-b -a"
        await trio.sleep(5)
        assert family.news() == "-c +b +c -c -b +a +b +c"


# -- a sibling that fails to start ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "again"),
    [(ALL, "-a +a +b +c"), (REST, "+b +c")],
)
async def test_a_sibling_that_fails_to_start_counts_and_is_tried_again(
    family: Family, strategy: Strategy, again: str
) -> None:
    """Another restart, with the one that failed as its cause: OTP's try_again."""
    async with open_supervisor(name="s", strategy=strategy, intensity=2) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        family.then("b", family.fail)
        family.news()
        await family.crash("a")
        assert family.news() == "-a -c -b +a +b -b " + again
        assert supervisor.restarts == {"crash": 1, "exit": 0, "start_failed": 1}


@GROUPS
async def test_it_is_tried_until_the_intensity_is_exceeded(
    family: Family, strategy: Strategy
) -> None:
    with pytest.raises(RestartIntensityExceeded) as info:
        async with open_supervisor(name="s", strategy=strategy, intensity=3) as supervisor:
            await supervisor.start_children(family.specs("abc"))
            family.then("b", *[family.fail] * 10)
            await family.crash("a")
            await trio.sleep_forever()
    assert info.value.child == "b"
    assert str(info.value.__cause__) == "no start"
    assert family.runs["b"] == 4
    assert family.runs["c"] == 1


@GROUPS
async def test_commands_are_heard_between_two_tries(family: Family, strategy: Strategy) -> None:
    """Terminating the one that failed ends the tries; the others come up without it."""
    async with open_supervisor(name="s", strategy=strategy, intensity=math.inf) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        family.then("b", *[family.fail] * 1000)
        family.end_soon("a", family.Boom())
        while not family.runs["b"] > 2:
            await trio.lowlevel.checkpoint()
        await supervisor.terminate_child("b")
        runs = family.runs["b"]
        await wait_all_tasks_blocked()
        assert family.runs["b"] == runs < 10
        assert states(supervisor) == {"a": "running", "b": "stopped", "c": "running"}


@GROUPS
async def test_who_is_terminated_between_two_tries_stays_stopped(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async def fail_late(_: TaskStatus) -> None:
        await trio.sleep(1)
        raise family.Boom

    async with open_supervisor(name="s", strategy=strategy, intensity=5) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        family.then("b", fail_late)
        await family.crash("a")
        await supervisor.terminate_child("c")  # comes before the second try
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": "running", "b": "running", "c": "stopped"}


@GROUPS
async def test_between_two_tries_it_is_at_no_time_free_to_be_deleted(
    family: Family, strategy: Strategy
) -> None:
    """Not even in the instant between its end and the decision to try again."""
    async with open_supervisor(name="s", strategy=strategy, intensity=9) as supervisor:
        await supervisor.start_children(family.specs("ab"))
        family.then("b", *[family.fail] * 5)
        family.end_soon("b", family.Boom())
        while family.runs["b"] < 7:
            with pytest.raises(ChildRunning):
                supervisor.delete_child("b")
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": "running", "b": "running"}


@GROUPS
async def test_once_it_is_up_its_group_tries_no_more(family: Family, strategy: Strategy) -> None:
    """A failed `restart_child` later on is the caller's alone: nobody is about to try again."""
    async with open_supervisor(name="s", strategy=strategy, intensity=9) as supervisor:
        await supervisor.start_children(family.specs("ab"))
        await family.crash("b")
        await supervisor.terminate_child("b")
        family.then("b", family.fail)
        with pytest.raises(ChildStartFailed):
            await supervisor.restart_child("b")
        assert states(supervisor) == {"a": "running", "b": "stopped"}


# -- commands while a group is restarted ----------------------------------------------------------


@pytest.fixture
def asked() -> list[str]:
    return []


async def _ask(asked: list[str], what: str, command: Any) -> None:
    try:
        answer = await command
    except SupervisorError as error:
        answer = type(error).__name__
    asked.append(what if answer is None else f"{what}: {answer}")


@GROUPS
async def test_commands_wait_for_the_groups_restart(
    family: Family, strategy: Strategy, asked: list[str], autojump_clock: MockClock
) -> None:
    """In the order they came: whoever asks for a restart finds the child up."""
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", strategy=strategy) as supervisor,
    ):
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b", stubborn=1))
        await family.crash("a")
        for what, command in (
            ("restart a", supervisor.restart_child("a")),
            ("terminate b", supervisor.terminate_child("b")),
            ("start c", supervisor.start_child(family.spec("c"))),
        ):
            nursery.start_soon(_ask, asked, what, command)
            await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": "restarting", "b": "stopping"}
        with pytest.raises(ChildRunning):
            supervisor.delete_child("a")
        assert asked == []
        await trio.sleep(3)
        assert asked == ["restart a: ChildRunning", "terminate b", "start c: c1"]
        assert states(supervisor) == {"a": "running", "b": "stopped", "c": "running"}


@GROUPS
async def test_terminating_a_child_whose_end_is_not_handled_yet_forgets_that_end(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", strategy=strategy, intensity=0) as supervisor,
    ):
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b", stubborn=1))
        nursery.start_soon(supervisor.terminate_child, "b")
        await wait_all_tasks_blocked()
        nursery.start_soon(supervisor.terminate_child, "a")
        await wait_all_tasks_blocked()
        await family.crash("a")  # behind the command that terminates it
        await trio.sleep(2)
        assert states(supervisor) == {"a": "stopped", "b": "stopped"}


@GROUPS
async def test_a_start_that_hangs_can_be_terminated(family: Family, strategy: Strategy) -> None:
    """OTP would be deaf; here the others come up without it."""
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        family.then("b", family.hang)
        await family.crash("a")
        assert states(supervisor) == {"a": "running", "b": "starting", "c": "restarting"}
        await supervisor.terminate_child("b")
        assert states(supervisor) == {"a": "running", "b": "stopped", "c": "running"}


@GROUPS
async def test_who_is_to_be_terminated_is_not_started_first(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", strategy=strategy) as supervisor,
    ):
        await supervisor.start_children(family.specs("ab"))
        await supervisor.start_child(family.spec("c", stubborn=1))
        family.then("b", family.hang)
        await family.crash("a")
        nursery.start_soon(supervisor.terminate_child, "b")
        await trio.sleep(2)
        assert family.runs["b"] == 1
        assert states(supervisor) == {"a": "running", "b": "stopped", "c": "running"}


@GROUPS
async def test_a_command_that_is_cancelled_before_its_turn_changes_nothing(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b", stubborn=2))
        await family.crash("a")
        with trio.move_on_after(1):
            await supervisor.start_child(family.spec("c"))
        with trio.move_on_after(0.5):
            await supervisor.terminate_child("b")
        await trio.sleep(2)
        assert states(supervisor) == {"a": "running", "b": "running"}
        await supervisor.terminate_child("a")  # those who left hold up nobody


@GROUPS
async def test_who_was_to_be_started_while_its_termination_was_asked_for_stays_stopped(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """Though whoever asked for it waits no more: it was stopped, and asked for."""
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        for name in "ac":
            family.then(name, family.start_after(3))
        await family.crash("a")  # 3 s until b would be started, 6 s until the command has its turn
        with trio.move_on_after(4):
            await supervisor.terminate_child("b")
        await trio.sleep(5)
        assert family.runs["b"] == 1
        assert states(supervisor) == {"a": "running", "b": "stopped", "c": "running"}


@GROUPS
@pytest.mark.parametrize("waits", [True, False])
async def test_who_is_terminated_stays_stopped_though_nobody_waits_for_that_any_more(
    family: Family, autojump_clock: MockClock, strategy: Strategy, *, waits: bool
) -> None:
    """A sibling's rest is over while it stops; it was started after that one had crashed."""
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        rests = family.spec("rests", family.crash_after(1), backoff=Backoff(20, 20))
        await supervisor.start_child(rests)
        await trio.sleep_until(2)
        await supervisor.start_child(family.spec("slow", stubborn=5, shutdown=9))
        await trio.sleep_until(18)
        with trio.move_on_after(100 if waits else 1):
            await supervisor.terminate_child("slow")
        await trio.sleep_until(60)
        assert states(supervisor) == {"rests": "running", "slow": "stopped"}


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_who_hurries_a_child_that_is_terminated_is_told_that_it_was_stopped(
    family: Family, autojump_clock: MockClock, strategy: Strategy
) -> None:
    async with (
        open_supervisor(name="s", strategy=strategy) as supervisor,
        trio.open_nursery() as nursery,
    ):
        rests = family.spec("rests", family.crash_after(1), family.hang, backoff=Backoff(20, 20))
        await supervisor.start_child(rests)
        await supervisor.start_child(family.spec("slow", stubborn=3))
        await trio.sleep(2)

        async def hurry() -> None:
            with pytest.raises(ChildStartFailed, match="it was stopped before it said"):
                await supervisor.restart_child("rests")

        nursery.start_soon(hurry)
        await wait_all_tasks_blocked()
        await supervisor.terminate_child("rests")


@GROUPS
async def test_cancelling_a_start_lets_the_next_command_in(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        with trio.move_on_after(1):
            await supervisor.start_child(family.spec("a", family.hang))
        assert await supervisor.start_child(family.spec("a")) == "a2"


@GROUPS
async def test_a_cancelled_start_whose_child_came_up_and_crashed_meanwhile_leaves_nothing(
    family: Family, strategy: Strategy
) -> None:
    """In one instant: no restart of a child that nobody has any more."""
    starter = trio.CancelScope()

    async def come_up_too_late(task_status: TaskStatus) -> None:
        starter.cancel()
        task_status.started()
        raise family.Boom

    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a"))
        with starter:
            await supervisor.start_child(family.spec("b", come_up_too_late))
        assert starter.cancelled_caught
        await supervisor.start_child(family.spec("b"))
        await wait_all_tasks_blocked()
        assert family.news() == "+a +b -b +b"
        assert supervisor.restarts["crash"] == 0


@GROUPS
async def test_a_cancelled_restart_child_stops_one_that_came_up_and_crashed_meanwhile(
    family: Family, strategy: Strategy
) -> None:
    restarter = trio.CancelScope()

    async def come_up_too_late(task_status: TaskStatus) -> None:
        restarter.cancel()
        task_status.started()
        raise family.Boom

    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_children(family.specs("ab"))
        await supervisor.terminate_child("a")
        family.then("a", come_up_too_late)
        with restarter:
            await supervisor.restart_child("a")
        assert restarter.cancelled_caught
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": "stopped", "b": "running"}


@GROUPS
async def test_a_command_takes_whoever_has_the_id_when_its_turn_comes(
    family: Family, strategy: Strategy, asked: list[str]
) -> None:
    """The start that hangs makes way for the second, which was asked for before the end of both."""
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", strategy=strategy) as supervisor,
    ):
        for what, steps in (("first", [family.hang]), ("second", [])):
            start = supervisor.start_child(family.spec("a", *steps))
            nursery.start_soon(_ask, asked, what, start)
            await wait_all_tasks_blocked()
        await supervisor.terminate_child("a")
        await wait_all_tasks_blocked()
        assert asked == ["first: ChildStartFailed", "second: a2"]
        assert states(supervisor) == {"a": "stopped"}


# -- stopping while a group is restarted ----------------------------------------------------------


@GROUPS
@pytest.mark.parametrize("moment", ["stops", "starts"])
async def test_the_supervisors_end_waits_for_no_groups_restart(
    family: Family, strategy: Strategy, moment: str, autojump_clock: MockClock
) -> None:
    """Whether somebody is being stopped or hangs in its start: the ordered stop begins at once."""
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_children(family.specs("ab"))
        await supervisor.start_child(family.spec("c", stubborn=3.0 if moment == "stops" else 0.0))
        await supervisor.start_child(family.spec("d"))
        if moment == "starts":
            family.then("b", family.hang)
        family.news()
        await family.crash("a")
        began = trio.current_time()
    assert (
        family.news()
        == {
            "stops": "-a -d -c -b",
            "starts": "-a -d -c -b +a +b -b -a",
        }[moment]
    )
    assert trio.current_time() - began == pytest.approx(3 if moment == "stops" else 0)


@GROUPS
async def test_an_end_that_waits_for_its_turn_counts_no_more_when_the_supervisor_ends(
    family: Family, strategy: Strategy
) -> None:
    async with trio.open_nursery() as nursery:
        async with open_supervisor(name="s", strategy=strategy, intensity=0) as supervisor:
            await supervisor.start_child(family.spec("a"))
            slow = family.spec("slow", family.hang)
            nursery.start_soon(_ask, [], "start", supervisor.start_child(slow))
            await wait_all_tasks_blocked()
            await family.crash("a")
        assert family.runs["a"] == 1


@GROUPS
async def test_two_that_are_taken_out_at_once_both_stay_stopped(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", strategy=strategy) as supervisor,
    ):
        await supervisor.start_child(family.spec("a", backoff=Backoff(10.0, 10.0)))
        await supervisor.start_children(family.specs("bc"))
        await family.crash("a")
        async with trio.open_nursery() as both:
            for name in "ab":
                both.start_soon(supervisor.terminate_child, name)
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": "stopped", "b": "stopped", "c": "running"}
        nursery.cancel_scope.cancel()


async def test_commands_that_wait_are_refused_when_the_supervisor_ends(
    family: Family, asked: list[str], autojump_clock: MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        async with open_supervisor(name="s", strategy=ALL) as supervisor:
            await supervisor.start_child(family.spec("a"))
            await supervisor.start_child(family.spec("b", stubborn=1))
            await family.crash("a")
            nursery.start_soon(_ask, asked, "start", supervisor.start_child(family.spec("c")))
            nursery.start_soon(_ask, asked, "terminate", supervisor.terminate_child("a"))
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert sorted(asked) == ["start: SupervisorError", "terminate"]


async def test_a_sibling_that_outlives_its_budget_is_reported_once(
    family: Family, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=ALL, observers=[family.watch]) as supervisor:
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b", stubborn=10, shutdown=1))
        await family.crash("a")
        await trio.sleep(2)
    assert [event.id for event in family.seen(ChildUnstopped)] == ["b"]


# -- budgets of their own -------------------------------------------------------------------------


@GROUPS
async def test_within_its_own_budget_a_child_is_restarted_alone(
    family: Family, strategy: Strategy
) -> None:
    """As under a one_for_one supervisor of its own, whose siblings see nothing of it."""
    async with open_supervisor(name="s", strategy=strategy, intensity=0) as supervisor:
        await supervisor.start_child(family.spec("a", intensity=2, period=10))
        await supervisor.start_child(family.spec("b"))
        family.news()
        await family.crash("a")
        await family.crash("a")
        assert family.news() == "-a +a -a +a"


@GROUPS
async def test_over_its_own_budget_it_takes_its_group_along_and_counts_once(
    family: Family, strategy: Strategy
) -> None:
    async with open_supervisor(name="s", strategy=strategy, intensity=1) as supervisor:
        await supervisor.start_child(family.spec("a", intensity=1, period=10))
        await supervisor.start_child(family.spec("b"))
        await family.crash("a")
        family.news()
        await family.crash("a")
        assert family.news() == "-a -b +a +b"
        await family.crash("a")
        assert family.news() == "-a +a"
        with pytest.raises(RestartIntensityExceeded):
            async with open_supervisor(name="t", strategy=strategy, intensity=0) as other:
                await other.start_child(family.spec("x", intensity=0, period=10))
                await family.crash("x")
                await trio.sleep_forever()


# -- events and arguments -------------------------------------------------------------------------


async def test_events_tell_the_whole_story_of_a_group(family: Family) -> None:
    async with open_supervisor(name="s", strategy=ALL, observers=[family.watch]) as supervisor:
        await supervisor.start_children(family.specs("ab"))
        family.events.clear()
        await family.crash("a")
        error = family.events[0].error
        assert family.events == [
            ChildEnded("s", "a", error, stopping=False),
            ChildRestarting("s", "a", "crash", 1),
            ChildEnded("s", "b", None, stopping=True),
            ChildStarted("s", "a", 1),
            ChildRestarting("s", "b", "sibling", 1),
            ChildStarted("s", "b", 1),
        ]


@GROUPS
async def test_a_group_needs_an_order(strategy: Strategy) -> None:
    with pytest.raises(ValueError, match="needs an order"):
        async with open_supervisor(name="s", strategy=strategy, ordered=False):
            pass


@GROUPS
async def test_errors_of_commands_are_the_same(family: Family, strategy: Strategy) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        with pytest.raises(ChildStartFailed):
            await supervisor.start_child(family.spec("a", family.fail))
        with pytest.raises(ChildNotFound):
            await supervisor.restart_child("a")
        with pytest.raises(ChildNotFound):
            await supervisor.terminate_child("a")
        await supervisor.start_child(family.spec("a"))
        await supervisor.terminate_child("a")
        assert supervisor.which_children()[0].state is ChildState.STOPPED
        assert await supervisor.restart_child("a") == "a3"


async def test_a_significant_child_that_falls_with_its_group_shuts_nothing_down(
    family: Family, autojump_clock: MockClock
) -> None:
    async with open_supervisor(
        name="s", strategy=ALL, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT
    ) as supervisor:
        await supervisor.start_child(family.spec("a"))
        options: dict[str, Any] = {"restart": Restart.TRANSIENT, "significant": True}
        await supervisor.start_child(family.spec("b", **options))
        await supervisor.start_child(family.spec("c", stubborn=1))
        await family.crash("a")
        await family.end("b")  # while c is being stopped: its turn would have come
        await trio.sleep(2)
    assert trio.current_time() > 2  # the block was not cancelled
    assert family.runs["b"] == 2


@GROUPS
@pytest.mark.parametrize(
    ("restart", "deleted"),
    [(Restart.TRANSIENT, False), (Restart.TRANSIENT, True), (Restart.TEMPORARY, False)],
)
async def test_nor_does_one_whose_end_waits_behind_that_of_a_sibling(
    family: Family,
    strategy: Strategy,
    restart: Restart,
    deleted: bool,
    autojump_clock: MockClock,
) -> None:
    """Neither a temporary nor a deleted one, which is nobody's sibling any more."""
    async with open_supervisor(
        name="s", strategy=strategy, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT
    ) as supervisor:
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b", restart=restart, significant=True))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.start_child, family.spec("c", family.start_after(1)))
            await wait_all_tasks_blocked()
            await family.crash("a")
            await family.end("b")
            if deleted:
                supervisor.delete_child("b")
        await trio.sleep(2)
        assert states(supervisor)["a"] == "running"
    assert trio.current_time() > 2  # the block was not cancelled


@GROUPS
async def test_a_temporary_significant_childs_end_before_its_siblings_has_the_first_turn(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(
        name="s", strategy=strategy, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT
    ) as supervisor:
        options: dict[str, Any] = {"restart": Restart.TEMPORARY, "significant": True}
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("b", **options))
        await supervisor.start_child(family.spec("c"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.start_child, family.spec("d", family.start_after(1)))
            await wait_all_tasks_blocked()
            await family.end("b")
            await family.crash("c", "a")
        await trio.sleep_forever()
    assert supervisor.restarts["crash"] == 0


async def test_who_waits_behind_another_cause_is_left_to_that_one(
    family: Family, autojump_clock: MockClock
) -> None:
    """Two causes at once: taking one out starts nobody whom the other's restart will start."""
    rest = Backoff(10.0, 10.0)
    async with open_supervisor(name="s", strategy=REST, intensity=5) as supervisor:
        await supervisor.start_child(family.spec("a", backoff=rest))
        await supervisor.start_children(family.specs("bc"))
        await supervisor.start_child(family.spec("d", backoff=rest))
        await supervisor.start_child(family.spec("e"))
        await family.crash("a")
        await supervisor.start_child(family.spec("f", backoff=rest))
        await supervisor.start_child(family.spec("g"))
        await family.crash("f")
        family.news()
        await supervisor.terminate_child("f")
        await wait_all_tasks_blocked()
        assert family.news() == ""
        await supervisor.terminate_child("a")
        await wait_all_tasks_blocked()
        assert family.news() == "+b +c +d +e +g"


@GROUPS
async def test_terminating_one_that_falls_with_its_group_and_is_temporary_is_no_error(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """It is forgotten by the time the command has its turn; it was once taken for one to revive."""
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(
            family.spec("b", stubborn=1, restart=Restart.TEMPORARY),
        )
        await supervisor.start_child(family.spec("c"))
        await family.crash("a")
        await supervisor.terminate_child("b")
        await wait_all_tasks_blocked()
        assert states(supervisor) == {"a": "running", "c": "running"}
