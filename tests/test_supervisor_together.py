"""`start_children` of an unordered supervisor: all start together, or nothing is left of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from moorings.supervisors import (
    AutoShutdown,
    ChildAlreadyStarted,
    ChildEnded,
    ChildNotFound,
    ChildRestarting,
    ChildStartFailed,
    Restart,
    ShuttingDown,
    SupervisorError,
    open_supervisor,
)
from moorings.supervisors.batches import BATCH

if TYPE_CHECKING:
    from family import Family
    from trio.testing import MockClock

    from moorings.supervisors import ChildSpec, Supervisor, TaskStatus

unordered = partial(open_supervisor, name="s", ordered=False)


async def fail_later(_: TaskStatus) -> None:
    await trio.sleep(1)
    raise RuntimeError("no start")


async def fail_when_all_are_blocked(_: TaskStatus) -> None:
    await wait_all_tasks_blocked()
    raise RuntimeError("no start")


def crowd(family: Family, size: int = 3 * BATCH) -> list[ChildSpec]:
    return [family.spec(f"c{number}") for number in range(size)]


async def test_none_waits_for_another_and_their_values_are_returned_in_order(
    family: Family, autojump_clock: MockClock
) -> None:
    async def slow(task_status: TaskStatus) -> None:
        await trio.sleep(1)
        task_status.started("slow")
        await trio.sleep_forever()

    async with unordered() as supervisor:
        specs = [family.spec("a", slow), family.spec("b"), family.spec("c", slow)]
        assert await supervisor.start_children(specs) == ("slow", "b1", "slow")
        assert trio.current_time() == 1


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_start_of_nobody_is_a_checkpoint(*, ordered: bool) -> None:
    async with open_supervisor(name="s", ordered=ordered) as supervisor:
        with trio.testing.assert_checkpoints():
            assert await supervisor.start_children([]) == ()


async def test_the_value_is_that_of_the_first_incarnation(
    family: Family, autojump_clock: MockClock
) -> None:
    async with unordered() as supervisor:
        specs = [family.spec("a"), family.spec("b", family.start_after(2))]
        async with trio.open_nursery() as nursery:
            await trio.lowlevel.checkpoint()

            async def start() -> None:
                assert await supervisor.start_children(specs) == ("a1", None)

            nursery.start_soon(start)
            await trio.sleep(1)
            await family.crash("a")
        assert family.runs == {"a": 2, "b": 1}


async def test_one_that_fails_takes_back_the_others_together(
    family: Family, autojump_clock: MockClock
) -> None:
    """The error names the first that failed, its cause is that one's own; others are untouched."""
    async with unordered(intensity=0) as supervisor:
        await supervisor.start_child(family.spec("before"))
        stubborn = [family.spec(name, stubborn=2) for name in "abc"]
        hanging = family.spec("h", family.hang)
        ended = family.spec("e", family.leave_after(0), restart=Restart.TRANSIENT)
        resting = family.spec("r", family.crash_after(0), intensity=9, period=9)
        bad = [family.spec("bad", fail_later), family.spec("worse", family.hang, fail_later)]
        with pytest.raises(ChildStartFailed) as info:
            await supervisor.start_children([*stubborn, hanging, ended, resting, *bad])
        assert info.value.id == "bad"
        assert isinstance(info.value.__cause__, RuntimeError)
        assert trio.current_time() == 3
        assert [child.id for child in supervisor.which_children()] == ["before"]
        assert supervisor.count_children().active == 1


async def test_cancellation_takes_all_of_them_back(
    family: Family, autojump_clock: MockClock
) -> None:
    async with unordered() as supervisor:
        with trio.move_on_after(1):
            specs = [family.spec("a", stubborn=2), family.spec("b", family.hang)]
            await supervisor.start_children(specs)
        assert trio.current_time() == 3
        assert supervisor.which_children() == ()
        assert sorted(family.diary) == ["+a", "+b", "-a", "-b"]


async def test_what_is_taken_back_is_not_found_though_others_take_their_time(
    family: Family, autojump_clock: MockClock
) -> None:
    """Whoever could start it there would start what the supervisor is about to forget."""
    async with unordered() as supervisor, trio.open_nursery() as nursery:
        ended = family.spec("e", family.leave_after(0), restart=Restart.TRANSIENT)
        stubborn, quick = family.spec("s", stubborn=5), family.spec("q")
        bad = family.spec("bad", fail_later)

        async def start() -> None:
            with pytest.raises(ChildStartFailed):
                await supervisor.start_children([ended, stubborn, quick, bad])
            assert trio.current_time() == 6

        nursery.start_soon(start)
        await trio.sleep(2)
        for gone in ("e", "q", "bad"):
            with pytest.raises(ChildNotFound):
                await supervisor.restart_child(gone)
        # Their ids are free, and who has one now is nobody's to wait for.
        await supervisor.start_child(family.spec("q"))
        with pytest.raises(ChildAlreadyStarted):
            await supervisor.start_child(family.spec("s"))
        await trio.sleep(5)
        assert [child.id for child in supervisor.which_children()] == ["q"]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("asked", [True, False])
