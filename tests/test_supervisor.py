"""Supervision as OTP means it: restarts, budgets, ordered stops, and honest reports."""

from __future__ import annotations

import logging
import math
import signal
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from moorings.errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRunning,
    ChildStartFailed,
    RestartIntensityExceeded,
    SupervisorError,
)
from moorings.supervisors import (
    AutoShutdown,
    ChildCounts,
    ChildEnded,
    ChildRestarting,
    ChildSpec,
    ChildStarted,
    ChildState,
    ChildUnstopped,
    Escalated,
    Restart,
    open_supervisor,
)
from moorings.supervisors.batches import BATCH
from moorings.supervisors.observers import Observers

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from moorings.supervisors import TaskStatus


class Boom(Exception):
    """A child's own error."""


class Work:
    """A child that does what it is told, incarnation by incarnation, and keeps a diary."""

    def __init__(self, name: str, diary: list[str] | None = None) -> None:
        self.name = name
        self.diary = [] if diary is None else diary
        self.runs = 0
        self.end = trio.Event()
        self.plan: list[Callable[[TaskStatus], Any]] = []
        self.stubborn = 0.0

    async def __call__(self, *, task_status: TaskStatus) -> None:
        self.runs += 1
        self.end = trio.Event()
        self.diary.append(f"+{self.name}")
        try:
            if self.plan:
                await self.plan.pop(0)(task_status)
                return
            task_status.started(f"{self.name}{self.runs}")
            await self.end.wait()
        finally:
            if self.stubborn:
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.stubborn)
            self.diary.append(f"-{self.name}")

    def then(self, *steps: Callable[[TaskStatus], Any]) -> Work:
        self.plan.extend(steps)
        return self


async def crash(task_status: TaskStatus) -> None:
    task_status.started()
    raise Boom("crash")


async def crash_later(task_status: TaskStatus) -> None:
    task_status.started()
    await trio.sleep(1)
    raise Boom("later")


async def leave(task_status: TaskStatus) -> None:
    task_status.started()


async def fail_to_start(_: TaskStatus) -> None:
    raise Boom("no start")


async def end_before_start(_: TaskStatus) -> None:
    return


async def never_start(_: TaskStatus) -> None:
    await trio.sleep_forever()


# -- starting -------------------------------------------------------------------------------------


async def test_start_child_returns_the_started_value() -> None:
    async with open_supervisor(name="s") as supervisor:
        assert await supervisor.start_child(ChildSpec("a", Work("a"))) == "a1"
        assert supervisor.count_children() == ChildCounts(specs=1, active=1)


async def test_children_stop_with_the_block_last_first() -> None:
    diary: list[str] = []
    async with open_supervisor(name="s") as supervisor:
        for name in "abc":
            await supervisor.start_child(ChildSpec(name, Work(name, diary)))
    assert diary == ["+a", "+b", "+c", "-c", "-b", "-a"]


@pytest.mark.parametrize("step", [fail_to_start, end_before_start])
async def test_a_failed_start_is_told_to_the_starter_and_leaves_nothing(step: Any) -> None:
    """No restart, no budget spent, the spec is not kept; the cause is the child's own error."""
    work = Work("a").then(step)
    async with open_supervisor(name="s", intensity=0) as supervisor:
        with pytest.raises(ChildStartFailed) as info:
            await supervisor.start_child(ChildSpec("a", work))
        assert info.value.id == "a"
        assert isinstance(info.value.__cause__, Boom if step is fail_to_start else type(None))
        assert work.runs == 1
        assert supervisor.count_children() == ChildCounts(0, 0)
        assert await supervisor.start_child(ChildSpec("a", work)) == "a2"


async def test_a_child_that_crashes_right_after_started_gives_its_first_value() -> None:
    """The starter is handed what was said, though the next incarnation is not up yet."""

    async def say_and_crash(task_status: TaskStatus) -> None:
        task_status.started("first")
        raise Boom

    work = Work("a").then(say_and_crash, never_start)
    async with open_supervisor(name="s", intensity=5) as supervisor:
        assert await supervisor.start_child(ChildSpec("a", work)) == "first"


async def test_a_restart_that_fails_to_start_is_not_the_starters_business() -> None:
    """start_child has been answered: what fails later is restarted."""
    work = Work("a").then(crash, fail_to_start)
    async with open_supervisor(name="s", intensity=5) as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        await trio.testing.wait_all_tasks_blocked()
        assert work.runs == 3
        assert supervisor.restarts == {"crash": 1, "exit": 0, "start_failed": 1}


