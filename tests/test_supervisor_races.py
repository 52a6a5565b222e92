"""Commands that meet in one instant, with each other or with Ctrl-C: nobody waits for ever."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from moorings.supervisors import (
    Backoff,
    ChildRunning,
    ChildSpec,
    ChildStartFailed,
    ChildState,
    ChildUnstopped,
    Restart,
    Strategy,
    SupervisorError,
    open_supervisor,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from family import Family

    from moorings.supervisors import Supervisor, SupervisorEvent, TaskStatus

    Starter = Callable[[Supervisor, ChildSpec], Awaitable[object]]

TIMES = range(20)
"""Which of two tasks runs first in an instant is trio's choice: in so many, both do."""


async def by_start_child(supervisor: Supervisor, spec: ChildSpec) -> None:
    await supervisor.start_child(spec)


async def by_start_children(supervisor: Supervisor, spec: ChildSpec) -> None:
    await supervisor.start_children([spec])


async def by_restart_child(supervisor: Supervisor, spec: ChildSpec) -> None:
    await supervisor.restart_child(spec.id)


STARTERS = pytest.mark.parametrize("start", [by_start_child, by_start_children, by_restart_child])
ORDERS = pytest.mark.parametrize("ordered", [True, False])


@STARTERS
@ORDERS
async def test_who_restarts_what_another_gives_up_in_that_instant_is_told(
    family: Family, autojump_clock: MockClock, start: Starter, *, ordered: bool
) -> None:
    """The first start comes up, its child ends, it is cancelled, and the second begins."""
    for _ in TIMES:
        spec = family.spec("c", restart=Restart.TRANSIENT)
        go, scope = trio.Event(), trio.CancelScope()

        async def leave(task_status: TaskStatus, go: trio.Event = go) -> None:
            await go.wait()
            task_status.started()

        async def restart(go: trio.Event = go) -> None:
            await go.wait()
            with suppress(SupervisorError):
                await supervisor.restart_child("c")

        async def give_up(scope: trio.CancelScope = scope, spec: ChildSpec = spec) -> None:
            with scope:
                await start(supervisor, spec)

        async with open_supervisor(name="s", ordered=ordered) as supervisor:
            if start is by_restart_child:
                await supervisor.start_child(spec)
                await supervisor.terminate_child("c")
            family.then("c", leave, family.start_after(1))
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(give_up)
                    nursery.start_soon(restart)
                    await wait_all_tasks_blocked()
                    go.set()
                    scope.cancel()


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_who_terminates_a_child_does_not_wait_for_the_end_of_its_next_life(
    family: Family, autojump_clock: MockClock, strategy: Strategy
) -> None:
    """Its budget is over in the instant of the end."""

    async def bounce(supervisor: Supervisor) -> None:
        await supervisor.terminate_child("c")
        with suppress(ChildRunning):
            await supervisor.restart_child("c")

    for _ in TIMES:
        async with open_supervisor(name="s", strategy=strategy) as supervisor:
            await supervisor.start_child(family.spec("c", shutdown=0.0))
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(bounce, supervisor)
                    nursery.start_soon(bounce, supervisor)
            assert supervisor.count_children().active == 1


