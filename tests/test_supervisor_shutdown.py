"""Significant children: when their end is their supervisor's, and what its block sees of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from moorings.errors import ChildStartFailed, RestartIntensityExceeded, SupervisorError
from moorings.supervisors import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    ShuttingDown,
    Strategy,
    open_supervisor,
)
from moorings.supervisors.batches import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable

    from family import Family
    from trio.testing import MockClock

    from moorings.supervisors import Supervisor, TaskStatus

ANY, ALL = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT
STRATEGIES = pytest.mark.parametrize("strategy", list(Strategy))
SIGNIFICANT: dict[str, Any] = {"significant": True, "restart": Restart.TRANSIENT}


@pytest.fixture
def is_up(family: Family) -> Callable[[], bool]:
    """Whether no supervisor has shut down; asked after the block, which that cancels."""
    return lambda: not family.seen(ShuttingDown)


# -- what may be significant ----------------------------------------------------------------------


def test_a_permanent_child_cannot_be_significant(family: Family) -> None:
    with pytest.raises(ValueError, match="permanent child cannot be significant"):
        family.spec("a", significant=True)


@pytest.mark.parametrize("command", ["start_child", "start_children", "start_children_nowait"])
async def test_a_supervisor_that_never_shuts_down_takes_no_significant_child(
    family: Family, command: str
) -> None:
    """Refused before anything starts."""
    spec = family.spec("a", **SIGNIFICANT)
    async with open_supervisor(name="s", ordered=False) as supervisor:
        with pytest.raises(SupervisorError, match="give it an auto_shutdown"):
            answer = getattr(supervisor, command)(spec if command == "start_child" else [spec])
            await answer
        assert supervisor.which_children() == ()
    assert family.news() == ""


# -- whose end counts -----------------------------------------------------------------------------


@STRATEGIES
@pytest.mark.parametrize(
    ("restart", "abnormal", "significant", "shuts_down"),
    [
        (Restart.TRANSIENT, False, True, True),
        (Restart.TRANSIENT, True, True, False),  # it is restarted
        (Restart.TEMPORARY, False, True, True),
        (Restart.TEMPORARY, True, True, True),
        (Restart.TRANSIENT, False, False, False),
        (Restart.TEMPORARY, True, False, False),
    ],
)
async def test_any_significant(
    family: Family,
    is_up: Any,
    strategy: Strategy,
    restart: Restart,
    *,
    abnormal: bool,
    significant: bool,
    shuts_down: bool,
) -> None:
    async with open_supervisor(
        name="s", strategy=strategy, auto_shutdown=ANY, observers=[family.watch]
    ) as supervisor:
        options: dict[str, Any] = {"restart": restart, "significant": significant}
        await supervisor.start_child(family.spec("a", **options))
        await supervisor.start_child(family.spec("b", **SIGNIFICANT))
        family.end_soon("a", family.Boom() if abnormal else None)
        await wait_all_tasks_blocked()
    assert is_up() is not shuts_down


@STRATEGIES
async def test_all_significant_means_the_last_active_one(
    family: Family, is_up: Any, strategy: Strategy
) -> None:
    async with open_supervisor(
        name="s", strategy=strategy, auto_shutdown=ALL, observers=[family.watch]
    ) as supervisor:
        for name in "abc":
            await supervisor.start_child(family.spec(name, **SIGNIFICANT))
        await supervisor.start_child(family.spec("other"))
        await family.end("b")
        await supervisor.terminate_child("a")  # not active any more
        assert is_up()
        family.end_soon("c")
        await trio.sleep_forever()
    assert family.seen(ShuttingDown) == [ShuttingDown("s", "c")]


@STRATEGIES
@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
async def test_terminating_a_significant_child_shuts_nothing_down(
    family: Family, is_up: Any, strategy: Strategy, auto_shutdown: AutoShutdown
) -> None:
    async with open_supervisor(
        name="s", strategy=strategy, auto_shutdown=auto_shutdown, observers=[family.watch]
    ) as supervisor:
        await supervisor.start_child(family.spec("a", **SIGNIFICANT))
        await supervisor.terminate_child("a")
        await wait_all_tasks_blocked()
    assert is_up()


async def test_one_that_is_being_terminated_is_not_active(
    family: Family, is_up: Any, autojump_clock: MockClock
) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", auto_shutdown=ALL, observers=[family.watch]) as supervisor,
    ):
        await supervisor.start_child(family.spec("a", stubborn=5, **SIGNIFICANT))
        await supervisor.start_child(family.spec("b", **SIGNIFICANT))
        nursery.start_soon(supervisor.terminate_child, "a")
        await wait_all_tasks_blocked()
        family.end_soon("b")
        await trio.sleep_forever()
    assert not is_up()


async def test_one_that_waits_for_its_restart_is_active(family: Family, is_up: Any) -> None:
    async with open_supervisor(
        name="s", strategy=Strategy.ONE_FOR_ALL, auto_shutdown=ALL, observers=[family.watch]
    ) as supervisor:
        for name in "ab":
            await supervisor.start_child(family.spec(name, **SIGNIFICANT))
        await supervisor.start_child(family.spec("c"))
        family.then("b", family.hang)
        await family.crash("c")
        await family.end("a")
    assert is_up()


async def test_an_end_that_was_decided_is_not_decided_again(
    family: Family, is_up: Any, autojump_clock: MockClock
) -> None:
    """b came up after a's end, and was terminated: no later start has a say in that."""
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", auto_shutdown=ALL, observers=[family.watch]) as supervisor,
    ):
        await supervisor.start_child(family.spec("a", **SIGNIFICANT))
        slow = family.spec("b", family.start_after(1), **SIGNIFICANT)
        nursery.start_soon(supervisor.start_child, slow)
        await wait_all_tasks_blocked()
        await family.end("a")
        await trio.sleep(2)
        await supervisor.terminate_child("b")
        await _start_quietly(supervisor, family.spec("c", family.fail, **SIGNIFICANT))
        await wait_all_tasks_blocked()
    assert is_up()