async def test_one_that_comes_up_while_it_is_taken_back_is_not_found_either(
    family: Family, autojump_clock: MockClock, *, asked: bool, ordered: bool
) -> None:
    """Its start is shielded, or it can only be asked to end: it says `started` all the same."""
    told = trio.Event()

    async def careful(task_status: TaskStatus) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
        task_status.started()
        await told.wait()  # or its cancellation

    async with (
        open_supervisor(name="s", ordered=ordered) as supervisor,
        trio.open_nursery() as nursery,
    ):
        late = family.spec("late", careful, ask=told.set if asked else None)
        stubborn, bad = family.spec("s", stubborn=5), family.spec("bad", fail_later)

        async def start() -> None:
            with trio.move_on_after(0.5):
                await supervisor.start_children([stubborn, *[bad] * (not ordered), late])
            assert trio.current_time() == (6 if ordered else 5.5)

        nursery.start_soon(start)
        await trio.sleep(2)
        with pytest.raises(ChildNotFound):
            await supervisor.restart_child("late")


async def test_the_id_of_one_that_is_being_stopped_stays_taken(
    family: Family, autojump_clock: MockClock
) -> None:
    async with unordered() as supervisor, trio.open_nursery() as nursery:
        stubborn, bad = family.spec("s", stubborn=5), family.spec("bad", fail_later)

        async def start() -> None:
            with pytest.raises(ChildStartFailed):
                await supervisor.start_children([stubborn, bad])

        nursery.start_soon(start)
        await wait_all_tasks_blocked()
        nursery.start_soon(supervisor.terminate_child, "s")
        await trio.sleep(2)
        with pytest.raises(ChildAlreadyStarted):
            await supervisor.start_child(family.spec("s"))


async def test_one_that_is_hurried_while_others_start_is_told_when_they_are_taken_back(
    family: Family, autojump_clock: MockClock
) -> None:
    async with unordered(intensity=9) as supervisor, trio.open_nursery() as nursery:
        a = family.spec("a", family.crash_after(0), family.hang, intensity=9, period=9)

        async def start() -> None:
            with pytest.raises(ChildStartFailed, match="bad"):
                await supervisor.start_children([a, family.spec("bad", fail_later)])

        nursery.start_soon(start)
        await trio.sleep(0.5)
        await supervisor.terminate_child("a")
        family.then("a", family.hang)
        with pytest.raises(ChildStartFailed, match="'a'"):
            await supervisor.restart_child("a")


async def test_the_end_of_the_supervisor_tells_who_waits(
    family: Family, autojump_clock: MockClock
) -> None:
    async def start(supervisor: Supervisor) -> None:
        with pytest.raises(ChildStartFailed):
            await supervisor.start_children([family.spec("a"), family.spec("h", family.hang)])

    async with trio.open_nursery() as nursery, unordered() as supervisor:
        nursery.start_soon(start, supervisor)
        await wait_all_tasks_blocked()


async def test_termination_of_one_that_starts_takes_all_back(
    family: Family, autojump_clock: MockClock
) -> None:
    async with unordered() as supervisor, trio.open_nursery() as nursery:

        async def start() -> None:
            with pytest.raises(ChildStartFailed, match="'h'"):
                await supervisor.start_children([family.spec("a"), family.spec("h", family.hang)])

        nursery.start_soon(start)
        await wait_all_tasks_blocked()
        await supervisor.terminate_child("h")
        await wait_all_tasks_blocked()
        assert supervisor.which_children() == ()


# -- crowds ---------------------------------------------------------------------------------------


async def test_while_a_crowd_starts_the_others_run(family: Family) -> None:
    seen: list[int] = []

    async def look(supervisor: Supervisor) -> None:
        while not seen or seen[-1] < 3 * BATCH:
            seen.append(supervisor.count_children().active)
            await trio.lowlevel.checkpoint()

    async with unordered() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(look, supervisor)
        values = await supervisor.start_children(crowd(family))
        assert values == tuple(f"c{number}1" for number in range(3 * BATCH))
        assert supervisor.count_children().active == 3 * BATCH
    assert any(0 < active < 3 * BATCH for active in seen)


@pytest.mark.parametrize("what", ["taken", "failed", "stopping", "cancelled"])
async def test_a_crowd_that_cannot_go_on_is_taken_back(family: Family, what: str) -> None:
    """Between two hundreds another may take an id, one fail, the supervisor or the caller end."""
    specs = crowd(family)
    events: list[object] = []
    if what == "failed":
        family.then("c1", family.fail)

    async def start(supervisor: Supervisor, told: trio.CancelScope) -> None:
        kind = ChildAlreadyStarted if what == "taken" else SupervisorError
        with told, pytest.raises(kind):
            await supervisor.start_children(specs)
        events.append([child.id for child in supervisor.which_children()])

    async with trio.open_nursery() as nursery, unordered() as supervisor:
        told = trio.CancelScope()
        nursery.start_soon(start, supervisor, told)
        while not events and supervisor.count_children().active < BATCH:
            await trio.lowlevel.checkpoint()
        if what == "taken":
            supervisor.start_children_nowait([family.spec(specs[-1].id)])
        elif what == "cancelled":
            told.cancel()
        if what != "stopping":
            await wait_all_tasks_blocked()
            assert events == [[specs[-1].id] if what == "taken" else []]
    assert len(events) == 1 or told.cancelled_caught
    assert set(family.runs.values()) <= {1}
    assert sum(family.runs.values()) < len(specs)