async def test_cancelling_start_child_stops_and_forgets_the_child(
    autojump_clock: MockClock,
) -> None:
    """It returns when the child has ended."""
    work = Work("a").then(never_start)
    work.stubborn = 1
    async with open_supervisor(name="s") as supervisor:
        with trio.CancelScope() as scope:
            scope.cancel()
            await supervisor.start_child(ChildSpec("a", work))
        assert scope.cancelled_caught
        assert supervisor.count_children() == ChildCounts(0, 0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.start_child, ChildSpec("a", work.then(never_start)))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert supervisor.count_children() == ChildCounts(0, 0)
        assert work.diary.count("+a") == work.diary.count("-a")


async def test_a_second_started_changes_nothing() -> None:
    async def twice(task_status: TaskStatus) -> None:
        task_status.started(1)
        task_status.started(2)
        await trio.sleep_forever()

    async with open_supervisor(name="s") as supervisor:
        assert await supervisor.start_child(ChildSpec("a", Work("a").then(twice))) == 1


# -- commands and their errors --------------------------------------------------------------------


async def test_ids_are_unique() -> None:
    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(ChildSpec("a", Work("a")))
        with pytest.raises(ChildAlreadyStarted):
            await supervisor.start_child(ChildSpec("a", Work("a")))
        await supervisor.terminate_child("a")
        with pytest.raises(ChildAlreadyPresent):
            await supervisor.start_child(ChildSpec("a", Work("a")))


async def test_terminate_keeps_the_spec_restart_runs_it_delete_forgets_it() -> None:
    work = Work("a")
    async with open_supervisor(name="s", intensity=0) as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        with pytest.raises(ChildRunning):
            supervisor.delete_child("a")
        with pytest.raises(ChildRunning):
            await supervisor.restart_child("a")
        await supervisor.terminate_child("a")
        await supervisor.terminate_child("a")  # idempotent
        assert supervisor.count_children() == ChildCounts(1, 0)
        assert await supervisor.restart_child("a") == "a2"
        await supervisor.terminate_child("a")
        supervisor.delete_child("a")
        assert supervisor.which_children() == ()


async def test_unknown_ids_are_named_with_the_nearest() -> None:
    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(ChildSpec("mongo", Work("mongo")))
        with pytest.raises(ChildNotFound, match="did you mean 'mongo'"):
            await supervisor.terminate_child("mongoo")
        with pytest.raises(ChildNotFound):
            await supervisor.restart_child("x")
        with pytest.raises(ChildNotFound):
            supervisor.delete_child("x")


async def test_a_failed_restart_command_keeps_the_spec() -> None:
    work = Work("a")
    async with open_supervisor(name="s", intensity=0) as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        await supervisor.terminate_child("a")
        work.then(fail_to_start)
        with pytest.raises(ChildStartFailed):
            await supervisor.restart_child("a")
        assert supervisor.count_children() == ChildCounts(1, 0)
        assert await supervisor.restart_child("a") == "a3"


async def test_a_failed_restart_command_tells_its_own_error_whoever_restarts_next() -> None:
    """Also if the next does so before the first is told: trio's order of tasks is chance."""
    fails, failing = True, trio.Event()

    async def run(task_status: TaskStatus) -> None:
        if fails:
            failing.set()
            raise Boom
        task_status.started()
        await trio.sleep_forever()

    async with open_supervisor(name="s") as supervisor, trio.open_nursery() as nursery:

        async def restart_next() -> None:
            nonlocal fails
            await failing.wait()
            fails = False
            await supervisor.restart_child("a")

        for _ in range(20):
            fails, failing = False, trio.Event()
            await supervisor.start_child(ChildSpec("a", run))
            await supervisor.terminate_child("a")
            fails = True
            nursery.start_soon(restart_next)
            await wait_all_tasks_blocked()
            with pytest.raises(ChildStartFailed) as info:
                await supervisor.restart_child("a")
            assert isinstance(info.value.__cause__, Boom)
            await wait_all_tasks_blocked()
            await supervisor.terminate_child("a")
            supervisor.delete_child("a")


@pytest.mark.parametrize("ask", [None, lambda: None])
async def test_terminate_before_the_child_has_run_stops_it(ask: Any) -> None:
    """Asked or cancelled, it never gets to work."""
    work = Work("a")
    async with open_supervisor(name="s", ordered=False) as supervisor:
        supervisor.start_children_nowait([ChildSpec("a", work, ask=ask)])
        await supervisor.terminate_child("a")
        assert supervisor.which_children()[0].state is ChildState.STOPPED
    assert work.runs == 0


async def test_stopping_between_two_incarnations_is_heard() -> None:
    work = Work("a").then(crash)
    restarting = trio.Event()

    def observe(event: object) -> None:
        if isinstance(event, ChildRestarting):
            supervisor._runner.children["a"].stop()
            restarting.set()

    async with open_supervisor(name="s", intensity=5, observers=[observe]) as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        await restarting.wait()
        await supervisor.terminate_child("a")
        assert supervisor.count_children() == ChildCounts(1, 0)
    assert work.runs == 1


