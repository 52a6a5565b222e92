"""Ends that are neither a return nor an exception of one's own: one child's fault stays its own."""

from __future__ import annotations

import contextvars
import copy
import itertools
import math
import pickle
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from simulation.children import kept_cancelled
from trio.testing import MockClock, wait_all_tasks_blocked

from moorings.supervisors import (
    AutoShutdown,
    Backoff,
    ChildEnded,
    ChildNotFound,
    ChildSpec,
    ChildStarted,
    ChildStartFailed,
    ChildState,
    ChildUnstopped,
    Restart,
    RestartIntensityExceeded,
    Strategy,
    SupervisorError,
    open_supervisor,
)
from moorings.supervisors.child import Child
from moorings.supervisors.runner import Runner

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import FrameType

    from family import Family

    from moorings.supervisors import Supervisor, TaskStatus

STRATEGIES = pytest.mark.parametrize("strategy", list(Strategy))
GROUPS = pytest.mark.parametrize("strategy", [Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE])
marker: contextvars.ContextVar[str] = contextvars.ContextVar("marker", default="clean")


async def raise_stray(task_status: TaskStatus) -> None:
    task_status.started()
    raise await kept_cancelled()


async def raise_stray_in_a_group(task_status: TaskStatus) -> None:
    task_status.started()
    raise BaseExceptionGroup("of a nursery", [await kept_cancelled(), ValueError("beside it")])


async def ticks(seconds: float) -> AsyncGenerator[None, None]:
    """Trio's best known pitfall: a scope that is open while its generator waits.

    An endless one is a shield.
    """
    with trio.move_on_after(seconds, shield=seconds == math.inf):
        while True:
            yield
            await trio.sleep(0.1)


async def by_start_child(supervisor: Supervisor, spec: ChildSpec) -> None:
    with suppress(ChildStartFailed):
        await supervisor.start_child(spec)


# -- a Cancelled that nobody sent ------------------------------------------------------------------


@pytest.mark.parametrize("step", [raise_stray, raise_stray_in_a_group])
@pytest.mark.parametrize("backoff", [None, Backoff(1.0, 1.0)], ids=["at once", "backoff"])
async def test_a_stray_cancelled_is_a_crash_of_that_child_alone(
    family: Family, autojump_clock: MockClock, step: Any, backoff: Backoff | None
) -> None:
    """In a plain nursery it would silently end all the others."""
    async with open_supervisor(name="s", observers=[family.watch]) as supervisor:
        await supervisor.start_child(family.spec("other"))
        await supervisor.start_child(family.spec("a", step, backoff=backoff))
        await trio.sleep(2.0)
        assert [c.state for c in supervisor.which_children()] == [ChildState.RUNNING] * 2
        assert supervisor.restarts == {"crash": 1, "exit": 0, "start_failed": 0}
        assert family.news() == "+other +a -a +a"
    (crash, *_) = family.seen(ChildEnded)
    assert (crash.id, crash.stopping) == ("a", False)
    assert "nobody had cancelled it" in str(crash.error)
    assert isinstance(crash.error.__cause__, trio.Cancelled | BaseExceptionGroup)


async def test_one_that_raises_it_again_and_again_ends_its_supervisor(family: Family) -> None:
    with pytest.raises(RestartIntensityExceeded) as info:
        async with open_supervisor(name="s", intensity=2) as supervisor:
            await supervisor.start_child(family.spec("a", *[raise_stray] * 3))
            await trio.sleep_forever()
    assert isinstance(info.value.__cause__, RuntimeError)
    assert family.runs["a"] == 3


async def test_to_who_starts_it_a_stray_cancelled_is_a_failed_start(family: Family) -> None:
    async def step(_: TaskStatus) -> None:
        raise await kept_cancelled()

    async with open_supervisor(name="s") as supervisor:
        with pytest.raises(ChildStartFailed):
            await supervisor.start_child(family.spec("a", step))
        assert supervisor.which_children() == ()


@pytest.mark.parametrize("command", ["terminate", "the end"])
async def test_one_that_is_stopped_between_its_two_tasks_stays_down(
    family: Family, autojump_clock: MockClock, command: str
) -> None:
    """The one that raised it is over, the next has yet to begin its rest."""
    async with open_supervisor(name="s") as supervisor:
        spec = family.spec("a", raise_stray, backoff=Backoff(1.0, 1.0))
        await supervisor.start_child(spec)
        while supervisor.which_children()[0].state is not ChildState.RESTARTING:
            await trio.lowlevel.checkpoint()
        if command == "terminate":
            await supervisor.terminate_child("a")
            assert supervisor.which_children()[0].state is ChildState.STOPPED
            await trio.sleep(5.0)
    assert family.news() == "+a -a"


