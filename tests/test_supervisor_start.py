"""Starting children one after another, and trees of supervisors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from moorings.errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildStartFailed,
    RestartIntensityExceeded,
    SupervisorError,
)
from moorings.supervisors import ChildSpec, Restart, Strategy, open_supervisor

if TYPE_CHECKING:
    from family import Family
    from trio.testing import MockClock

    from moorings.supervisors import Supervisor, TaskStatus

STRATEGIES = pytest.mark.parametrize("strategy", list(Strategy))


@STRATEGIES
async def test_children_start_one_after_another(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with (
        trio.open_nursery() as nursery,
        open_supervisor(name="s", strategy=strategy) as supervisor,
    ):
        specs = [family.spec("a", family.start_after(1)), *family.specs("bc")]
        nursery.start_soon(supervisor.start_children, specs)
        await trio.sleep(0.5)
        assert family.news() == "+a"
        await trio.sleep(1)
        assert family.news() == "+b +c"


@STRATEGIES
async def test_one_that_is_up_before_its_termination_reaches_it_keeps_its_spec(
    strategy: Strategy, autojump_clock: MockClock
) -> None:
    """Its starter was told: what is stopped then may be restarted, as any other."""

    async def shielded(task_status: TaskStatus) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
            task_status.started("up")
        await trio.sleep_forever()

    async with (
        open_supervisor(name="s", strategy=strategy) as supervisor,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(supervisor.start_child, ChildSpec("a", shielded))
        await trio.sleep(0.5)
        await supervisor.terminate_child("a")
        assert await supervisor.restart_child("a") == "up"


@STRATEGIES
async def test_their_values_are_returned_in_order(family: Family, strategy: Strategy) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        assert await supervisor.start_children(family.specs("abc")) == ("a1", "b1", "c1")
        assert await supervisor.start_children([]) == ()


@STRATEGIES
async def test_all_specs_are_checked_before_the_first_child_starts(
    family: Family, strategy: Strategy
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_children(family.specs("cd"))
        await supervisor.terminate_child("d")
        family.news()
        with pytest.raises(ChildAlreadyStarted, match="'c'"):
            await supervisor.start_children(family.specs("abc"))
        with pytest.raises(ChildAlreadyPresent, match="'d'"):
            await supervisor.start_children(family.specs("abd"))
        with pytest.raises(ChildAlreadyPresent, match=r"'a' is in the list twice"):
            await supervisor.start_children(family.specs("aba"))
        odd = family.spec("b", restart=Restart.TRANSIENT, significant=True)
        with pytest.raises(SupervisorError):
            await supervisor.start_children([family.spec("a"), odd])
        assert family.news() == ""
        assert [child.id for child in supervisor.which_children()] == ["c", "d"]


@STRATEGIES
async def test_a_failed_start_stops_those_before_it_the_last_first(
    family: Family, strategy: Strategy
) -> None:
    """The error names the child, its cause is the child's own; other children are untouched."""
    async with open_supervisor(name="s", strategy=strategy, intensity=0) as supervisor:
        await supervisor.start_child(family.spec("before"))
        family.news()
        specs = [*family.specs("ab"), family.spec("c", family.fail), family.spec("d")]
        with pytest.raises(ChildStartFailed) as info:
            await supervisor.start_children(specs)
        assert info.value.id == "c"
        assert isinstance(info.value.__cause__, family.Boom)
        assert family.news() == "+a +b +c -c -b -a"
        assert [child.id for child in supervisor.which_children()] == ["before"]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("command", "hangs"),
    [("start_child", True), ("start_children", True), ("start_children", False)],
)
async def test_of_a_start_that_is_taken_back_nothing_is_found_in_the_instant_of_its_end(
    family: Family, command: str, *, hangs: bool, ordered: bool, autojump_clock: MockClock
) -> None:
    """Whoever could start it there would start what the supervisor is about to forget."""

    async def start(supervisor: Supervisor) -> None:
        first = family.spec("a", *[family.hang] * hangs, stubborn=2)
        with pytest.raises(ChildStartFailed):
            if command == "start_child":
                await supervisor.start_child(first)
            else:
                await supervisor.start_children([first, family.spec("b", family.hang)])

    for _ in range(20):  # which of the two is woken first by the end is trio's choice
        family.runs.clear()
        async with (
            trio.open_nursery() as nursery,
            open_supervisor(name="s", ordered=ordered) as supervisor,
        ):
            nursery.start_soon(start, supervisor)
            await trio.sleep(1)
            family.then("a", family.leave_after(1))
            if not hangs:
                await supervisor.terminate_child("b")
            await supervisor.terminate_child("a")
            with pytest.raises(ChildNotFound):
                await supervisor.restart_child("a")
            assert family.runs["a"] == 1