@pytest.mark.parametrize("asked", [False, True])
async def test_what_fails_in_deciding_about_a_child_ends_the_supervisor(
    asked: bool, autojump_clock: MockClock
) -> None:
    """It would be one child's end, else: nobody would run it again, nor hear of the escalation."""

    def fail(_: object) -> None:
        raise ValueError("told and failed")

    spec = ChildSpec("a", Work("a").then(crash), ask=(lambda: None) if asked else None)
    with pytest.RaisesGroup(ValueError, flatten_subgroups=True):
        async with open_supervisor(name="s", intensity=0) as supervisor:
            supervisor.before_escalation = fail
            await supervisor.start_child(spec)
            await trio.sleep(60)


async def test_concurrent_terminates_all_return_when_it_has_ended(
    autojump_clock: MockClock,
) -> None:
    work = Work("a")
    work.stubborn = 2
    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(supervisor.terminate_child, "a")
        assert trio.current_time() == pytest.approx(2)
        assert work.diary == ["+a", "-a"]


async def test_cancelling_terminate_leaves_the_child_stopping(autojump_clock: MockClock) -> None:
    work = Work("a")
    work.stubborn = 2
    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        with trio.move_on_after(1):
            await supervisor.terminate_child("a")
        assert supervisor.which_children()[0].state is ChildState.STOPPING
        with pytest.raises(ChildRunning):
            await supervisor.restart_child("a")
        await supervisor.terminate_child("a")
        assert trio.current_time() == pytest.approx(2)


async def test_which_children_tells_the_start_order_and_the_restarts() -> None:
    async with open_supervisor(
        name="s", intensity=5, auto_shutdown=AutoShutdown.ANY_SIGNIFICANT
    ) as supervisor:
        await supervisor.start_child(ChildSpec("b", Work("b").then(crash, crash)))
        await supervisor.start_child(
            ChildSpec("a", Work("a"), restart=Restart.TRANSIENT, significant=True)
        )
        await trio.testing.wait_all_tasks_blocked()
        first, second = supervisor.which_children()
        assert (first.id, first.state, first.restarts) == ("b", ChildState.RUNNING, 2)
        assert (second.id, second.restart, second.significant) == ("a", Restart.TRANSIENT, True)
        assert repr(supervisor) == "<Supervisor 's': 2 of 2 children active>"


async def test_a_stopping_supervisor_takes_no_commands(autojump_clock: MockClock) -> None:
    work = Work("a")
    work.stubborn = 1
    refused: list[Exception] = []

    async def late(supervisor: Any) -> None:
        await trio.sleep(0.5)
        for command in (
            supervisor.start_child(ChildSpec("b", Work("b"))),
            supervisor.restart_child("a"),
        ):
            try:
                await command
            except SupervisorError as error:
                refused.append(error)

    async with trio.open_nursery() as nursery, open_supervisor(name="s") as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        nursery.start_soon(late, supervisor)
    assert [str(error) for error in refused] == ["supervisor 's' is stopping"] * 2


# -- policies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "step", "runs", "specs"),
    [
        (Restart.PERMANENT, crash, 2, 1),
        (Restart.PERMANENT, leave, 2, 1),
        (Restart.TRANSIENT, crash, 2, 1),
        (Restart.TRANSIENT, leave, 1, 1),
        (Restart.TEMPORARY, crash, 1, 0),
        (Restart.TEMPORARY, leave, 1, 0),
    ],
)
async def test_who_runs_again(restart: Restart, step: Any, runs: int, specs: int) -> None:
    """And a temporary child's spec is forgotten with its end."""
    work = Work("a").then(step)
    async with open_supervisor(name="s", intensity=1) as supervisor:
        await supervisor.start_child(ChildSpec("a", work, restart=restart))
        await trio.testing.wait_all_tasks_blocked()
        assert work.runs == runs
        assert supervisor.count_children().specs == specs


async def test_a_terminated_temporary_child_is_forgotten() -> None:
    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(ChildSpec("a", Work("a"), restart=Restart.TEMPORARY))
        await supervisor.terminate_child("a")
        assert supervisor.which_children() == ()
        await supervisor.start_child(ChildSpec("a", Work("a"), restart=Restart.TEMPORARY))


async def test_a_normal_end_of_a_permanent_child_counts_as_an_exit() -> None:
    async with open_supervisor(name="s", intensity=5) as supervisor:
        await supervisor.start_child(ChildSpec("a", Work("a").then(leave)))
        await trio.testing.wait_all_tasks_blocked()
        assert supervisor.restarts == {"crash": 0, "exit": 1, "start_failed": 0}


# -- budgets --------------------------------------------------------------------------------------