async def test_who_ends_while_its_crowd_is_taken_back_stays_down(family: Family) -> None:
    """Between two hundreds: it may depend on a sibling of an earlier one."""
    gone = trio.Event()

    async def serve(task_status: TaskStatus) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            gone.set()

    async def depend(task_status: TaskStatus) -> None:
        task_status.started()
        await gone.wait()
        raise family.Boom

    async with unordered(intensity=0, observers=[family.watch]) as supervisor:
        first, last = family.spec("server", serve), family.spec("dependent", depend)
        bad = family.spec("bad", fail_when_all_are_blocked)
        with pytest.raises(ChildStartFailed, match="bad"):
            await supervisor.start_children([first, *crowd(family), last, bad])
        await wait_all_tasks_blocked()
        assert supervisor.which_children() == ()
    ends = {event.id: event.stopping for event in family.seen(ChildEnded)}
    assert (ends["server"], ends["dependent"]) == (True, False)
    assert not family.seen(ChildRestarting)


@pytest.mark.parametrize("ordered", [True, False])
async def test_who_ends_while_a_start_that_was_cancelled_is_taken_back_stays_down(
    family: Family, autojump_clock: MockClock, *, ordered: bool
) -> None:
    """Though the last takes long to stop, and it is the only one under `ordered`."""
    async with open_supervisor(name="s", ordered=ordered, observers=[family.watch]) as supervisor:
        crash = family.spec("crash", family.crash_after(3))
        slow = family.spec("slow", family.hang, stubborn=20, shutdown=30)
        with trio.move_on_after(2):
            await supervisor.start_children([crash, slow])
        assert trio.current_time() == 22
        assert supervisor.which_children() == ()
    assert family.runs["crash"] == 1
    assert not family.seen(ChildRestarting)


async def test_what_the_caller_does_with_its_list_changes_nothing(family: Family) -> None:
    specs = crowd(family)

    async with unordered() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_children, specs)
        while not supervisor.which_children():
            await trio.lowlevel.checkpoint()
        specs.clear()
        await wait_all_tasks_blocked()
        assert supervisor.count_children().active == 3 * BATCH
        assert await supervisor.start_children(family.spec(name) for name in "ab") == ("a1", "b1")
        supervisor.start_children_nowait(family.spec(name) for name in "cd")
        await wait_all_tasks_blocked()
        assert supervisor.count_children().active == 3 * BATCH + 4


# -- significant children -------------------------------------------------------------------------


@pytest.mark.parametrize("up", [False, True])
async def test_an_end_that_waited_for_others_to_start_is_decided_by_whether_one_did(
    family: Family, autojump_clock: MockClock, *, up: bool
) -> None:
    """OTP would ask after that: it starts one at a time."""
    policy = {"restart": Restart.TEMPORARY, "significant": True}
    async with (
        unordered(auto_shutdown=AutoShutdown.ALL_SIGNIFICANT, observers=[family.watch]) as s,
        trio.open_nursery() as nursery,
    ):
        await s.start_child(family.spec("first", family.leave_after(1), **policy))
        other = family.spec("other", *([] if up else [family.hang]), **policy)

        async def start() -> None:
            with pytest.raises(ChildStartFailed):
                await s.start_children([other, family.spec("bad", family.hang)])

        async def start_and_fail() -> None:
            await trio.sleep(2)
            await s.terminate_child("bad")

        nursery.start_soon(start)
        nursery.start_soon(start_and_fail)
    assert [event.id for event in family.seen(ShuttingDown)] == ([] if up else ["first"])


async def test_an_end_that_waited_is_none_once_the_child_is_back(
    family: Family, autojump_clock: MockClock
) -> None:
    policy = {"restart": Restart.TRANSIENT, "significant": True}
    async with (
        unordered(auto_shutdown=AutoShutdown.ALL_SIGNIFICANT, observers=[family.watch]) as s,
        trio.open_nursery() as nursery,
    ):
        await s.start_child(family.spec("first", family.leave_after(1), **policy))

        async def start() -> None:
            with pytest.raises(ChildStartFailed):
                await s.start_child(family.spec("other", family.hang, **policy))

        nursery.start_soon(start)
        await trio.sleep(2)
        family.then("first", family.start_after(2))
        nursery.start_soon(s.restart_child, "first")
        await trio.sleep(1)
        await s.terminate_child("other")
    assert not family.seen(ShuttingDown)