@pytest.mark.parametrize("comes_up", [True, False])
async def test_one_that_is_being_started_is_waited_for(
    family: Family, is_up: Any, autojump_clock: MockClock, *, comes_up: bool
) -> None:
    """OTP starts one at a time, and looks at an end after that."""
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", auto_shutdown=ALL, observers=[family.watch]) as supervisor,
    ):
        await supervisor.start_child(family.spec("a", **SIGNIFICANT))
        slow = family.spec("b", family.start_after(1), **SIGNIFICANT)
        nursery.start_soon(_start_quietly, supervisor, slow)
        await wait_all_tasks_blocked()
        await family.end("a")
        assert is_up()
        if comes_up:
            await trio.sleep(2)
        else:
            await supervisor.terminate_child("b")
            await trio.sleep_forever()
    assert is_up() is comes_up


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("comes_up", [True, False])
async def test_one_that_is_hurried_is_waited_for(
    family: Family, is_up: Any, autojump_clock: MockClock, *, comes_up: bool, ordered: bool
) -> None:
    """Whether `restart_child` brings it decides, and nothing that comes after."""
    async with open_supervisor(
        name="s", auto_shutdown=ALL, observers=[family.watch], ordered=ordered
    ) as supervisor:
        again = family.start_after(5) if comes_up else family.fail_after(5)
        resting = {"backoff": Backoff(50, 50), **SIGNIFICANT}
        await supervisor.start_child(family.spec("a", family.leave_after(3), **SIGNIFICANT))
        await supervisor.start_child(family.spec("b", family.crash_after(1), again, **resting))
        await trio.sleep(2)
        if comes_up:
            await supervisor.restart_child("b")
            await supervisor.terminate_child("b")
            await _start_quietly(supervisor, family.spec("c", family.fail, **SIGNIFICANT))
        else:
            with pytest.raises(ChildStartFailed):
                await supervisor.restart_child("b")
            await trio.sleep(100)
    assert is_up() is comes_up


async def test_that_it_was_up_itself_decides_nothing(
    family: Family, is_up: Any, autojump_clock: MockClock
) -> None:
    """Whoever started it hears only after its end that it came up."""

    async def leave_at_once(task_status: TaskStatus) -> None:
        task_status.started()

    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", auto_shutdown=ALL, observers=[family.watch]) as supervisor,
    ):
        slow = family.spec("b", family.fail_after(5), **SIGNIFICANT)
        nursery.start_soon(_start_quietly, supervisor, slow)
        await wait_all_tasks_blocked()
        await supervisor.start_child(family.spec("a", leave_at_once, **SIGNIFICANT))
        assert is_up()
        await trio.sleep(100)
    assert not is_up()