@STRATEGIES
async def test_an_error_says_who_failed_to_start_and_why(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    """Who forgets to say `started` and returns learns it from the text."""

    async def returns(_: TaskStatus) -> None:
        pass

    async with (
        open_supervisor(name="s", strategy=strategy) as supervisor,
        trio.open_nursery() as nursery,
    ):
        with pytest.raises(ChildStartFailed, match=r"'a' .*: it ended before it said") as info:
            await supervisor.start_child(family.spec("a", family.fail))
        assert isinstance(info.value.__cause__, family.Boom)
        with pytest.raises(ChildStartFailed, match=r"'b' .*: it ended before it said") as info:
            await supervisor.start_child(family.spec("b", returns))
        assert info.value.__cause__ is None

        async def terminate() -> None:
            await wait_all_tasks_blocked()
            await supervisor.terminate_child("c")

        nursery.start_soon(terminate)
        with pytest.raises(ChildStartFailed, match=r"'c' .*: it was stopped before it said"):
            await supervisor.start_child(family.spec("c", family.hang))


@STRATEGIES
async def test_cancelling_start_children_stops_and_forgets_them(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        with trio.move_on_after(1):
            await supervisor.start_children([*family.specs("ab"), family.spec("c", family.hang)])
        assert family.news() == "+a +b +c -c -b -a"
        assert supervisor.which_children() == ()


@STRATEGIES
async def test_one_that_crashes_while_the_next_starts_is_not_restarted_if_that_fails(
    family: Family, strategy: Strategy, autojump_clock: MockClock
) -> None:
    async def fail_late(_: TaskStatus) -> None:
        await trio.sleep(1)
        raise family.Boom

    async with open_supervisor(name="s", strategy=strategy, intensity=5) as supervisor:
        temporary = family.spec("t", family.leave_after(0), restart=Restart.TEMPORARY)
        specs = [temporary, family.spec("a", family.crash_after(0.5)), family.spec("b", fail_late)]
        with pytest.raises(ChildStartFailed):
            await supervisor.start_children(specs)
        await wait_all_tasks_blocked()
        assert supervisor.which_children() == ()
        assert family.diary.count("+a") == family.diary.count("-a")


async def test_a_block_that_cannot_start_its_children_ends_with_that_error(
    family: Family,
) -> None:
    """Bare, after those that were started have stopped in reverse: OTP's failed init."""
    with pytest.raises(ChildStartFailed) as info:
        async with open_supervisor(name="s") as supervisor:
            await supervisor.start_child(family.spec("a"))
            await supervisor.start_child(family.spec("b"))
            await supervisor.start_child(family.spec("c", family.fail))
    assert info.value.id == "c"
    assert family.news() == "+a +b +c -c -b -a"


@STRATEGIES
async def test_who_asks_for_a_taken_id_is_told_how_it_is_taken(
    family: Family, strategy: Strategy
) -> None:
    async with open_supervisor(name="s", strategy=strategy) as supervisor:
        await supervisor.start_child(family.spec("a"))
        with pytest.raises(ChildAlreadyStarted, match="running"):
            await supervisor.start_child(family.spec("a"))
        await supervisor.terminate_child("a")
        with pytest.raises(ChildAlreadyPresent):
            await supervisor.start_child(family.spec("a"))


# -- trees ----------------------------------------------------------------------------------------


def level(name: str, *specs: ChildSpec, **options: Any) -> ChildSpec:
    """A supervisor as a child."""

    async def run(*, task_status: TaskStatus) -> None:
        async with open_supervisor(name=name, **options) as supervisor:
            await supervisor.start_children(specs)
            task_status.started()
            await trio.sleep_forever()

    return ChildSpec(name, run, shutdown=float("inf"))


async def test_a_tree_starts_depth_first_and_stops_in_reverse(family: Family) -> None:
    left = level("left", *family.specs("ab"))
    async with open_supervisor(name="root") as root:
        await root.start_children([left, family.spec("c"), level("right", family.spec("d"))])
    assert family.news() == "+a +b +c +d -d -c -b -a"


async def test_a_start_that_fails_deep_down_fails_the_whole_branch(family: Family) -> None:
    inner = level("inner", family.spec("a"), family.spec("b", family.fail))
    async with open_supervisor(name="root", intensity=0) as root:
        with pytest.raises(ChildStartFailed) as info:
            await root.start_child(level("outer", family.spec("x"), inner))
        assert root.which_children() == ()
    causes = [info.value, info.value.__cause__, info.value.__cause__.__cause__]  # type: ignore[union-attr]
    assert [error.id for error in causes] == ["outer", "inner", "b"]  # type: ignore[union-attr]
    assert family.news() == "+x +a +b -b -a -x"


async def test_escalation_climbs_level_by_level_and_intensities_multiply(
    family: Family,
) -> None:
    """Each level allows one restart: the leaf runs 2 * 2 * 2 times before the root gives up."""
    leaf = family.spec("leaf", *[family.crash_after(0)] * 100)
    inner = level("inner", leaf, intensity=1)
    middle = level("middle", family.spec("beside"), inner, intensity=1)
    with pytest.raises(RestartIntensityExceeded) as info:
        async with open_supervisor(name="root", intensity=1) as root:
            await root.start_child(middle)
            await trio.sleep_forever()
    assert family.runs == {"leaf": 8, "beside": 2}
    chain: list[BaseException] = []
    error: BaseException | None = info.value
    while error is not None:
        chain.append(error)
        error = error.__cause__
    assert [getattr(error, "supervisor", "leaf") for error in chain] == [
        "root",
        "middle",
        "inner",
        "leaf",
    ]


async def test_a_branch_that_gives_up_takes_its_group_along(family: Family) -> None:
    """To its parent a supervisor that gave up is a child that crashed."""
    branch = level("branch", family.spec("leaf"), intensity=0)
    async with open_supervisor(name="root", strategy=Strategy.ONE_FOR_ALL) as root:
        await root.start_children([family.spec("a"), branch, family.spec("b")])
        family.news()
        await family.crash("leaf")
        assert family.news() == "-leaf -b -a +a +leaf +b"


async def test_a_branch_whose_start_fails_on_its_restart_is_tried_again(family: Family) -> None:
    branch = level("branch", family.spec("leaf"), intensity=0)
    async with open_supervisor(name="root", intensity=2) as root:
        await root.start_child(branch)
        family.then("leaf", family.fail)
        await family.crash("leaf")
        assert family.runs["leaf"] == 3
        assert root.restarts == {"crash": 1, "exit": 0, "start_failed": 1}


# -- defaults, and the plainest strategy ----------------------------------------------------------


async def test_the_defaults_are_otps(family: Family, autojump_clock: MockClock) -> None:
    """one_for_one, one restart within five seconds; permanent children, five seconds to stop."""
    spec = family.spec("a")
    assert (spec.restart, spec.shutdown, spec.significant) == (Restart.PERMANENT, 5.0, False)
    assert (spec.intensity, spec.period, spec.ask, spec.backoff) == (None, None, None, None)
    with pytest.raises(RestartIntensityExceeded):
        async with open_supervisor(name="s") as supervisor:
            await supervisor.start_children([spec, family.spec("b")])
            assert supervisor.intensity == 1
            await family.crash("a")
            await trio.sleep(5.1)
            await family.crash("a")
            assert family.runs == {"a": 3, "b": 1}
            await trio.sleep(4.8)
            await family.crash("a")
            await trio.sleep_forever()
    assert trio.current_time() == pytest.approx(9.9, abs=0.1)


async def test_in_one_for_one_nobody_else_is_affected(family: Family) -> None:
    async with open_supervisor(name="s", intensity=3) as supervisor:
        await supervisor.start_children(family.specs("abc"))
        family.news()
        for name in "abc":
            await family.crash(name)
        assert family.news() == "-a +a -b +b -c +c"