async def test_more_than_intensity_restarts_within_the_period_end_it(
    autojump_clock: MockClock,
) -> None:
    """The error is bare, names supervisor, child and count, and its cause is the last error."""
    events: list[Any] = []
    work = Work("a").then(*[crash] * 3)
    with pytest.raises(RestartIntensityExceeded) as info:
        async with open_supervisor(
            name="s", intensity=2, period=5, observers=[events.append]
        ) as supervisor:
            await supervisor.start_child(ChildSpec("a", work))
            await trio.sleep_forever()
    error = info.value
    assert (error.supervisor, error.child, error.restarts) == ("s", "a", 3)
    assert isinstance(error.__cause__, Boom)
    assert work.runs == 3
    assert [e for e in events if isinstance(e, Escalated)] == [Escalated("s", "a", error)]


async def test_as_many_as_intensity_are_fine(autojump_clock: MockClock) -> None:
    work = Work("a").then(*[crash] * 2)
    async with open_supervisor(name="s", intensity=2, period=5) as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        await trio.sleep(1)
        assert work.runs == 3


async def test_restarts_outside_the_period_are_forgotten(autojump_clock: MockClock) -> None:
    work = Work("a").then(*[crash_later] * 20)
    async with open_supervisor(name="s", intensity=1, period=0.9) as supervisor:
        await supervisor.start_child(ChildSpec("a", work))
        await trio.sleep(30)
        assert work.runs == 21


async def test_children_share_the_supervisors_budget() -> None:
    with pytest.raises(RestartIntensityExceeded):
        async with open_supervisor(name="s", intensity=1) as supervisor:
            await supervisor.start_child(ChildSpec("a", Work("a").then(crash)))
            await supervisor.start_child(ChildSpec("b", Work("b").then(crash)))
            await trio.sleep_forever()


async def test_a_budget_of_its_own_counts_nothing_upward(autojump_clock: MockClock) -> None:
    work = Work("a").then(*[crash] * 3)
    async with open_supervisor(name="s", intensity=0, period=60) as supervisor:
        await supervisor.start_child(ChildSpec("a", work, intensity=3, period=10))
        await trio.sleep(1)
        assert work.runs == 4


async def test_exceeding_its_own_budget_counts_once_upward(autojump_clock: MockClock) -> None:
    """And then it begins anew, as a supervisor of its own would after its restart."""
    work = Work("a").then(*[crash] * 5)  # own budget 1: exceeded at the 2nd and the 4th
    async with open_supervisor(name="s", intensity=2, period=60) as supervisor:
        await supervisor.start_child(ChildSpec("a", work, intensity=1, period=10))
        await trio.sleep(1)
        assert work.runs == 6
    work = Work("a").then(*[crash] * 6)
    with pytest.raises(RestartIntensityExceeded) as info:
        async with open_supervisor(name="s", intensity=2, period=60) as supervisor:
            await supervisor.start_child(ChildSpec("a", work, intensity=1, period=10))
            await trio.sleep_forever()
    assert info.value.restarts == 3
    assert work.runs == 6