@pytest.mark.parametrize("fails", [True, False])
async def test_whoever_comes_up_first_decides(
    family: Family, is_up: Any, autojump_clock: MockClock, *, fails: bool
) -> None:
    """Though it is terminated while its call goes on, and another start comes to nothing then."""
    async with (
        open_supervisor(
            name="s", ordered=False, auto_shutdown=ALL, observers=[family.watch]
        ) as supervisor,
        trio.open_nursery() as nursery,
    ):
        await supervisor.start_child(family.spec("ends", family.leave_after(1), **SIGNIFICANT))
        if fails:
            bad = family.spec("bad", family.fail_after(5), **SIGNIFICANT)
            nursery.start_soon(_start_quietly, supervisor, bad)
        two = (
            family.spec("up", family.start_after(2), **SIGNIFICANT),
            family.spec("slow", family.start_after(9)),
        )
        nursery.start_soon(supervisor.start_children, two)
        await trio.sleep(3)
        await supervisor.terminate_child("up")
        await trio.sleep(100)
    assert is_up()


@pytest.mark.parametrize("again", ["fails", "comes up", "is not started"])
async def test_one_that_is_started_again_is_waited_for(
    family: Family, is_up: Any, autojump_clock: MockClock, again: str
) -> None:
    """Its end is void as soon as it is up, and not before."""
    async with (
        open_supervisor(name="s", auto_shutdown=ALL, observers=[family.watch]) as supervisor,
        trio.open_nursery() as nursery,
    ):
        await supervisor.start_child(family.spec("a", family.leave_after(1), **SIGNIFICANT))
        bad = family.spec("bad", family.fail_after(5), **SIGNIFICANT)
        nursery.start_soon(_start_quietly, supervisor, bad)
        await trio.sleep(2)
        if again == "fails":
            family.then("a", family.fail)
            with pytest.raises(ChildStartFailed):
                await supervisor.restart_child("a")
        elif again == "comes up":
            await supervisor.restart_child("a")
            await supervisor.terminate_child("a")
        await trio.sleep(100)
    assert is_up() is (again == "comes up")


@pytest.mark.parametrize("crowd", [0, 2 * BATCH])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ordered": False},
        {"strategy": Strategy.ONE_FOR_ALL},
        {"strategy": Strategy.REST_FOR_ONE},
    ],
    ids=str,
)
async def test_those_that_a_call_has_yet_to_start_are_waited_for(
    family: Family, is_up: Any, autojump_clock: MockClock, options: dict[str, Any], crowd: int
) -> None:
    """As OTP looks at no end before all of its first children are up."""
    async with open_supervisor(
        name="s", auto_shutdown=ALL, observers=[family.watch], **options
    ) as supervisor:
        first = family.spec("first", family.leave_after(0), **SIGNIFICANT)
        slow = [family.spec("slow", family.start_after(3))]
        slow += [family.spec(f"c{number}") for number in range(crowd)]
        last = family.spec("last", family.leave_after(5), **SIGNIFICANT)
        await supervisor.start_children([first, *slow, last])
        assert is_up()
        await trio.sleep(100)
    assert not is_up()