# -- a scope that was left open --------------------------------------------------------------------


async def test_a_scope_left_open_by_a_child_that_returns_is_logged_and_harms_nobody(
    family: Family, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[Any] = []

    async def step(task_status: TaskStatus) -> None:
        task_status.started()
        kept.append(ticks(5.0))
        async for _ in kept[0]:
            return

    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(family.spec("other"))
        await supervisor.start_child(family.spec("a", step, restart=Restart.TEMPORARY))
        await trio.sleep(10.0)
        assert [c.id for c in supervisor.which_children()] == ["other"]
    assert "child 'a' left a cancel scope open" in caplog.text
    await kept[0].aclose()


@pytest.mark.parametrize("backoff", [None, Backoff(10.0, 10.0)], ids=["at once", "backoff"])
@pytest.mark.parametrize("asked", [False, True], ids=["cancelled", "asked"])
@pytest.mark.parametrize("seconds", [5.0, math.inf], ids=["deadline", "shield"])
async def test_a_scope_left_open_by_a_crash_is_left_behind(
    family: Family,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    backoff: Backoff | None,
    *,
    asked: bool,
    seconds: float,
) -> None:
    """The next incarnation has a task of its own: it is neither cancelled by it nor shielded."""
    kept: list[Any] = []

    async def step(task_status: TaskStatus) -> None:
        task_status.started()
        kept.append(ticks(seconds))
        async for _ in kept[0]:
            raise family.Boom("with a scope open")

    async with open_supervisor(name="s", intensity=1, period=60) as supervisor:
        await supervisor.start_child(family.spec("other"))
        ask = partial(family.end_soon, "a") if asked else None
        await supervisor.start_child(family.spec("a", step, backoff=backoff, ask=ask))
        await trio.sleep(50.0)
        assert [c.state for c in supervisor.which_children()] == [ChildState.RUNNING] * 2
        assert family.news() == "+other +a -a +a"
        with trio.fail_after(1.0):
            await supervisor.terminate_child("a")
    assert caplog.text.count("child 'a' left a cancel scope open") == 1
    await kept[0].aclose()


async def test_one_that_left_a_scope_open_rests_while_all_are_stopped(
    family: Family, autojump_clock: MockClock
) -> None:
    """An end like any other: in order, and without an error."""
    kept: list[Any] = []

    async def step(task_status: TaskStatus) -> None:
        task_status.started()
        kept.append(ticks(50.0))
        async for _ in kept[0]:
            raise family.Boom("with a scope open")

    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(family.spec("a", step, backoff=Backoff(1.0, 1.0)))
        await supervisor.start_child(family.spec("b", stubborn=3.0))
        await supervisor.start_child(family.spec("c", stubborn=3.0))
        await trio.sleep(0.5)
    assert family.news() == "+a -a +b +c -c -b"
    assert trio.current_time() == pytest.approx(6.5)
    await kept[0].aclose()


# -- what is to end the program --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@STRATEGIES
async def test_what_ends_the_program_stops_the_others_in_order_first(
    family: Family, autojump_clock: MockClock, strategy: Strategy, kind: type[BaseException]
) -> None:
    error = kind("a child's")

    async def step(task_status: TaskStatus) -> None:
        task_status.started()
        await trio.sleep(1.0)
        raise error

    with pytest.raises(kind) as info:
        async with open_supervisor(
            name="s", strategy=strategy, observers=[family.watch]
        ) as supervisor:
            await supervisor.start_children([family.spec(name, stubborn=1.0) for name in "ab"])
            await supervisor.start_child(family.spec("x", step))
            await trio.sleep_forever()
    assert info.value is error
    assert family.news() == "+a +b +x -x -b -a"
    assert trio.current_time() == pytest.approx(3.0)
    first = family.seen(ChildEnded)[0]
    assert (first.id, first.error, first.stopping) == ("x", error, False)


async def test_it_does_not_hide_the_blocks_own_error(family: Family) -> None:
    async def step(task_status: TaskStatus) -> None:
        task_status.started()
        raise SystemExit(3)

    with pytest.raises(BaseExceptionGroup) as info:
        async with open_supervisor(name="s") as supervisor:
            await supervisor.start_child(family.spec("x", step))
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("the block's own")
    assert [type(error) for error in info.value.exceptions] == [ValueError, SystemExit]


@pytest.mark.parametrize("why", ["the end", "the block's error", "escalation"])
async def test_one_that_comes_while_all_are_stopped_hides_nothing_and_keeps_the_order(
    family: Family, autojump_clock: MockClock, why: str
) -> None:
    async def step(task_status: TaskStatus) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise SystemExit(3) from None

    kinds = {
        "the end": [],
        "the block's error": [ValueError],
        "escalation": [RestartIntensityExceeded],
    }
    with pytest.raises(BaseException) as info:
        async with open_supervisor(name="s", intensity=0) as supervisor:
            await supervisor.start_child(family.spec("a", stubborn=1.0))
            await supervisor.start_child(family.spec("b", stubborn=1.0))
            await supervisor.start_child(family.spec("x", step))
            if why == "the block's error":
                raise ValueError("the block's own")
            if why == "escalation":
                await family.crash("b")
                await trio.sleep_forever()
    errors = getattr(info.value, "exceptions", [info.value])
    assert Counter(type(e) for e in errors) == Counter([SystemExit, *kinds[why]])
    if why != "escalation":
        assert family.news() == "+a +b +x -x -b -a"
        assert trio.current_time() == pytest.approx(2.0)


async def test_with_a_second_one_nobody_waits_for_the_order(
    family: Family, autojump_clock: MockClock
) -> None:
    """A second Ctrl-C while the first one's stop hangs."""

    async def first(task_status: TaskStatus) -> None:
        task_status.started()
        await trio.sleep(1.0)
        raise KeyboardInterrupt

    async def second(task_status: TaskStatus) -> None:
        task_status.started()
        await trio.sleep(2.0)
        raise KeyboardInterrupt

    with pytest.RaisesGroup(KeyboardInterrupt, KeyboardInterrupt, flatten_subgroups=True):
        async with open_supervisor(name="s") as supervisor:
            await supervisor.start_child(family.spec("a"))
            await supervisor.start_child(family.spec("x", first))
            await supervisor.start_child(family.spec("y", second))
            await supervisor.start_child(family.spec("stubborn", stubborn=5.0))
            await trio.sleep_forever()
    assert family.news() == "+a +x +y +stubborn -x -y -a -stubborn"


# -- escalation and cancellation from outside ------------------------------------------------------


async def test_a_cancellation_from_outside_does_not_hide_that_the_supervisor_gave_up(
    family: Family, autojump_clock: MockClock
) -> None:
    with pytest.RaisesGroup(RestartIntensityExceeded):  # the scope takes its own out of the group
        with trio.move_on_after(3.0):
            async with open_supervisor(name="s", intensity=0) as supervisor:
                await supervisor.start_child(family.spec("a", family.crash_after(1.0)))
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(5.0)


# -- each incarnation begins afresh ----------------------------------------------------------------


@STRATEGIES
async def test_what_a_child_sets_in_its_context_is_gone_with_its_incarnation(
    family: Family, autojump_clock: MockClock, strategy: Strategy
) -> None:
    """Nor do the siblings that are restarted with it begin in its context."""
    seen: list[tuple[str, str]] = []

    def step(name: str) -> Any:
        async def step(task_status: TaskStatus) -> None:
            seen.append((name, marker.get()))
            marker.set(f"set by {name}")
            task_status.started()
            await trio.sleep_forever() if name != "a" else await trio.sleep(1.0)
            raise family.Boom(name)

        return step

    async with open_supervisor(name="s", strategy=strategy, intensity=9) as supervisor:
        marker.set("the caller's")
        await supervisor.start_child(family.spec("a", *[step("a")] * 9))
        await supervisor.start_child(family.spec("b", *[step("b")] * 9))
        await trio.sleep(3.5)
        await supervisor.terminate_child("b")
        await supervisor.restart_child("b")
    assert len(seen) >= 6
    assert {what for _, what in seen} == {"clean"}


async def test_contexts_are_not_compared_by_what_their_values_think(family: Family) -> None:
    class Moody:
        def __eq__(self, _: object) -> bool:
            raise ValueError("neither equal nor not")

        __hash__ = None  # type: ignore[assignment]

    moods: contextvars.ContextVar[Moody] = contextvars.ContextVar("moods")
    moods.set(Moody())
    seen: list[Moody] = []

    async def step(task_status: TaskStatus) -> None:
        seen.append(moods.get())
        moods.set(Moody())
        task_status.started()
        raise family.Boom("in a bad mood")

    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(family.spec("a", step, step, intensity=9, period=60))
        await wait_all_tasks_blocked()
        assert family.runs["a"] == 3
    assert seen[0] is seen[1] is moods.get()


async def test_one_that_blocks_and_crashes_starves_nobody(family: Family) -> None:
    """However long it blocks: what it never waits for is not counted by the clock."""

    async def step(task_status: TaskStatus) -> None:
        task_status.started()
        time.sleep(0.06)  # noqa: ASYNC251 - a bug of a child's
        raise family.Boom("without ever waiting")

    async with open_supervisor(name="s", intensity=99, period=60) as supervisor:
        await supervisor.start_child(family.spec("a", *[step] * 12))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        assert family.runs["a"] <= 7
        await wait_all_tasks_blocked()


async def test_a_thread_that_outlived_its_child_says_nothing_any_more(family: Family) -> None:
    late: list[TaskStatus] = []

    async def step(task_status: TaskStatus) -> None:
        late.append(task_status)
        task_status.started()

    async with open_supervisor(name="s", observers=[family.watch]) as supervisor:
        await supervisor.start_child(family.spec("a", step, restart=Restart.TEMPORARY))
        await supervisor.start_child(family.spec("b", step, restart=Restart.TRANSIENT))
        await wait_all_tasks_blocked()
        for task_status in late:
            task_status.started("late")
        assert [e.id for e in family.seen(ChildStarted)] == ["a", "b"]
        assert await supervisor.restart_child("b") == "b2"


# -- stopping --------------------------------------------------------------------------------------


@STRATEGIES
async def test_who_gives_up_waiting_leaves_the_watch_over_the_budget_behind(
    family: Family, autojump_clock: MockClock, strategy: Strategy
) -> None:
    """However often: one report, at the first one's deadline."""
    async with open_supervisor(name="s", strategy=strategy, observers=[family.watch]) as supervisor:
        await supervisor.start_child(family.spec("a", stubborn=20.0, shutdown=5.0))
        for _ in range(3):
            with trio.move_on_after(1.0):
                await supervisor.terminate_child("a")
        await trio.sleep(1.9)
        assert family.seen(ChildUnstopped) == []
        await trio.sleep(0.2)
        assert [e.id for e in family.seen(ChildUnstopped)] == ["a"]
        await trio.sleep(5.0)
    assert len(family.seen(ChildUnstopped)) == 1


@GROUPS
async def test_a_start_that_hangs_and_resists_is_reported_though_it_keeps_the_turn(
    family: Family, autojump_clock: MockClock, strategy: Strategy
) -> None:
    """Who terminates it waits for a turn, and not for its end."""
    async with (
        open_supervisor(name="s", strategy=strategy, observers=[family.watch]) as supervisor,
        trio.open_nursery() as nursery,
    ):
        spec = family.spec("a", family.hang, stubborn=20.0, shutdown=5.0)
        nursery.start_soon(by_start_child, supervisor, spec)
        await wait_all_tasks_blocked()
        with trio.move_on_after(5.1):
            await supervisor.terminate_child("a")
        assert [e.id for e in family.seen(ChildUnstopped)] == ["a"]
        await trio.sleep(20.0)
    assert len(family.seen(ChildUnstopped)) == 1


async def test_a_child_is_asked_once_for_each_stop(family: Family) -> None:
    asked: list[int] = []
    told = trio.Event()

    async def run(*, task_status: TaskStatus) -> None:
        task_status.started()
        await told.wait()

    async with open_supervisor(name="s") as supervisor:
        await supervisor.start_child(ChildSpec("a", run, ask=lambda: asked.append(1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "a")
            nursery.start_soon(supervisor.terminate_child, "a")
            await wait_all_tasks_blocked()
            told.set()
    assert asked == [1]


async def test_an_ask_that_raises_is_logged_and_keeps_nobody_else_from_stopping(
    family: Family, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def run(*, task_status: TaskStatus) -> None:
        task_status.started()
        await trio.sleep(20.0)

    def ask() -> None:
        raise ValueError("it cannot be asked")

    async with open_supervisor(name="s", observers=[family.watch]) as supervisor:
        await supervisor.start_child(family.spec("other"))
        await supervisor.start_child(ChildSpec("a", run, ask=ask, shutdown=5.0))
    assert trio.current_time() == pytest.approx(20.0)
    assert [e.id for e in family.seen(ChildUnstopped)] == ["a"]
    assert "child 'a' could not be asked to stop" in caplog.text
    assert family.news() == "+other -other"


@GROUPS
@pytest.mark.parametrize("command", ["terminate", "start"])
async def test_a_child_that_waits_for_its_own_supervisor_does_not_outlive_its_end(
    family: Family, autojump_clock: MockClock, strategy: Strategy, command: str
) -> None:
    """It waits for its turn behind the restart that waits for its end."""
    outcome: list[object] = []

    async with open_supervisor(name="s", strategy=strategy) as supervisor:

        async def run(*, task_status: TaskStatus) -> None:
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    try:
                        if command == "terminate":
                            await supervisor.terminate_child("helper")
                        else:
                            await supervisor.start_child(family.spec("late"))
                        outcome.append("done")
                    except SupervisorError as refused:
                        outcome.append(str(refused))

        await supervisor.start_child(family.spec("helper"))
        await supervisor.start_child(family.spec("first"))
        await supervisor.start_child(ChildSpec("a", run))
        await family.crash("first")
        await trio.sleep(100.0)
        assert outcome == []
    assert outcome == ["done" if command == "terminate" else "supervisor 's' is stopping"]


# -- many ------------------------------------------------------------------------------------------


async def test_thousands_of_significant_ends_look_at_few_of_the_others(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end is nothing to shut down for while another is up; one such is enough to know."""
    count, looks = 500, [0]
    is_significant = Child.is_significant

    def counted(self: Child) -> bool:
        looks[0] += 1
        return is_significant(self)

    monkeypatch.setattr(Child, "is_significant", counted)
    async with open_supervisor(
        name="s", ordered=False, auto_shutdown=AutoShutdown.ALL_SIGNIFICANT
    ) as supervisor:
        names = [str(number) for number in range(count)]
        supervisor.start_children_nowait(
            family.spec(name, restart=Restart.TEMPORARY, significant=True) for name in names
        )
        await wait_all_tasks_blocked()
        for name in names:
            family.end_soon(name)
        await trio.sleep_forever()
    assert looks[0] < count * 20


@pytest.mark.parametrize("ordered", [True, False])
async def test_the_one_that_was_looked_at_does_not_outlive_its_termination(
    family: Family, autojump_clock: MockClock, *, ordered: bool
) -> None:
    async with open_supervisor(
        name="s", ordered=ordered, auto_shutdown=AutoShutdown.ALL_SIGNIFICANT
    ) as supervisor:
        for name in "abc":
            spec = family.spec(name, restart=Restart.TRANSIENT, significant=True)
            await supervisor.start_child(spec)
        await family.end("a")
        await supervisor.terminate_child("c")
        with trio.fail_after(1.0):
            await family.end("b")
            await trio.sleep_forever()


async def test_an_unknown_id_among_thousands_is_no_essay(family: Family) -> None:
    async with open_supervisor(name="s", ordered=False) as supervisor:
        supervisor.start_children_nowait(family.spec(str(n)) for n in range(2000))
        with pytest.raises(ChildNotFound, match="and 1,950 more") as info:
            await supervisor.terminate_child("x")
    assert len(str(info.value)) < 1000


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [RestartIntensityExceeded("s", "c", 3), ChildStartFailed("c", stopped=True)]
)
def test_errors_can_be_copied_and_sent_to_other_processes(error: Exception) -> None:
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


# -- Ctrl-C while the end of a child is noted down -------------------------------------------------


def interrupt_at(line: int, sent: list[str]) -> Callable[[FrameType, str, object], Any]:
    """Trace so that a SIGINT comes when so many lines of the noting down have run."""
    noting = {Runner._task_over.__code__, Child.end.__code__}
    passed = itertools.count()

    def at_line(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and next(passed) == line:
            sent.append(f"{frame.f_code.co_name}, line {frame.f_lineno}")
            signal.raise_signal(signal.SIGINT)
        return at_line

    return lambda frame, _, __: at_line if frame.f_code in noting else None


@pytest.mark.parametrize("line", range(20))  # of two children's, at the stop of both
def test_ctrl_c_while_the_end_of_a_child_is_noted_down_leaves_nobody_asleep(line: int) -> None:
    """It comes a moment later: else the child's supervisor would wait for its end for ever."""
    sent: list[str] = []
    again: list[str] = []

    async def run(*, task_status: TaskStatus) -> None:
        task_status.started()
        await trio.sleep_forever()

    async def interrupt_again() -> None:
        await trio.sleep(60)
        again.extend(sent)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        trio.lowlevel.spawn_system_task(interrupt_again)
        async with open_supervisor(name="s") as supervisor:
            for name in ("a", "b"):
                await supervisor.start_child(ChildSpec(name, run))

    before = sys.gettrace()
    sys.settrace(interrupt_at(line, sent))
    try:
        with pytest.RaisesGroup(KeyboardInterrupt, allow_unwrapped=True, flatten_subgroups=True):
            trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        sys.settrace(before)
    assert sent
    assert again == []