async def test_escalation_stops_the_others_in_order_and_the_block(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    bad = Work("bad").then(crash_later)
    cancelled: list[bool] = []
    with pytest.raises(RestartIntensityExceeded):
        async with open_supervisor(name="s", intensity=0) as supervisor:
            for name in "ab":
                await supervisor.start_child(ChildSpec(name, Work(name, diary)))
            await supervisor.start_child(ChildSpec("bad", bad))
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                cancelled.append(True)
                raise
    assert diary == ["+a", "+b", "-b", "-a"]
    assert cancelled == [True]


async def test_a_waiting_starter_is_told_when_the_supervisor_gives_up(
    autojump_clock: MockClock,
) -> None:
    slow, told = Work("slow").then(never_start), []

    async def start(supervisor: Any) -> None:
        try:
            await supervisor.start_child(ChildSpec("slow", slow))
        except ChildStartFailed as error:
            told.append(error)

    async with trio.open_nursery() as nursery:
        with pytest.raises(RestartIntensityExceeded):
            async with open_supervisor(name="s", intensity=0) as supervisor:
                nursery.start_soon(start, supervisor)
                await supervisor.start_child(ChildSpec("bad", Work("bad").then(crash_later)))
                await trio.sleep_forever()
    assert len(told) == 1


# -- errors of the block --------------------------------------------------------------------------


async def test_the_blocks_own_error_passes_as_it_is() -> None:
    own = ValueError("own")
    with pytest.raises(ValueError) as info:
        async with open_supervisor(name="s") as supervisor:
            await supervisor.start_child(ChildSpec("a", Work("a")))
            raise own
    assert info.value is own


async def test_both_fail_both_are_raised_in_one_group() -> None:
    with pytest.raises(ExceptionGroup) as info:
        async with open_supervisor(name="s", intensity=0) as supervisor:
            try:
                await supervisor.start_child(ChildSpec("a", Work("a").then(crash)))
                await trio.sleep_forever()
            finally:
                raise ValueError("own")
    kinds = {type(error) for error in info.value.exceptions}
    assert kinds == {ValueError, RestartIntensityExceeded}


async def test_cancellation_from_outside_begins_the_ordered_stop(
    autojump_clock: MockClock,
) -> None:
    """Children are shielded: none is cancelled before its turn."""
    diary: list[str] = []
    works = {name: Work(name, diary) for name in "abc"}
    for work in works.values():
        work.stubborn = 1
    with trio.move_on_after(1) as scope:
        async with open_supervisor(name="s") as supervisor:
            for name, work in works.items():
                await supervisor.start_child(ChildSpec(name, work))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert diary == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert trio.current_time() == pytest.approx(4)


async def test_a_deadline_over_the_supervisor_does_not_reach_the_children(
    autojump_clock: MockClock,
) -> None:
    alive_at: list[float] = []

    async def child(*, task_status: TaskStatus) -> None:
        task_status.started()
        while True:
            await trio.sleep(0.1)
            alive_at.append(trio.current_time())

    async def body() -> None:
        async with open_supervisor(name="s") as supervisor:
            await supervisor.start_child(ChildSpec("a", child))
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(5)  # the block takes its time: the child works on

    with trio.move_on_after(1):
        await body()
    assert alive_at[-1] == pytest.approx(6, abs=0.2)


# -- stopping on a budget -------------------------------------------------------------------------


async def test_unordered_children_stop_together(autojump_clock: MockClock) -> None:
    works = [Work(str(n)) for n in range(3 * BATCH)]
    for work in works:
        work.stubborn = 1
    async with open_supervisor(name="s", ordered=False) as supervisor:
        supervisor.start_children_nowait([ChildSpec(work.name, work) for work in works])
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == pytest.approx(1)


async def test_who_crashes_while_a_crowd_is_stopped_stays_down() -> None:
    """A crowd is stopped in batches; between them, who has yet to be told may end by itself."""
    events: list[object] = []
    pushed = trio.Event()

    async def push(task_status: TaskStatus) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            pushed.set()

    async def fall(task_status: TaskStatus) -> None:
        task_status.started()
        await pushed.wait()
        raise Boom

    # Pushed in the turn after the first batch, it falls in the next one, before its own batch's.
    crowd = [Work(str(n)) for n in range(4 * BATCH)]
    crowd[0].then(push)
    crowd[-1].then(fall)
    async with open_supervisor(name="s", ordered=False, observers=[events.append]) as supervisor:
        supervisor.start_children_nowait([ChildSpec(work.name, work) for work in crowd])
        await trio.testing.wait_all_tasks_blocked()
    ends = [event for event in events if isinstance(event, ChildEnded)]
    (fallen,) = [end for end in ends if not end.stopping]
    assert (fallen.id, type(fallen.error)) == (crowd[-1].name, Boom)
    assert len(ends) == len(crowd)
    assert not any(isinstance(event, ChildRestarting) for event in events)


async def test_who_does_not_stop_is_named_with_its_stack_at_its_deadline(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each at the end of its own budget, once; the supervisor waits on."""
    reports: list[tuple[float, ChildUnstopped]] = []

    def observe(event: object) -> None:
        if isinstance(event, ChildUnstopped):
            reports.append((trio.current_time(), event))

    async def stuck_in_the_mud(task_status: TaskStatus) -> None:
        task_status.started()
        with trio.CancelScope(shield=True):
            await trio.sleep(10)

    async with open_supervisor(name="s", ordered=False, observers=[observe]) as supervisor:
        budgets = {"quick": 5.0, "two": 2.0, "three": 3.0, "as two": float("2"), "inf": math.inf}
        for name, shutdown in budgets.items():
            work = Work(name).then(*([stuck_in_the_mud] if name != "quick" else []))
            await supervisor.start_child(ChildSpec(name, work, shutdown=shutdown))
    assert [(when, event.id, event.shutdown) for when, event in reports] == [
        (pytest.approx(2), "two", 2.0),
        (pytest.approx(2), "as two", 2.0),
        (pytest.approx(3), "three", 3.0),
    ]
    assert "stuck_in_the_mud" in reports[0][1].stack
    assert trio.current_time() == pytest.approx(10)
    assert "'two' of supervisor 's' did not stop within 2 s" in caplog.text


@pytest.mark.parametrize("ordered", [True, False])
async def test_one_report_however_many_wait(autojump_clock: MockClock, *, ordered: bool) -> None:
    """Terminated by two who give up, then with the supervisor: still one report."""
    reports: list[object] = []
    work = Work("a")
    work.stubborn = 10
    async with open_supervisor(
        name="s",
        ordered=ordered,
        observers=[lambda e: isinstance(e, ChildUnstopped) and reports.append(e)],
    ) as supervisor:
        await supervisor.start_child(ChildSpec("a", work, shutdown=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "a")
            nursery.start_soon(supervisor.terminate_child, "a")
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
    assert len(reports) == 1


async def test_escalation_reports_an_unstopped_child_once(autojump_clock: MockClock) -> None:
    reports: list[object] = []
    stuck = Work("stuck")
    stuck.stubborn = 10
    with pytest.raises(RestartIntensityExceeded):
        async with open_supervisor(
            name="s",
            intensity=0,
            ordered=False,
            observers=[lambda e: isinstance(e, ChildUnstopped) and reports.append(e)],
        ) as supervisor:
            await supervisor.start_child(ChildSpec("stuck", stuck, shutdown=1))
            await supervisor.start_child(ChildSpec("bad", Work("bad").then(crash_later)))
            await trio.sleep_forever()
    assert len(reports) == 1


async def test_in_order_each_has_its_own_budget(autojump_clock: MockClock) -> None:
    """b is not blamed for the time that c took."""
    reports: list[str] = []
    works = {name: Work(name) for name in "abc"}
    for work in works.values():
        work.stubborn = 1.5
    async with open_supervisor(
        name="s",
        observers=[lambda e: isinstance(e, ChildUnstopped) and reports.append(e.id)],
    ) as supervisor:
        for name, work in works.items():
            await supervisor.start_child(ChildSpec(name, work, shutdown=2))
    assert reports == []
    assert trio.current_time() == pytest.approx(4.5)


async def test_a_child_that_can_be_asked_is_asked_and_never_cancelled() -> None:
    wanted, seen = trio.Event(), []

    async def polite(*, task_status: TaskStatus) -> None:
        task_status.started()
        try:
            await wanted.wait()
        except trio.Cancelled:
            seen.append("cancelled")
            raise
        seen.append("asked")

    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(ChildSpec("a", polite, ask=wanted.set))
    assert seen == ["asked"]


async def test_an_error_while_stopping_is_no_crash() -> None:
    """It is told by an event, and spends no budget."""
    events: list[Any] = []

    async def sore_loser(*, task_status: TaskStatus) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise Boom("on the way out")

    async with open_supervisor(name="s", intensity=0, observers=[events.append]) as supervisor:
        await supervisor.start_child(ChildSpec("a", sore_loser))
        await supervisor.terminate_child("a")
    (ended,) = [e for e in events if isinstance(e, ChildEnded)]
    assert isinstance(ended.error, Boom)
    assert ended.stopping


async def test_an_error_beside_the_cancellation_is_the_childs_own() -> None:
    """A nursery of the child's mixes both in one group: nobody else is taken along."""
    events: list[Any] = []

    async def sore_loser(*, task_status: TaskStatus) -> None:
        async def raise_at_the_end() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise Boom("on the way out")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(raise_at_the_end)
            nursery.start_soon(trio.sleep_forever)
            task_status.started()

    async with open_supervisor(name="s", intensity=0, observers=[events.append]) as supervisor:
        await supervisor.start_child(ChildSpec("a", sore_loser))
        await supervisor.start_child(ChildSpec("b", Work("b")))
        await supervisor.terminate_child("a")
        assert supervisor.count_children() == ChildCounts(2, 1)
        ended = [e for e in events if isinstance(e, ChildEnded)]
        assert [(e.id, e.stopping) for e in ended] == [("a", True)]
        assert ended[0].error is not None


async def test_a_crash_while_the_supervisor_stops_is_not_restarted(
    autojump_clock: MockClock,
) -> None:
    late = Work("late")
    late.stubborn = 3
    bad = Work("bad").then(crash_later)
    async with open_supervisor(name="s", intensity=0) as supervisor:
        await supervisor.start_child(ChildSpec("bad", bad))
        await supervisor.start_child(ChildSpec("late", late))  # stops first, and takes 3 s
    assert bad.runs == 1


# -- many at once ---------------------------------------------------------------------------------


async def test_many_start_together_and_none_before_all_specs_are_checked() -> None:
    works = {name: Work(name) for name in "abc"}
    async with open_supervisor(name="s", ordered=False) as supervisor:
        await supervisor.start_child(ChildSpec("c", works["c"]))
        with pytest.raises(ChildAlreadyStarted):
            supervisor.start_children_nowait([ChildSpec(n, w) for n, w in works.items()])
        assert supervisor.count_children() == ChildCounts(1, 1)
        supervisor.start_children_nowait([ChildSpec(n, works[n]) for n in "ab"])
        await trio.testing.wait_all_tasks_blocked()
        assert [w.runs for w in works.values()] == [1, 1, 1]


async def test_a_spec_twice_in_one_list_is_refused() -> None:
    async with open_supervisor(name="s", ordered=False) as supervisor:
        with pytest.raises(SupervisorError):
            supervisor.start_children_nowait([ChildSpec("a", Work("a"))] * 2)
        assert supervisor.count_children() == ChildCounts(0, 0)


async def test_ordered_supervisors_start_one_by_one() -> None:
    async with open_supervisor(name="s") as supervisor:
        with pytest.raises(SupervisorError, match="one by one"):
            supervisor.start_children_nowait([])


async def test_a_failed_start_of_many_is_restarted() -> None:
    work = Work("a").then(fail_to_start)
    async with open_supervisor(name="s", ordered=False, intensity=1) as supervisor:
        supervisor.start_children_nowait([ChildSpec("a", work)])
        await trio.testing.wait_all_tasks_blocked()
        assert work.runs == 2


async def test_a_child_that_crashes_at_once_starves_nobody() -> None:
    ran: list[int] = []

    async def other(*, task_status: TaskStatus) -> None:
        task_status.started()
        for n in range(5):
            ran.append(n)
            await trio.lowlevel.checkpoint()

    crashing = Work("a").then(*[crash] * 1000)
    async with open_supervisor(name="s", ordered=False) as supervisor:
        supervisor.start_children_nowait(
            [
                ChildSpec("a", crashing, intensity=10**6, period=60),
                ChildSpec("b", other, restart=Restart.TEMPORARY),
            ]
        )
        while len(ran) < 5:
            await trio.lowlevel.checkpoint()
        assert crashing.runs < 100


# -- events ---------------------------------------------------------------------------------------


async def test_events_tell_the_whole_story() -> None:
    events: list[Any] = []
    async with open_supervisor(name="s", intensity=5, observers=[events.append]) as supervisor:
        await supervisor.start_child(ChildSpec("a", Work("a").then(crash)))
        await trio.testing.wait_all_tasks_blocked()
    kinds = [type(event) for event in events]
    assert kinds == [ChildStarted, ChildEnded, ChildRestarting, ChildStarted, ChildEnded]
    assert events[0] == ChildStarted("s", "a", 0)
    assert isinstance(events[1].error, Boom)
    assert not events[1].stopping
    assert events[2] == ChildRestarting("s", "a", "crash", 1)
    assert events[3] == ChildStarted("s", "a", 1)
    assert events[4] == ChildEnded("s", "a", None, stopping=True)


async def test_a_broken_observer_is_removed_and_logged_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[object] = []

    def broken(_: object) -> None:
        raise ZeroDivisionError

    async with open_supervisor(name="s", observers=[broken, seen.append]) as supervisor:
        await supervisor.start_child(ChildSpec("a", Work("a")))
    assert len(seen) == 2
    records = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(records) == 1
    assert "removed a broken supervisor observer" in records[0].message


def test_an_observer_that_breaks_twice_at_once_is_removed_once() -> None:
    """At an event, and at another that it has caused itself."""

    def broken(event: Any) -> None:
        if event == "outer":
            observers.tell(cast("Any", "inner"))
        raise ZeroDivisionError

    observers = Observers([broken])
    observers.tell(cast("Any", "outer"))
    assert observers == []


# -- nesting --------------------------------------------------------------------------------------


async def test_supervisors_nest_and_escalation_is_a_crash_of_the_child(
    autojump_clock: MockClock,
) -> None:
    """The inner one gives up, the outer one restarts it whole."""
    diary: list[str] = []
    grandchild = Work("grandchild", diary).then(crash_later, crash_later)

    async def inner(*, task_status: TaskStatus) -> None:
        async with open_supervisor(name="inner", intensity=0) as supervisor:
            await supervisor.start_child(ChildSpec("sibling", Work("sibling", diary)))
            await supervisor.start_child(ChildSpec("grandchild", grandchild))
            task_status.started()
            await trio.sleep_forever()

    async with open_supervisor(name="outer", intensity=2) as supervisor:
        await supervisor.start_child(ChildSpec("inner", inner))
        await trio.sleep(5)
        assert supervisor.which_children()[0].restarts == 2
    assert diary == ["+sibling", "+grandchild", "-grandchild", "-sibling"] * 3


async def test_escalation_names_the_inner_supervisor_as_the_cause(
    autojump_clock: MockClock,
) -> None:
    async def inner(*, task_status: TaskStatus) -> None:
        async with open_supervisor(name="inner", intensity=0) as supervisor:
            task_status.started()
            await supervisor.start_child(ChildSpec("a", Work("a").then(crash_later)))
            await trio.sleep_forever()

    with pytest.raises(RestartIntensityExceeded) as info:
        async with open_supervisor(name="outer", intensity=0) as supervisor:
            await supervisor.start_child(ChildSpec("inner", inner))
            await trio.sleep_forever()
    assert info.value.supervisor == "outer"
    assert isinstance(info.value.__cause__, RestartIntensityExceeded)
    assert info.value.__cause__.supervisor == "inner"


# -- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"shutdown": -1}, "shutdown must be >= 0"),
        ({"shutdown": math.nan}, "shutdown must be >= 0"),
        ({"intensity": 1}, "belong together"),
        ({"period": 1.0}, "belong together"),
        ({"intensity": -1, "period": 1.0}, "intensity must be >= 0"),
        ({"intensity": 1, "period": 0.0}, "period must be positive"),
        ({"intensity": 1, "period": math.inf}, "period must be positive"),
        ({"intensity": 1, "period": math.nan}, "period must be positive"),
        ({"restart": "always"}, "'a': restart must be one of permanent, transient, temporary; got"),
    ],
)
def test_a_spec_that_means_nothing_is_refused(arguments: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        ChildSpec("a", Work("a"), **arguments)


def test_run_has_to_be_callable() -> None:
    with pytest.raises(TypeError, match="run must be an async function"):
        ChildSpec("a", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"ask": trio.Event}, None),
        ({"ask": "event.set"}, "ask must be a function"),
        ({"backoff": 1.0}, "backoff must be a Backoff"),
        ({"intensity": 1.5, "period": 1.0}, "intensity must be an integer or math.inf"),
        ({"intensity": math.nan, "period": 1.0}, "intensity must be an integer or math.inf"),
        ({"id": 7}, "an id must be a string"),
    ],
)
def test_a_spec_of_other_types_is_refused(arguments: Any, problem: str | None) -> None:
    refused = nullcontext() if problem is None else pytest.raises(TypeError, match=problem)
    with refused:
        ChildSpec(**({"id": "a", "run": Work("a")} | arguments))