@pytest.mark.parametrize("failed", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
async def test_one_that_comes_up_while_its_start_is_taken_back_was_never_up(
    family: Family, is_up: Any, autojump_clock: MockClock, *, failed: bool, ordered: bool
) -> None:
    async with open_supervisor(
        name="s", auto_shutdown=ALL, observers=[family.watch], ordered=ordered
    ) as supervisor:
        await supervisor.start_child(family.spec("a", family.leave_after(1), **SIGNIFICANT))
        careful_one = family.spec("b", family.start_anyway_after(5), **SIGNIFICANT)
        bad = [family.spec("bad", family.fail_after(2))] * failed
        with trio.move_on_after(3), suppress(ChildStartFailed):
            await supervisor.start_children([careful_one, *bad])
        await trio.sleep(100)
    assert not is_up()


async def _start_quietly(supervisor: Supervisor, spec: ChildSpec) -> None:
    with suppress(ChildStartFailed):
        await supervisor.start_child(spec)


async def test_children_that_start_together_may_be_significant(family: Family, is_up: Any) -> None:
    """One that ends before it says `started` counts as one that ended later."""
    specs = [
        family.spec("a", family.fail, significant=True, restart=Restart.TEMPORARY),
        family.spec("b"),
    ]
    async with open_supervisor(
        name="s", ordered=False, auto_shutdown=ALL, observers=[family.watch]
    ) as supervisor:
        supervisor.start_children_nowait(specs)
        await trio.sleep_forever()
    assert not is_up()


@pytest.mark.parametrize("auto_shutdown", [ANY, ALL])
async def test_a_failed_start_is_the_starters_business(
    family: Family, is_up: Any, auto_shutdown: AutoShutdown
) -> None:
    async with open_supervisor(
        name="s", auto_shutdown=auto_shutdown, observers=[family.watch]
    ) as supervisor:
        with pytest.raises(ChildStartFailed):
            await supervisor.start_child(family.spec("a", family.fail, **SIGNIFICANT))
        await wait_all_tasks_blocked()
    assert is_up()


# -- what follows ---------------------------------------------------------------------------------


@STRATEGIES
async def test_the_others_stop_in_order_and_the_block_ends_without_an_error(
    family: Family, strategy: Strategy
) -> None:
    cancelled = False
    async with open_supervisor(name="s", strategy=strategy, auto_shutdown=ANY) as supervisor:
        await supervisor.start_child(family.spec("a"))
        await supervisor.start_child(family.spec("work", **SIGNIFICANT))
        await supervisor.start_child(family.spec("b"))
        family.news()
        family.end_soon("work")
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            cancelled = True
            with pytest.raises(SupervisorError, match="is stopping"):
                await supervisor.start_child(family.spec("late"))
            raise
    assert cancelled
    assert family.news() == "-work -b -a"


async def test_the_blocks_own_error_passes_as_it_is(family: Family) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_supervisor(name="s", auto_shutdown=ANY) as supervisor:
            await supervisor.start_child(family.spec("a", **SIGNIFICANT))
            family.end_soon("a")
            try:
                await trio.sleep_forever()
            finally:
                raise ZeroDivisionError


async def test_an_error_of_the_last_minute_is_no_escalation(
    family: Family, autojump_clock: MockClock
) -> None:
    """It is stopping already: nothing is restarted, nothing counts."""
    async with open_supervisor(name="s", intensity=0, auto_shutdown=ANY) as supervisor:
        await supervisor.start_child(family.spec("a", **SIGNIFICANT))
        await supervisor.start_child(family.spec("b", family.crash_after(1)))
        await supervisor.start_child(family.spec("c", stubborn=2))
        family.end_soon("a")
        await trio.sleep_forever()
    assert family.runs["b"] == 1


@pytest.mark.parametrize(
    ("restart", "runs"), [(Restart.TRANSIENT, 1), (Restart.TEMPORARY, 1), (Restart.PERMANENT, 2)]
)
async def test_to_its_parent_a_shut_down_supervisor_has_ended_normally(
    family: Family, restart: Restart, runs: int
) -> None:
    """A unit of work that is done is not begun again, unless it was said to be permanent."""

    async def unit(*, task_status: TaskStatus) -> None:
        async with open_supervisor(name="unit", auto_shutdown=ALL) as supervisor:
            await supervisor.start_child(family.spec("work", **SIGNIFICANT))
            task_status.started()
            await trio.sleep_forever()

    async with open_supervisor(name="parent", intensity=1) as supervisor:
        await supervisor.start_child(ChildSpec("unit", unit, restart=restart))
        await family.end("work")
        assert family.runs["work"] == runs


async def test_giving_up_is_no_normal_end(family: Family) -> None:
    """OTP's supervisor exits with `shutdown`, and a transient one stays down; ours is an error."""

    async def unit(*, task_status: TaskStatus) -> None:
        async with open_supervisor(name="unit", intensity=0, auto_shutdown=ALL) as supervisor:
            await supervisor.start_child(family.spec("work", **SIGNIFICANT))
            task_status.started()
            await trio.sleep_forever()

    with pytest.raises(RestartIntensityExceeded) as info:
        async with open_supervisor(name="parent", intensity=1) as supervisor:
            await supervisor.start_child(ChildSpec("unit", unit, restart=Restart.TRANSIENT))
            await family.crash("work")
            assert family.runs["work"] == 2
            await family.crash("work")
    assert info.value.supervisor == "parent"
