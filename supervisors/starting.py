"""Starting: who starts children is told how that went, and of what failed nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from .batches import batches
from .child import STOPPED, Starting
from .stopping import stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .child import Child
    from .runner import Runner
    from .spec import ChildSpec


async def start(runner: Runner, child: Child, *, keep: bool = True) -> Any:
    """Run a child that is not running; wait until it says `started`, and give its value.

    Args:
        runner: of its supervisor.
        child: the one to run.
        keep: whether its spec stays if nothing comes of it.

    Raises:
        ChildStartFailed: it ended before that.

    Cancellation stops the child again.
    """
    starting = child.starting = child.starting or Starting()
    child.kept = keep
    runner.spawn(child)
    try:
        await starting.over.wait()
    except BaseException:  # cancelled, or Ctrl-C
        child.kept = keep and not child.unwanted
        if child.starting is starting:  # else it came up, ended, and another starts it by now
            child.starting = None  # nobody is told any more
        child.end_pending = None  # it came up and ended in the instant of our cancellation
        await stop(runner, [child])
        raise
    finally:
        decide(runner, starting)
    starting.check()
    return starting.values[child]


async def start_in_order(runner: Runner, specs: Sequence[ChildSpec]) -> list[Any]:
    """Start children, each when the one before it is up; their values.

    Raises:
        ChildStartFailed: one ended before that.
        SupervisorError: one is not admitted any more.

    Nothing of them is left then, nor after a cancellation: the last started is stopped first.
    """
    started: list[Child] = []
    values: list[Any] = []
    try:
        for spec in specs:
            runner.check_admission([spec])  # without turns somebody else may have been first
            started.append(runner.add(spec))
            values.append(await start(runner, started[-1], keep=False))
    except BaseException:
        await _take_back(runner, started)
        raise
    return values


async def start_together(runner: Runner, specs: Sequence[ChildSpec]) -> list[Any]:
    """Start children, all at once; their values when all are up.

    Raises:
        ChildStartFailed: one ended before that.
        SupervisorError: one is not admitted any more.

    Nothing of them is left then, nor after a cancellation: they are stopped together.
    """
    started: list[Child] = []
    starting = Starting(len(specs))
    try:
        for batch in batches(specs):
            if started:
                await trio.lowlevel.checkpoint()
                starting.check()
                runner.check_admission(batch)  # meanwhile somebody else may have been first
            for spec in batch:
                child = runner.add(spec)
                started.append(child)
                child.starting, child.kept = starting, False
                runner.spawn(child)
        if started:
            await starting.over.wait()
        starting.check()
    except BaseException:
        await _take_back(runner, started)
        raise
    finally:
        decide(runner, starting)
    return [starting.values[child] for child in started]


async def _take_back(runner: Runner, children: Sequence[Child]) -> None:
    """Stop children whose start is not wanted any more, and forget them.

    Until the last has ended: nobody can start them, and whoever ends by itself stays down.
    """
    for child in children:
        child.kept, child.unwanted = False, True
        child.end_pending = None
        if child.state is STOPPED:  # else when it ends
            runner.forget(child)
    await stop(runner, children)
    for child in children:
        runner.forget(child)


def decide(runner: Runner, starting: Starting) -> None:
    """Decide about a significant child's end that has waited for whether others came up."""
    if runner.undecided is None or runner.stopping:
        return
    ended, awaited = runner.undecided
    if starting in awaited:
        runner.undecided = None
        if not starting.significant_up:
            runner.ended_for_good(ended)