async def test_policies_may_be_given_by_name() -> None:
    """Their names come from settings; they are not taken for another one."""
    assert ChildSpec("a", Work("a"), restart="temporary").restart is Restart.TEMPORARY  # type: ignore[arg-type]
    async with open_supervisor(name="s", strategy="one_for_one", intensity=9) as supervisor:  # type: ignore[arg-type]
        a, b = Work("a").then(crash), Work("b")
        await supervisor.start_children([ChildSpec("a", a), ChildSpec("b", b)])
        await wait_all_tasks_blocked()
        assert (a.runs, b.runs) == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"strategy": "nonsense"}, ValueError),
        ({"auto_shutdown": "nonsense"}, ValueError),
        ({"intensity": 1.5}, TypeError),
        ({"observers": print}, TypeError),
        ({"observers": [3]}, TypeError),
        ({"observers": [trio.sleep]}, TypeError),
    ],
)
async def test_arguments_that_mean_nothing_are_refused_bare(
    arguments: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        async with open_supervisor(name="s", **arguments):
            pass


@pytest.mark.parametrize("arguments", [{"intensity": -1}, {"period": 0}, {"period": -1}])
async def test_a_budget_that_means_nothing_is_refused(arguments: Any) -> None:
    with pytest.raises(ValueError, match="supervisor 's'"):
        async with open_supervisor(name="s", **arguments):
            pass


async def test_whoever_has_not_begun_when_a_crowd_is_stopped_never_does() -> None:
    works = [Work(str(n)) for n in range(3 * BATCH)]
    async with open_supervisor(name="s", ordered=False) as supervisor:
        supervisor.start_children_nowait([ChildSpec(work.name, work) for work in works])
    assert not any(work.runs for work in works)


def test_ctrl_c_while_children_are_stopped_stops_the_rest_too() -> None:
    """Nobody else would: what is outside does not reach them."""
    elder = Work("elder")

    @trio.lowlevel.enable_ki_protection
    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)  # is raised where the main task waits

    async def younger(*, task_status: TaskStatus) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            interrupt()
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    async def main() -> None:
        async with open_supervisor(name="s") as supervisor:
            await supervisor.start_child(ChildSpec("elder", elder))
            await supervisor.start_child(ChildSpec("younger", younger))

    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert elder.diary == ["+elder", "-elder"]


async def test_a_start_that_its_dead_supervisor_refuses_leaves_nobody_waiting(
    autojump_clock: MockClock,
) -> None:
    def fail(_: object) -> None:
        raise ValueError("told and failed")

    with pytest.RaisesGroup(ValueError, RuntimeError, flatten_subgroups=True):
        async with open_supervisor(name="s", ordered=False, intensity=0) as supervisor:
            supervisor.before_escalation = fail
            supervisor.start_children_nowait([ChildSpec("a", Work("a").then(crash))])
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                supervisor.start_children_nowait([ChildSpec("b", Work("b"))])