@ORDERS
@pytest.mark.parametrize("ends", ["by itself", "and says `started` as it is stopped"])
async def test_who_restarts_a_child_whose_start_is_taken_back_is_told(
    family: Family, autojump_clock: MockClock, ends: str, *, ordered: bool
) -> None:
    """It says `started` while that goes on: nobody is served by that any more."""

    async def start(supervisor: Supervisor) -> None:
        slow = [family.spec("slow", stubborn=50, shutdown=100)] * (ends == "by itself")
        bad = family.spec("bad", family.fail_after(3))
        with pytest.raises(ChildStartFailed):
            await supervisor.start_children([quick, *slow, bad])

    again = family.start_after(5) if ends == "by itself" else family.start_anyway_after(5)
    quick = family.spec("quick", family.leave_after(0), again, restart=Restart.TRANSIENT)
    async with (
        open_supervisor(name="s", ordered=ordered) as supervisor,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(start, supervisor)
        await trio.sleep(1)
        with trio.fail_after(100), pytest.raises(ChildStartFailed, match="it was stopped"):
            await supervisor.restart_child("quick")


async def test_who_restarts_what_another_gave_up_keeps_it(
    family: Family, autojump_clock: MockClock
) -> None:
    """The first `restart_child` comes up, its child ends, it is cancelled; the second is up."""
    for _ in TIMES:
        go, restarted, scope = trio.Event(), trio.Event(), trio.CancelScope()

        async def leave(task_status: TaskStatus, go: trio.Event = go) -> None:
            await go.wait()
            task_status.started()

        async def give_up(scope: trio.CancelScope = scope) -> None:
            with scope:
                await supervisor.restart_child("c")

        async def restart(go: trio.Event = go, restarted: trio.Event = restarted) -> None:
            await go.wait()
            with suppress(ChildRunning):
                await supervisor.restart_child("c")
                restarted.set()

        async with open_supervisor(name="s") as supervisor:
            await supervisor.start_child(family.spec("c", restart=Restart.TRANSIENT))
            await supervisor.terminate_child("c")
            family.then("c", leave)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(give_up)
                nursery.start_soon(restart)
                await wait_all_tasks_blocked()
                go.set()
                await trio.lowlevel.checkpoint()
                scope.cancel()
            await wait_all_tasks_blocked()
            assert supervisor.count_children().active == int(restarted.is_set())


async def test_a_child_of_a_start_that_was_given_up_is_never_left_unknown(
    family: Family, autojump_clock: MockClock
) -> None:
    """Another restarts it in the instant in which it ended, and again as it is stopped."""

    for _ in range(100):  # one in fourteen goes that way
        go, scope = trio.Event(), trio.CancelScope()

        async def leave(task_status: TaskStatus, go: trio.Event = go) -> None:
            await go.wait()
            task_status.started()

        # The last ends by itself: unknown, it would have to.
        lives = leave, family.start_anyway_after(1), family.leave_after(10)
        spec = family.spec("c", *lives, restart=Restart.TRANSIENT)

        async def give_up(scope: trio.CancelScope = scope, spec: ChildSpec = spec) -> None:
            with scope:
                await supervisor.start_child(spec)

        async def restart(go: trio.Event = go) -> None:
            await go.wait()
            with suppress(SupervisorError):
                await supervisor.restart_child("c")

        async def bounce() -> None:
            await trio.sleep(0.5)
            with suppress(SupervisorError):
                await supervisor.terminate_child("c")
                await supervisor.restart_child("c")

        async with open_supervisor(name="s") as supervisor:
            async with trio.open_nursery() as nursery:
                for command in (give_up, restart, bounce):
                    nursery.start_soon(command)
                await wait_all_tasks_blocked()
                go.set()
                await trio.lowlevel.checkpoint()
                scope.cancel()
            counts = supervisor.count_children()
            assert counts.active <= counts.specs


@ORDERS
async def test_a_restart_given_up_while_its_start_is_taken_back_keeps_nothing(
    family: Family, autojump_clock: MockClock, *, ordered: bool
) -> None:
    """Its child came up, left and was restarted, and then one of the same call failed."""

    async def start(supervisor: Supervisor) -> None:
        bad = family.spec("bad", fail_after_five)
        with pytest.raises(ChildStartFailed):
            await supervisor.start_children([slow, quick, bad])

    async def fail_after_five(_: TaskStatus) -> None:
        await trio.sleep(5)
        raise RuntimeError("no start")

    slow = family.spec("slow", stubborn=50, shutdown=60)
    quick = family.spec(
        "quick", family.leave_after(0), family.hang, stubborn=3, restart=Restart.TRANSIENT
    )
    async with (
        open_supervisor(name="s", ordered=ordered) as supervisor,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(start, supervisor)
        await trio.sleep(4)
        with trio.move_on_at(6):
            await supervisor.restart_child("quick")
        await trio.sleep_until(10)
        assert [child.id for child in supervisor.which_children()] == ["slow"]
        await supervisor.start_child(family.spec("quick"))
    assert family.runs["quick"] == 3


async def test_a_hurried_start_that_fails_is_told_or_followed_by_a_restart(
    family: Family, autojump_clock: MockClock
) -> None:
    """Though who hurried it gives up in the very instant."""
    async with open_supervisor(name="s", intensity=1000) as supervisor:
        for number in TIMES:
            name, backoff, told = f"c{number}", Backoff(50, 50), False
            ends = family.crash_after(1), family.fail_after(5)
            await supervisor.start_child(family.spec(name, *ends, backoff=backoff))
            await trio.sleep(2)
            with trio.move_on_after(5) as scope:
                try:
                    await supervisor.restart_child(name)
                except ChildStartFailed:
                    told = True
            assert scope.cancelled_caught is not told
            await wait_all_tasks_blocked()
            [state] = [info.state for info in supervisor.which_children() if info.id == name]
            assert state is (ChildState.STOPPED if told else ChildState.RESTARTING)


@STARTERS
@pytest.mark.parametrize(
    "options", [{}, {"ordered": False}, {"strategy": Strategy.ONE_FOR_ALL}], ids=str
)
def test_ctrl_c_while_a_child_starts_stops_it(start: Starter, options: dict[str, Any]) -> None:
    """Nobody else would: who waits is the program's main task, and its supervisor waits for it."""
    diary: list[str] = []

    async def run(*, task_status: TaskStatus) -> None:
        if start is by_restart_child and not diary:  # once it has to be up
            task_status.started()
        diary.append("starts")
        try:
            await trio.sleep(100)
            diary.append("was left alone")
        except trio.Cancelled:
            diary.append("is stopped")
            raise

    @trio.lowlevel.enable_ki_protection
    async def interrupt() -> None:
        await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGINT)  # is raised where the main task waits

    async def main() -> None:
        async with open_supervisor(name="s", **options) as supervisor:
            spec = ChildSpec("c", run)
            if start is by_restart_child:
                await supervisor.start_child(spec)
                await supervisor.terminate_child("c")
            trio.lowlevel.spawn_system_task(interrupt)
            await start(supervisor, spec)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert diary[-2:] == ["starts", "is stopped"]


def test_a_second_ctrl_c_while_the_child_stops_leaves_it_known_and_named() -> None:
    """The first gave the start up, and the second the wait for the child's end."""
    unstopped: list[float] = []
    known: list[int] = []

    def watch(event: SupervisorEvent) -> None:
        if isinstance(event, ChildUnstopped):
            unstopped.append(trio.current_time())

    async def run(*, task_status: TaskStatus) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(60)

    @trio.lowlevel.enable_ki_protection
    async def interrupt() -> None:
        for _ in range(2):
            await trio.sleep(1)
            signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with open_supervisor(name="s", observers=[watch]) as supervisor:
            trio.lowlevel.spawn_system_task(interrupt)
            try:
                await supervisor.start_child(ChildSpec("c", run, shutdown=2.0))
            finally:
                known.append(supervisor.count_children().specs)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert known == [1]
    assert unstopped == [4.0]
